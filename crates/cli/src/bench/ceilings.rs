//! What the device reaches in this run: a large matrix product, and copies of several sizes.
//!
//! They are the roofline of the cases: a share of 1 means as fast as a matrix product of so many FLOPs, or a copy of so many
//! bytes, would be. They are measured before the work and after it, and the higher counts: other work on the machine lowers a ceiling, and then
//! all shares are too high. Where a share is above 1 they are measured again, and if it stays above, that is said.

use std::{fmt, time::Instant};

use anyhow::Result;
use swinstyle_tensor::{DType, Device, Tensor, cube::wgpu_adapters, no_grad};

use super::timed;

/// Measured limits of a device.
#[derive(Debug, Clone)]
pub(crate) struct Ceilings {
    /// Floating-point operations a second of an f32 matrix product.
    flops: f64,
    edge: usize,
    /// Bytes that a copy reads and writes, and how many of them a second, by size: small copies stay in the caches.
    copies: Vec<(f64, f64)>,
}

/// Attempts of which the best counts: a ceiling is what the device can do, not what it did while others worked.
const ATTEMPTS: usize = 7;
/// Seconds that the attempts take together at least.
const SECONDS: f64 = 0.3;
/// Times that ceilings which a kernel passes are measured again.
const AGAIN: usize = 2;
/// Factor between two measurements of one ceiling from which on something else ran beside one of them.
const DISTURBED: f64 = 1.1;

impl Ceilings {
    pub(crate) fn measure(device: Device) -> Result<Self> {
        let software = |i: usize| wgpu_adapters().get(i).is_some_and(|a| a.software);
        // Large enough to fill the device, small enough for a software GPU to finish.
        let (edge, elements): (usize, &[usize]) = match device {
            Device::Cpu => (1536, &[1 << 20, 1 << 22, 1 << 24]),
            Device::Wgpu(i) if software(i) => (256, &[1 << 20]),
            _ => (4096, &[1 << 20, 1 << 23, 1 << 26]),
        };
        no_grad(|| {
            let a = Tensor::full(0.5, &[edge, edge], DType::F32, device)?;
            let product = best(device, &mut || Ok(a.matmul(&a).map(drop)?))?;
            let mut copies = Vec::new();
            for &n in elements {
                let x = Tensor::full(1.0, &[n], DType::F32, device)?;
                let bytes = 8.0 * n as f64;
                copies.push((bytes, bytes / best(device, &mut || Ok(x.affine(1.0, 0.0).map(drop)?))?));
            }
            Ok(Self { flops: 2.0 * (edge as f64).powi(3) / product, edge, copies })
        })
    }

    /// Floating-point operations a second.
    pub(crate) fn flops(&self) -> f64 {
        self.flops
    }

    /// Bytes a second of the largest copy, which no cache holds.
    pub(crate) fn bytes(&self) -> f64 {
        self.copies.last().map_or(0.0, |(_, rate)| *rate)
    }

    /// Of each limit the higher of two measurements.
    pub(crate) fn higher(self, other: Self) -> Self {
        let copy = |((size, a), (_, b)): ((f64, f64), (f64, f64))| (size, a.max(b));
        let copies = self.copies.into_iter().zip(other.copies).map(copy).collect();
        Self { flops: self.flops.max(other.flops), edge: self.edge, copies }
    }

    /// Whether another measurement found a clearly higher limit.
    pub(super) fn is_below(&self, other: &Self) -> bool {
        let higher = self.clone().higher(other.clone());
        self.differs(&higher) > DISTURBED
    }

    /// The largest factor between these limits and those of another measurement.
    fn differs(&self, other: &Self) -> f64 {
        let factor = |a: f64, b: f64| (a / b).max(b / a);
        let copies = self.copies.iter().zip(&other.copies).map(|((_, a), (_, b))| factor(*a, *b));
        copies.fold(factor(self.flops, other.flops), f64::max)
    }

