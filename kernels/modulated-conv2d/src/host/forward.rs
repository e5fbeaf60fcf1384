//! Forward and data gradient: bands of rows are packed once and multiplied with every block of output channels.

use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use swinstyle_tensor::Result;

use super::{
    activation::Activation,
    pack::{Output, PanelLayout, Panels, RowLayout, pack_row},
    scratch::Stock,
    tile::{Place, Row, Store, TileShape, run},
    vector::Real,
};
use crate::{
    launch::{Conv, ConvInputs},
    plan::{Phase, Tap, reach},
};

/// Bytes of a packed band: half of the second-level cache that current cores have at least, the rest is for weights.
const BAND_BYTES: usize = 512 << 10;
/// Bytes of weights that one pass over a band keeps using: most of a first-level cache.
const PANEL_BYTES: usize = 24 << 10;

/// Everything about a convolution that is the same for all of its bands.
struct Plan<'a, S, T: Real> {
    simd: S,
    kernel: &'a Conv,
    inputs: &'a ConvInputs<'a, [T]>,
    phases: [Vec<Phase>; 2],
    row: RowLayout,
    panels: Panels<T>,
    /// post for every image and bias once, padded to whole output blocks.
    post: Option<Vec<T>>,
    bias: Option<Vec<T>>,
    output: Output<T>,
}

/// Rows `from..to` of every phase of one image.
#[derive(Debug, Clone, Copy)]
struct Band {
    image: usize,
    from: usize,
    to: usize,
}

/// Working memory of the bands.
struct Room<T: Real> {
    /// The packed rows of a band.
    packed: Stock<T>,
    /// The sums of a band's block of output channels.
    sums: Stock<T>,
}

/// How a block of output channels passes over a band: each group of channel blocks once, while its weights stay in the first-level cache.
struct Passes {
    /// Output channels of the block, padded.
    width: usize,
    /// Tiles of each column phase.
    shapes: Vec<TileShape>,
    groups: usize,
    /// Sums of an output row that wait for the next pass.
    saved: usize,
}

/// Computes a convolution with its fusion.
pub(super) struct Forward<'a, T: Real> {
    pub(super) kernel: &'a Conv,
    pub(super) inputs: &'a ConvInputs<'a, [T]>,
    pub(super) output: &'a mut [T],
}

impl<T: Real> WithSimd for Forward<'_, T> {
    type Output = Result<()>;

    fn with_simd<S: Simd>(self, simd: S) -> Result<()> {
        let Self { kernel, inputs, output } = self;
        let p = &kernel.problem;
        assert_eq!(output.len(), p.output_shape().iter().product::<usize>());
        let phases = [Phase::of(p, 0), Phase::of(p, 1)];
        let lanes = T::lanes::<S>();
        let block = if p.in_channels <= 4 { 4 } else { 16 };
        let panel = PanelLayout {
            taps: p.geometry.kernel.iter().product(),
            inputs: p.in_channels,
            outputs: p.out_channels,
            transpose: p.geometry.transpose,
            block,
            width: 2 * lanes,
            lanes,
        };
        // Both widths of tiles are padded for, since the last block may be the narrower one.
        let padded = |count: usize| {
            let whole = |v| count.next_multiple_of(TileShape::new::<S>(count, v, block).pixels);
            whole(1).max(whole(2))
        };
        let row = RowLayout::new(p.in_channels, block, &phases[1], padded);
        let plan = Plan {
            simd,
            kernel,
            inputs,
            panels: Panels::pack(simd, panel, inputs.weight)?,
            post: inputs.post.map(|s| panel.padded(s)),
            bias: inputs.bias.map(|b| panel.padded(b)),
            phases,
            row,
            output: Output(output.as_mut_ptr()),
        };
        let bands = plan.bands();
        // Few bands leave threads idle: then the blocks of output channels are spread as well.
        let spread = bands.len() < 4 * rayon::current_num_threads();
        let room = plan.room(&bands, spread)?;
        bands.into_par_iter().try_for_each(|band| plan.band(band, spread, &room))
    }
}

