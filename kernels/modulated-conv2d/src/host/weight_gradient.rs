//! The weight gradient: outer products of packed image and gradient rows, summed over pixels in registers.
//!
//! A task owns a block of input by a block of output channels for all taps. Large weights give tasks enough; for small
//! ones the pixels are cut into parts as well, a number that depends on the shapes alone, and the parts' sums are added in
//! order: the result does not depend on the threads.

use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use swinstyle_tensor::Result;

use super::{
    pack::{Output, RowLayout, pack_row},
    scratch::{Piece, Scratch, Stock},
    vector::Real,
};
use crate::{
    Problem,
    plan::{Phase, reach},
};

/// Blocks of channels below which the pixels are cut into parts.
const ENOUGH_BLOCKS: usize = 32;
/// Packed bytes of a band: all tasks of a lone part share it, several parts each have one in their second-level cache.
const SHARED_BYTES: usize = 4 << 20;
const PART_BYTES: usize = 512 << 10;
/// Channels up to which a gradient is read where it lies: its pixels are then near enough for the first-level cache's sets.
const IN_PLACE_CHANNELS: usize = 128;
/// Packed bytes of the rows that one visit of a task keeps in a first-level cache over all taps.
const VISIT_BYTES: usize = 20 << 10;

const OP: &str = "conv2d_weight_grad";

/// Computes a weight gradient.
///
/// The kernel's problem may be the adjoint of that of the weight, with both images and scales exchanged: the same pairs of
/// pixels meet, and the sums are stored transposed.
pub(super) struct Gradient<'a, T: Real> {
    pub(super) problem: &'a Problem,
    pub(super) x: &'a [T],
    pub(super) grad: &'a [T],
    pub(super) pre: Option<&'a [T]>,
    pub(super) post: Option<&'a [T]>,
    pub(super) output: &'a mut [T],
}

/// A tap: where its products lie in packed rows.
struct TapPlan {
    /// Row phase, and the input row that position 0 reads.
    phase: usize,
    offset: isize,
    /// Element of a packed image row that position 0 reads.
    x: usize,
    /// Element of a packed gradient row of position 0.
    grad: usize,
    /// Positions in a row.
    count: usize,
    /// Index of the tap in the weight.
    weight: usize,
}

struct Plan<'a, S, T: Real> {
    simd: S,
    problem: &'a Problem,
    x: &'a [T],
    grad: &'a [T],
    pre: Option<&'a [T]>,
    post: Option<&'a [T]>,
    rows: Vec<Phase>,
    taps: Vec<TapPlan>,
    x_layout: RowLayout,
    grad_layout: RowLayout,
}

/// Positions `rows` of the row phases of one image.
#[derive(Debug, Clone)]
struct Band {
    image: usize,
    rows: Range<usize>,
}

/// Working memory of the bands.
struct Room<T: Real> {
    /// The packed image rows of a band.
    x: Stock<T>,
    /// The packed gradient rows of a band; `None` where they are read in place.
    grad: Option<Stock<T>>,
    /// The sums of a block of input by a block of output channels.
    sums: Stock<T>,
}

/// A band's rows as the tiles read them.
struct Packed<'a, T: Real> {
    x: Piece<'a, T>,
    /// Image rows that are packed.
    x_rows: Range<usize>,
    /// Every output row of the band's positions, phase by phase within a position; `None` where it is read in place.
    grad: Option<Piece<'a, T>>,
}

/// How gradient rows are reached, in elements.
#[derive(Clone, Copy)]
struct GradSteps {
    row: usize,
    block: usize,
    position: usize,
}

impl<T: Real> WithSimd for Gradient<'_, T> {
    type Output = Result<()>;

    fn with_simd<S: Simd>(self, simd: S) -> Result<()> {
        let p = self.problem;
        assert_eq!(self.output.len(), p.weight_shape().iter().product::<usize>());
        let (rows, columns) = (Phase::of(p, 0), Phase::of(p, 1));
        let lanes = T::lanes::<S>();
        let x_block = if p.in_channels <= 4 { 4 } else { 16 };
        let x_layout = RowLayout::new(p.in_channels, x_block, &columns, |count| count);
        let step = columns.first().map_or(1, |c| c.step);
        let grad_layout = RowLayout {
            channels: p.out_channels,
            block: if p.out_channels <= lanes { lanes } else { 2 * lanes }.max(2),
            stride: step,
            origin: 0,
            residues: (0..step).collect(),
            columns: p.geometry.output[1].div_ceil(step),
        };
        let kw = p.geometry.kernel[1];
        let mut taps = Vec::new();
        for (phase, row) in rows.iter().enumerate() {
            for column in &columns {
                for (y, x) in row.taps.iter().flat_map(|y| column.taps.iter().map(move |x| (y, x))) {
                    taps.push(TapPlan {
                        phase,
                        offset: y.offset,
                        x: x_layout.at(x.offset),
                        grad: grad_layout.at(column.first as isize),
                        count: column.count,
                        weight: y.weight * kw + x.weight,
                    });
                }
            }
        }
        let Self { problem, x, grad, pre, post, output } = self;
        let plan = Plan { simd, problem, x, grad, pre, post, rows, taps, x_layout, grad_layout };
        plan.run(output)
    }
}

