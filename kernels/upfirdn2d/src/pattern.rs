//! Which inputs and taps the outputs of an axis meet, as far as it is known when a kernel is compiled.

use crate::problem::Axis;

/// The part of an axis that shapes the code: coprime factors, and the taps that can meet samples.
///
/// Outputs are numbered from one whose first input meets tap 0; the pattern repeats after `up` outputs and `down` inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Pattern {
    pub(crate) up: usize,
    pub(crate) down: usize,
    pub(crate) taps: usize,
}

/// The part of an axis that is given at run time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    /// Outputs before the first one that exists, with which the pattern begins at its tap 0.
    pub(crate) shift: usize,
    /// The input that the first of these outputs reads first; it may lie outside.
    pub(crate) first: isize,
    /// Place in the filter of the pattern's tap 0.
    pub(crate) tap: usize,
    /// From one of the pattern's taps to the next in the filter.
    pub(crate) tap_step: isize,
}

impl Pattern {
    /// Both parts of an axis; nothing where no tap meets a sample.
    ///
    /// Output o meets input i at tap `i·up − o·down + pad`. With g the common divisor of the factors only every g-th tap is met, so the axis
    /// is one with the factors divided by g and these taps.
    pub(crate) fn of(axis: &Axis, flip: bool) -> Option<(Self, Origin)> {
        let common = gcd(axis.up, axis.down);
        let (spare, pad) = (axis.pad[0].rem_euclid(common as isize), axis.pad[0].div_euclid(common as isize));
        let skipped = spare as usize;
        let taps = axis.taps.checked_sub(skipped).filter(|&t| t > 0)?.div_ceil(common);
        let (up, down) = (axis.up / common, axis.down / common);
        let start = |shift: usize| (shift * down) as isize + pad;
        let shift = (0..up).find(|&s| start(s).rem_euclid(up as isize) == 0)?;
        let (tap, tap_step) = match flip {
            true => (skipped, common as isize),
            false => (axis.taps - 1 - skipped, -(common as isize)),
        };
        Some((Self { up, down, taps }, Origin { shift, first: -start(shift) / up as isize, tap, tap_step }))
    }

    /// Inputs that one output reads at most.
    pub(crate) fn reads(&self) -> usize {
        self.taps.div_ceil(self.up)
    }

    /// The first input of an output.
    pub(crate) fn first(&self, output: usize) -> usize {
        (output * self.down).div_ceil(self.up)
    }

    /// The tap that meets it.
    pub(crate) fn tap(&self, output: usize) -> usize {
        self.first(output) * self.up - output * self.down
    }

    /// The input behind the last one of an output.
    pub(crate) fn end(&self, output: usize) -> usize {
        (output * self.down + self.taps - 1) / self.up + 1
    }

    /// Outputs after which the pattern repeats in a ring of [`reads`](Self::reads) inputs as well.
    pub(crate) fn period(&self) -> usize {
        self.up * (self.reads() / gcd(self.down, self.reads()))
    }

    /// Inputs from one period to the next.
    pub(crate) fn advance(&self) -> usize {
        self.period() / self.up * self.down
    }

    /// Inputs of a period that were read for the period before.
    pub(crate) fn known(&self) -> usize {
        self.end(self.period() - 1).saturating_sub(self.advance())
    }

    /// The first input that an output of a period reads and none before it did.
    pub(crate) fn fresh(&self, output: usize) -> usize {
        let known = if output == 0 { self.known() } else { self.end(output - 1) };
        known.max(self.first(output))
    }
}

pub(crate) fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_parts_together_are_the_axis() {
        for (up, down) in [(1, 1), (2, 1), (1, 2), (2, 2), (3, 2), (2, 3), (4, 2), (6, 4), (1, 5)] {
            for taps in 1..9 {
                for pad in -5..6 {
                    let axis = Axis { inputs: 9, taps, up, down, pad: [pad, 20] };
                    let met = |output: usize| -> Vec<(isize, usize)> {
                        let (first, tap) = axis.first(output);
                        (tap..taps).step_by(up).zip(first..).map(|(t, i)| (i, t)).collect()
                    };
                    let Some((pattern, origin)) = Pattern::of(&axis, true) else {
                        assert!((0..7).all(|o| met(o).is_empty()));
                        continue;
                    };
                    for output in 0..7 {
                        let o = output + origin.shift;
                        let inputs = pattern.first(o)..pattern.end(o);
                        let taps = (pattern.tap(o)..pattern.taps).step_by(pattern.up);
                        assert_eq!(inputs.len(), taps.len());
                        let place = |t: usize| (origin.tap as isize + t as isize * origin.tap_step) as usize;
                        let pairs = inputs.zip(taps).map(|(i, t)| (origin.first + i as isize, place(t)));
                        assert_eq!(pairs.collect::<Vec<_>>(), met(output), "{axis:?}, output {output}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_ring_of_the_reads_holds_what_the_outputs_of_a_period_need() {
        for (up, down, taps) in
            [(1, 1, 4), (2, 1, 4), (1, 2, 4), (2, 1, 3), (1, 3, 2), (3, 2, 7), (2, 3, 1), (4, 1, 12)]
        {
            let p = Pattern { up, down, taps };
            let mut ring = vec![None; p.reads()];
            (0..p.known()).for_each(|i| ring[i % p.reads()] = Some(i));
            for step in 0..3 {
                for q in 0..p.period() {
                    let at = |i: usize| step * p.advance() + i;
                    (p.fresh(q)..p.end(q)).for_each(|i| ring[i % p.reads()] = Some(at(i)));
                    let held = (p.first(q)..p.end(q)).all(|i| ring[i % p.reads()] == Some(at(i)));
                    assert!(held, "{p:?}, output {q} of period {step}: {ring:?}");
                }
            }
        }
    }
}
