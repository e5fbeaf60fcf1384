//! The CPU twin: a vertical pass into a line buffer that stays in cache, then a horizontal pass out of it.
//!
//! Each output row is independent. Its source rows are combined by the column taps into one line (zeros around it stand for
//! the padding), and the line is filtered by the row taps into the output. A filter of rank one, which is what
//! StyleGAN2 uses, needs one such round; any other filter is a sum of one round a filter row.

use rayon::prelude::*;
use swinstyle_kit::{
    Blueprint as _, Limits,
    tuning::{Place, choose},
};
use swinstyle_tensor::{DType, Scalar, simd};

use crate::{
    pattern::gcd,
    problem::{Axis, Problem},
    tune::HostBlueprint,
};

/// Columns of a line at the least, so that wide pixels do not make every tile mostly halo.
const LINE_COLUMNS: usize = 32;
/// Output elements below which a second thread is not worth its start.
const PARALLEL_MIN: usize = 1 << 14;

/// Which inputs and coefficients each output of an axis meets. Outputs repeat with a period of `phases`.
struct Polyphase {
    phases: usize,
    /// Inputs by which the pattern advances in one period.
    step: usize,
    /// First input of each phase's first output.
    first: Vec<isize>,
    /// Tap of the correlation kernel that the first input meets, a phase.
    tap: Vec<usize>,
    /// Inputs that one output reads.
    reads: usize,
}

impl Polyphase {
    fn new(axis: &Axis) -> Self {
        let common = gcd(axis.up, axis.down);
        let phases = axis.up / common;
        let (first, tap) = (0..phases).map(|o| axis.first(o)).unzip();
        Self { phases, step: axis.down / common, first, tap, reads: axis.taps.div_ceil(axis.up) }
    }

    /// First input of an output.
    #[inline(always)]
    fn at(&self, output: usize) -> isize {
        self.first[output % self.phases] + (output / self.phases * self.step) as isize
    }

    /// The taps `[phases, reads]` of a one-dimensional kernel, zero where the kernel has ended.
    fn deal<T: Scalar>(&self, kernel: &[T], up: usize) -> Vec<T> {
        let tap = |first: usize, r: usize| kernel.get(first + r * up).copied().unwrap_or(T::ZERO);
        self.tap.iter().flat_map(|&first| (0..self.reads).map(move |r| tap(first, r))).collect()
    }
}

/// One round: the filter rows that are combined, and the row taps applied to their sum.
struct Round<T> {
    /// Column taps `[phases of y, reads of y]`.
    column: Vec<T>,
    /// Row taps `[phases of x, reads of x]`.
    row: Vec<T>,
}

/// A filter, or one factor of it, in correlation order and scaled.
fn correlation_kernel<T: Scalar>(p: &Problem, filter: &[T], gain: f64) -> Vec<T> {
    let gain = T::from_f64(gain);
    let scaled = filter.iter().map(|&f| f * gain);
    if p.flip { scaled.collect() } else { scaled.rev().collect() }
}

/// Column and row whose outer product is `kernel` up to the type's rounding, if it has rank one.
pub(crate) fn separate<T: Scalar>(kernel: &[T], [fh, fw]: [usize; 2]) -> Option<(Vec<T>, Vec<T>)> {
    let k: Vec<f64> = kernel.iter().map(|v| v.to_f64()).collect();
    let pivot = (0..k.len()).max_by(|&a, &b| k[a].abs().total_cmp(&k[b].abs()))?;
    let (i0, j0, top) = (pivot / fw, pivot % fw, k[pivot]);
    if top == 0.0 || !top.is_finite() {
        return None;
    }
    let column: Vec<f64> = (0..fh).map(|i| k[i * fw + j0]).collect();
    let row: Vec<f64> = (0..fw).map(|j| k[i0 * fw + j] / top).collect();
    let epsilon = if T::DTYPE == DType::F64 { f64::EPSILON } else { f32::EPSILON as f64 };
    let close = |n: usize| (k[n] - column[n / fw] * row[n % fw]).abs() <= 2.0 * epsilon * top.abs();
    let narrow = |v: Vec<f64>| v.into_iter().map(T::from_f64).collect();
    (0..k.len()).all(close).then(|| (narrow(column), narrow(row)))
}

