//! The operations: methods of [`Tensor`](crate::Tensor) with their gradient rules, and the kernels that compute them.

mod adam;
mod average;
mod binary;
mod cast;
mod layout;
mod matmul;
mod pack;
mod pool;
mod reduce;
mod resample;
mod unary;
mod warp;

pub use adam::AdamStep;
pub use average::Average;
pub use binary::{Binary, BinaryOp};
pub use cast::Cast;
pub(crate) use cast::round;
pub use layout::{Concat, Pad, Permute, Slice};
pub use matmul::Matmul;
pub use pack::Pack;
pub(crate) use pack::slots;
pub use pool::{Pool, Windows};
pub use reduce::{Reduce, ReduceOp};
pub use resample::{Resample, Taps};
pub use unary::{Fill, Unary, UnaryOp};
pub(crate) use warp::MARGIN;
pub use warp::{Affine, Warp};

use rayon::prelude::*;

use crate::{Scalar, simd};

/// Elements below which a loop is not worth a second thread.
pub(crate) const PARALLEL_MIN: usize = 1 << 14;

/// Splits `out` into blocks over the threads and calls `f(start, block)` inside the widest SIMD.
pub(crate) fn for_blocks<T: Scalar>(out: &mut [T], f: impl Fn(usize, &mut [T]) + Sync) {
    if out.len() < PARALLEL_MIN {
        simd::dispatch(
            #[inline(always)]
            || f(0, out),
        );
        return;
    }
    const BLOCK: usize = 1 << 13;
    out.par_chunks_mut(BLOCK).with_min_len(1).enumerate().for_each(|(i, block)| {
        simd::dispatch(
            #[inline(always)]
            || f(i * BLOCK, block),
        )
    });
}
