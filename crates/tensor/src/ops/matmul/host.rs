//! Matrix products on the cpu, a row of which has the same bits alone and among others.
//!
//! The rows of an image are some among those of its batch, and an image must not depend on the batch that it is made in. The library for
//! products does not promise that: small results it sums in another order, and long sums it cuts by a rule that hangs on the number of rows.

use rayon::prelude::*;

use super::Matmul;
use crate::{Scalar, simd};

/// Results of at most so many elements, or of one row, the library sums in another order. Rows of zeros are added there.
const LEAST_ELEMENTS: usize = 256;
/// Rows of a part of a product with a bias at least: a part packs the whole right operand for itself.
const LEAST_ROWS: usize = 128;
/// Results of up to so many columns the library cuts along the summed axis by two rules, one for as many rows and one for more ...
const NARROW: usize = 64;
/// ... which agree on sums of so many products.
const CUT: usize = 512;
/// Products from which one result is worth several threads.
const PARALLEL_MIN: usize = 1 << 17;
/// Products from which each result of a batch is.
const BATCHED_PARALLEL_MIN: usize = 1 << 22;

/// Computes a [`Matmul`].
pub(super) fn multiply<T: Scalar>(kernel: &Matmul, inputs: &[&[T]], c: &mut [T]) {
    let Matmul { batch, m, n, k, .. } = *kernel;
    if c.is_empty() {
        return;
    }
    let (a, b) = (inputs[0], inputs[1]);
    let begin = |c: &mut [T]| c.chunks_mut(n).for_each(|row| row.copy_from_slice(inputs[2]));
    let part = m.div_ceil(2 * rayon::current_num_threads());
    if kernel.bias && k > 0 && batch == 1 && !kernel.transpose_a && part >= LEAST_ROWS {
        // Rows get their bias right before their sums, when it is still in cache.
        c.par_chunks_mut(part * n).zip(a.par_chunks(part * k)).for_each(|(c, a)| {
            begin(c);
            rows(kernel, a, b, c, false);
        });
        return;
    }
    if kernel.bias {
        c.par_chunks_mut(n * 64).for_each(begin);
    } else if k == 0 {
        c.fill(T::ZERO);
    }
    if k == 0 {
        return;
    }
    let one = |i: usize, c: &mut [T], parallel: bool| {
        let a = &a[if kernel.batched_a { i * m * k } else { 0 }..][..m * k];
        let b = &b[if kernel.batched_b { i * k * n } else { 0 }..][..k * n];
        rows(kernel, a, b, c, parallel);
    };
    // One large product splits inside; many small ones split over the batch.
    if batch == 1 {
        one(0, c, m * n * k >= PARALLEL_MIN);
    } else if m * n * k >= BATCHED_PARALLEL_MIN {
        c.chunks_mut(m * n).enumerate().for_each(|(i, c)| one(i, c, true));
    } else {
        let least = (PARALLEL_MIN / (m * n * k)).max(1);
        c.par_chunks_mut(m * n).with_min_len(least).enumerate().for_each(|(i, c)| one(i, c, false));
    }
}

/// Some rows of a result, whole: `c (+)= op(a) · op(b)`, added to c where that holds the bias.
fn rows<T: Scalar>(kernel: &Matmul, a: &[T], b: &[T], c: &mut [T], parallel: bool) {
    let Matmul { n, k, transpose_a, bias, .. } = *kernel;
    // Of a transposed left operand the rows are features, and images what is summed.
    if transpose_a {
        return sums(kernel, a, (1, c.len() / n), b, c, parallel);
    }
    let least = (LEAST_ELEMENTS / n + 1).max(2);
    if n == 1 {
        column(a, b, c, bias, parallel);
    } else if c.len() < least * n {
        let m = c.len() / n;
        let (mut padded, mut result) = (vec![T::ZERO; least * k], vec![T::ZERO; least * n]);
        padded[..m * k].copy_from_slice(a);
        if bias {
            result[..m * n].copy_from_slice(c);
        }
        sums(kernel, &padded, (k, 1), b, &mut result, false);
        c.copy_from_slice(&result[..m * n]);
    } else {
        sums(kernel, a, (k, 1), b, c, parallel);
    }
}

/// The library's product, cut along the summed axis where it would cut by the number of rows. `steps`: elements of a from a row and from
/// a column to the next.
fn sums<T: Scalar>(kernel: &Matmul, a: &[T], steps: (usize, usize), b: &[T], c: &mut [T], parallel: bool) {
    let Matmul { n, k, transpose_b, bias, .. } = *kernel;
    let m = c.len() / n;
    assert!(a.len() == m * k && b.len() == k * n && c.len() == m * n);
    let of_b = if transpose_b { (1, k) } else { (n, 1) };
    let strides = |(row, column): (usize, usize)| (row as isize, column as isize);
    let cut = if n <= NARROW { CUT } else { k };
    for first in (0..k).step_by(cut) {
        let (a, b) = (a[first * steps.1..].as_ptr(), b[first * of_b.0..].as_ptr());
        let (length, add) = (cut.min(k - first), bias || first > 0);
        // SAFETY: the strides of whole operands, whose lengths were checked, from an element of the first row or column on.
        unsafe {
            let c = c.as_mut_ptr();
            T::gemm(m, n, length, c, (n as isize, 1), add, a, strides(steps), b, strides(of_b), parallel);
        }
    }
}

/// A result of one column: a sum of products a row.
fn column<T: Scalar>(a: &[T], b: &[T], c: &mut [T], add: bool, parallel: bool) {
    let k = b.len();
    let some = |a: &[T], c: &mut [T]| {
        simd::dispatch(
            #[inline(always)]
            || {
                for (a, c) in a.chunks_exact(k).zip(c) {
                    let sum = dot(a, b);
                    *c = if add { *c + sum } else { sum };
                }
            },
        );
    };
    match parallel {
        true => {
            let part = (PARALLEL_MIN / k).max(1);
            c.par_chunks_mut(part).zip(a.par_chunks(part * k)).for_each(|(c, a)| some(a, c));
        }
        false => some(a, c),
    }
}

/// `Σ a·b` in lanes and by a tree whose shapes are fixed.
#[inline(always)]
fn dot<T: Scalar>(a: &[T], b: &[T]) -> T {
    const LANES: usize = 32;
    let mut lanes = [T::ZERO; LANES];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        for l in 0..LANES {
            lanes[l] = a[l].mul_add(b[l], lanes[l]);
        }
    }
    for (l, (&a, &b)) in lanes.iter_mut().zip(a_rest.iter().zip(b_rest)) {
        *l = a.mul_add(b, *l);
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
