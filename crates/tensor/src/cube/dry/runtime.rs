//! The runtime of the dry and the emulated device: CUDA's compiler and target, and a server of our own.

use cubecl::{
    device::{Device as CubeDevice, DeviceId},
    ir::TargetProperties,
    prelude::{ComputeClient, Runtime},
    server::ComputeServer,
    zspace::{Shape, Strides},
};
use cubecl_cuda::{CudaCompiler, CudaRuntime};

use super::{Chip, emulator, server::DryServer};
use crate::{Device, cube::faults};

/// CUDA without a GPU.
#[derive(Debug, Clone)]
pub struct DryRuntime;

/// A chip as CubeCL's device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DryDevice {
    pub(super) chip: Chip,
    /// Whether launches run, on the host.
    pub(super) emulated: bool,
}

/// Tells the threads of dry devices from those of the backends, which count from 0.
const KIND: u16 = 100;

/// Added to the index of an emulated device.
const EMULATED: u16 = 1000;

impl Default for DryDevice {
    fn default() -> Self {
        Self { chip: Chip::Sm90, emulated: false }
    }
}

impl CubeDevice for DryDevice {
    fn from_id(id: DeviceId) -> Self {
        let version = u32::from(id.index_id % EMULATED);
        let chip = Chip::ALL.into_iter().find(|c| c.limits().version == version);
        Self { chip: chip.unwrap_or(Self::default().chip), emulated: id.index_id >= EMULATED }
    }

    fn to_id(&self) -> DeviceId {
        let version = self.chip.limits().version as u16;
        DeviceId { type_id: KIND, index_id: if self.emulated { EMULATED + version } else { version } }
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
        let all = [false, true].map(|emulated| Chip::ALL.map(|chip| DryDevice { chip, emulated }.to_id()));
        all.concat()
    }
}

/// Opens the dry or the emulated device of a chip. Errors: nothing to emulate with.
pub(in crate::cube) fn open(chip: Chip, emulated: bool) -> Result<ComputeClient<DryRuntime>, String> {
    if emulated {
        emulator::compiler()?;
    }
    let device = DryDevice { chip, emulated };
    let id = device.to_id();
    faults::watch(id.type_id, id.index_id.into(), if emulated { Device::Emulated(chip) } else { Device::Dry(chip) });
    faults::guarded(|| Ok(DryRuntime::client(&device)))
}
