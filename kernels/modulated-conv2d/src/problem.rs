//! Shapes and parameters of a convolution as plain data: geometry, validation, adjoint, cost.

use swinstyle_tensor::{Kinks, Result, TensorError};

const OP: &str = "conv2d";

/// Which input pixel and which tap meet at an output pixel.
///
/// `y[oy, ox] = Σ_{ky, kx} u[oy·down + ky − pad_y, ox·down + kx − pad_x] · W[ky, kx]`, where u is x with `up − 1` zeros after each
/// sample and zeros outside. Forward, data gradient and weight gradient of every strided, padded or transposed
/// convolution are of this form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConvGeometry {
    /// Taps `[kh, kw]`.
    pub kernel: [usize; 2],
    /// Zero insertion factor of the input: the stride of a transposed convolution.
    pub up: usize,
    /// Decimation of the output: the stride of a convolution.
    pub down: usize,
    /// Zeros before the first sample of the zero-inserted input, `[y, x]`; negative crops.
    pub pad: [isize; 2],
    /// Output pixels `[OH, OW]`.
    pub output: [usize; 2],
    /// The kernel is turned by 180°: tap `[ky, kx]` meets weight `[kh − 1 − ky, kw − 1 − kx]`.
    pub flip: bool,
    /// The weight is stored `[kh, kw, out, in]` instead of `[kh, kw, in, out]`.
    pub transpose: bool,
}

impl ConvGeometry {
    /// A convolution as in `F.conv2d`: `padding` zeros on every side, output `⌊(H + 2·padding − kh) / stride⌋ + 1`.
    ///
    /// Errors: a stride of 0, an empty kernel, a kernel that is larger than the padded input.
    pub fn convolution(kernel: [usize; 2], input: [usize; 2], stride: usize, padding: usize) -> Result<Self> {
        let count = |i: usize| {
            let frame = padding.checked_mul(2)?.checked_add(input[i])?;
            (kernel[i] > 0).then_some(())?;
            frame.checked_sub(kernel[i])?.checked_div(stride)?.checked_add(1)
        };
        let (Some(h), Some(w), Ok(pad)) = (count(0), count(1), isize::try_from(padding)) else {
            let detail = format!("kernel {kernel:?}, stride {stride} and padding {padding} for an image of {input:?}");
            return Err(TensorError::shape(OP, detail));
        };
        Ok(Self { kernel, up: 1, down: stride, pad: [pad; 2], output: [h, w], flip: false, transpose: false })
    }

    /// A convolution with `⌊kh / 2⌋` zeros around: an odd kernel keeps the size, an even one adds a row and a column.
    pub fn same(kernel: [usize; 2], input: [usize; 2]) -> Self {
        let pad = kernel.map(|k| (k / 2) as isize);
        let output = [0, 1].map(|i| (input[i] + 2 * (kernel[i] / 2) + 1).saturating_sub(kernel[i]));
        Self { kernel, up: 1, down: 1, pad, output, flip: false, transpose: false }
    }

    /// A transposed convolution as in `F.conv_transpose2d` without padding: output `(H − 1)·stride + kh`.
    ///
    /// It spreads each pixel over the kernel as it is stored, which as a gather reads the kernel backwards.
    /// Errors: a stride of 0, an empty kernel or image.
    pub fn transposed(kernel: [usize; 2], input: [usize; 2], stride: usize) -> Result<Self> {
        let count = |i: usize| input[i].checked_sub(1)?.checked_mul(stride)?.checked_add(kernel[i]);
        let (Some(h), Some(w), true) = (count(0), count(1), stride > 0 && !kernel.contains(&0)) else {
            let detail = format!("kernel {kernel:?} and stride {stride} for an image of {input:?}");
            return Err(TensorError::shape("conv_transpose2d", detail));
        };
        let pad = kernel.map(|k| k as isize - 1);
        Ok(Self { kernel, up: stride, down: 1, pad, output: [h, w], flip: true, transpose: false })
    }

    /// The geometry that maps a gradient of the output to that of an input of `input` pixels.
    ///
    /// Output o reads frame position `o·down + k − pad`. Read from the input's side, position `i·up` is reached from o by
    /// the kernel read backwards with `kh − 1 − pad` zeros before; the channels change roles.
    pub fn adjoint(&self, input: [usize; 2]) -> Self {
        let pad = [0, 1].map(|i| self.kernel[i] as isize - 1 - self.pad[i]);
        Self {
            kernel: self.kernel,
            up: self.down,
            down: self.up,
            pad,
            output: input,
            flip: !self.flip,
            transpose: !self.transpose,
        }
    }
}

/// A convolution of `[N, H, W, I]` by shared weights to `[N, OH, OW, O]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Problem {
    /// N.
    pub batch: usize,
    /// Input pixels `[H, W]`.
    pub input: [usize; 2],
    /// I.
    pub in_channels: usize,
    /// O.
    pub out_channels: usize,
    /// Where taps and pixels meet.
    pub geometry: ConvGeometry,
}

impl Problem {
    /// Checks a geometry against an image and a weight.
    ///
    /// Errors: other ranks, empty axes, channels or taps that do not fit the weight, a factor of 0, sizes beyond 32-bit indices.
    pub fn new(x: &[usize], weight: &[usize], geometry: &ConvGeometry) -> Result<Self> {
        let bad = |why: &str| TensorError::shape(OP, format!("x {x:?}, weight {weight:?}, {geometry:?}: {why}"));
        let (&[batch, h, w, in_channels], &[kh, kw, a, b]) = (x, weight) else {
            return Err(bad("x must be [N, H, W, I] and the weight [kh, kw, I, O]"));
        };
        let (i, out_channels) = if geometry.transpose { (b, a) } else { (a, b) };
        if i != in_channels || geometry.kernel != [kh, kw] {
            return Err(bad("the weight has other channels or taps"));
        }
        let problem = Self { batch, input: [h, w], in_channels, out_channels, geometry: *geometry };
        swinstyle_kit::Problem::validate(&problem)?;
        Ok(problem)
    }

