//! The weight's side of Winograd's form: `G w Gᵀ`.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use swinstyle_tensor::Result;

use super::{
    super::{
        pack::{Output, PanelLayout, Panels},
        scratch::Scratch,
        vector::Real,
    },
    BLOCK, OP, SPOTS,
};
use crate::Problem;

/// The weights `G w Gᵀ`: `[spot][channel block][output block][P channels][width]`.
pub(super) struct Weights<T: Real> {
    pub(super) layout: PanelLayout,
    data: Scratch<T>,
    spot_len: usize,
}

impl<T: Real> Weights<T> {
    pub(super) fn new<S: Simd>(simd: S, p: &Problem, weight: &[T]) -> Result<Self> {
        let lanes = T::lanes::<S>();
        let layout = PanelLayout {
            taps: 9,
            inputs: p.in_channels,
            outputs: p.out_channels,
            transpose: p.geometry.transpose,
            block: BLOCK,
            width: 2 * lanes,
            lanes,
        };
        let packed = Panels::pack(simd, layout, weight)?;
        let blocks = p.in_channels.div_ceil(BLOCK);
        let block_len = layout.count() * BLOCK * layout.width;
        let spot_len = blocks * block_len;
        let mut data = Scratch::<T>::new(OP, SPOTS * spot_len)?;
        let to = Output(data.get_mut().as_mut_ptr());
        (0..blocks).into_par_iter().for_each(|block| {
            let to = Output(to.get().wrapping_add(block * block_len));
            let packed = packed.block(block);
            simd.vectorize(TransformWeights { layout: &layout, packed, flip: p.geometry.flip, spot_len, to });
        });
        Ok(Self { layout, data, spot_len })
    }

    /// The weights of a spot from the first channel block of an output block on.
    pub(super) fn panel(&self, spot: usize, panel: usize) -> &[T] {
        &self.data.get()[spot * self.spot_len + panel * BLOCK * self.layout.width..(spot + 1) * self.spot_len]
    }
}

/// Transforms one channel block of packed weights.
struct TransformWeights<'a, T: Real> {
    layout: &'a PanelLayout,
    packed: &'a [T],
    flip: bool,
    spot_len: usize,
    to: Output<T>,
}

impl<T: Real> WithSimd for TransformWeights<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let l = self.layout;
        let lanes = T::lanes::<S>();
        let half = T::splat(simd, T::from_f64(0.5));
        // Rows of G times a column of three.
        let g = |w: [T::Vector<S>; 3]| {
            let outer = T::plus(simd, w[0], w[2]);
            let middle = w[1];
            [
                w[0],
                T::times(simd, half, T::plus(simd, outer, middle)),
                T::times(simd, half, T::minus(simd, outer, middle)),
                w[2],
            ]
        };
        for panel in 0..l.count() {
            let width = l.width_of(panel);
            let from = &self.packed[panel * BLOCK * 9 * l.width..][..9 * BLOCK * width];
            for at in (0..BLOCK * width).step_by(lanes) {
                let mut columns = [[T::splat(simd, T::ZERO); 4]; 3];
                for x in 0..3 {
                    let mut w = [T::splat(simd, T::ZERO); 3];
                    for y in 0..3 {
                        let tap = if self.flip { 8 - (y * 3 + x) } else { y * 3 + x };
                        // SAFETY: the panel has nine taps of `BLOCK·width` elements, whole vectors.
                        w[y] = unsafe { T::load::<S>(from.as_ptr().add(tap * BLOCK * width + at)) };
                    }
                    columns[x] = g(w);
                }
                for y in 0..4 {
                    let row = g([columns[0][y], columns[1][y], columns[2][y]]);
                    for x in 0..4 {
                        let to = (y * 4 + x) * self.spot_len + panel * BLOCK * l.width + at;
                        // SAFETY: the block's part of every spot belongs to this call.
                        unsafe { T::store::<S>(self.to.0.add(to), row[x]) };
                    }
                }
            }
        }
    }
}