fn rounds<T: Scalar>(p: &Problem, [py, px]: [&Polyphase; 2], filter: &[&[T]]) -> Vec<Round<T>> {
    let [ay, ax] = p.axes;
    let round = |column: &[T], row: &[T]| Round { column: py.deal(column, ay.up), row: px.deal(row, ax.up) };
    let kernel = match filter {
        [column, row] => {
            return vec![round(&correlation_kernel(p, column, p.gain), &correlation_kernel(p, row, 1.0))];
        }
        _ => correlation_kernel(p, filter[0], p.gain),
    };
    if let Some((column, row)) = separate(&kernel, p.filter_shape()) {
        return vec![round(&column, &row)];
    }
    let unit = |i: usize| (0..ay.taps).map(|k| if k == i { T::ONE } else { T::ZERO }).collect::<Vec<_>>();
    (0..ay.taps).map(|i| round(&unit(i), &kernel[i * ax.taps..][..ax.taps])).collect()
}

/// y `[N, OH, OW, C]` from x `[N, H, W, C]` and the filter `[fh, fw]`, or its column `[fh]` and row `[fw]`.
pub(crate) fn forward<T: Scalar>(p: &Problem, x: &[T], filter: &[&[T]], y: &mut [T]) {
    let [ay, ax] = p.axes;
    let phases = [Polyphase::new(&ay), Polyphase::new(&ax)];
    let rounds = rounds(p, [&phases[0], &phases[1]], filter);
    let tiles = choose(Place::Host, "upfirdn2d", p, &Limits::WEBGPU, HostBlueprint::default_for(p));
    let plan = Plan { p, phases, rounds, line: tiles.line };
    let row = ax.outputs() * p.channels;
    let rows = y.len() / row;
    let threads = if y.len() < PARALLEL_MIN { 1 } else { rayon::current_num_threads() };
    // Four bands a thread even out the load; a few rows at the least share their sources in cache.
    let band = if threads == 1 { rows } else { rows.div_ceil(4 * threads).clamp(tiles.rows, 64) };
    // Without the attribute the body stays a function of the baseline instruction set.
    let work = |line: &mut Vec<T>, start: usize, y: &mut [T]| {
        simd::dispatch(
            #[inline(always)]
            || plan.band(line, start, x, y),
        )
    };
    if threads == 1 {
        return work(&mut Vec::new(), 0, y);
    }
    y.par_chunks_mut(band * row).enumerate().for_each_init(Vec::new, |line, (i, y)| work(line, i * band, y));
}

struct Plan<'a, T> {
    p: &'a Problem,
    phases: [Polyphase; 2],
    rounds: Vec<Round<T>>,
    /// Elements of a line at which it is cut.
    line: usize,
}

impl<T: Scalar> Plan<'_, T> {
    /// Rows `start..` of the output, counted over the whole batch, tile of columns by tile of columns.
    #[inline(always)]
    fn band(&self, line: &mut Vec<T>, start: usize, x: &[T], y: &mut [T]) {
        let [ay, ax] = self.p.axes;
        let (c, [py, px]) = (self.p.channels, &self.phases);
        let (out_rows, out_columns) = (ay.outputs(), ax.outputs());
        let columns = (self.line / c).max(LINE_COLUMNS);
        // Whole periods, so that every tile starts at phase 0.
        let tile = (columns / px.step).max(1) * px.phases;
        let mut left = 0;
        while left < out_columns {
            let right = (left + tile).min(out_columns);
            let sources = Span::of(px, left, right, ax.inputs);
            line.clear();
            line.resize((sources.end - sources.start) as usize * c, T::ZERO);
            for (r, y) in y.chunks_exact_mut(out_columns * c).enumerate() {
                let (image, oy) = ((start + r) / out_rows, (start + r) % out_rows);
                let image = &x[image * ay.inputs * ax.inputs * c..][..ay.inputs * ax.inputs * c];
                let y = &mut y[left * c..right * c];
                let top = py.at(oy);
                let mut begun = false;
                for round in &self.rounds {
                    let taps = &round.column[oy % py.phases * py.reads..][..py.reads];
                    let inside = &mut line[sources.inside(c)];
                    if vertical(taps, top, image, ax.inputs * c, sources.from * c, inside) {
                        horizontal(px, &round.row, sources.start, left, line, y, c, begun);
                        begun = true;
                    }
                }
                if !begun {
                    y.fill(T::ZERO);
                }
            }
            left = right;
        }
    }
}

/// Input columns that a tile reads: `start..end`, which may reach outside, and the existing ones from `from`.
struct Span {
    start: isize,
    end: isize,
    from: usize,
    to: usize,
}

