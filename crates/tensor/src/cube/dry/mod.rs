//! The dry CUDA device: everything up to the driver happens as on a real chip, and nothing runs.
//!
//! A launch becomes CUDA C++ by the compiler of the CUDA backend, with the properties of a chip that need not be there;
//! [`launches`] hands it out. Buffers hold nothing and read as zeros. It shows GPU code on a machine without a GPU.
//! [`Device::Emulated`] is its sibling for tests: what is compiled there runs on the host, thread by thread.

mod chip;
#[cfg(feature = "cuda")]
mod emulator;
#[cfg(feature = "cuda")]
mod name;
#[cfg(feature = "cuda")]
mod properties;
#[cfg(feature = "cuda")]
mod runtime;
#[cfg(feature = "cuda")]
mod server;

use std::sync::{Arc, Mutex, PoisonError};

use crate::{Device, Result};

pub use chip::{Chip, Limits};
#[cfg(feature = "cuda")]
pub use runtime::DryRuntime;
#[cfg(feature = "cuda")]
pub(super) use runtime::open;

/// A kernel with its compile-time choices, compiled once however often it is launched.
#[derive(Debug)]
pub struct Program {
    /// Where the kernel is defined, as `swinstyle_upfirdn2d::cube::upfirdn2d_kernel`.
    pub kernel: String,
    /// Vector widths, compile-time values and element types, as `n 4, vector_width 4, function Relu, dtype f32`.
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

#[cfg(feature = "cuda")]
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

#[cfg(all(test, feature = "cuda"))]
mod tests {
    use super::*;
    use crate::{DType, Tensor};

    #[test]
    fn a_launch_is_handed_out_as_cuda_source_once_and_results_are_zeros() {
        for chip in Chip::ALL {
            let device = Device::Dry(chip);
            let x = Tensor::from_slice(&[1.0_f32; 8], &[8], device).unwrap();
            let y = x.scale(2.0).unwrap();
            let all = launches(chip).unwrap();
            let program = &all.last().unwrap().program;
            assert!(program.source.as_ref().is_ok_and(|s| s.contains("__global__") && s.contains(&program.entry)));
            assert!(program.kernel.starts_with("swinstyle_tensor::cube::") && program.cube_dim == [256, 1, 1]);
            assert!(program.variant.contains("dtype f32"), "{}", program.variant);
            assert!(launches(chip).unwrap().is_empty());
            assert_eq!(y.to_vec().unwrap(), [0.0; 8]);
        }
        assert!(Tensor::full(0.0, &[2], DType::F64, Device::Dry(Chip::Sm90)).is_err());
    }

    #[test]
    fn architectures_round_trip_and_unknown_ones_list_the_known() {
        for chip in Chip::ALL {
            assert_eq!(chip.to_string().parse(), Ok(chip));
        }
        assert!("sm_75".parse::<Chip>().unwrap_err().contains("sm_80, sm_90, sm_100"));
        assert_eq!([Chip::Sm80.target(), Chip::Sm90.target()], ["sm_80", "sm_90a"]);
    }
}
