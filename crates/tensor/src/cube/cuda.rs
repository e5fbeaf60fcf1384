//! CUDA devices: whether driver, NVRTC and headers are there, and their clients.
//!
//! `cudarc` loads its libraries on first use and panics where one is missing, so each is looked for before it is called.

use cubecl::{
    device::Device as _,
    prelude::{ComputeClient, Runtime},
};
use cubecl_cuda::{CudaDevice, CudaRuntime, install};
use cudarc::driver::result as driver;

use super::faults;
use crate::Device;

/// Number of CUDA devices; 0 where there is no driver.
pub fn cuda_device_count() -> usize {
    count().unwrap_or(0)
}

/// Number of CUDA devices, or why the driver cannot tell.
fn count() -> Result<usize, String> {
    // SAFETY: loads and releases the driver's library, whose initialisers may run on any thread.
    if !unsafe { cudarc::driver::sys::is_culib_present() } {
        let name = if cfg!(windows) { "nvcuda.dll" } else { "libcuda.so.1" };
        return Err(format!("no NVIDIA driver ({name} not found); install it, or choose another device"));
    }
    driver::init().map_err(|e| format!("the NVIDIA driver does not start: {e}"))?;
    let n = driver::device::get_count().map_err(|e| format!("the NVIDIA driver lists no devices: {e}"))?;
    Ok(usize::try_from(n).unwrap_or(0))
}

/// Name and bytes of memory of a device that exists.
pub(super) fn name_and_memory(index: usize) -> Option<(String, u64)> {
    let device = driver::device::get(i32::try_from(index).ok()?).ok()?;
    // SAFETY: the handle was just given out by the driver.
    let memory = unsafe { driver::device::total_mem(device) }.ok()?;
    Some((driver::device::get_name(device).ok()?, memory as u64))
}

/// Version of the driver's CUDA, as 12.8.
pub(super) fn driver_version() -> Option<String> {
    let mut version = 0;
    // SAFETY: writes one integer.
    let status = unsafe { cudarc::driver::sys::cuDriverGetVersion(&mut version) };
    status.result().ok()?;
    Some(format!("{}.{}", version / 1000, version % 1000 / 10))
}

/// Opens the device of an index; the error says what is missing.
pub(super) fn open(index: usize) -> Result<ComputeClient<CudaRuntime>, String> {
    let n = count()?;
    if index >= n {
        let (verb, s) = if n == 1 { ("is", "") } else { ("are", "s") };
        return Err(format!("there {verb} {n} CUDA device{s}; index {index} does not exist"));
    }
    // SAFETY: as above.
    if !unsafe { cudarc::nvrtc::sys::is_culib_present() } {
        let fix = "install the CUDA toolkit's NVRTC and put its folder on the library path";
        return Err(format!("the run-time compiler NVRTC (libnvrtc) was not found; {fix}"));
    }
    let fix = "install the CUDA toolkit's headers, or set CUDA_PATH to the folder that holds include/cuda_runtime.h";
    match install::cuda_path() {
        None => return Err(format!("no CUDA toolkit was found; {fix}")),
        Some(path) if !path.join("include").join("cuda_runtime.h").exists() => {
            return Err(format!("{} has no include/cuda_runtime.h; {fix}", path.display()));
        }
        Some(_) => {}
    }
    // CubeCL expects the context to come up and panics where it does not (exclusive mode, no memory left).
    let (this, id) = (Device::Cuda(index), CudaDevice::new(index).to_id());
    faults::watch(id.type_id, id.index_id.into(), this);
    faults::guarded(|| Ok(CudaRuntime::client(&CudaDevice::new(index)))).map_err(|error| {
        let reason = faults::first(this).unwrap_or(error);
        format!("the driver refused to create a context ({reason}); is the device in use or out of memory?")
    })
}