    /// `[N, H, W, I]`.
    pub fn input_shape(&self) -> [usize; 4] {
        [self.batch, self.input[0], self.input[1], self.in_channels]
    }

    /// `[N, OH, OW, O]`.
    pub fn output_shape(&self) -> [usize; 4] {
        [self.batch, self.geometry.output[0], self.geometry.output[1], self.out_channels]
    }

    /// `[kh, kw, I, O]`, or `[kh, kw, O, I]` for a transposed one.
    pub fn weight_shape(&self) -> [usize; 4] {
        let ([kh, kw], i, o) = (self.geometry.kernel, self.in_channels, self.out_channels);
        if self.geometry.transpose { [kh, kw, o, i] } else { [kh, kw, i, o] }
    }

    /// The problem of the data gradient, which maps the output's shape to the input's.
    pub fn adjoint(&self) -> Self {
        Self {
            batch: self.batch,
            input: self.geometry.output,
            in_channels: self.out_channels,
            out_channels: self.in_channels,
            geometry: self.geometry.adjoint(self.input),
        }
    }
}

impl swinstyle_kit::Problem for Problem {
    fn validate(&self) -> Result<()> {
        let g = &self.geometry;
        let bad = |why: &str| Err(TensorError::shape(OP, format!("{self:?}: {why}")));
        if self.input_shape().contains(&0) || self.output_shape().contains(&0) || self.weight_shape().contains(&0) {
            return bad("no axis may be empty");
        }
        if g.up == 0 || g.down == 0 {
            return bad("up and down are at least 1");
        }
        // Device kernels index with signed 32-bit numbers, and positions in the frame need room for sums of two.
        const LIMIT: usize = 1 << 29;
        let fits = |s: [usize; 4]| s.iter().try_fold(1_usize, |n, &d| n.checked_mul(d)).is_some_and(|n| n < 1 << 31);
        let frames = [0, 1].iter().all(|&i| {
            let fits = |n: usize, m: usize| n.checked_mul(m).is_some_and(|v| v < LIMIT);
            fits(self.input[i], g.up) && fits(g.output[i], g.down) && g.pad[i].unsigned_abs() < LIMIT
        });
        if !(frames && fits(self.input_shape()) && fits(self.output_shape()) && fits(self.weight_shape())) {
            return bad("an index would not fit 32 bits");
        }
        Ok(())
    }

    fn flops(&self) -> u64 {
        let g = &self.geometry;
        // Inserted zeros cost nothing: where the input is spread, each of its pixels meets each tap once.
        let [h, w] = if g.up > g.down { self.input } else { g.output };
        let taps = g.kernel[0] * g.kernel[1];
        2 * (self.batch * h * w * taps) as u64 * (self.in_channels * self.out_channels) as u64
    }

    fn min_bytes(&self, element_size: usize) -> u64 {
        let count = |s: [usize; 4]| s.iter().product::<usize>();
        let elements = count(self.input_shape()) + count(self.output_shape()) + count(self.weight_shape());
        (elements * element_size) as u64
    }
}

/// Leaky rectifier with gain and clamp: `y = clamp(gain · (z > 0 ? z : slope·z), ±clamp)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LeakyRelu {
    /// Factor on negative values, at least 0.
    pub slope: f64,
    /// Factor on the result, above 0.
    pub gain: f64,
    /// Bound on the magnitude of the result.
    pub clamp: Option<f64>,
}

impl LeakyRelu {
    /// StyleGAN2's: slope 0.2, gain √2, no clamp.
    pub const STYLEGAN2: Self = Self { slope: 0.2, gain: std::f64::consts::SQRT_2, clamp: None };
    /// The identity, which lets the epilogue add noise and bias only.
    pub const LINEAR: Self = Self { slope: 1.0, gain: 1.0, clamp: None };

    /// The clamp as a bound that is infinite where there is none.
    pub(crate) fn bound(&self) -> f64 {
        self.clamp.unwrap_or(f64::INFINITY)
    }

    /// Where it bends, if it does.
    pub(crate) fn kinks(&self) -> Option<Kinks> {
        let bends = self.slope != 1.0 || self.clamp.is_some();
        bends.then(|| Kinks { bound: self.bound() })
    }

    pub(crate) fn validate(&self, op: &'static str) -> Result<()> {
        // The gradient reads the side from the output's sign, which needs a monotone function through 0.
        let good = self.slope >= 0.0 && self.slope.is_finite() && self.gain > 0.0 && self.gain.is_finite();
        if good && self.clamp.is_none_or(|c| c > 0.0) {
            return Ok(());
        }
        Err(TensorError::shape(op, format!("{self:?}: slope must be ≥ 0, gain and clamp > 0")))
    }
}

/// What a convolution adds around its sum: `y = act(post ⊙ conv(pre ⊙ x) + strength·noise + bias)`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Fusion {
    /// A factor `[N, I]` on the input.
    pub pre: bool,
    /// A factor `[N, O]` on the sum.
    pub post: bool,
    /// Noise `[N or 1, OH, OW, 1]` with a strength `[1]`, given as the number of noise images.
    pub noise: Option<usize>,
    /// A bias `[O]`.
    pub bias: bool,
    /// The activation.
    pub activation: Option<LeakyRelu>,
}

impl Fusion {
    /// Whether anything follows the scaled sum.
    pub(crate) fn has_epilogue(&self) -> bool {
        self.noise.is_some() || self.bias || self.activation.is_some()
    }
}
