//! What the device reaches in this run: a large matrix product, and copies of several sizes.
//!
//! They are the roofline of the cases: a share of 1 means as fast as a matrix product of so many FLOPs, or a copy of so many
//! bytes, would be. A kernel that is better than the matrix product has a share above 1.

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
