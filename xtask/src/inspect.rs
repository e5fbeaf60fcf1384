//! `cargo xtask inspect`: the GPU code of every launch of the bench cases, for a chip that need not be there.

use std::{env, path::PathBuf};

use anyhow::{Result, bail};
use clap::Args;

use crate::{
    process::{root, run_cargo},
    setup::cuda,
};

/// What to look at; the program knows the architectures, kernels and cases.
#[derive(Args)]
pub struct Inspect {
    /// The chip that is compiled for: sm_80, sm_90 or sm_100
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
    let mut arguments = vec!["run", "--quiet", "--release", "--package", "swinstyle", "--", "kernels", "inspect"];
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
    run_cargo(&arguments)
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
