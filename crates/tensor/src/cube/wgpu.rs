//! Adapters that wgpu finds, and their clients.

use std::sync::{Arc, LazyLock};

use cubecl::{
    device::Device as _,
    future::block_on,
    prelude::{ComputeClient, Runtime},
};
use cubecl_wgpu::{AutoGraphicsApi, GraphicsApi, RuntimeOptions, WgpuRuntime, WgpuSetup, init_device, vulkan};
use wgpu::{Backend, DeviceType, Error, Features};

use super::{Adapter, faults};
use crate::Device;

struct Found {
    adapter: wgpu::Adapter,
    shown: Adapter,
}

struct Enumerated {
    instance: wgpu::Instance,
    found: Vec<Found>,
}

/// The adapters, asked for once: an instance costs tens of milliseconds, and indices must not move while the process runs.
static ADAPTERS: LazyLock<Enumerated> = LazyLock::new(|| {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: AutoGraphicsApi::backend().into(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let mut found: Vec<Found> = block_on(instance.enumerate_adapters(AutoGraphicsApi::backend().into()))
        .into_iter()
        .map(|adapter| Found { shown: shown(&adapter.get_info()), adapter })
        .collect();
    // A stable sort: adapters of one kind stay in the driver's order.
    found.sort_by_key(|f| match f.adapter.get_info().device_type {
        DeviceType::DiscreteGpu => 0,
        DeviceType::IntegratedGpu => 1,
        DeviceType::VirtualGpu => 2,
        DeviceType::Other => 3,
        DeviceType::Cpu => 4,
    });
    Enumerated { instance, found }
});

fn shown(info: &wgpu::AdapterInfo) -> Adapter {
    Adapter {
        name: info.name.clone(),
        driver: [info.driver.as_str(), info.driver_info.as_str()].join(" ").trim().to_string(),
        backend: format!("{:?}", info.backend),
        kind: match info.device_type {
            DeviceType::DiscreteGpu => "discrete GPU",
            DeviceType::IntegratedGpu => "integrated GPU",
            DeviceType::VirtualGpu => "virtual GPU",
            DeviceType::Cpu => "cpu",
            DeviceType::Other => "other",
        },
        software: info.device_type == DeviceType::Cpu,
    }
}

/// Adapters of this machine in the order of `wgpu:i`: discrete, integrated and virtual GPUs, then software. Empty where
/// there is no Vulkan loader.
pub fn wgpu_adapters() -> Vec<Adapter> {
    ADAPTERS.found.iter().map(|f| f.shown.clone()).collect()
}

/// Opens the adapter of an index; the error says why it cannot be had.
pub(super) fn open(index: usize) -> Result<ComputeClient<WgpuRuntime>, String> {
    let found = &ADAPTERS.found;
    if found.is_empty() {
        return Err("no Vulkan adapter was found; install your GPU's Vulkan driver, or run `cargo xtask setup` for \
                    Mesa's software one"
            .to_string());
    }
    let Some(Found { adapter, shown }) = found.get(index) else {
        let (verb, s) = if found.len() == 1 { ("is", "") } else { ("are", "s") };
        return Err(format!("there {verb} {} wgpu adapter{s}; index {index} does not exist", found.len()));
    };
    // CubeCL expects device creation to succeed and panics where the driver refuses.
    let created = faults::guarded(|| Ok(request(adapter))).and_then(|made| made);
    let (device, queue) = created.map_err(|reason| format!("{} ({}): {reason}", shown.name, shown.driver))?;

    let this = Device::Wgpu(index);
    device.on_uncaptured_error(Arc::new(move |error: Error| {
        faults::record(this, matches!(error, Error::OutOfMemory { .. }), error.to_string());
    }));
    device.set_device_lost_callback(move |reason, message| {
        if reason != wgpu::DeviceLostReason::Destroyed {
            faults::record(this, false, format!("the device was lost: {message}"));
        }
    });
    let setup = WgpuSetup {
        instance: ADAPTERS.instance.clone(),
        adapter: adapter.clone(),
        device,
        queue,
        backend: adapter.get_info().backend,
    };
    let opened = init_device(setup, RuntimeOptions::default());
    let id = opened.to_id();
    faults::watch(id.type_id, id.index_id.into(), this);
    Ok(WgpuRuntime::client(&opened))
}

/// A device with every feature and limit of its adapter, as `cubecl-wgpu` asks for.
fn request(adapter: &wgpu::Adapter) -> Result<(wgpu::Device, wgpu::Queue), String> {
    if adapter.get_info().backend == Backend::Vulkan
        && let Some(pair) = block_on(vulkan::request_vulkan_device(adapter))
    {
        return Ok(pair);
    }
    // Metal, and Vulkan drivers too old for the SPIR-V compiler: CubeCL then writes WGSL.
    let descriptor = wgpu::DeviceDescriptor {
        label: None,
        required_features: adapter.features().difference(Features::MAPPABLE_PRIMARY_BUFFERS),
        required_limits: adapter.limits(),
        // CubeCL pools memory itself.
        memory_hints: wgpu::MemoryHints::MemoryUsage,
        trace: wgpu::Trace::Off,
        // SAFETY: experimental features are listed by the adapter; CubeCL guards their use.
        experimental_features: unsafe { wgpu::ExperimentalFeatures::enabled() },
    };
    block_on(adapter.request_device(&descriptor)).map_err(|e| e.to_string())
}