    /// The ceilings that count for work that is done: those before it and those that `measure` gives now, as often as needed, and what
    /// is to be said about them. `most`: name and share of what comes nearest to ceilings, or passes them.
    pub(crate) fn settled(
        self,
        mut measure: impl FnMut() -> Result<Self>,
        most: impl Fn(&Self) -> Option<(String, f64)>,
    ) -> Result<(Self, Vec<String>)> {
        let mut notes = Vec::new();
        let after = measure()?;
        if self.differs(&after) > DISTURBED {
            notes.push(format!(
                "the ceilings were disturbed: before the work {self}, after it {after}; of each the higher counts, and all times are uncertain"
            ));
        }
        let mut ceilings = self.higher(after);
        let above = |ceilings: &Self| most(ceilings).filter(|(_, share)| *share > 1.0);
        for _ in 0..AGAIN {
            if above(&ceilings).is_none() {
                return Ok((ceilings, notes));
            }
            ceilings = ceilings.higher(measure()?);
        }
        if let Some((name, share)) = above(&ceilings) {
            notes.push(format!(
                "{name} is at {:.0} % of the roofline, with ceilings that were measured {} times: its data stay in the caches, its form needs fewer products, or other work on the machine lowered the ceilings each time",
                100.0 * share,
                AGAIN + 2
            ));
        }
        Ok((ceilings, notes))
    }

    /// Ceilings of a device that reaches so many FLOPs and bytes a second.
    #[cfg(test)]
    pub(crate) fn of(flops: f64, bytes: f64) -> Self {
        Self { flops, edge: 0, copies: vec![(0.0, bytes)] }
    }

    /// Seconds that the work would take at the ceilings.
    pub(crate) fn least_seconds(&self, flops: f64, bytes: f64) -> f64 {
        let fitting = self.copies.iter().find(|(size, _)| bytes <= *size).or(self.copies.last());
        (flops / self.flops).max(fitting.map_or(0.0, |(_, rate)| bytes / rate))
    }
}

fn best(device: Device, work: &mut dyn FnMut() -> Result<()>) -> Result<f64> {
    work()?;
    device.synchronize()?;
    let (started, mut best, mut attempts) = (Instant::now(), f64::INFINITY, 0);
    while attempts < ATTEMPTS || started.elapsed().as_secs_f64() < SECONDS {
        best = best.min(timed(device, work)?);
        attempts += 1;
    }
    Ok(best)
}

impl fmt::Display for Ceilings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { flops, edge, copies } = self;
        write!(f, "a {edge}³ f32 product reaches {:.1} GFLOP/s, copies", flops * 1e-9)?;
        for (i, (bytes, rate)) in copies.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            write!(f, "{comma} {:.1} GB/s ({} MiB)", rate * 1e-9, (bytes / 2.0) as usize >> 20)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Settles ceilings of 100 GFLOP/s with measurements of so many; 120 GFLOP/s were reached in between.
    fn settled(again: &[f64]) -> (f64, Vec<String>, usize) {
        let next = Cell::new(0);
        let measure = || {
            next.set(next.get() + 1);
            Ok(Ceilings::of(again[next.get() - 1], 1.0))
        };
        let most = |c: &Ceilings| Some(("conv2d".to_string(), 120.0 / c.flops()));
        let (ceilings, notes) = Ceilings::of(100.0, 1.0).settled(measure, most).unwrap();
        (ceilings.flops(), notes, next.get())
    }

    #[test]
    fn a_ceiling_that_something_disturbed_is_measured_again_and_the_higher_counts() {
        // The first measurement was disturbed: the second says so, and the share is below 1 again.
        let (flops, notes, measured) = settled(&[200.0]);
        assert_eq!((flops, measured, notes.len()), (200.0, 1, 1));
        assert!(notes[0].contains("disturbed"), "{notes:?}");
        // The third finds what the first two did not.
        let (flops, notes, measured) = settled(&[102.0, 150.0]);
        assert_eq!((flops, measured, notes.len()), (150.0, 2, 0));
        // What stays above is said, with its share.
        let (flops, notes, measured) = settled(&[101.0, 99.0, 100.0]);
        assert_eq!((flops, measured, notes.len()), (101.0, 3, 1));
        assert!(notes[0].contains("conv2d is at 119 %") && notes[0].contains("4 times"), "{notes:?}");
    }

    #[test]
    fn a_quiet_machine_measures_twice_and_says_nothing() {
        let most = |_: &Ceilings| Some(("conv2d".to_string(), 0.9));
        let (ceilings, notes) = Ceilings::of(100.0, 1.0).settled(|| Ok(Ceilings::of(95.0, 1.05)), most).unwrap();
        assert_eq!((ceilings.flops(), ceilings.bytes(), notes.len()), (100.0, 1.05, 0));
    }
}
