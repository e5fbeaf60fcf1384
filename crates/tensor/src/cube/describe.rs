//! What a device is and can do, for `swinstyle doctor`.

use cubecl::{
    features::Plane,
    prelude::{ComputeClient, Runtime},
};

#[cfg(feature = "cuda")]
use super::cuda;
use super::{client, storage_type, wgpu_adapters, with_client};
use crate::{DType, Device, Result};

/// What a device is and can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Name of the hardware.
    pub name: String,
    /// Driver and its version; for the cpu the SIMD extension in use.
    pub driver: String,
    /// Whether it is a software implementation of a GPU.
    pub software: bool,
    /// Language that kernels are compiled to.
    pub compiler: String,
    /// Bytes of the largest single buffer.
    pub max_allocation: u64,
    /// Bytes of device memory, where the driver tells.
    pub memory: Option<u64>,
    /// Bytes of shared memory of a cube (workgroup, thread block).
    pub shared_memory: usize,
    /// Units (threads) of a cube at most.
    pub max_units: u32,
    /// Smallest and largest plane (subgroup, warp) where plane operations exist.
    pub planes: Option<(u32, u32)>,
    /// Element types of tensors on the device.
    pub dtypes: Vec<DType>,
    /// Shapes m×n×k of matrix instructions on f16 with f32 sums.
    pub matrix_instructions: Vec<(u32, u32, u32)>,
}

/// Describes a device, opening it if need be.
///
/// Errors: [`NoDevice`](crate::TensorError::NoDevice) with the reason and the way out.
pub fn describe(device: Device) -> Result<Description> {
    if device == Device::Cpu {
        return Ok(cpu());
    }
    let client = client(device)?;
    let max_allocation = client.max_allocation();
    let mut d: Description = with_client!(&client, |c| capabilities(c));
    d.max_allocation = max_allocation;
    match device {
        Device::Wgpu(index) => {
            if let Some(adapter) = wgpu_adapters().into_iter().nth(index) {
                d.name = adapter.name;
                d.driver = format!("{}, {}", adapter.backend, adapter.driver);
                d.software = adapter.software;
            }
        }
        #[cfg(feature = "cuda")]
        Device::Cuda(index) => {
            if let Some((name, memory)) = cuda::name_and_memory(index) {
                d.name = name;
                d.memory = Some(memory);
            }
            d.driver = format!("CUDA {}", cuda::driver_version().unwrap_or_else(|| "of unknown version".to_string()));
        }
        Device::Dry(chip) => d.name = format!("{chip}, compiled for and not there"),
        Device::Emulated(chip) => d.name = format!("{chip}, emulated on the cpu"),
        #[cfg(not(feature = "cuda"))]
        Device::Cuda(_) => {}
        Device::Cpu => {}
    }
    Ok(d)
}

fn capabilities<R: Runtime>(client: &ComputeClient<R>) -> Description {
    let properties = client.properties();
    let (hardware, features) = (&properties.hardware, &properties.features);
    let is = |dtype: DType| storage_type("describe", client, dtype).ok();
    let matrices = match (is(DType::F16), is(DType::F32)) {
        (Some(half), Some(single)) => {
            let wanted =
                features.matmul.cmma.iter().filter(|m| (m.a_type, m.b_type, m.cd_type) == (half, half, single));
            wanted.map(|m| (m.m, m.n, m.k)).collect()
        }
        _ => Vec::new(),
    };
    Description {
        name: String::new(),
        driver: String::new(),
        software: false,
        compiler: R::name(client).to_string(),
        max_allocation: 0,
        memory: None,
        shared_memory: hardware.max_shared_memory_size,
        max_units: hardware.max_units_per_cube,
        planes: features.plane.contains(Plane::Ops).then_some((hardware.plane_size_min, hardware.plane_size_max)),
        dtypes: [DType::F32, DType::F16, DType::BF16].into_iter().filter(|&t| is(t).is_some()).collect(),
        matrix_instructions: matrices,
    }
}

fn cpu() -> Description {
    let threads = rayon::current_num_threads();
    let extension = format!("{:?}", pulp::Arch::new());
    Description {
        name: format!("{} threads of {}", threads, std::env::consts::ARCH),
        driver: extension.split(['(', ' ', '{']).next().unwrap_or_default().to_string(),
        software: false,
        compiler: "native".to_string(),
        max_allocation: isize::MAX as u64,
        memory: None,
        shared_memory: 0,
        max_units: threads as u32,
        planes: None,
        dtypes: vec![DType::F32, DType::F64],
        matrix_instructions: Vec::new(),
    }
}