impl<S: Simd, T: Real> Plan<'_, S, T> {
    fn run(&self, output: &mut [T]) -> Result<()> {
        if self.taps.len() < self.problem.geometry.kernel.iter().product() {
            // A tap that meets no pixel has no task.
            output.fill(T::ZERO);
        }
        let blocks = self.x_layout.blocks() * self.grad_layout.blocks();
        let most = ENOUGH_BLOCKS.div_ceil(blocks);
        let bands = self.bands(if most == 1 { SHARED_BYTES } else { PART_BYTES }, most);
        let parts = most.min(bands.len());
        let cut = |part: usize| &bands[bands.len() * part / parts..bands.len() * (part + 1) / parts];
        let room = self.room(&bands, parts)?;
        if parts == 1 {
            return self.part(&bands, &room, Output(output.as_mut_ptr()));
        }
        let len = output.len();
        let mut sums = Scratch::new(OP, len * parts)?;
        // Taps without a task hold zeros in every part.
        if self.taps.len() < self.problem.geometry.kernel.iter().product() {
            sums.get_mut().fill(T::ZERO);
        }
        let each = |(part, sums): (usize, &mut [T])| self.part(cut(part), &room, Output(sums.as_mut_ptr()));
        sums.get_mut().par_chunks_mut(len).enumerate().try_for_each(each)?;
        let sums = sums.get();
        const CHUNK: usize = 4096;
        output.par_chunks_mut(CHUNK).enumerate().for_each(|(i, to)| {
            self.simd.vectorize(|| {
                to.copy_from_slice(&sums[i * CHUNK..][..to.len()]);
                for part in 1..parts {
                    for (to, &v) in to.iter_mut().zip(&sums[part * len + i * CHUNK..]) {
                        *to += v;
                    }
                }
            });
        });
        Ok(())
    }

    /// Cuts the images into bands of at most `bytes` packed bytes, and into no fewer than `least` where there are rows enough.
    fn bands(&self, bytes: usize, least: usize) -> Vec<Band> {
        let p = self.problem;
        let positions = self.rows.iter().map(|r| r.count).max().unwrap_or(0);
        let stride = self.rows.first().map_or(1, |r| r.stride);
        let row = (self.x_layout.row_len() * stride + self.grad_layout.row_len() * self.rows.len()) * size_of::<T>();
        let fit = (bytes / row.max(1)).saturating_sub(p.geometry.kernel[0] - 1).max(1);
        let count = positions.div_ceil(fit).max(least.div_ceil(p.batch)).min(positions.max(1));
        let rows = |i: usize| positions * i / count..positions * (i + 1) / count;
        (0..p.batch).flat_map(|image| (0..count).map(move |i| Band { image, rows: rows(i) })).collect()
    }

    /// Working memory for the largest of the bands.
    fn room(&self, bands: &[Band], parts: usize) -> Result<Room<T>> {
        let rows = |band: &Band| reach(&self.rows, band.rows.clone(), self.problem.input[0]).len();
        let x = bands.iter().map(rows).max().unwrap_or(0) * self.x_layout.row_len();
        let rows = bands.iter().map(|band| band.rows.len()).max().unwrap_or(0) * self.rows.len();
        let grad = rows * self.grad_layout.row_len();
        let tasks = parts * self.x_layout.blocks() * self.grad_layout.blocks();
        Ok(Room {
            x: Stock::of_tasks(OP, parts, true, x)?,
            grad: if self.in_place() { None } else { Some(Stock::of_tasks(OP, parts, true, grad)?) },
            sums: Stock::of_threads(OP, tasks, self.taps.len() * self.x_layout.block * self.grad_layout.block)?,
        })
    }

    /// Sums of some bands, in order.
    fn part(&self, bands: &[Band], room: &Room<T>, target: Output<T>) -> Result<()> {
        for (i, band) in bands.iter().enumerate() {
            let packed = self.pack(band, room)?;
            let (xs, gs) = (self.x_layout.blocks(), self.grad_layout.blocks());
            (0..xs * gs)
                .into_par_iter()
                .try_for_each(|task| self.block(band, &packed, [task % xs, task / xs], i > 0, &room.sums, target))?;
        }
        Ok(())
    }

    fn pack<'a>(&self, band: &Band, room: &'a Room<T>) -> Result<Packed<'a, T>> {
        let p = self.problem;
        let Range { start: first, end } = reach(&self.rows, band.rows.clone(), p.input[0]);
        let x_len = self.x_layout.row_len().max(1);
        let mut x = room.x.take()?;
        let width = p.input[1] * p.in_channels;
        x[..(end - first) * x_len].par_chunks_mut(x_len).enumerate().for_each(|(i, packed)| {
            let row = &self.x[(band.image * p.input[0] + first + i) * width..][..width];
            pack_row(self.simd, &self.x_layout, row, None, packed);
        });
        let grad = room.grad.as_ref().map(|grad| self.pack_grad(band, grad)).transpose()?;
        Ok(Packed { x, x_rows: first..end, grad })
    }

    fn pack_grad<'a>(&self, band: &Band, room: &'a Stock<T>) -> Result<Piece<'a, T>> {
        let p = self.problem;
        let [oh, ow] = p.geometry.output;
        let phases = self.rows.len();
        let grad_len = self.grad_layout.row_len();
        let mut grad = room.take()?;
        let width = ow * p.out_channels;
        grad[..band.rows.len() * phases * grad_len].par_chunks_mut(grad_len).enumerate().for_each(|(i, packed)| {
            let phase = &self.rows[i % phases];
            let y = phase.first + (band.rows.start + i / phases) * phase.step;
            if y < oh {
                let row = &self.grad[(band.image * oh + y) * width..][..width];
                pack_row(self.simd, &self.grad_layout, row, None, packed);
            }
        });
        Ok(grad)
    }

    /// Whether gradient rows need no packing: whole vectors, no phases, pixels close to each other.
    fn in_place(&self) -> bool {
        let o = self.problem.out_channels;
        self.grad_layout.stride == 1 && o.is_multiple_of(self.grad_layout.block) && o <= IN_PLACE_CHANNELS
    }

    fn grad_steps(&self) -> GradSteps {
        let (l, o) = (&self.grad_layout, self.problem.out_channels);
        match self.in_place() {
            true => GradSteps { row: self.problem.geometry.output[1] * o, block: l.block, position: o },
            false => GradSteps { row: l.row_len(), block: l.block_len(), position: l.block },
        }
    }

    /// Adds a band to one block of input by one block of output channels.
    fn block(
        &self,
        band: &Band,
        packed: &Packed<T>,
        [x_block, grad_block]: [usize; 2],
        resume: bool,
        room: &Stock<T>,
        target: Output<T>,
    ) -> Result<()> {
        let p = self.problem;
        let (depth, step) = (self.x_layout.block, self.grad_layout.block);
        let lanes = T::lanes::<S>();
        let o = grad_block * step;
        let channels = step.min(p.out_channels - o);
        let vectors = channels.div_ceil(lanes);
        let width = vectors * lanes;
        let mut sums = room.take()?;
        let sums = &mut sums[..self.taps.len() * depth * width];
        let x_columns = self.x_layout.block_len();
        let visit = (x_columns + self.grad_layout.block_len() * self.rows.len()) * size_of::<T>();
        let visit = (VISIT_BYTES / visit).max(1);
        let mut pairs = Vec::with_capacity(visit);
        let steps = self.grad_steps();
        let [oh, ow] = p.geometry.output;
        let grad = match &packed.grad {
            Some(grad) => grad,
            // Without phases position q is output row q.
            None => &self.grad[(band.image * oh + band.rows.start) * ow * p.out_channels..],
        };
        for start in band.rows.clone().step_by(visit) {
            for (tap, sums) in self.taps.iter().zip(sums.chunks_exact_mut(depth * width)) {
                pairs.clear();
                let phase = &self.rows[tap.phase];
                for q in start..(start + visit).min(band.rows.end).min(phase.count) {
                    let y = (phase.stride * q) as isize + tap.offset;
                    if y >= packed.x_rows.start as isize && y < packed.x_rows.end as isize {
                        let x = (y as usize - packed.x_rows.start) * self.x_layout.row_len() + x_block * x_columns;
                        let row = (q - band.rows.start) * self.rows.len() + tap.phase;
                        pairs.push((x + tap.x, row * steps.row + grad_block * steps.block + tap.grad));
                    }
                }
                let products = Products {
                    x: &packed.x,
                    grad,
                    pairs: &pairs,
                    count: tap.count,
                    step: steps.position,
                    depth,
                    vectors,
                    resume: start > band.rows.start,
                    sums,
                };
                products.run(self.simd);
            }
        }
        // A band lies in one image, so its scales are factors of its sums.
        let (i, inputs) = (x_block * depth, depth.min(p.in_channels - x_block * depth));
        let post = self.post.map(|s| &s[band.image * p.out_channels + o..][..channels]);
        for (tap, sums) in self.taps.iter().zip(sums.chunks_exact_mut(depth * width)) {
            for (c, sums) in sums.chunks_exact_mut(width).take(inputs).enumerate() {
                let pre = self.pre.map_or(T::ONE, |s| s[band.image * p.in_channels + i + c]);
                for (k, s) in sums[..channels].iter_mut().enumerate() {
                    *s *= pre * post.map_or(T::ONE, |s| s[k]);
                }
                let (at, step) = match p.geometry.transpose {
                    true => ((tap.weight * p.out_channels + o) * p.in_channels + i + c, p.in_channels),
                    false => ((tap.weight * p.in_channels + i + c) * p.out_channels + o, 1),
                };
                for (k, &sum) in sums[..channels].iter().enumerate() {
                    // SAFETY: the element lies inside the weight, and no other task has these channels.
                    let to = unsafe { &mut *target.get().add(at + k * step) };
                    *to = if resume { *to + sum } else { sum };
                }
            }
        }
        Ok(())
    }
}

