//! `swinstyle doctor`: what this machine has for SwinStyle to run on, what is missing, and the fix.

use std::path::Path;

use anyhow::{Context as _, Result};
use clap::Args;
use serde::Serialize;
use swinstyle_files::Scratch;
use swinstyle_tensor::{
    Device, TensorError,
    cube::{Description, clear_kernels, cuda_device_count, describe, wgpu_adapters},
};

use super::Context;
use crate::{
    build,
    output::Status,
    text,
    tune::tables::{self, Identity},
};

/// One device as it is listed.
#[derive(Debug, Serialize)]
struct Listed {
    device: String,
    name: String,
    driver: String,
    software: bool,
    compiler: String,
    memory: Option<u64>,
    max_allocation: u64,
    shared_memory: usize,
    max_units: u32,
    planes: Option<(u32, u32)>,
    dtypes: Vec<String>,
    matrix_instructions: Vec<(u32, u32, u32)>,
    /// The tuning table in use, in words.
    tuning: String,
}

/// Something that is not there.
#[derive(Debug, Serialize)]
struct Missing {
    what: &'static str,
    /// Whether the command asked for it; the others are only worth knowing.
    needed: bool,
    reason: String,
}

#[derive(Debug, Serialize)]
struct Report {
    version: &'static str,
    platform: String,
    cores: usize,
    default_device: Option<String>,
    devices: Vec<Listed>,
    missing: Vec<Missing>,
    kernel_cache: Option<KernelCache>,
}

#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Remove the compiled kernels that are kept for the next start.
    #[arg(long)]
    clear_cache: bool,
}

/// Compiled kernels that are kept for the next start.
#[derive(Debug, Serialize)]
struct KernelCache {
    folder: String,
    /// Bytes of this build's kernels, and of all builds'.
    bytes: u64,
    all_bytes: u64,
    builds: usize,
}

pub(super) fn run(context: &Context, args: Doctor) -> Result<Status> {
    if let (true, Some(folder)) = (args.clear_cache, build::kernels()) {
        clear(&folder).with_context(|| format!("{} cannot be removed", folder.display()))?;
        context.output.note(format_args!("removed the kernels in {}", folder.display()));
    }
    let report = examine(context);
    print(context, &report)?;
    context.output.document(&report)?;
    let failed = report.missing.iter().any(|m| m.needed);
    Ok(if failed { Status::Failed } else { Status::Done })
}

fn examine(context: &Context) -> Report {
    let adapters = wgpu_adapters();
    let cuda = cuda_device_count();
    let all = [Device::Cpu].into_iter().chain((0..adapters.len()).map(Device::Wgpu)).chain((0..cuda).map(Device::Cuda));
    let (mut devices, mut missing) = (Vec::new(), Vec::new());
    for device in all {
        match describe(device) {
            Ok(description) => devices.push(listed(device, description)),
            Err(error) => missing.push(Missing { what: kind(device), needed: false, reason: reason(error) }),
        }
    }
    // Opening the first device of a kind that has none gives the reason and the fix.
    for (device, count) in [(Device::Wgpu(0), adapters.len()), (Device::Cuda(0), cuda)] {
        if let (0, Err(error)) = (count, device.check()) {
            missing.push(Missing { what: kind(device), needed: false, reason: reason(error) });
        }
    }
    let default = context.device();
    if let Err(error) = &default {
        let reason = crate::output::one_line(error);
        missing.push(Missing { what: "the device that was asked for", needed: true, reason });
    }
    Report {
        version: env!("CARGO_PKG_VERSION"),
        platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        default_device: default.ok().map(|d| d.to_string()),
        devices,
        missing,
        kernel_cache: kernel_cache(),
    }
}

fn kernel_cache() -> Option<KernelCache> {
    let folder = build::kernels()?;
    let builds = std::fs::read_dir(&folder).map_or(0, |entries| entries.flatten().count());
    let (bytes, all_bytes) = (size(&folder.join(build::ID)), size(&folder));
    Some(KernelCache { folder: folder.display().to_string(), bytes, all_bytes, builds })
}

/// Removes the kernels of all builds.
fn clear(folder: &Path) -> std::io::Result<()> {
    for build in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        clear_kernels(&build.path())?;
    }
    Ok(())
}

