//! The CubeCL side: devices of wgpu and CUDA (and CUDA without a GPU, [`dry`]), device buffers, and the kernels of the built-in operations.
//!
//! Only `wgpu.rs`, `cuda.rs`, `dry/` and [`CubeClient`] name a backend; everything else is generic over [`Runtime`].

pub mod cast;
pub mod dry;
pub mod elementwise;
pub mod fragments;
pub mod layout;
pub mod matmul;
pub mod pack;
pub mod pool;
pub mod reduce;
pub mod resample;
pub mod update;
pub mod warp;

mod buffer;
mod cache;
mod cuda;
mod describe;
mod faults;
mod glue;
pub mod math;
mod wgpu;

use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex, PoisonError},
};

use cubecl::{
    prelude::{ComputeClient, Runtime},
    stream_id::StreamId,
};
use cubecl_cuda::CudaRuntime;
use cubecl_wgpu::WgpuRuntime;

use crate::{DType, Device, Result, TensorError};

pub use buffer::{CubeArg, CubeBuffer};
pub use cache::cache_kernels;
pub(crate) use cache::profile;
pub use cuda::cuda_device_count;
pub use describe::{Description, describe};
pub use glue::{UNITS, grid, scratch, storage_type};
pub use wgpu::{Adapter, wgpu_adapters};

/// A client of one of the runtimes.
#[derive(Clone)]
pub enum CubeClient {
    /// Vulkan or Metal through wgpu.
    Wgpu(ComputeClient<WgpuRuntime>),
    /// CUDA.
    Cuda(ComputeClient<CudaRuntime>),
    /// CUDA up to the driver: compiles, and runs nothing or runs it on the host.
    Dry(ComputeClient<dry::DryRuntime>),
}

/// Clients of the devices opened so far.
static CLIENTS: LazyLock<Mutex<HashMap<Device, CubeClient>>> = LazyLock::new(Mutex::default);

/// The client of a device, opened on first use and kept for the life of the process.
///
/// Errors: [`TensorError::NoDevice`] with the reason and what to do about it.
pub fn client(device: Device) -> Result<CubeClient> {
    // A panic while opening leaves the map as it was, so a poisoned lock is sound.
    let mut clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(client) = clients.get(&device) {
        return Ok(client.clone());
    }
    let opened = match device {
        Device::Wgpu(index) => wgpu::open(index).map(|c| CubeClient::Wgpu(on_one_stream(c))),
        Device::Cuda(index) => cuda::open(index).map(|c| CubeClient::Cuda(on_one_stream(c))),
        Device::Dry(chip) => dry::open(chip, false).map(|c| CubeClient::Dry(on_one_stream(c))),
        Device::Emulated(chip) => dry::open(chip, true).map(|c| CubeClient::Dry(on_one_stream(c))),
        Device::Cpu => Err("the cpu runs native kernels and has no CubeCL client".to_string()),
    };
    let client = opened.map_err(|reason| TensorError::NoDevice { device: device.to_string(), reason })?;
    clients.insert(device, client.clone());
    Ok(client)
}

/// Makes every thread submit to one stream.
///
/// CubeCL gives each thread its own stream by default. Tensors are shared between threads here, and with one stream the
/// order of submission is the order of execution: no cross-stream synchronisation, and the same bits whoever launches.
fn on_one_stream<R: Runtime>(mut client: ComputeClient<R>) -> ComputeClient<R> {
    // SAFETY: every client of the device gets the same stream before its first use.
    unsafe { client.set_stream(StreamId { value: 0 }) };
    client
}

impl CubeClient {
    /// Waits for everything launched; errors of the work since the last wait or download appear here.
    pub fn synchronize(&self, device: Device) -> Result<()> {
        match self {
            Self::Wgpu(c) => faults::wait("synchronize", device, c),
            Self::Cuda(c) => faults::wait("synchronize", device, c),
            Self::Dry(c) => faults::wait("synchronize", device, c),
        }
    }

    /// Bytes that the allocator has reserved from the device.
    pub(crate) fn reserved_bytes(&self, device: Device) -> Result<u64> {
        match self {
            Self::Wgpu(c) => faults::reserved(device, c),
            Self::Cuda(c) => faults::reserved(device, c),
            Self::Dry(c) => faults::reserved(device, c),
        }
    }

    /// Whether the device holds tensors of a type. Errors: [`TensorError::UnsupportedDType`].
    pub(crate) fn check_dtype(&self, op: &'static str, dtype: DType) -> Result<()> {
        match self {
            Self::Wgpu(c) => storage_type(op, c, dtype),
            Self::Cuda(c) => storage_type(op, c, dtype),
            Self::Dry(c) => storage_type(op, c, dtype),
        }
        .map(|_| ())
    }

    /// Bytes of the largest buffer that the device can bind.
    pub fn max_allocation(&self) -> u64 {
        match self {
            Self::Wgpu(c) => c.properties().memory.max_page_size,
            Self::Cuda(c) => c.properties().memory.max_page_size,
            Self::Dry(c) => c.properties().memory.max_page_size,
        }
    }
}
