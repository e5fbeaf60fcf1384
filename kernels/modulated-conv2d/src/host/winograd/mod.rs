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
    pack::Output,
    scratch::Stock,
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

/// Working memory of the bands.
struct Room<T: Real> {
    /// The transformed tiles of a band.
    image: Stock<T>,
    /// The sums of a group of output blocks.
    sums: Stock<T>,
}

/// How a band's transformed tiles lie in memory, and the output blocks that pass over them together.
#[derive(Clone, Copy)]
struct Layout {
    /// Elements of a channel block.
    block_len: usize,
    /// Elements of a spot.
    spot_len: usize,
    /// Output blocks of a group, whose sums stay in the second-level cache while each spot of the image passes once.
    group: usize,
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
        let room = plan.room(&bands, spread)?;
        bands.into_par_iter().try_for_each(|band| plan.band(band, spread, &room))
    }
}

impl<S: Simd, T: Real> Plan<'_, S, T> {
    /// The layout of a band of so many tiles.
    fn layout(&self, tiles: usize) -> Layout {
        let blocks = self.kernel.problem.in_channels.div_ceil(BLOCK);
        let longest = [1, 2].map(|v| tiles.next_multiple_of(TileShape::new::<S>(tiles, v, BLOCK).pixels));
        let block_len = longest[0].max(longest[1]) * BLOCK;
        let sums = SPOTS * tiles * self.weights.layout.width * size_of::<T>();
        Layout {
            block_len,
            // A few lines more than the blocks need keep the 16 spots of a tile in different cache sets.
            spot_len: blocks * block_len + 5 * BLOCK,
            group: (SUMS_BYTES / sums).max(1),
        }
    }

    /// Elements of the sums of an output block and a spot.
    fn spot_sums(&self, tiles: usize, panel: usize) -> usize {
        let width = self.weights.layout.width_of(panel);
        tiles.next_multiple_of(self.shape(tiles, panel).pixels) * width
    }

    fn shape(&self, tiles: usize, panel: usize) -> TileShape {
        TileShape::new::<S>(tiles, self.weights.layout.width_of(panel) / T::lanes::<S>(), BLOCK)
    }

    /// Working memory for the largest of the bands.
    fn room(&self, bands: &[Range<usize>], spread: bool) -> Result<Room<T>> {
        let panels = self.weights.layout.count();
        let (mut image, mut sums, mut tasks) = (0, 0, 0);
        for tiles in bands.iter().map(Range::len) {
            let layout = self.layout(tiles);
            // All output blocks are alike but the last.
            let most = self.spot_sums(tiles, 0).max(self.spot_sums(tiles, panels - 1));
            image = image.max(SPOTS * layout.spot_len);
            sums = sums.max(layout.group.min(panels) * SPOTS * most);
            tasks += panels.div_ceil(layout.group);
        }
        Ok(Room { image: Stock::of_tasks(OP, bands.len(), spread, image)?, sums: Stock::of_threads(OP, tasks, sums)? })
    }

    fn band(&self, band: Range<usize>, spread: bool, room: &Room<T>) -> Result<()> {
        let p = &self.kernel.problem;
        let layout = self.layout(band.len());
        let Layout { block_len, spot_len, group } = layout;
        let mut image = room.image.take()?;
        let to = Output(image.as_mut_ptr());
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
        let panels = self.weights.layout.count();
        let block = |first: usize| {
            let panels = first * group..panels.min((first + 1) * group);
            self.blocks(band.clone(), &image, layout, panels, &room.sums)
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
        Layout { block_len, spot_len, .. }: Layout,
        panels: Range<usize>,
        room: &Stock<T>,
    ) -> Result<()> {
        let p = &self.kernel.problem;
        let l = &self.weights.layout;
        let blocks = p.in_channels.div_ceil(BLOCK);
        let spot_sums = |panel: usize| self.spot_sums(band.len(), panel);
        let most = panels.clone().map(spot_sums).max().unwrap_or(0);
        let mut sums = room.take()?;
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
                    sums: Some(&mut sums[i * SPOTS * most + spot * len..][..len]),
                    resume: false,
                    store: None,
                };
                // SAFETY: nothing is stored but the sums.
                unsafe { run(self.simd, self.shape(band.len(), panel), &mut row) };
            }
        }
        for (i, panel) in panels.enumerate() {
            let sums = &sums[i * SPOTS * most..(i + 1) * SPOTS * most];
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
