//! The image's side of Winograd's form: `Bᵀ d B`, with the style applied on the way.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::{
    super::{pack::Output, vector::Real},
    BLOCK, Tile, Tiles,
};
use crate::Problem;

/// `Bᵀ d B` of image tiles: `[spot][channel block][tile][P channels]`.
pub(super) struct ImageTransform<'a, T> {
    pub(super) problem: &'a Problem,
    pub(super) tiles: Tiles,
    pub(super) x: &'a [T],
    pub(super) scale: Option<&'a [T]>,
    /// Elements from a spot and from a channel block to the next.
    pub(super) spot_len: usize,
    pub(super) block_len: usize,
}

impl<T: Real> ImageTransform<'_, T> {
    /// Transforms tile `index` of one channel block to position `at`.
    ///
    /// # Safety
    /// `to` must be writable for all spots of the position.
    #[inline(always)]
    unsafe fn tile<S: Simd>(&self, simd: S, tile: Tile, block: usize, to: *mut T) {
        let p = self.problem;
        let ([h, w], c, lanes) = (p.input, p.in_channels, T::lanes::<S>());
        let first = block * BLOCK;
        let whole = first + BLOCK <= c;
        // Rows and columns of the tile in the image, or none.
        let inside = |o: usize, k: usize, pad: isize, n: usize| {
            let i = (o + k) as isize - pad;
            (i >= 0 && i < n as isize).then_some(i as usize)
        };
        let mut edge = [T::ZERO; BLOCK];
        for v in (0..BLOCK).step_by(lanes) {
            let mut half = [[T::splat(simd, T::ZERO); 4]; 4];
            for kx in 0..4 {
                let column = inside(tile.x, kx, p.geometry.pad[1], w);
                let mut d = [T::splat(simd, T::ZERO); 4];
                if let Some(column) = column {
                    for ky in 0..4 {
                        if let Some(row) = inside(tile.y, ky, p.geometry.pad[0], h) {
                            let pixel = ((tile.image * h + row) * w + column) * c + first;
                            let from = if whole {
                                // SAFETY: the block's channels of the pixel exist.
                                unsafe { self.x.as_ptr().add(pixel + v) }
                            } else {
                                edge[..c - first].copy_from_slice(&self.x[pixel..pixel + c - first]);
                                // SAFETY: vectors start at multiples of the lanes, which divide the block.
                                unsafe { edge.as_ptr().add(v) }
                            };
                            // SAFETY: as above.
                            d[ky] = unsafe { T::load::<S>(from) };
                        }
                    }
                }
                half[0][kx] = T::minus(simd, d[0], d[2]);
                half[1][kx] = T::plus(simd, d[1], d[2]);
                half[2][kx] = T::minus(simd, d[2], d[1]);
                half[3][kx] = T::minus(simd, d[1], d[3]);
            }
            let mut scale = T::splat(simd, T::ONE);
            if let Some(s) = self.scale {
                let s = &s[tile.image * c + first..][..BLOCK.min(c - first)];
                edge[..s.len()].copy_from_slice(s);
                // SAFETY: as above.
                scale = unsafe { T::load::<S>(edge.as_ptr().add(v)) };
            }
            for y in 0..4 {
                let d = half[y];
                let row = [
                    T::minus(simd, d[0], d[2]),
                    T::plus(simd, d[1], d[2]),
                    T::minus(simd, d[2], d[1]),
                    T::minus(simd, d[1], d[3]),
                ];
                for x in 0..4 {
                    let value = if self.scale.is_some() { T::times(simd, row[x], scale) } else { row[x] };
                    // SAFETY: the caller's.
                    unsafe { T::store::<S>(to.add((y * 4 + x) * self.spot_len + v), value) };
                }
            }
        }
    }
}

/// Transforms some tiles of a band, all channel blocks.
pub(super) struct TransformTiles<'a, 'b, T: Real> {
    pub(super) transform: &'b ImageTransform<'a, T>,
    pub(super) tiles: Range<usize>,
    /// First tile of the band.
    pub(super) start: usize,
    pub(super) to: Output<T>,
}

impl<T: Real> WithSimd for TransformTiles<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let t = self.transform;
        for index in self.tiles {
            let tile = t.tiles.get(index);
            for block in 0..t.problem.in_channels.div_ceil(BLOCK) {
                let at = block * t.block_len + (index - self.start) * BLOCK;
                // SAFETY: the band's buffer holds every spot of its tiles.
                unsafe { t.tile(simd, tile, block, self.to.0.add(at)) };
            }
        }
    }
}
