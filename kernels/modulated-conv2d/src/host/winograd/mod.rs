//! Forward and data gradient of 3×3 convolutions by Winograd's F(2×2, 3×3): 16 products where the direct form has 36.
//!
//! `Y = Aᵀ [(G w Gᵀ) ⊙ (Bᵀ d B)] A` over tiles of 2×2 outputs, which read 4×4 inputs d (A. Lavin, S. Gray, arXiv 1509.09308). The
//! channel sums of ⊙ are 16 matrix products, tiles by output channels, on the register tiles of the direct form. The
//! transforms only add and halve, so rounding stays near the direct form's, unlike with larger tiles.

mod finish;
mod image;
mod weights;

use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use swinstyle_tensor::Result;

use super::{
    pack::{Output, Scratch},
    tile::{Place, Row, TileShape, run},
    vector::Real,
};
use crate::{
    Problem,
    launch::{Conv, ConvInputs},
};
use finish::FinishTiles;
use image::{ImageTransform, TransformTiles};
use weights::Weights;

/// P: channels of a block.
const BLOCK: usize = 16;
/// Elements of a transformed tile.
pub(super) const SPOTS: usize = 16;
/// Bytes of a band's transformed image.
const BAND_BYTES: usize = 1 << 20;
/// Tiles of a band at least: fewer would not repay reading all of the weights.
const LEAST_TILES: usize = 256;
/// Bytes of the sums of a group of output blocks.
const SUMS_BYTES: usize = 1 << 20;

const OP: &str = "conv2d";

/// Whether the transforms compute the convolution at all.
pub(crate) fn is_legal(p: &Problem) -> bool {
    let g = &p.geometry;
    g.kernel == [3, 3] && g.up == 1 && g.down == 1
}

/// Whether the transforms are worth their while: enough channels to spread them over, enough tiles to transform the weights for.
///
/// The tiles of one image count, not those of the batch: the two forms round differently, and an image must not hang on its neighbours.
pub(crate) fn fits(p: &Problem) -> bool {
    let [_, oh, ow, o] = p.output_shape();
    is_legal(p) && p.in_channels >= 32 && o >= 32 && oh.div_ceil(2) * ow.div_ceil(2) >= 64
}

/// The tiles of all images in order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tiles {
    rows: usize,
    columns: usize,
    pub(super) count: usize,
}

/// One tile: its image and its first output row and column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tile {
    pub(super) image: usize,
    pub(super) y: usize,
    pub(super) x: usize,
}

impl Tiles {
    pub(super) fn of(p: &Problem) -> Self {
        let [rows, columns] = p.geometry.output.map(|n| n.div_ceil(2));
        Self { rows, columns, count: p.batch * rows * columns }
    }

    pub(super) fn get(&self, index: usize) -> Tile {
        let line = index / self.columns;
        Tile { image: line / self.rows, y: line % self.rows * 2, x: index % self.columns * 2 }
    }

    /// Cuts the tiles into bands of about `most`, equally.
    pub(super) fn bands(&self, most: usize) -> Vec<Range<usize>> {
        let count = self.count.div_ceil(most);
        (0..count).map(|i| self.count * i / count..self.count * (i + 1) / count).collect()
    }
}

/// Computes a convolution that [`fits`].
pub(super) struct Winograd<'a, T: Real> {
    pub(super) kernel: &'a Conv,
    pub(super) inputs: &'a ConvInputs<'a, [T]>,
    pub(super) output: &'a mut [T],
}

struct Plan<'a, S, T: Real> {
    simd: S,
    kernel: &'a Conv,
    inputs: &'a ConvInputs<'a, [T]>,
    tiles: Tiles,
    weights: Weights<T>,
    post: Option<Vec<T>>,
    bias: Option<Vec<T>>,
    output: Output<T>,
}

impl<T: Real> WithSimd for Winograd<'_, T> {
    type Output = Result<()>;

    fn with_simd<S: Simd>(self, simd: S) -> Result<()> {
        let Self { kernel, inputs, output } = self;
        let p = &kernel.problem;
        assert_eq!(output.len(), p.output_shape().iter().product::<usize>());
        let weights = Weights::new(simd, p, inputs.weight)?;
        let pad = |s: &[T]| weights.layout.padded(s);
        let (post, bias) = (inputs.post.map(pad), inputs.bias.map(pad));
        let tiles = Tiles::of(p);
        let output = Output(output.as_mut_ptr());
        let plan = Plan { simd, kernel, inputs, tiles, weights, post, bias, output };
        let bytes = SPOTS * p.in_channels.next_multiple_of(BLOCK) * size_of::<T>();
        let bands = tiles.bands((BAND_BYTES / bytes).max(LEAST_TILES));
        let spread = bands.len() < 4 * rayon::current_num_threads();
        bands.into_par_iter().try_for_each(|band| plan.band(band, spread))
    }
}

