//! Devices: their names, what is present, and the default.

use std::{fmt, str::FromStr};

use crate::{DType, Result, TensorError, counters, cube};

/// Where a tensor lives and its operations run; parsed from and printed as `cpu`, `wgpu`, `wgpu:1`, `cuda`, `cuda:0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Device {
    /// Native Rust on all cores.
    Cpu,
    /// The i-th adapter of wgpu (Vulkan, Metal, DX12), hardware before software.
    Wgpu(usize),
    /// The i-th CUDA device.
    Cuda(usize),
    /// A CUDA chip that is compiled for and computes nothing: results are zeros, so no text names it. See [`cube::dry`].
    Dry(cube::dry::Chip),
    /// A CUDA chip whose kernels run on the host, compiled by the system's C++ compiler: slow, for tests of what CUDA would compute.
    Emulated(cube::dry::Chip),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Wgpu(0) => f.write_str("wgpu"),
            Self::Wgpu(i) => write!(f, "wgpu:{i}"),
            Self::Cuda(0) => f.write_str("cuda"),
            Self::Cuda(i) => write!(f, "cuda:{i}"),
            Self::Dry(chip) => write!(f, "dry:{chip}"),
            Self::Emulated(chip) => write!(f, "emulated:{chip}"),
        }
    }
}

impl FromStr for Device {
    type Err = TensorError;

    fn from_str(s: &str) -> Result<Self> {
        let bad = || TensorError::NoDevice {
            device: s.to_string(),
            reason: "devices are written cpu, wgpu[:i] or cuda[:i]".to_string(),
        };
        if let Some(chip) = s.strip_prefix("emulated:") {
            return chip.parse().map(Self::Emulated).map_err(|_| bad());
        }
        let (name, index) = match s.split_once(':') {
            Some((name, index)) => (name, index.parse().map_err(|_| bad())?),
            None => (s, 0),
        };
        match name {
            "cpu" if !s.contains(':') => Ok(Self::Cpu),
            "wgpu" => Ok(Self::Wgpu(index)),
            "cuda" => Ok(Self::Cuda(index)),
            _ => Err(bad()),
        }
    }
}

impl Device {
    /// Makes sure that the device can be used, opening it if need be.
    pub fn check(self) -> Result<()> {
        match self {
            Self::Cpu => Ok(()),
            _ => cube::client(self).map(|_| ()),
        }
    }

    /// The best device that is present: CUDA, then a hardware wgpu adapter, then cpu.
    ///
    /// A software Vulkan adapter (lavapipe, SwiftShader) is never the default: the native cpu code is far faster.
    pub fn best() -> Self {
        if cube::cuda_device_count() > 0 {
            return Self::Cuda(0);
        }
        match cube::wgpu_adapters().iter().position(|a| !a.software) {
            Some(i) => Self::Wgpu(i),
            None => Self::Cpu,
        }
    }

    /// The device named by `SWINSTYLE_DEVICE` if that is set and not empty, else [`Device::best`].
    pub fn from_env() -> Result<Self> {
        match std::env::var("SWINSTYLE_DEVICE") {
            Ok(name) if !name.is_empty() => name.parse(),
            _ => Ok(Self::best()),
        }
    }

    /// Makes sure that the device computes in a type. On the cpu the half types are f32 numbers that are rounded after every kernel.
    ///
    /// Errors: an absent device, [`TensorError::UnsupportedDType`].
    pub fn check_dtype(self, dtype: DType) -> Result<()> {
        match self {
            Self::Cpu => Ok(()),
            _ => cube::client(self)?.check_dtype("precision", dtype).map_err(|e| e.on(self)),
        }
    }

    /// Waits until everything launched on the device has finished. PyTorch: `torch.cuda.synchronize`.
    pub fn synchronize(self) -> Result<()> {
        counters::waited();
        self.settle()
    }

    /// [`Device::synchronize`] for what measures: not counted.
    pub(crate) fn settle(self) -> Result<()> {
        match self {
            Self::Cpu => Ok(()),
            _ => cube::client(self)?.synchronize(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names_round_trip_and_bad_ones_are_refused() {
        for name in ["cpu", "wgpu", "wgpu:1", "cuda", "cuda:3", "emulated:sm_90"] {
            assert_eq!(name.parse::<Device>().unwrap().to_string(), name);
        }
        assert_eq!("cuda:0".parse::<Device>().unwrap(), Device::Cuda(0));
        for name in ["", "gpu", "cpu:1", "wgpu:", "cuda:x", "dry:sm_90"] {
            assert!(name.parse::<Device>().is_err(), "{name}");
        }
    }
}
