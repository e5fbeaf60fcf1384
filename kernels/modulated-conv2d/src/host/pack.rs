//! Repacking of images and weights so that the register tiles read memory in order.
//!
//! An image row becomes `[channel block][column residue][column][P channels]`: P channels of neighbouring pixels lie side by side, so
//! a tap is a shift by P elements. Read in place, pixels of 512 channels are 2 KiB apart and fall into the same few cache
//! sets. The style is applied on the way, and zero columns stand where the kernel leaves the image.

use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use swinstyle_tensor::Result;

use super::{scratch::Scratch, vector::Real};
use crate::plan::Phase;

/// Pointer through which tasks write disjoint elements.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output<T>(pub(crate) *mut T);

// SAFETY: whoever writes through it proves that no other task writes the same elements.
unsafe impl<T> Send for Output<T> {}
// SAFETY: the same.
unsafe impl<T> Sync for Output<T> {}

impl<T> Output<T> {
    /// The pointer; a method, so that closures capture the wrapper and not its field.
    #[inline(always)]
    pub(crate) fn get(self) -> *mut T {
        self.0
    }
}

/// How the columns and channels of an image row are arranged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RowLayout {
    /// Channels of the image.
    pub(crate) channels: usize,
    /// P: channels of a block.
    pub(crate) block: usize,
    /// Distance of the columns that one phase reads in a sequence.
    pub(crate) stride: usize,
    /// Input column of position 0, a multiple of the stride.
    pub(crate) origin: isize,
    /// Columns modulo the stride that any tap reads.
    pub(crate) residues: Vec<usize>,
    /// Positions of each residue.
    pub(crate) columns: usize,
}

impl RowLayout {
    /// A layout that holds every column which the phases read with `tile(count)` positions each.
    pub(crate) fn new(channels: usize, block: usize, phases: &[Phase], tile: impl Fn(usize) -> usize) -> Self {
        let stride = phases.first().map_or(1, |p| p.stride);
        let s = stride as isize;
        let offsets = || phases.iter().flat_map(|p| p.taps.iter().map(move |t| (p, t.offset)));
        let origin = offsets().map(|(_, o)| o.div_euclid(s) * s).min().unwrap_or(0);
        let mut residues: Vec<usize> = offsets().map(|(_, o)| (o - origin) as usize % stride).collect();
        residues.sort_unstable();
        residues.dedup();
        let columns = offsets().map(|(p, o)| (o - origin) as usize / stride + tile(p.count)).max().unwrap_or(0);
        Self { channels, block, stride, origin, residues, columns }
    }

    /// Channel blocks.
    pub(crate) fn blocks(&self) -> usize {
        self.channels.div_ceil(self.block)
    }

    /// Channels of the last block.
    pub(crate) fn tail(&self) -> usize {
        self.channels - (self.blocks() - 1) * self.block
    }

    /// Elements from a channel block to the next.
    pub(crate) fn block_len(&self) -> usize {
        self.residues.len() * self.columns * self.block
    }

    /// Elements of a packed row.
    pub(crate) fn row_len(&self) -> usize {
        self.blocks() * self.block_len()
    }

    /// Where the column that position 0 reads at this offset starts in a block.
    pub(crate) fn at(&self, offset: isize) -> usize {
        let from_origin = (offset - self.origin) as usize;
        // The layout was made from the offsets of the same phases, so the residue is listed.
        let residue = self.residues.iter().position(|&r| r == from_origin % self.stride).unwrap_or(0);
        (residue * self.columns + from_origin / self.stride) * self.block
    }
}

/// Packs one row of an image, multiplied by a scale per channel.
pub(crate) fn pack_row<S: Simd, T: Real>(
    simd: S,
    layout: &RowLayout,
    row: &[T],           // [W, C]
    scale: Option<&[T]>, // [C]
    packed: &mut [T],
) {
    match layout.block {
        2 => simd.vectorize(PackRow::<T, 2> { layout, row, scale, packed }),
        4 => simd.vectorize(PackRow::<T, 4> { layout, row, scale, packed }),
        8 => simd.vectorize(PackRow::<T, 8> { layout, row, scale, packed }),
        16 => simd.vectorize(PackRow::<T, 16> { layout, row, scale, packed }),
        _ => {
            assert_eq!(layout.block, 32, "blocks are one or two vectors, or as long as one");
            simd.vectorize(PackRow::<T, 32> { layout, row, scale, packed });
        }
    }
}

struct PackRow<'a, T, const P: usize> {
    layout: &'a RowLayout,
    row: &'a [T],
    scale: Option<&'a [T]>,
    packed: &'a mut [T],
}

impl<T: Real, const P: usize> WithSimd for PackRow<'_, T, P> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let Self { layout, row, scale, packed } = self;
        let c = layout.channels;
        let width = (row.len() / c) as isize;
        let (block_len, whole) = (layout.block_len(), c / P);
        for (r, &residue) in layout.residues.iter().enumerate() {
            for q in 0..layout.columns {
                let x = layout.origin + (q * layout.stride + residue) as isize;
                let at = (r * layout.columns + q) * P;
                if x < 0 || x >= width {
                    for b in 0..layout.blocks() {
                        packed[b * block_len + at..][..P].fill(T::ZERO);
                    }
                    continue;
                }
                let pixel = &row[x as usize * c..][..c];
                for b in 0..whole {
                    let (to, from) = (&mut packed[b * block_len + at..][..P], &pixel[b * P..][..P]);
                    match scale {
                        None => to.copy_from_slice(from),
                        Some(s) => {
                            let s = &s[b * P..][..P];
                            for i in 0..P {
                                to[i] = from[i] * s[i];
                            }
                        }
                    }
                }
                if whole * P < c {
                    let to = &mut packed[whole * block_len + at..][..P];
                    for i in 0..P {
                        let channel = whole * P + i;
                        let inside = channel < c;
                        to[i] = if inside { pixel[channel] * scale.map_or(T::ONE, |s| s[channel]) } else { T::ZERO };
                    }
                }
            }
        }
    }
}

