//! The CubeCL side: devices of wgpu and CUDA (and CUDA without a GPU, [`dry`]), device buffers, and the kernels of the built-in operations.
//!
//! Only `wgpu.rs`, `cuda.rs`, `dry/` and [`CubeClient`] name a backend; everything else is generic over [`Runtime`]. The features `wgpu` and
//! `cuda` leave a backend out; without both the cpu is the only device.

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

mod adapter;
mod buffer;
mod cache;
#[cfg(feature = "cuda")]
mod cuda;
mod describe;
mod faults;
mod glue;
pub mod math;
mod timing;
#[cfg(feature = "wgpu")]
mod wgpu;

use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex, PoisonError},
};

use cubecl::{
    prelude::{ComputeClient, Runtime},
    stream_id::StreamId,
};

use crate::{DType, Device, Result, TensorError};

pub use adapter::Adapter;
pub use buffer::{CubeArg, CubeBuffer};
pub use cache::{cache_kernels, clear as clear_kernels, keep_kernels, working_folder};
#[cfg(feature = "cuda")]
pub use cuda::cuda_device_count;
pub use describe::{Description, describe};
pub use glue::{UNITS, grid, scratch, storage_type};
pub(crate) use timing::profile;
#[cfg(feature = "wgpu")]
pub use wgpu::wgpu_adapters;

/// A client of one of the runtimes.
#[derive(Clone)]
pub enum CubeClient {
    /// Vulkan or Metal through wgpu.
    #[cfg(feature = "wgpu")]
    Wgpu(ComputeClient<cubecl_wgpu::WgpuRuntime>),
    /// CUDA.
    #[cfg(feature = "cuda")]
    Cuda(ComputeClient<cubecl_cuda::CudaRuntime>),
    /// CUDA up to the driver: compiles, and runs nothing or runs it on the host.
    #[cfg(feature = "cuda")]
    Dry(ComputeClient<dry::DryRuntime>),
    /// None: the crate was built without a backend.
    #[cfg(not(any(feature = "wgpu", feature = "cuda")))]
    None(std::convert::Infallible),
}

/// The same expression with the client of whichever runtime: `with_client!(&client, |c| c.empty(bytes))`.
macro_rules! with_client {
    ($client:expr, |$c:ident| $body:expr) => {
        match $client {
            #[cfg(feature = "wgpu")]
            $crate::cube::CubeClient::Wgpu($c) => $body,
            #[cfg(feature = "cuda")]
            $crate::cube::CubeClient::Cuda($c) => $body,
            #[cfg(feature = "cuda")]
            $crate::cube::CubeClient::Dry($c) => $body,
            #[cfg(not(any(feature = "wgpu", feature = "cuda")))]
            $crate::cube::CubeClient::None(never) => match *never {},
        }
    };
}
pub(crate) use with_client;

/// Adapters of wgpu: none, for the crate was built without the feature `wgpu`.
#[cfg(not(feature = "wgpu"))]
pub fn wgpu_adapters() -> Vec<Adapter> {
    Vec::new()
}

/// Number of CUDA devices: none, for the crate was built without the feature `cuda`.
#[cfg(not(feature = "cuda"))]
pub fn cuda_device_count() -> usize {
    0
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
    cache::prepare();
    let opened: std::result::Result<CubeClient, String> = match device {
        #[cfg(feature = "wgpu")]
        Device::Wgpu(index) => wgpu::open(index).map(|c| CubeClient::Wgpu(on_one_stream(c))),
        #[cfg(feature = "cuda")]
        Device::Cuda(index) => cuda::open(index).map(|c| CubeClient::Cuda(on_one_stream(c))),
        #[cfg(feature = "cuda")]
        Device::Dry(chip) => dry::open(chip, false).map(|c| CubeClient::Dry(on_one_stream(c))),
        #[cfg(feature = "cuda")]
        Device::Emulated(chip) => dry::open(chip, true).map(|c| CubeClient::Dry(on_one_stream(c))),
        Device::Cpu => Err("the cpu runs native kernels and has no CubeCL client".to_string()),
        #[cfg(not(feature = "wgpu"))]
        Device::Wgpu(_) => Err(left_out("wgpu")),
        #[cfg(not(feature = "cuda"))]
        Device::Cuda(_) | Device::Dry(_) | Device::Emulated(_) => Err(left_out("cuda")),
    };
    let client = opened.map_err(|reason| TensorError::NoDevice { device: device.to_string(), reason })?;
    clients.insert(device, client.clone());
    Ok(client)
}

/// Why a device of a backend that was not built in cannot be opened.
#[cfg(not(all(feature = "wgpu", feature = "cuda")))]
fn left_out(feature: &str) -> String {
    format!("this program was built without the feature `{feature}`; build it with `--features {feature}`")
}

/// Makes every thread submit to one stream.
///
/// CubeCL gives each thread its own stream by default. Tensors are shared between threads here, and with one stream the
/// order of submission is the order of execution: no cross-stream synchronisation, and the same bits whoever launches.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn on_one_stream<R: Runtime>(mut client: ComputeClient<R>) -> ComputeClient<R> {
    // SAFETY: every client of the device gets the same stream before its first use.
    unsafe { client.set_stream(StreamId { value: 0 }) };
    client
}

impl CubeClient {
    /// Waits for everything launched; errors of the work since the last wait or download appear here.
    pub fn synchronize(&self, device: Device) -> Result<()> {
        with_client!(self, |c| faults::wait("synchronize", device, c))
    }

    /// Bytes that the allocator has reserved from the device.
    pub(crate) fn reserved_bytes(&self, device: Device) -> Result<u64> {
        with_client!(self, |c| faults::reserved(device, c))
    }

    /// Whether the device holds tensors of a type. Errors: [`TensorError::UnsupportedDType`].
    pub(crate) fn check_dtype(&self, op: &'static str, dtype: DType) -> Result<()> {
        with_client!(self, |c| storage_type(op, c, dtype).map(|_| ()))
    }

    /// Bytes of the largest buffer that the device can bind.
    pub fn max_allocation(&self) -> u64 {
        with_client!(self, |c| c.properties().memory.max_page_size)
    }
}