impl Span {
    fn of(px: &Polyphase, left: usize, right: usize, inputs: usize) -> Self {
        // Within a period the first inputs rise with the phase, so the ends are those of the first and last output.
        let start = px.at(left);
        let end = px.at(right - 1) + px.reads as isize;
        let clip = |v: isize| v.clamp(0, inputs as isize) as usize;
        let (from, to) = (clip(start), clip(end));
        Self { start, end, from, to: to.max(from) }
    }

    /// Elements of the line that existing columns fill.
    fn inside(&self, c: usize) -> std::ops::Range<usize> {
        // Where no column exists `from` may lie outside the line; the range is empty then.
        if self.to == self.from {
            return 0..0;
        }
        let skip = (self.from as isize - self.start) as usize * c;
        skip..skip + (self.to - self.from) * c
    }
}

/// Sums the existing source rows, each times its tap, into `line`; false where no row with a tap exists.
#[inline(always)]
fn vertical<T: Scalar>(taps: &[T], top: isize, image: &[T], row: usize, offset: usize, line: &mut [T]) -> bool {
    let rows = (image.len() / row) as isize;
    let mut begun = false;
    let (mut sources, mut weights, mut n) = ([&image[..0]; 4], [T::ZERO; 4], 0);
    for (t, &w) in taps.iter().enumerate() {
        let iy = top + t as isize;
        if iy < 0 || iy >= rows || w == T::ZERO {
            continue;
        }
        (sources[n], weights[n]) = (&image[iy as usize * row + offset..][..line.len()], w);
        n += 1;
        if n == 4 {
            weigh::<T, 4>(&sources, &weights, line, begun);
            (begun, n) = (true, 0);
        }
    }
    match n {
        0 => {}
        1 => weigh::<T, 1>(&sources, &weights, line, begun),
        2 => weigh::<T, 2>(&sources, &weights, line, begun),
        _ => weigh::<T, 3>(&sources, &weights, line, begun),
    }
    begun || n > 0
}

/// `out = [out +] Σ_r w_r · rows_r`.
#[inline(always)]
fn weigh<T: Scalar, const R: usize>(rows: &[&[T]; 4], w: &[T; 4], out: &mut [T], add: bool) {
    let n = out.len();
    let rows: [&[T]; R] = std::array::from_fn(|r| &rows[r][..n]);
    if add {
        for i in 0..n {
            out[i] += weighted(&rows, w, i);
        }
    } else {
        for i in 0..n {
            out[i] = weighted(&rows, w, i);
        }
    }
}

#[inline(always)]
fn weighted<T: Scalar, const R: usize>(rows: &[&[T]; R], w: &[T], i: usize) -> T {
    let mut sum = rows[0][i] * w[0];
    for r in 1..R {
        sum = rows[r][i].mul_add(w[r], sum);
    }
    sum
}

/// Filters a line that starts at input column `start` into output columns `left..` (whole pixels of `c` channels).
#[inline(always)]
fn horizontal<T: Scalar>(
    px: &Polyphase,
    taps: &[T],
    start: isize,
    left: usize,
    line: &[T],
    y: &mut [T],
    c: usize,
    add: bool,
) {
    let mut done = 0;
    while done < px.reads {
        let add = add || done > 0;
        let n = (px.reads - done).min(4);
        match (n, c) {
            (1, _) => pixels::<T, 1, 0>(px, taps, done, start, left, line, y, c, add),
            (2, 3) => pixels::<T, 2, 3>(px, taps, done, start, left, line, y, c, add),
            (2, _) => pixels::<T, 2, 0>(px, taps, done, start, left, line, y, c, add),
            (3, _) => pixels::<T, 3, 0>(px, taps, done, start, left, line, y, c, add),
            (_, 3) => pixels::<T, 4, 3>(px, taps, done, start, left, line, y, c, add),
            _ => pixels::<T, 4, 0>(px, taps, done, start, left, line, y, c, add),
        }
        done += n;
    }
}

