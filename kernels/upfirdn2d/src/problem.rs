//! Shapes and parameters of an up-FIR-down resampling as plain data: validation, output shape, adjoint, cost.

use swinstyle_kit::Problem as _;
use swinstyle_tensor::{Result, TensorError};

const OP: &str = "upfirdn2d";

/// Factors, pads and gain of [`upfirdn2d`](crate::upfirdn2d); every pair is (y, x).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Upfirdn2d {
    /// Zero insertion factors `[y, x]`: each input sample is followed by `up − 1` zeros.
    pub up: [usize; 2],
    /// Decimation factors `[y, x]`: every `down`-th sample is kept.
    pub down: [usize; 2],
    /// Zeros around the zero-inserted frame, `[y0, y1, x0, x1]`; negative crops.
    pub pad: [isize; 4],
    /// `false` convolves (the filter is turned by 180°), `true` correlates.
    pub flip: bool,
    /// Factor on the result.
    pub gain: f64,
}

impl Default for Upfirdn2d {
    /// The identity around the filter: no resampling, no pads, gain 1, convolution.
    fn default() -> Self {
        Self { up: [1, 1], down: [1, 1], pad: [0; 4], flip: false, gain: 1.0 }
    }
}

/// One axis of a [`Problem`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Axis {
    /// Input samples.
    pub inputs: usize,
    /// Filter taps.
    pub taps: usize,
    /// Zero insertion factor.
    pub up: usize,
    /// Decimation factor.
    pub down: usize,
    /// Pads before and after, in the zero-inserted frame.
    pub pad: [isize; 2],
}

impl Axis {
    /// `⌊(inputs·up + p0 + p1 − taps) / down⌋ + 1`, or `None` where that is below 1 or does not fit.
    fn count(&self) -> Option<usize> {
        let frame = self.inputs.checked_mul(self.up).and_then(|n| isize::try_from(n).ok())?;
        let room = frame.checked_add(self.pad[0])?.checked_add(self.pad[1])?.checked_sub_unsigned(self.taps)?;
        (room >= 0).then(|| room as usize / self.down + 1)
    }

    /// Output samples of a validated axis.
    pub fn outputs(&self) -> usize {
        self.count().unwrap_or(0)
    }

    /// Pads of the adjoint, in which `up` and `down` change places and the filter is flipped.
    ///
    /// Output o reads input i through tap `t = i·up − o·down + p0`. Read from i's side the same tap is number
    /// `taps − 1 − t` of the flipped filter, so `p0' = taps − 1 − p0`; `p1'` makes the length come out exactly.
    fn adjoint_pad(&self) -> [isize; 2] {
        let first = self.taps as isize - 1 - self.pad[0];
        let span = (self.inputs as isize - 1) * self.up as isize;
        [first, span + self.taps as isize - (self.outputs() * self.down) as isize - first]
    }

    /// The first input that `output` reads (it may lie outside) and the tap of the correlation kernel that meets it.
    ///
    /// The following inputs meet taps `up`, `2·up`, ... further on.
    pub(crate) fn first(&self, output: usize) -> (isize, usize) {
        let (up, at) = (self.up as isize, output as isize * self.down as isize - self.pad[0]);
        let input = -(-at).div_euclid(up);
        (input, (input * up - at) as usize)
    }
}

/// A validated resampling of an `[N, H, W, C]` image by an `[fh, fw]` filter, or by its factors `[fh]` and `[fw]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Problem {
    /// N.
    pub batch: usize,
    /// C.
    pub channels: usize,
    /// The y and the x axis.
    pub axes: [Axis; 2],
    /// Whether the filter is correlated with instead of convolved.
    pub flip: bool,
    /// Factor on the result.
    pub gain: f64,
    /// Whether the filter is given as a column and a row whose outer product it is.
    pub separable: bool,
}

impl Problem {
    /// Checks shapes and parameters.
    ///
    /// Errors: another rank than 4 and 2, an empty axis, a zero factor, a gain that is not finite, pads that leave no output.
    pub fn new(x: &[usize], filter: &[usize], params: &Upfirdn2d) -> Result<Self> {
        let &[fh, fw] = filter else {
            return Err(TensorError::shape(OP, format!("the filter {filter:?} must be [fh, fw] or [taps]")));
        };
        Self::checked(x, [fh, fw], params, false)
    }

    /// [`new`](Self::new) for a filter that is the outer product of a column `[fh]` and a row `[fw]`. Errors: those of it.
    pub fn separable(x: &[usize], column: &[usize], row: &[usize], params: &Upfirdn2d) -> Result<Self> {
        let (&[fh], &[fw]) = (column, row) else {
            let detail = format!("the filter's column {column:?} and row {row:?} must be [fh] and [fw]");
            return Err(TensorError::shape(OP, detail));
        };
        Self::checked(x, [fh, fw], params, true)
    }