impl<S: Simd, T: Real> Plan<'_, S, T> {
    /// Cuts the images into bands of equal height whose packed rows fit [`BAND_BYTES`].
    fn bands(&self) -> Vec<Band> {
        let p = &self.kernel.problem;
        let positions = self.phases[0].iter().map(|p| p.count).max().unwrap_or(0);
        let stride = self.phases[0].first().map_or(1, |p| p.stride);
        let halo = p.geometry.kernel[0].saturating_sub(1);
        let rows = BAND_BYTES / (self.row.row_len() * size_of::<T>()).max(1);
        let most = (rows.saturating_sub(halo) / stride).max(1);
        let count = positions.div_ceil(most);
        let band =
            |image: usize, i: usize| Band { image, from: positions * i / count, to: positions * (i + 1) / count };
        (0..p.batch).flat_map(|image| (0..count).map(move |i| band(image, i))).collect()
    }

    /// Working memory for the largest of the bands.
    fn room(&self, bands: &[Band], spread: bool) -> Result<Room<T>> {
        let panels = self.panels.layout.count();
        let rows = |band: &Band| reach(&self.phases[0], band.from..band.to, self.kernel.problem.input[0]).len();
        let packed = bands.iter().map(rows).max().unwrap_or(0) * self.row.row_len();
        let rows = bands.iter().map(|band| band.to - band.from).max().unwrap_or(0) * self.phases[0].len();
        // All blocks of output channels are alike but the last.
        let saved = [0, panels.saturating_sub(1)].map(|panel| rows * self.passes(panel).saved);
        Ok(Room {
            packed: Stock::of_tasks("conv2d", bands.len(), spread, packed)?,
            sums: Stock::of_threads("conv2d", bands.len() * panels, saved[0].max(saved[1]))?,
        })
    }

    fn band(&self, band: Band, spread: bool, room: &Room<T>) -> Result<()> {
        let p = &self.kernel.problem;
        let Range { start: first, end } = reach(&self.phases[0], band.from..band.to, p.input[0]);
        let row_len = self.row.row_len();
        let mut packed = room.packed.take()?;
        let width = p.input[1] * p.in_channels;
        let scale = self.inputs.pre.map(|s| &s[band.image * p.in_channels..][..p.in_channels]);
        let pack = |(i, packed): (usize, &mut [T])| {
            let row = &self.inputs.x[(band.image * p.input[0] + first + i) * width..][..width];
            pack_row(self.simd, &self.row, row, scale, packed);
        };
        let rows = &mut packed[..(end - first) * row_len];
        if spread {
            rows.par_chunks_mut(row_len.max(1)).enumerate().for_each(pack);
        } else {
            rows.chunks_mut(row_len.max(1)).enumerate().for_each(pack);
        }
        let rows = self.rows(band, first, end);
        let columns = self.columns();
        let block = |panel: usize| self.block(band, &packed, &rows, &columns, panel, &room.sums);
        match spread {
            true => (0..self.panels.layout.count()).into_par_iter().try_for_each(block),
            false => (0..self.panels.layout.count()).try_for_each(block),
        }
    }

    /// Output rows of a band and the packed rows that each reads: taps outside the image are left out.
    fn rows(&self, band: Band, first: usize, end: usize) -> Vec<(usize, Vec<Place>)> {
        let kw = self.kernel.problem.geometry.kernel[1];
        let row = |phase: &Phase, q: usize| {
            let places = phase.taps.iter().filter_map(|t| {
                let y = (phase.stride * q) as isize + t.offset;
                let inside = y >= first as isize && y < end as isize;
                inside.then(|| Place { image: (y as usize - first) * self.row.row_len(), weight: t.weight * kw })
            });
            (phase.first + q * phase.step, places.collect())
        };
        let phases = self.phases[0].iter();
        phases.flat_map(|p| (band.from..band.to.min(p.count)).map(move |q| row(p, q))).collect()
    }

    /// Per column phase, where its taps start.
    fn columns(&self) -> Vec<Vec<Place>> {
        let place = |t: &Tap| Place { image: self.row.at(t.offset), weight: t.weight };
        self.phases[1].iter().map(|p| p.taps.iter().map(place).collect()).collect()
    }

    fn passes(&self, panel: usize) -> Passes {
        let l = &self.panels.layout;
        let width = l.width_of(panel);
        let shape = |p: &Phase| TileShape::new::<S>(p.count, width / T::lanes::<S>(), l.block);
        let shapes: Vec<TileShape> = self.phases[1].iter().map(shape).collect();
        let fit = (PANEL_BYTES / (l.block * width * l.taps * size_of::<T>())).max(1);
        let groups = self.row.blocks().div_ceil(fit);
        let sums = |(p, shape): (&Phase, &TileShape)| p.count.next_multiple_of(shape.pixels) * width;
        let saved = if groups > 1 { self.phases[1].iter().zip(&shapes).map(sums).sum() } else { 0 };
        Passes { width, shapes, groups, saved }
    }

    /// One block of output channels of a band.
    fn block(
        &self,
        band: Band,
        packed: &[T],
        rows: &[(usize, Vec<Place>)],
        columns: &[Vec<Place>],
        panel: usize,
        room: &Stock<T>,
    ) -> Result<()> {
        let p = &self.kernel.problem;
        let (o, [_, ow]) = (p.out_channels, p.geometry.output);
        let Passes { width, shapes, groups, .. } = self.passes(panel);
        let first_channel = panel * self.panels.layout.width;
        let channels = width.min(o - first_channel);
        let blocks = self.row.blocks();
        let mut sums = room.take()?;
        let activation = self.kernel.fusion.activation.as_ref().map(Activation::new);
        let weights = self.panels.panel(panel);
        let padded = self.panels.layout.count() * self.panels.layout.width;
        for group in 0..groups {
            let (from, to) = (blocks * group / groups, blocks * (group + 1) / groups);
            let mut rest = &mut sums[..];
            for (y, places) in rows {
                for (phase, (columns, shape)) in self.phases[1].iter().zip(columns.iter().zip(&shapes)) {
                    let saved = if groups > 1 {
                        let (mine, others) = rest.split_at_mut(phase.count.next_multiple_of(shape.pixels) * width);
                        rest = others;
                        Some(mine)
                    } else {
                        None
                    };
                    let pixel = (band.image * p.geometry.output[0] + y) * ow + phase.first;
                    let store = || Store {
                        // SAFETY: the pixel lies inside the output, whose length was checked.
                        y: Output(unsafe { self.output.0.add(pixel * o + first_channel) }),
                        step: phase.step * o,
                        channels,
                        post: self.post.as_ref().map(|s| &s[band.image * padded + first_channel..][..width]),
                        noise: self
                            .inputs
                            .noise
                            .map(|(noise, strength)| (&noise[pixel % noise.len()..], phase.step, strength[0])),
                        bias: self.bias.as_ref().map(|b| &b[first_channel..][..width]),
                        activation,
                    };
                    let mut row = Row {
                        image: packed,
                        image_block: self.row.block_len(),
                        panel: weights,
                        panel_block: self.panels.layout.block_len(),
                        panel_tap: self.panels.layout.block * width,
                        rows: places,
                        columns,
                        blocks: from..to,
                        tail: (blocks - 1, self.row.tail()),
                        count: phase.count,
                        sums: saved,
                        resume: group > 0,
                        store: (group + 1 == groups).then(store),
                    };
                    // SAFETY: this band's block of output channels of this row is written by no other task.
                    unsafe { run(self.simd, *shape, &mut row) };
                }
            }
        }
        Ok(())
    }
}
