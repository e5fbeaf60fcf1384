//! `cargo xtask inspect`: the GPU code of every launch of the bench cases, for a chip that need not be there.

use std::{env, fs, path::PathBuf};

use anyhow::{Result, bail};
use clap::Args;

use crate::{
    process::{root, run_program},
    setup::cuda,
};

/// What to look at; the program knows the architectures, kernels and cases.
#[derive(Args)]
pub struct Inspect {
    /// The chip that is compiled for: sm_80, sm_90 or sm_100; vulkan for the SPIR-V that the first Vulkan adapter gets
    #[arg(long, default_value = "sm_90")]
    arch: String,
    /// Only the kernels whose name contains this
    #[arg(long, value_name = "NAME")]
    kernel: Option<String>,
    /// Only the cases whose name contains this
    #[arg(long, value_name = "SUBSTRING")]
    case: Option<String>,
    /// The kernels of the golden fixtures and of every operation in f32, f16 and bf16 too
    #[arg(long)]
    all: bool,
    /// One JSON document on stdout
    #[arg(long)]
    json: bool,
}

/// Builds the program and has it inspect itself. Errors: no CUDA tools, and whatever the program fails on, broken gates too.
pub fn run(options: &Inspect) -> Result<()> {
    if options.arch == VULKAN {
        return vulkan(options);
    }
    let mut arguments = vec!["kernels", "inspect"];
    let tools = cuda::folder();
    let pinned = cuda::installed(&tools);
    if !pinned && env::var_os("CUDA_PATH").is_none() {
        bail!("NVRTC, CUDA's headers and nvdisasm are not installed; `{}` does that", cuda::FIX);
    }
    let (tools, out) = (text(tools)?, text(root().join("target/inspect"))?);
    let fixtures = text(root().join("tests/golden"))?;
    if pinned {
        arguments.extend(["--tools", &tools]);
    }
    arguments.extend(["--out", &out, "--arch", &options.arch]);
    for (name, value) in [("--kernel", &options.kernel), ("--case", &options.case)] {
        if let Some(value) = value {
            arguments.extend([name, value]);
        }
    }
    if options.all {
        arguments.extend(["--tour", "--fixtures", &fixtures]);
    }
    if options.json {
        arguments.push("--json");
    }
    run_program(&arguments, &[])
}

/// What asks for SPIR-V instead of a CUDA chip's code.
const VULKAN: &str = "vulkan";

/// Has the program run every operation with an empty kernel cache and look at what is in it then.
fn vulkan(options: &Inspect) -> Result<()> {
    if options.case.is_some() || options.all {
        bail!("--arch vulkan looks at every operation; it takes --kernel and --json");
    }
    let out = root().join("target/inspect");
    let cache = out.join("vulkan-cache");
    if cache.exists() {
        fs::remove_dir_all(&cache)?;
    }
    let out = text(out)?;
    let mut arguments = vec!["--device", "wgpu", "kernels", "spirv", "--out", &out];
    if let Some(kernel) = &options.kernel {
        arguments.extend(["--kernel", kernel]);
    }
    if options.json {
        arguments.push("--json");
    }
    run_program(&arguments, &[("SWINSTYLE_KERNEL_CACHE", cache.as_os_str())])
}

/// Holds the kernels of the bench cases to the gates for every chip, where the tools are installed.
pub fn gates() -> Result<()> {
    if !cuda::installed(&cuda::folder()) {
        eprintln!("inspect: left out, the CUDA tools are not installed (`{}`)", cuda::FIX);
        return Ok(());
    }
    for arch in ["sm_80", "sm_90", "sm_100"] {
        run(&Inspect { arch: arch.to_string(), kernel: None, case: None, all: false, json: false })?;
    }
    Ok(())
}

fn text(path: PathBuf) -> Result<String> {
    path.into_os_string().into_string().map_err(|p| anyhow::anyhow!("{} is not UTF-8", p.display()))
}