impl<S: Simd, T: Real> Plan<'_, S, T> {
    fn band(&self, band: Range<usize>, spread: bool) -> Result<()> {
        let p = &self.kernel.problem;
        let blocks = p.in_channels.div_ceil(BLOCK);
        let longest = [1, 2].map(|v| band.len().next_multiple_of(TileShape::new::<S>(band.len(), v, BLOCK).pixels));
        let block_len = longest[0].max(longest[1]) * BLOCK;
        // A few lines more than the blocks need keep the 16 spots of a tile in different cache sets.
        let spot_len = blocks * block_len + 5 * BLOCK;
        let mut image = Scratch::new(OP, SPOTS * spot_len)?;
        let to = Output(image.get_mut().as_mut_ptr());
        let transform = ImageTransform {
            problem: p,
            tiles: self.tiles,
            x: self.inputs.x,
            scale: self.inputs.pre,
            spot_len,
            block_len,
        };
        let part = |tiles: Range<usize>| {
            self.simd.vectorize(TransformTiles { transform: &transform, tiles, start: band.start, to });
        };
        if spread {
            const PART: usize = 4;
            let starts = band.clone().into_par_iter().step_by(PART);
            starts.for_each(|start| part(start..(start + PART).min(band.end)));
        } else {
            part(band.clone());
        }
        let image = image.get();
        // A group's sums stay in the second-level cache while each spot of the image passes once.
        let sums = SPOTS * band.len() * self.weights.layout.width * size_of::<T>();
        let group = (SUMS_BYTES / sums).max(1);
        let panels = self.weights.layout.count();
        let block = |first: usize| {
            let panels = first * group..panels.min((first + 1) * group);
            self.blocks(band.clone(), image, spot_len, block_len, panels)
        };
        match spread {
            true => (0..panels.div_ceil(group)).into_par_iter().try_for_each(block),
            false => (0..panels.div_ceil(group)).try_for_each(block),
        }
    }

    /// Some blocks of output channels of a band.
    fn blocks(
        &self,
        band: Range<usize>,
        image: &[T],
        spot_len: usize,
        block_len: usize,
        panels: Range<usize>,
    ) -> Result<()> {
        let p = &self.kernel.problem;
        let l = &self.weights.layout;
        let blocks = p.in_channels.div_ceil(BLOCK);
        let shape_of = |panel: usize| TileShape::new::<S>(band.len(), l.width_of(panel) / T::lanes::<S>(), BLOCK);
        let spot_sums = |panel: usize| band.len().next_multiple_of(shape_of(panel).pixels) * l.width_of(panel);
        let most = panels.clone().map(spot_sums).max().unwrap_or(0);
        let mut sums = Scratch::new(OP, panels.len() * SPOTS * most)?;
        let here = [Place { image: 0, weight: 0 }];
        for spot in 0..SPOTS {
            for (i, panel) in panels.clone().enumerate() {
                let len = spot_sums(panel);
                let mut row = Row {
                    image: &image[spot * spot_len..(spot + 1) * spot_len],
                    image_block: block_len,
                    panel: self.weights.panel(spot, panel),
                    panel_block: l.count() * BLOCK * l.width,
                    panel_tap: 0,
                    rows: &here,
                    columns: &here,
                    blocks: 0..blocks,
                    tail: (blocks - 1, p.in_channels - (blocks - 1) * BLOCK),
                    count: band.len(),
                    sums: Some(&mut sums.get_mut()[i * SPOTS * most + spot * len..][..len]),
                    resume: false,
                    store: None,
                };
                // SAFETY: nothing is stored but the sums.
                unsafe { run(self.simd, shape_of(panel), &mut row) };
            }
        }
        for (i, panel) in panels.enumerate() {
            let sums = &sums.get()[i * SPOTS * most..(i + 1) * SPOTS * most];
            self.simd.vectorize(FinishTiles {
                plan: self,
                band: band.clone(),
                panel,
                sums,
                sums_len: spot_sums(panel),
            });
        }
        Ok(())
    }
}
