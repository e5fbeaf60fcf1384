//! The output's side of Winograd's form: `Aᵀ m A`, then the epilogue of the direct form.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::{
    super::{
        activation::Activation,
        pack::Output,
        tile::{Store, finish},
        vector::Real,
    },
    Plan,
};

/// `Aᵀ m A` of a block of output channels, with the epilogue.
pub(super) struct FinishTiles<'a, 'b, S, T: Real> {
    pub(super) plan: &'b Plan<'a, S, T>,
    pub(super) band: Range<usize>,
    pub(super) panel: usize,
    /// `[spot][tile][width]`.
    pub(super) sums: &'b [T],
    pub(super) sums_len: usize,
}

impl<S0: Simd, T: Real> WithSimd for FinishTiles<'_, '_, S0, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Plan { kernel, inputs, tiles, weights, post, bias, output, .. } = self.plan;
        let p = &kernel.problem;
        let (o, [oh, ow], lanes) = (p.out_channels, p.geometry.output, T::lanes::<S>());
        let l = &weights.layout;
        let (first, width, padded) = (self.panel * l.width, l.width_of(self.panel), l.count() * l.width);
        let activation = kernel.fusion.activation.as_ref().map(Activation::new);
        let mut pixels = [T::ZERO; 4 * 64];
        for (at, index) in self.band.enumerate() {
            let tile = tiles.get(index);
            for v in (0..width).step_by(lanes) {
                let mut half = [[T::splat(simd, T::ZERO); 4]; 2];
                for x in 0..4 {
                    let mut m = [T::splat(simd, T::ZERO); 4];
                    for y in 0..4 {
                        let from = (y * 4 + x) * self.sums_len + at * width + v;
                        // SAFETY: every spot has the band's tiles.
                        m[y] = unsafe { T::load::<S>(self.sums.as_ptr().add(from)) };
                    }
                    half[0][x] = T::plus(simd, T::plus(simd, m[0], m[1]), m[2]);
                    half[1][x] = T::minus(simd, T::minus(simd, m[1], m[2]), m[3]);
                }
                for y in 0..2 {
                    let m = half[y];
                    let left = T::plus(simd, T::plus(simd, m[0], m[1]), m[2]);
                    let right = T::minus(simd, T::minus(simd, m[1], m[2]), m[3]);
                    // SAFETY: four pixels of at most two vectors of at most 32 lanes.
                    unsafe {
                        T::store::<S>(pixels.as_mut_ptr().add((y * 2) * width + v), left);
                        T::store::<S>(pixels.as_mut_ptr().add((y * 2 + 1) * width + v), right);
                    }
                }
            }
            for y in tile.y..oh.min(tile.y + 2) {
                let pixel = (tile.image * oh + y) * ow + tile.x;
                let store = Store {
                    y: Output(output.0.wrapping_add(pixel * o + first)),
                    step: o,
                    channels: width.min(o - first),
                    post: post.as_ref().map(|s| &s[tile.image * padded + first..][..width]),
                    noise: inputs.noise.map(|(noise, strength)| (&noise[pixel % noise.len()..], 1, strength[0])),
                    bias: bias.as_ref().map(|b| &b[first..][..width]),
                    activation,
                };
                for x in 0..2.min(ow - tile.x) {
                    let from = &mut pixels[((y - tile.y) * 2 + x) * width..][..width];
                    // SAFETY: the pixel lies inside the output, and this block of its channels belongs to this call.
                    unsafe {
                        match width == lanes {
                            true => finish::<S, T, 1>(simd, &store, x, from.as_mut_ptr()),
                            false => finish::<S, T, 2>(simd, &store, x, from.as_mut_ptr()),
                        }
                    }
                }
            }
        }
    }
}
