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

/// Σ `f` over a row, in lanes and by a tree whose shapes are fixed; `f` sees the elements of K slices of one length.
#[inline(always)]
fn sum<T: Scalar, const K: usize>(rows: [&[T]; K], f: impl Fn([T; K]) -> T) -> T {
    let mut lanes = [T::ZERO; LANES];
    // Whole arrays of lanes: with indices into slices the bounds checks would keep the loop from vectorising.
    let split = rows.map(|r| r.as_chunks::<LANES>());
    for j in 0..split[0].0.len() {
        let chunk: [&[T; LANES]; K] = std::array::from_fn(|k| &split[k].0[j]);
        for l in 0..LANES {
            lanes[l] += f(std::array::from_fn(|k| chunk[k][l]));
        }
    }
    for l in 0..split[0].1.len() {
        lanes[l] += f(std::array::from_fn(|k| split[k].1[l]));
    }
    let mut width = LANES / 2;
    while width > 0 {
        for l in 0..width {
            lanes[l] += lanes[l + width];
        }
        width /= 2;
    }
    lanes[0]
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
    y.par_chunks_mut(rows * c)
        .zip(x.par_chunks(rows * c))
        .zip(mean.par_chunks_mut(rows))
        .zip(rstd.par_chunks_mut(rows))
        .for_each(|(((y, x), mean), rstd)| {
            // Without the attribute the body stays a function of the baseline instruction set.
            simd::dispatch(
                #[inline(always)]
                || {
                    for (((y, x), mean), rstd) in y.chunks_exact_mut(c).zip(x.chunks_exact(c)).zip(mean).zip(rstd) {
                        (*mean, *rstd) = normalise(p.epsilon, x, weight, bias, y);
                    }
                },
            );
        });
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
    let rough = sum(
        [x],
        #[inline(always)]
        |[x]| x,
    ) * scale;
    let rest = sum(
        [x],
        #[inline(always)]
        |[x]| x - rough,
    ) * scale;
    let square = sum(
        [x],
        #[inline(always)]
        |[x]| {
            let d = x - rough - rest;
            d * d
        },
    );
    let rstd = T::ONE / (square * scale + T::from_f64(epsilon)).sqrt();
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

/// The gradient of x `[rows, C]` from that of y `[rows, C]`, and those of weight and bias `[C]` where they are wanted.
pub(crate) fn gradient<T: Scalar>(
    p: &Problem,
    grad: &[T],
    saved: &Saved<T>,
    dx: &mut [T],
    of_affine: Option<[&mut [T]; 2]>,
) {
    let c = p.channels();
    let blocks = p.rows().div_ceil(BLOCK_ROWS);
    let mut partial = vec![T::ZERO; if of_affine.is_some() { blocks * 2 * c } else { 0 }];
    let work = |block: usize, dx: &mut [T], mut sums: Option<(&mut [T], &mut [T])>| {
        simd::dispatch(
            #[inline(always)]
            || {
                for (r, dx) in dx.chunks_exact_mut(c).enumerate() {
                    let row = block * BLOCK_ROWS + r;
                    let (grad, x) = (&grad[row * c..][..c], &saved.x[row * c..][..c]);
                    let (mean, rstd) = (saved.mean[row], saved.rstd[row]);
                    row_gradient(grad, x, saved.weight, mean, rstd, dx);
                    if let Some((dweight, dbias)) = &mut sums {
                        add_affine(grad, x, mean, rstd, dweight, dbias);
                    }
                }
            },
        );
    };
    let with_sums = |(block, (dx, sums)): (usize, (&mut [T], &mut [T]))| work(block, dx, Some(sums.split_at_mut(c)));
    match (of_affine.is_some(), dx.len() < PARALLEL_MIN) {
        (true, true) => dx.chunks_mut(BLOCK_ROWS * c).zip(partial.chunks_mut(2 * c)).enumerate().for_each(with_sums),
        (true, false) => {
            dx.par_chunks_mut(BLOCK_ROWS * c).zip(partial.par_chunks_mut(2 * c)).enumerate().for_each(with_sums);
        }
        (false, true) => dx.chunks_mut(BLOCK_ROWS * c).enumerate().for_each(|(block, dx)| work(block, dx, None)),
        (false, false) => dx.par_chunks_mut(BLOCK_ROWS * c).enumerate().for_each(|(block, dx)| work(block, dx, None)),
    }
    let Some([dweight, dbias]) = of_affine else { return };
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

/// dx of one row.
#[inline(always)]
fn row_gradient<T: Scalar>(grad: &[T], x: &[T], weight: &[T], mean: T, rstd: T, dx: &mut [T]) {
    let c = dx.len();
    let (grad, x, weight) = (&grad[..c], &x[..c], &weight[..c]);
    let scale = T::ONE / T::from_f64(c as f64);
    // One sum a pass: two at once are vectorised across the pair.
    let flat = sum(
        [grad, weight],
        #[inline(always)]
        |[g, w]| g * w,
    ) * scale;
    let tilt = sum(
        [grad, weight, x],
        #[inline(always)]
        |[g, w, x]| g * w * ((x - mean) * rstd),
    ) * scale;
    for i in 0..c {
        dx[i] = rstd * (grad[i] * weight[i] - flat - (x[i] - mean) * rstd * tilt);
    }
}

/// Adds a row to the gradients of weight and bias.
#[inline(always)]
fn add_affine<T: Scalar>(grad: &[T], x: &[T], mean: T, rstd: T, dweight: &mut [T], dbias: &mut [T]) {
    let c = dweight.len();
    let (grad, x, dbias) = (&grad[..c], &x[..c], &mut dbias[..c]);
    // One output a loop: the compiler gives up on telling more of them apart.
    for i in 0..c {
        dweight[i] = grad[i].mul_add((x[i] - mean) * rstd, dweight[i]);
    }
    add(dbias, grad);
}