    /// The problem of a filter of either rank: [`new`](Self::new) for `[fh, fw]`, [`separable`](Self::separable) for `[taps]`.
    pub fn of(x: &[usize], filter: &[usize], params: &Upfirdn2d) -> Result<Self> {
        match filter {
            [_] => Self::separable(x, filter, filter, params),
            _ => Self::new(x, filter, params),
        }
    }

    fn checked(x: &[usize], filter: [usize; 2], params: &Upfirdn2d, separable: bool) -> Result<Self> {
        let &[batch, height, width, channels] = x else {
            return Err(TensorError::shape(OP, format!("x {x:?} must be [N, H, W, C]")));
        };
        let [fh, fw] = filter;
        if x.contains(&0) || filter.contains(&0) {
            return Err(TensorError::shape(OP, format!("x {x:?} or filter {filter:?} is empty")));
        }
        let Upfirdn2d { up, down, pad, flip, gain } = *params;
        let axes = [
            Axis { inputs: height, taps: fh, up: up[0], down: down[0], pad: [pad[0], pad[1]] },
            Axis { inputs: width, taps: fw, up: up[1], down: down[1], pad: [pad[2], pad[3]] },
        ];
        let problem = Self { batch, channels, axes, flip, gain, separable };
        problem.validate()?;
        Ok(problem)
    }

    /// `[N, OH, OW, C]`.
    pub fn output_shape(&self) -> [usize; 4] {
        [self.batch, self.axes[0].outputs(), self.axes[1].outputs(), self.channels]
    }

    /// `[N, H, W, C]`.
    pub fn input_shape(&self) -> [usize; 4] {
        [self.batch, self.axes[0].inputs, self.axes[1].inputs, self.channels]
    }

    /// `[fh, fw]`.
    pub fn filter_shape(&self) -> [usize; 2] {
        self.axes.map(|a| a.taps)
    }

    /// The parameters as they are given to [`upfirdn2d`](crate::upfirdn2d).
    pub fn params(&self) -> Upfirdn2d {
        let [y, x] = self.axes;
        Upfirdn2d {
            up: [y.up, x.up],
            down: [y.down, x.down],
            pad: [y.pad[0], y.pad[1], x.pad[0], x.pad[1]],
            flip: self.flip,
            gain: self.gain,
        }
    }

    /// Parameters with which the operation maps the output's gradient to the input's.
    pub fn adjoint(&self) -> Upfirdn2d {
        let [y, x] = self.axes;
        let ([y0, y1], [x0, x1]) = (y.adjoint_pad(), x.adjoint_pad());
        Upfirdn2d { up: [y.down, x.down], down: [y.up, x.up], pad: [y0, y1, x0, x1], flip: !self.flip, gain: self.gain }
    }
}

impl swinstyle_kit::Problem for Problem {
    fn validate(&self) -> Result<()> {
        let Upfirdn2d { up, down, pad, gain, .. } = self.params();
        let (input, filter) = (self.input_shape(), self.filter_shape());
        if input.contains(&0) || filter.contains(&0) {
            return Err(TensorError::shape(OP, format!("x {input:?} or filter {filter:?} is empty")));
        }
        if up.contains(&0) || down.contains(&0) {
            return Err(TensorError::shape(OP, format!("up {up:?} and down {down:?} must be at least 1")));
        }
        if !gain.is_finite() {
            return Err(TensorError::shape(OP, format!("gain {gain} is not finite")));
        }
        // Index arithmetic on every device is signed 32-bit per axis; the bound leaves room for sums of two.
        const LIMIT: usize = 1 << 29;
        let fits = |n: usize, m: usize| n.checked_mul(m).is_some_and(|v| v < LIMIT);
        for a in &self.axes {
            let pads = a.pad.iter().all(|p| p.unsigned_abs() < LIMIT);
            let inside = pads && a.taps < LIMIT && fits(a.inputs, a.up);
            if !(inside && a.count().is_some_and(|n| fits(n, a.down))) {
                let detail = format!(
                    "x {input:?} with filter {filter:?}, up {up:?}, down {down:?} and pad [y0, y1, x0, x1] {pad:?} leaves \
                     no output, or one too large to index"
                );
                return Err(TensorError::shape(OP, detail));
            }
        }
        Ok(())
    }

    /// Those of the direct form; inserted zeros cost nothing.
    fn flops(&self) -> u64 {
        let [y, x] = self.axes;
        let outputs: u64 = self.output_shape().iter().map(|&n| n as u64).product();
        2 * outputs * (y.taps * x.taps) as u64 / (y.up * x.up) as u64
    }

    fn min_bytes(&self, element_size: usize) -> u64 {
        let count = |s: [usize; 4]| s.iter().product::<usize>();
        let [fh, fw] = self.filter_shape();
        let taps = if self.separable { fh + fw } else { fh * fw };
        ((count(self.input_shape()) + count(self.output_shape()) + taps) * element_size) as u64
    }
}
