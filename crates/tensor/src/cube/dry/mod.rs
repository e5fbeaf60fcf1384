//! The dry CUDA device: everything up to the driver happens as on a real chip, and nothing runs.
//!
//! A launch becomes CUDA C++ by the compiler of the CUDA backend, with the properties of a chip that need not be there;
//! [`launches`] hands it out. Buffers hold nothing and read as zeros. It shows GPU code on a machine without a GPU.

mod chip;
mod runtime;
mod server;

use std::sync::{Arc, Mutex, PoisonError};

use crate::{Device, Result};

pub use chip::Chip;
pub use runtime::DryRuntime;
pub(super) use runtime::open;

/// A kernel with its compile-time choices, compiled once however often it is launched.
#[derive(Debug)]
pub struct Program {
    /// Where the kernel is defined, as `swinstyle_upfirdn2d::cube::upfirdn2d_kernel`.
    pub kernel: String,
    /// Element types, vector widths and compile-time values, as CubeCL tells them.
    pub variant: String,
    /// Units of a cube along x, y, z.
    pub cube_dim: [u32; 3],
    /// Bytes of shared memory, which the launch asks for.
    pub shared_bytes: usize,
    /// Name of the function in `source`.
    pub entry: String,
    /// CUDA C++, or why there is none.
    pub source: std::result::Result<String, String>,
}

/// One launch on a dry device.
#[derive(Debug, Clone)]
pub struct Launch {
    /// What would have run.
    pub program: Arc<Program>,
    /// Cubes along x, y, z.
    pub grid: [u32; 3],
}

/// Launches that nobody has taken yet, with the chip that they are for.
static LAUNCHES: Mutex<Vec<(Chip, Launch)>> = Mutex::new(Vec::new());

fn record(chip: Chip, launch: Launch) {
    LAUNCHES.lock().unwrap_or_else(PoisonError::into_inner).push((chip, launch));
}

/// What was launched on the dry device of a chip since the last call, in order.
pub fn launches(chip: Chip) -> Result<Vec<Launch>> {
    Device::Dry(chip).synchronize()?;
    let mut all = LAUNCHES.lock().unwrap_or_else(PoisonError::into_inner);
    let (mine, others) = all.drain(..).partition(|(of, _)| *of == chip);
    *all = others;
    Ok(mine.into_iter().map(|(_, launch)| launch).collect())
}
