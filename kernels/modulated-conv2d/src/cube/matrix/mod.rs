//! The forms on matrix units: fragments of 16×16×16 in f16 or bf16 with f32 sums, from double-buffered tiles in shared memory.

pub(crate) mod conv;
pub(crate) mod weight_gradient;

use cubecl::prelude::*;

/// `scale ⊙ v` where there is a scale, in the type: the product of two halves is exact in f32, so one rounding is all there is either way.
#[cube]
pub(crate) fn scaled<F: Float, N: Size>(v: Vector<F, N>, scale: Vector<F, N>, present: u32) -> Vector<F, N> {
    let mut out = v;
    if present > 0 {
        out = v * scale;
    }
    out
}
