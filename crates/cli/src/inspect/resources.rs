//! Registers and spills as ptxas tells them, and how many warps of a multiprocessor they allow.

use anyhow::{Context, Result};
use serde::Serialize;
use swinstyle_tensor::cube::dry::Limits;

/// What a thread of a kernel takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Resources {
    /// Registers.
    pub registers: u32,
    /// Bytes of registers that are written to local memory for want of registers.
    pub spilled_bytes: u32,
    /// Bytes of local memory: spills, and arrays that are indexed at run time.
    pub stack_bytes: u32,
    /// Bytes of shared memory of a cube that the kernel declares, beside what its launch asks for.
    pub declared_shared_bytes: u32,
}

impl Resources {
    /// Reads what `ptxas -v` says of a kernel.
    pub fn parse(log: &str) -> Result<Self> {
        let number = |unit: &str| {
            let before = log.split(unit).next().filter(|b| b.len() < log.len())?;
            before.trim_end().rsplit([' ', ',']).next()?.parse().ok()
        };
        Ok(Self {
            registers: number(" registers").context("ptxas tells no registers")?,
            spilled_bytes: number(" bytes spill stores").context("ptxas tells no spills")?,
            stack_bytes: number(" bytes stack frame").unwrap_or(0),
            declared_shared_bytes: number(" bytes smem").unwrap_or(0),
        })
    }
}

/// The warps that can be resident on a multiprocessor at once.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Occupancy {
    /// Resident warps.
    pub warps: u32,
    /// Their share of the most that the chip can have.
    pub share: f64,
    /// What allows no more of them; nothing at 1.
    pub limiter: Option<&'static str>,
}

impl Occupancy {
    /// By the rules of the CUDA occupancy calculator.
    pub fn of(chip: &Limits, registers: u32, shared_bytes: usize, units: u32) -> Self {
        /// Registers are given out by warp in pieces of so many, and each of four schedulers has a quarter of them.
        const REGISTER_PIECE: u32 = 256;
        const SCHEDULERS: u32 = 4;
        /// Shared memory is given out in pieces of so many bytes, and of each cube's the system takes a KiB.
        const SHARED_PIECE: usize = 128;
        const SHARED_OF_SYSTEM: usize = 1024;
        let warps_of_cube = units.div_ceil(32).max(1);
        let warp_registers = (registers.max(1) * 32).next_multiple_of(REGISTER_PIECE);
        let by_registers = chip.registers / SCHEDULERS / warp_registers * SCHEDULERS / warps_of_cube;
        let cube_shared = (shared_bytes + SHARED_OF_SYSTEM).next_multiple_of(SHARED_PIECE);
        let by_shared = (chip.shared_per_multiprocessor / cube_shared) as u32;
        let limits = [
            ("registers", by_registers),
            ("shared memory", by_shared),
            ("warps", chip.warps / warps_of_cube),
            ("cubes", chip.cubes),
        ];
        // The first of equals, which are in the order of what one can do about them.
        let (name, cubes) = limits.into_iter().min_by_key(|(_, cubes)| *cubes).unwrap_or(("cubes", 0));
        let warps = cubes * warps_of_cube;
        let share = f64::from(warps) / f64::from(chip.warps);
        Self { warps, share, limiter: (warps < chip.warps).then_some(name) }
    }
}

#[cfg(test)]
mod tests {
    use swinstyle_tensor::cube::dry::Chip;

    use super::*;

    #[test]
    fn ptxas_is_read() {
        let log = "a(3): warning #177-D: variable \"l_2\" was declared but never referenced\n\
                   ptxas info    : 0 bytes gmem\nptxas info    : Compiling entry function 'k' for 'sm_90a'\n\
                   ptxas info    : Function properties for k\n\
                   ptxas         .     616 bytes stack frame, 1332 bytes spill stores, 952 bytes spill loads\n\
                   ptxas info    : Used 255 registers, used 1 barriers, 616 bytes cumulative stack size, 512 bytes smem\n";
        let expected = Resources { registers: 255, spilled_bytes: 1332, stack_bytes: 616, declared_shared_bytes: 512 };
        assert_eq!(Resources::parse(log).unwrap(), expected);
        assert!(Resources::parse("nothing").is_err());
    }

    #[test]
    fn occupancy_is_that_of_nvidias_calculator() {
        let h100 = Chip::Sm90.limits();
        let of = |registers, shared, units| {
            let o = Occupancy::of(&h100, registers, shared, units);
            (o.warps, o.limiter)
        };
        assert_eq!(of(32, 0, 256), (64, None));
        assert_eq!(of(103, 0, 256), (16, Some("registers")));
        assert_eq!(of(255, 0, 256), (8, Some("registers")));
        assert_eq!(of(32, 48 << 10, 256), (32, Some("shared memory")));
        assert_eq!(of(32, 0, 32), (32, Some("cubes")));
        assert_eq!(of(24, 0, 768), (48, Some("warps")));
        let a100 = Occupancy::of(&Chip::Sm80.limits(), 32, 48 << 10, 256);
        assert_eq!((a100.warps, a100.share), (24, 0.375));
    }
}