/// `sums[c, o] (+)= Σ_pairs Σ_q x[q, c]·grad[q, o]` over packed rows.
struct Products<'a, T> {
    x: &'a [T],
    grad: &'a [T],
    /// Elements at which rows of the image and of the gradient start.
    pairs: &'a [(usize, usize)],
    count: usize,
    /// Elements from a gradient position to the next.
    step: usize,
    /// Elements from an image position to the next, all of which are multiplied: 4 or 16.
    depth: usize,
    vectors: usize,
    resume: bool,
    /// `[depth, vectors·lanes]`.
    sums: &'a mut [T],
}

impl<T: Real> Products<'_, T> {
    fn run<S: Simd>(self, simd: S) {
        let width = self.vectors * T::lanes::<S>();
        for &(x, grad) in self.pairs {
            assert!(x + self.count * self.depth <= self.x.len());
            assert!(grad + (self.count - 1) * self.step + width <= self.grad.len());
        }
        assert!(self.sums.len() == self.depth * width);
        // 8 inputs by two vectors leave the multipliers no gaps where there are 32 registers; 4 where there are 16.
        match (self.vectors, self.depth, S::REGISTER_COUNT >= 32) {
            (1, 4, _) => simd.vectorize(Outer::<T, 4, 1, 4>(self)),
            (_, 4, _) => simd.vectorize(Outer::<T, 4, 2, 4>(self)),
            (1, _, true) => simd.vectorize(Outer::<T, 16, 1, 16>(self)),
            (1, _, false) => simd.vectorize(Outer::<T, 8, 1, 16>(self)),
            (_, _, true) => simd.vectorize(Outer::<T, 8, 2, 16>(self)),
            (_, _, false) => simd.vectorize(Outer::<T, 4, 2, 16>(self)),
        }
    }
}

