//! The CPU twin: rows in parallel, each read from memory once and then from the innermost cache.

use rayon::prelude::*;
use swinstyle_tensor::{Scalar, simd};

use crate::problem::Problem;

/// Lanes of a sum over a row: one AVX-512 register of f32, and four chains of adds on AVX2.
const LANES: usize = 16;
/// Rows whose weight and bias gradients make one partial sum. Fixed, so that the result does not depend on the threads.
const BLOCK_ROWS: usize = 64;
/// Elements below which a second thread is not worth its start.
const PARALLEL_MIN: usize = 1 << 14;

/// Σ f(i) over `0..n` in fixed lanes.
#[inline(always)]
fn lanes<T: Scalar>(n: usize, f: impl Fn(usize) -> T) -> T {
    let mut sums = [T::ZERO; LANES];
    let whole = n / LANES * LANES;
    let mut i = 0;
    while i < whole {
        for l in 0..LANES {
            sums[l] += f(i + l);
        }
        i += LANES;
    }
    for l in 0..n - whole {
        sums[l] += f(whole + l);
    }
    let mut width = LANES / 2;
    while width > 0 {
        for l in 0..width {
            sums[l] = sums[l] + sums[l + width];
        }
        width /= 2;
    }
    sums[0]
}

/// y `[rows, C]`, mean `[rows]` and 1/σ `[rows]` from x `[rows, C]`, weight and bias `[C]`.
pub(crate) fn forward<T: Scalar>(
    p: &Problem,
    x: &[T],
    weight: &[T],
    bias: &[T],
    y: &mut [T],
    mean: &mut [T],
    rstd: &mut [T],
) {
    let c = p.channels();
    let rows = block_rows(x.len(), c);
    let work = |(((y, x), mean), rstd): (((&mut [T], &[T]), &mut [T]), &mut [T])| {
        // Without the attribute the body stays a function of the baseline instruction set.
        simd::dispatch(
            #[inline(always)]
            || {
                for (((y, x), mean), rstd) in y.chunks_exact_mut(c).zip(x.chunks_exact(c)).zip(mean).zip(rstd) {
                    (*mean, *rstd) = normalise(p.epsilon, x, weight, bias, y);
                }
            },
        );
    };
    y.par_chunks_mut(rows * c)
        .zip(x.par_chunks(rows * c))
        .zip(mean.par_chunks_mut(rows))
        .zip(rstd.par_chunks_mut(rows))
        .for_each(work);
}

/// Rows of one task; all of them where threads do not pay.
fn block_rows(len: usize, c: usize) -> usize {
    if len < PARALLEL_MIN { (len / c).max(1) } else { BLOCK_ROWS.min((PARALLEL_MIN / c).max(1)) }
}

/// Normalises one row; returns its mean and 1/σ.
///
/// The first mean is rounded, and where it is large against σ that error is not small: the second pass sums the
/// deviations as well, which are nearly exact, and corrects with them.
#[inline(always)]
fn normalise<T: Scalar>(epsilon: f64, x: &[T], weight: &[T], bias: &[T], y: &mut [T]) -> (T, T) {
    let c = y.len();
    let (x, weight, bias) = (&x[..c], &weight[..c], &bias[..c]);
    let scale = T::ONE / T::from_f64(c as f64);
    let rough = lanes(c, #[inline(always)] |i| x[i]) * scale;
    let rest = lanes(c, #[inline(always)] |i| x[i] - rough) * scale;
    let square = |d: T| d * d;
    let variance = lanes(c, #[inline(always)] |i| square(x[i] - rough - rest)) * scale;
    let rstd = T::ONE / (variance + T::from_f64(epsilon)).sqrt();
    for i in 0..c {
        y[i] = ((x[i] - rough - rest) * rstd).mul_add(weight[i], bias[i]);
    }
    (rough + rest, rstd)
}

/// What the gradients are computed from.
pub(crate) struct Saved<'a, T> {
    /// `[rows, C]`.
    pub(crate) x: &'a [T],
    /// `[C]`.
    pub(crate) weight: &'a [T],
    /// `[rows]`.
    pub(crate) mean: &'a [T],
    /// `[rows]`.
    pub(crate) rstd: &'a [T],
}

/// Gradients of x `[rows, C]`, weight `[C]` and bias `[C]` from that of y `[rows, C]`.
pub(crate) fn gradient<T: Scalar>(
    p: &Problem,
    grad: &[T],
    saved: &Saved<T>,
    dx: &mut [T],
    dweight: &mut [T],
    dbias: &mut [T],
) {
    let c = p.channels();
    let blocks = p.rows().div_ceil(BLOCK_ROWS);
    let mut partial = vec![T::ZERO; blocks * 2 * c];
    let work = |(block, (dx, sums)): (usize, (&mut [T], &mut [T]))| {
        let (dweight, dbias) = sums.split_at_mut(c);
        simd::dispatch(
            #[inline(always)]
            || {
                for (r, dx) in dx.chunks_exact_mut(c).enumerate() {
                    let row = block * BLOCK_ROWS + r;
                    let (grad, x) = (&grad[row * c..][..c], &saved.x[row * c..][..c]);
                    row_gradient(grad, x, saved.weight, saved.mean[row], saved.rstd[row], dx, dweight, dbias);
                }
            },
        );
    };
    if dx.len() < PARALLEL_MIN {
        dx.chunks_mut(BLOCK_ROWS * c).zip(partial.chunks_mut(2 * c)).enumerate().for_each(work);
    } else {
        dx.par_chunks_mut(BLOCK_ROWS * c).zip(partial.par_chunks_mut(2 * c)).enumerate().for_each(work);
    }
    dweight.fill(T::ZERO);
    dbias.fill(T::ZERO);
    simd::dispatch(
        #[inline(always)]
        || {
            for sums in partial.chunks_exact(2 * c) {
                add(dweight, &sums[..c]);
                add(dbias, &sums[c..]);
            }
        },
    );
}

#[inline(always)]
fn add<T: Scalar>(to: &mut [T], from: &[T]) {
    for (t, &f) in to.iter_mut().zip(from) {
        *t += f;
    }
}

/// One row: its part of dx, added to the sums of its block.
#[inline(always)]
fn row_gradient<T: Scalar>(
    grad: &[T],
    x: &[T],
    weight: &[T],
    mean: T,
    rstd: T,
    dx: &mut [T],
    dweight: &mut [T],
    dbias: &mut [T],
) {
    let c = dx.len();
    let (grad, x, weight) = (&grad[..c], &x[..c], &weight[..c]);
    let (dweight, dbias) = (&mut dweight[..c], &mut dbias[..c]);
    let scale = T::ONE / T::from_f64(c as f64);
    let flat = lanes(c, #[inline(always)] |i| grad[i] * weight[i]) * scale;
    let tilt = lanes(c, #[inline(always)] |i| grad[i] * weight[i] * ((x[i] - mean) * rstd)) * scale;
    for i in 0..c {
        let normal = (x[i] - mean) * rstd;
        dx[i] = rstd * (grad[i] * weight[i] - flat - normal * tilt);
        dweight[i] = grad[i].mul_add(normal, dweight[i]);
        dbias[i] += grad[i];
    }
}