/// Weights as the register tiles read them: `[channel block][output block][tap][P channels][width]`, zeros beyond the last channels.
pub(crate) struct Panels<T: Real> {
    pub(crate) layout: PanelLayout,
    data: Scratch<T>,
}

/// The extents of packed weights.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PanelLayout {
    pub(crate) taps: usize,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    /// The weight is stored `[tap, outputs, inputs]`.
    pub(crate) transpose: bool,
    /// P.
    pub(crate) block: usize,
    /// Outputs of a full block.
    pub(crate) width: usize,
    /// Elements of a vector: the width of a last block that needs no more.
    pub(crate) lanes: usize,
}

impl PanelLayout {
    /// Output blocks.
    pub(crate) fn count(&self) -> usize {
        self.outputs.div_ceil(self.width)
    }

    /// Width of an output block as it is packed.
    pub(crate) fn width_of(&self, panel: usize) -> usize {
        let rest = self.outputs - panel * self.width;
        if rest <= self.lanes { self.lanes } else { self.width }
    }

    /// Values per output channel, one row of them or more, padded to whole output blocks.
    pub(crate) fn padded<T: Real>(&self, values: &[T]) -> Vec<T> {
        let mut to = Vec::with_capacity(values.len() / self.outputs * self.count() * self.width);
        for row in values.chunks(self.outputs) {
            to.extend_from_slice(row);
            to.resize(to.len().next_multiple_of(self.width), T::ZERO);
        }
        to
    }

    /// Elements of a channel block of a full output block.
    fn panel_len(&self) -> usize {
        self.block * self.taps * self.width
    }

    /// Elements from a channel block to the next.
    pub(crate) fn block_len(&self) -> usize {
        self.count() * self.panel_len()
    }
}

impl<T: Real> Panels<T> {
    /// Packs a weight in the order in which it lies in memory: a task owns a tap and a block of what comes next.
    pub(crate) fn pack<S: Simd>(simd: S, layout: PanelLayout, weight: &[T]) -> Result<Self> {
        let blocks = layout.inputs.div_ceil(layout.block);
        let mut data = Scratch::<T>::new("conv2d", blocks * layout.block_len())?;
        let to = Output(data.get_mut().as_mut_ptr());
        let slabs = if layout.transpose { layout.count() } else { blocks };
        (0..layout.taps * slabs).into_par_iter().with_min_len(2).for_each(|task| {
            let (tap, slab) = (task / slabs, task % slabs);
            let (blocks, panels) = match layout.transpose {
                true => (0..blocks, slab..slab + 1),
                false => (slab..slab + 1, 0..layout.count()),
            };
            simd.vectorize(PackTap { layout: &layout, weight, tap, blocks, panels, to });
        });
        Ok(Self { layout, data })
    }

    /// The weights from the first channel block of an output block on.
    pub(crate) fn panel(&self, panel: usize) -> &[T] {
        &self.data.get()[panel * self.layout.panel_len()..]
    }

    /// All output blocks of a channel block.
    pub(crate) fn block(&self, block: usize) -> &[T] {
        &self.data.get()[block * self.layout.block_len()..][..self.layout.block_len()]
    }
}

/// Packs one tap of some channel blocks by some output blocks.
struct PackTap<'a, T> {
    layout: &'a PanelLayout,
    weight: &'a [T],
    tap: usize,
    blocks: Range<usize>,
    panels: Range<usize>,
    to: Output<T>,
}

impl<T: Real> WithSimd for PackTap<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let Self { layout: l, weight, tap, blocks, panels, to } = self;
        for block in blocks {
            let first = block * l.block;
            let channels = l.block.min(l.inputs - first);
            for panel in panels.clone() {
                let width = l.width_of(panel);
                let from = panel * l.width;
                let valid = width.min(l.outputs - from);
                let at = block * l.block_len() + panel * l.panel_len() + tap * l.block * width;
                // SAFETY: the tap's part of a channel block of an output block belongs to this task and lies inside the panels.
                let to = unsafe { std::slice::from_raw_parts_mut(to.get().add(at), l.block * width) };
                if l.transpose {
                    if valid < width || channels < l.block {
                        to.fill(T::ZERO);
                    }
                    for o in 0..valid {
                        let from = &weight[(tap * l.outputs + from + o) * l.inputs + first..][..channels];
                        for (i, &w) in from.iter().enumerate() {
                            to[i * width + o] = w;
                        }
                    }
                } else {
                    for i in 0..channels {
                        let from = &weight[(tap * l.inputs + first + i) * l.outputs + from..][..valid];
                        let to = &mut to[i * width..][..width];
                        to[..valid].copy_from_slice(from);
                        to[valid..].fill(T::ZERO);
                    }
                    to[channels * width..].fill(T::ZERO);
                }
            }
        }
    }
}