/// [`Products`] for M inputs at a time, V vectors and positions of P inputs.
struct Outer<'a, T, const M: usize, const V: usize, const P: usize>(Products<'a, T>);

impl<T: Real, const M: usize, const V: usize, const P: usize> WithSimd for Outer<'_, T, M, V, P> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Products { x, grad, pairs, count, step, resume, sums: saved, .. } = self.0;
        let lanes = T::lanes::<S>();
        for first in (0..P).step_by(M) {
            let to = saved[first * V * lanes..][..M * V * lanes].as_mut_ptr();
            let mut sums = [[T::splat(simd, T::ZERO); V]; M];
            if resume {
                for m in 0..M {
                    for v in 0..V {
                        // SAFETY: the slice has M·V vectors.
                        sums[m][v] = unsafe { T::load::<S>(to.add((m * V + v) * lanes)) };
                    }
                }
            }
            for &(x_row, grad_row) in pairs {
                // SAFETY: `Products::run` has checked both rows to their last position.
                unsafe {
                    let (mut x, mut grad) = (x.as_ptr().add(x_row + first), grad.as_ptr().add(grad_row));
                    for _ in 0..count {
                        let mut g = [T::splat(simd, T::ZERO); V];
                        for v in 0..V {
                            g[v] = T::load::<S>(grad.add(v * lanes));
                        }
                        for m in 0..M {
                            let x = T::splat(simd, *x.add(m));
                            for v in 0..V {
                                sums[m][v] = T::fused(simd, x, g[v], sums[m][v]);
                            }
                        }
                        (x, grad) = (x.wrapping_add(P), grad.wrapping_add(step));
                    }
                }
            }
            for m in 0..M {
                for v in 0..V {
                    // SAFETY: the slice has M·V vectors.
                    unsafe { T::store::<S>(to.add((m * V + v) * lanes), sums[m][v]) };
                }
            }
        }
    }
}
