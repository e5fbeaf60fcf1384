//! The chips that a dry device can stand for, as data.

use std::{fmt, str::FromStr};

/// An NVIDIA chip of the data centre, parsed from and printed as its architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Chip {
    /// A100 with 80 GB.
    Sm80,
    /// H100 SXM.
    Sm90,
    /// B200.
    Sm100,
}

/// What the CUDA programming guide's table of compute capabilities says, and the data sheets.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Compute capability times ten.
    pub version: u32,
    /// Multiprocessors.
    pub multiprocessors: u32,
    /// Bytes of device memory.
    pub memory: u64,
    /// Bytes of shared memory that one cube may ask for.
    pub shared_per_cube: usize,
    /// Bytes of shared memory of a multiprocessor.
    pub shared_per_multiprocessor: usize,
    /// Registers of a multiprocessor.
    pub registers: u32,
    /// Resident warps of a multiprocessor at most.
    pub warps: u32,
    /// Resident cubes of a multiprocessor at most.
    pub cubes: u32,
}

impl Chip {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Sm80, Self::Sm90, Self::Sm100];

    /// Its numbers.
    pub fn limits(self) -> Limits {
        let (version, multiprocessors, gib, shared_kib) = match self {
            Self::Sm80 => (80, 108, 80, 164),
            Self::Sm90 => (90, 132, 80, 228),
            Self::Sm100 => (100, 148, 180, 228),
        };
        Limits {
            version,
            multiprocessors,
            memory: gib << 30,
            // One KiB of each cube is the system's own.
            shared_per_cube: (shared_kib - 1) << 10,
            shared_per_multiprocessor: shared_kib << 10,
            registers: 65_536,
            warps: 64,
            cubes: 32,
        }
    }

    /// The architecture that kernels are compiled for, as NVRTC is told by the CUDA backend: with the features of this
    /// architecture alone, where it has such.
    pub fn target(self) -> String {
        let suffix = if self.limits().version >= 90 { "a" } else { "" };
        format!("{self}{suffix}")
    }
}

impl fmt::Display for Chip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sm_{}", self.limits().version)
    }
}

impl FromStr for Chip {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(|c| c.to_string()).join(", ");
        Self::ALL.into_iter().find(|c| c.to_string() == s).ok_or_else(|| format!("the architectures are {}", known()))
    }
}