/// `TAPS` of the row taps from number `done` on. `C` is the channel count where it is known at compile time, else 0.
#[inline(always)]
fn pixels<T: Scalar, const TAPS: usize, const C: usize>(
    px: &Polyphase,
    taps: &[T],
    done: usize,
    start: isize,
    left: usize,
    line: &[T],
    y: &mut [T],
    c: usize,
    add: bool,
) {
    let c = if C == 0 { c } else { C };
    let tap = |phase: usize| -> [T; TAPS] { std::array::from_fn(|t| taps[phase * px.reads + done + t]) };
    let source = |output: usize| (px.at(output) - start) as usize * c + done * c;
    if px.phases == 1 && px.step == 1 {
        // Without resampling a row of pixels is one long run, whatever the number of channels.
        return run::<T, TAPS>(&line[source(left)..], c, &tap(0), y, add);
    }
    for (phase, k) in (0..px.phases).map(|phase| (phase, tap(phase))) {
        let mut at = source(left + phase);
        for y in y.chunks_exact_mut(c).skip(phase).step_by(px.phases) {
            run::<T, TAPS>(&line[at..at + TAPS * c], c, &k, y, add);
            at += px.step * c;
        }
    }
}

/// `y[i] = [y[i] +] Σ_t k_t · line[i + t·c]`.
#[inline(always)]
fn run<T: Scalar, const TAPS: usize>(line: &[T], c: usize, k: &[T; TAPS], y: &mut [T], add: bool) {
    let n = y.len();
    let shifted: [&[T]; TAPS] = std::array::from_fn(|t| &line[t * c..t * c + n]);
    if add {
        for i in 0..n {
            y[i] += weighted(&shifted, k, i);
        }
    } else {
        for i in 0..n {
            y[i] = weighted(&shifted, k, i);
        }
    }
}

/// Filter gradient `[fh, fw]` from x `[N, H, W, C]` and the output's gradient `[N, OH, OW, C]`.
///
/// Rows of the gradient give partial sums that are added in order, in f64.
pub(crate) fn filter_gradient<T: Scalar>(p: &Problem, x: &[T], gradient: &[T], out: &mut [T]) {
    let [ay, ax] = p.axes;
    let row = ax.outputs() * p.channels;
    let part = |(r, g): (usize, &[T])| {
        let mut sums = vec![0.0; ay.taps * ax.taps];
        simd::dispatch(
            #[inline(always)]
            || row_gradient(p, r, x, g, &mut sums),
        );
        sums
    };
    let parts: Vec<Vec<f64>> = if gradient.len() < PARALLEL_MIN {
        gradient.chunks_exact(row).enumerate().map(part).collect()
    } else {
        gradient.par_chunks_exact(row).enumerate().map(part).collect()
    };
    for (k, o) in out.iter_mut().enumerate() {
        // The kernel is the filter turned by 180° unless flipped: so is its gradient.
        let k = if p.flip { k } else { ay.taps * ax.taps - 1 - k };
        *o = T::from_f64(p.gain * parts.iter().map(|s| s[k]).sum::<f64>());
    }
}

/// What row `r` of the gradient (counted over the batch) adds to the gradient of the correlation kernel.
#[inline(always)]
fn row_gradient<T: Scalar>(p: &Problem, r: usize, x: &[T], g: &[T], sums: &mut [f64]) {
    let ([ay, ax], c) = (p.axes, p.channels);
    let (image, oy) = (r / ay.outputs(), r % ay.outputs());
    let (top, first) = ay.first(oy);
    for (iy, i) in (top..).zip((first..ay.taps).step_by(ay.up)) {
        if iy < 0 || iy >= ay.inputs as isize {
            continue;
        }
        let source = &x[(image * ay.inputs + iy as usize) * ax.inputs * c..][..ax.inputs * c];
        for (ox, g) in g.chunks_exact(c).enumerate() {
            let (left, first) = ax.first(ox);
            for (ix, j) in (left..).zip((first..ax.taps).step_by(ax.up)) {
                if ix >= 0 && ix < ax.inputs as isize {
                    sums[i * ax.taps + j] += dot(&source[ix as usize * c..][..c], g).to_f64();
                }
            }
        }
    }
}

#[inline(always)]
fn dot<T: Scalar>(a: &[T], b: &[T]) -> T {
    let mut lanes = [T::ZERO; 16];
    let (ca, cb) = (a.chunks_exact(16), b.chunks_exact(16));
    let tail: T = ca.remainder().iter().zip(cb.remainder()).map(|(&a, &b)| a * b).sum();
    for (a, b) in ca.zip(cb) {
        for i in 0..16 {
            lanes[i] = a[i].mul_add(b[i], lanes[i]);
        }
    }
    lanes.into_iter().sum::<T>() + tail
}
