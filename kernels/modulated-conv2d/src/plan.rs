//! Index plans: which input positions and taps an output position reads, free of divisions and of inserted zeros.

use std::ops::Range;

use crate::problem::Problem;

/// One tap of a [`Phase`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tap {
    /// Index of the tap in the weight as it is stored.
    pub(crate) weight: usize,
    /// Position `q` of the phase reads input `stride·q + offset`.
    pub(crate) offset: isize,
}

/// Output positions of one axis that meet the same taps: `first, first + step, ...`, `count` of them.
///
/// With zero insertion an output sees only the taps that land on a sample; which ones they are repeats with the period
/// `up / gcd(up, down)`. Each phase is then a plain strided correlation over `taps`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Phase {
    pub(crate) first: usize,
    pub(crate) step: usize,
    pub(crate) count: usize,
    pub(crate) stride: usize,
    pub(crate) taps: Vec<Tap>,
}

impl Phase {
    /// The phases of an axis (0 is y), which together hold every output position once.
    pub(crate) fn of(problem: &Problem, axis: usize) -> Vec<Self> {
        let g = &problem.geometry;
        let (kernel, outputs, pad) = (g.kernel[axis], g.output[axis], g.pad[axis]);
        let common = gcd(g.up, g.down);
        let (step, stride) = (g.up / common, g.down / common);
        (0..step.min(outputs))
            .map(|first| {
                let taps = (0..kernel).filter_map(|k| {
                    let frame = (first * g.down + k) as isize - pad;
                    let weight = if g.flip { kernel - 1 - k } else { k };
                    let up = g.up as isize;
                    (frame.rem_euclid(up) == 0).then(|| Tap { weight, offset: frame.div_euclid(up) })
                });
                Self { first, step, count: (outputs - first).div_ceil(step), stride, taps: taps.collect() }
            })
            .collect()
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The input positions below `inputs` that lie between those which positions `outputs` of the phases read.
pub(crate) fn reach(phases: &[Phase], outputs: Range<usize>, inputs: usize) -> Range<usize> {
    let (mut low, mut high) = (isize::MAX, isize::MIN);
    for p in phases {
        let end = outputs.end.min(p.count);
        for t in p.taps.iter().filter(|_| outputs.start < end) {
            low = low.min((p.stride * outputs.start) as isize + t.offset);
            high = high.max((p.stride * (end - 1)) as isize + t.offset);
        }
    }
    let start = low.clamp(0, inputs as isize) as usize;
    start..(high.clamp(-1, inputs as isize - 1) + 1).max(start as isize) as usize
}
