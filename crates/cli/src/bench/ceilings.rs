//! What the device reaches at best in this run: a large matrix product and a large copy.

use std::fmt;

use anyhow::Result;
use swinstyle_tensor::{DType, Device, Tensor, cube::wgpu_adapters, no_grad};

use super::timed;

/// Measured limits of a device.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ceilings {
    /// Floating-point operations a second of an f32 matrix product.
    flops: f64,
    /// Bytes a second, read and written, of a copy.
    bytes: f64,
    edge: usize,
    copied: usize,
}

/// Attempts of which the best counts: a ceiling is what the device can do, not what it did while others worked.
const ATTEMPTS: usize = 7;

impl Ceilings {
    pub(super) fn measure(device: Device) -> Result<Self> {
        let software = |i: usize| wgpu_adapters().get(i).is_some_and(|a| a.software);
        // Large enough to fill the device, small enough for a software GPU to finish.
        let (edge, elements) = match device {
            Device::Cpu => (1536, 1 << 24),
            Device::Wgpu(i) if software(i) => (256, 1 << 20),
            _ => (4096, 1 << 26),
        };
        let best = |work: &mut dyn FnMut() -> Result<()>| -> Result<f64> {
            work()?;
            device.synchronize()?;
            let mut best = f64::INFINITY;
            for _ in 0..ATTEMPTS {
                best = best.min(timed(device, work)?);
            }
            Ok(best)
        };
        no_grad(|| {
            let a = Tensor::full(0.5, &[edge, edge], DType::F32, device)?;
            let product = best(&mut || Ok(a.matmul(&a).map(drop)?))?;
            let x = Tensor::full(1.0, &[elements], DType::F32, device)?;
            let copy = best(&mut || Ok(x.affine(1.0, 0.0).map(drop)?))?;
            let (flops, bytes) = (2.0 * (edge as f64).powi(3), 8.0 * elements as f64);
            Ok(Self { flops: flops / product, bytes: bytes / copy, edge, copied: 4 * elements })
        })
    }

    /// Time below which this work cannot be done.
    pub(super) fn least_seconds(&self, flops: f64, bytes: f64) -> f64 {
        (flops / self.flops).max(bytes / self.bytes)
    }
}

impl fmt::Display for Ceilings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { flops, bytes, edge, copied } = self;
        write!(f, "a {edge}³ f32 product reaches {:.1} GFLOP/s, ", flops * 1e-9)?;
        write!(f, "a copy of {} MiB {:.1} GB/s", copied >> 20, bytes * 1e-9)
    }
}