/// Bytes of the files below a folder, without what this and other processes work with.
fn size(folder: &Path) -> u64 {
    let entries =
        std::fs::read_dir(folder).into_iter().flatten().flatten().filter(|e| !Scratch::is_name(&e.file_name()));
    entries.map(|e| e.metadata().map_or(0, |m| if m.is_dir() { size(&e.path()) } else { m.len() })).sum()
}

/// The tuning table of a device in words: where from, how old, what is wrong.
fn tuned(device: Device) -> String {
    let Some(found) = Identity::of(device).ok().and_then(|identity| tables::find(&identity)) else {
        return "no tuning table, default blueprints".to_string();
    };
    let notes: String = found.notes.iter().map(|n| format!("; {n}")).collect();
    match found.table {
        Some(t) => {
            let (place, n) = (found.place, t.entries.len());
            format!("tuned by {place} ({n} launches, {}, commit {}){notes}", t.date, t.commit)
        }
        None => found.notes.join("; "),
    }
}

fn kind(device: Device) -> &'static str {
    match device {
        Device::Cpu => "cpu",
        Device::Wgpu(_) => "wgpu",
        Device::Cuda(_) => "cuda",
        // Doctor lists neither: one computes nothing, the other is for tests.
        Device::Dry(_) => "dry",
        Device::Emulated(_) => "emulated",
    }
}

fn reason(error: TensorError) -> String {
    match error {
        TensorError::NoDevice { reason, .. } => reason,
        other => other.to_string(),
    }
}

fn listed(device: Device, d: Description) -> Listed {
    Listed {
        device: device.to_string(),
        name: d.name,
        driver: if device == Device::Cpu { simd(&d.driver) } else { d.driver },
        software: d.software,
        compiler: d.compiler,
        memory: d.memory,
        max_allocation: d.max_allocation,
        shared_memory: d.shared_memory,
        max_units: d.max_units,
        planes: d.planes,
        dtypes: d.dtypes.iter().map(ToString::to_string).collect(),
        matrix_instructions: d.matrix_instructions,
        tuning: tuned(device),
    }
}

/// The instruction set that `pulp` names by its level.
fn simd(level: &str) -> String {
    match level {
        "V4" => "AVX-512".to_string(),
        "V3" => "AVX2".to_string(),
        "Scalar" => "no SIMD".to_string(),
        other => other.to_string(),
    }
}

fn print(context: &Context, report: &Report) -> Result<()> {
    let out = context.output;
    out.line(format_args!("swinstyle {} on {}, {} cores", report.version, report.platform, report.cores))?;
    out.line("")?;
    for d in &report.devices {
        let default = if report.default_device.as_ref() == Some(&d.device) { "  (default)" } else { "" };
        let software = if d.software { ", software" } else { "" };
        out.line(format_args!("{:8} {}{software}{default}", d.device, d.name))?;
        out.line(format_args!("         {}, kernels by {}, {}", d.driver, d.compiler, d.dtypes.join(" ")))?;
        if d.device != "cpu" {
            out.line(format_args!("         {}", features(d)))?;
        }
        out.line(format_args!("         {}", d.tuning))?;
    }
    if let Some(c) = &report.kernel_cache {
        let (mine, all, builds) =
            (text::bytes(c.bytes), text::bytes(c.all_bytes), text::count(c.builds as u64, "build"));
        let what = format!("{mine} of this build, {all} of {builds}");
        out.line("")?;
        out.line(format_args!("compiled kernels: {what} in {} (--clear-cache removes them)", c.folder))?;
    }
    for m in &report.missing {
        out.line("")?;
        out.line(format_args!("missing: {}: {}", m.what, m.reason))?;
    }
    Ok(())
}

fn features(d: &Listed) -> String {
    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    let planes = match d.planes {
        Some((low, high)) if low == high => format!("planes of {low}"),
        Some((low, high)) => format!("planes of {low} to {high}"),
        None => "no planes".to_string(),
    };
    let matrices = match &d.matrix_instructions[..] {
        [] => "no matrix instructions".to_string(),
        all => all.iter().map(|(m, n, k)| format!("{m}x{n}x{k}")).collect::<Vec<_>>().join(" "),
    };
    let memory = d.memory.map(|m| format!("{} of memory, ", mib(m))).unwrap_or_default();
    format!(
        "{memory}{} a buffer, {} KiB shared, {} units a cube, {planes}, {matrices}",
        mib(d.max_allocation),
        d.shared_memory >> 10,
        d.max_units
    )
}
