//! The runtime of the dry device: CUDA's compiler and target, and a server that launches nothing.

use cubecl::{
    device::{Device as CubeDevice, DeviceId},
    ir::TargetProperties,
    prelude::{ComputeClient, Runtime},
    server::ComputeServer,
    zspace::{Shape, Strides},
};
use cubecl_cuda::{CudaCompiler, CudaRuntime};

use super::{Chip, server::DryServer};
use crate::{Device, cube::faults};

/// CUDA without a GPU.
#[derive(Debug, Clone)]
pub struct DryRuntime;

/// A chip as CubeCL's device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DryDevice(pub(super) Chip);

/// Tells the threads of dry devices from those of the backends, which count from 0.
const KIND: u16 = 100;

impl Default for DryDevice {
    fn default() -> Self {
        Self(Chip::Sm90)
    }
}

impl CubeDevice for DryDevice {
    fn from_id(id: DeviceId) -> Self {
        Self(Chip::ALL.into_iter().find(|c| c.limits().version == u32::from(id.index_id)).unwrap_or(Self::default().0))
    }

    fn to_id(&self) -> DeviceId {
        DeviceId { type_id: KIND, index_id: self.0.limits().version as u16 }
    }
}

impl Runtime for DryRuntime {
    type Compiler = CudaCompiler;
    type Server = DryServer;
    type Device = DryDevice;

    fn client(device: &DryDevice) -> ComputeClient<Self> {
        ComputeClient::load(device)
    }

    // Kernels that choose by the name of the runtime must choose as on CUDA.
    fn name(_client: &ComputeClient<Self>) -> &'static str {
        "cuda"
    }

    fn require_array_lengths() -> bool {
        CudaRuntime::require_array_lengths()
    }

    fn max_cube_count() -> (u32, u32, u32) {
        CudaRuntime::max_cube_count()
    }

    fn can_read_tensor(shape: &Shape, strides: &Strides) -> bool {
        CudaRuntime::can_read_tensor(shape, strides)
    }

    fn target_properties() -> TargetProperties {
        CudaRuntime::target_properties()
    }

    fn enumerate_devices(_kind: u16, _info: &<Self::Server as ComputeServer>::Info) -> Vec<DeviceId> {
        Chip::ALL.iter().map(|&chip| DryDevice(chip).to_id()).collect()
    }
}

/// Opens the dry device of a chip.
pub(in crate::cube) fn open(chip: Chip) -> Result<ComputeClient<DryRuntime>, String> {
    let device = DryDevice(chip);
    let id = device.to_id();
    faults::watch(id.type_id, id.index_id.into(), Device::Dry(chip));
    faults::guarded(|| Ok(DryRuntime::client(&device)))
}
