//! `swinstyle kernels`: the rooms and the networks against PyTorch's numbers, and against the clock.

use std::path::PathBuf;
#[cfg(feature = "cuda")]
use std::str::FromStr;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde::Serialize;
#[cfg(feature = "cuda")]
use swinstyle_tensor::cube::dry::Chip;

use super::Context;
#[cfg(feature = "cuda")]
use crate::inspect;
use crate::{
    bench,
    check::{self, Outcome},
    output::Status,
    tune,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run every fixture of a folder (made by tests/golden/make_golden.py) and compare values and gradients.
    Check(Check),
    /// Time the cases of benches/peers/pytorch_peer.py.
    Bench(Bench),
    /// Time the legal blueprints of every kernel and write the winners to the device's tuning table.
    #[command(hide = true)]
    Tune(Tune),
    /// Time the cases and PyTorch's in alternation and write a page.
    #[command(hide = true)]
    Compare(Compare),
    /// Look at the SPIR-V of every kernel on a Vulkan device.
    #[cfg(feature = "cuda")]
    #[command(hide = true)]
    Spirv(Spirv),
    /// Compile the kernels of the bench cases for a CUDA chip that need not be there, and look at the code.
    #[cfg(feature = "cuda")]
    #[command(hide = true)]
    Inspect(Inspect),
}

#[derive(Debug, Args)]
pub(super) struct Check {
    /// Folder with fixtures, searched to the bottom; or one fixture.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Only the cases whose name contains this.
    #[arg(long, value_name = "SUBSTRING")]
    case: Option<String>,
    /// Say the error and the tolerance of every tensor.
    #[arg(long)]
    verbose: bool,
}

#[derive(Debug, Args)]
pub(super) struct Bench {
    /// Only the cases whose name contains this.
    #[arg(long, value_name = "SUBSTRING")]
    case: Option<String>,
    /// Timed runs of a case, after three that warm up.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    runs: u32,
}

/// `cargo xtask tune` is this.
#[derive(Debug, Args)]
pub(super) struct Tune {
    /// Fewer candidates, rounds and shapes: minutes instead of hours.
    #[arg(long)]
    quick: bool,
    /// Only the kernels whose name contains this; the others keep their measurements.
    #[arg(long, value_name = "NAME")]
    kernel: Option<String>,
    /// Keep what the table already has for the same code.
    #[arg(long)]
    resume: bool,
    /// Folder of the tables; without it SWINSTYLE_TUNING, then tuning/ here or beside the program, then the user's cache.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// `cargo xtask bench` is this with its script and folder.
#[derive(Debug, Args)]
pub(super) struct Compare {
    /// Only the cases whose name contains this.
    #[arg(long, value_name = "SUBSTRING")]
    case: Option<String>,
    /// Python with PyTorch; without it our cases alone.
    #[arg(long, value_name = "PYTHON")]
    peer: Option<PathBuf>,
    /// The peer's script.
    #[arg(long, value_name = "FILE", default_value = "benches/peers/pytorch_peer.py")]
    script: PathBuf,
    /// Times that the two alternate.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Timed runs of a case a round.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    runs: u32,
    /// Folder of the page and its JSON.
    #[arg(long, value_name = "DIR", default_value = "benches/results")]
    out: PathBuf,
}

/// `cargo xtask inspect --arch vulkan` is this with a kernel cache of its own.
#[cfg(feature = "cuda")]
#[derive(Debug, Args)]
pub(super) struct Spirv {
    /// Only the kernels whose name contains this.
    #[arg(long, value_name = "NAME")]
    kernel: Option<String>,
    /// Where the modules are written.
    #[arg(long, value_name = "DIR", default_value = "target/inspect")]
    out: PathBuf,
}

/// `cargo xtask inspect` is this with its tools and folders.
#[cfg(feature = "cuda")]
#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// The chip that is compiled for.
    #[arg(long, default_value = "sm_90", value_parser = Chip::from_str)]
    arch: Chip,
    /// Only the kernels whose name contains this.
    #[arg(long, value_name = "NAME")]
    kernel: Option<String>,
    /// Only the cases whose name contains this.
    #[arg(long, value_name = "SUBSTRING")]
    case: Option<String>,
    /// Every operation in every type too.
    #[arg(long)]
    tour: bool,
    /// The kernels of the fixtures in this folder too.
    #[arg(long, value_name = "DIR")]
    fixtures: Option<PathBuf>,
    /// Folder with NVRTC, CUDA's headers and nvdisasm; without it an installed CUDA toolkit.
    #[arg(long, value_name = "DIR")]
    tools: Option<PathBuf>,
    /// Where the code is written.
    #[arg(long, value_name = "DIR", default_value = "target/inspect")]
    out: PathBuf,
}

pub(super) fn run(context: &Context, command: Command) -> Result<Status> {
    match command {
        Command::Check(args) => run_check(context, &args),
        Command::Bench(args) => bench::run(context.device()?, args.case.as_deref(), args.runs, context.output),
        Command::Tune(Tune { quick, kernel, resume, out }) => {
            tune::run(context.device()?, tune::Options { quick, kernel, resume, out }, context.output)
        }
        Command::Compare(Compare { case, peer, script, rounds, runs, out }) => {
            let options = bench::compare::Options { case, peer, script, rounds, runs, out };
            bench::compare::run(context.device()?, &options, context.output)
        }
        #[cfg(feature = "cuda")]
        Command::Spirv(Spirv { kernel, out }) => {
            inspect::spirv::run(context.device()?, kernel.as_deref(), &out, context.output)
        }
        #[cfg(feature = "cuda")]
        Command::Inspect(Inspect { arch: chip, kernel, case, tour, fixtures, tools, out }) => {
            inspect::run(&inspect::Options { chip, kernel, case, tour, fixtures, tools, out }, context.output)
        }
    }
}

#[derive(Serialize)]
struct Report<'a> {
    passed: usize,
    failed: usize,
    device: String,
    cases: &'a [Outcome],
}

fn run_check(context: &Context, args: &Check) -> Result<Status> {
    let device = context.device()?;
    let outcomes = check::run(&args.folder, device, args.case.as_deref(), |outcome| {
        context.output.line(outcome)?;
        for tensor in outcome.tensors.iter().filter(|_| args.verbose) {
            context.output.line(format_args!("    {tensor}"))?;
        }
        Ok(())
    })?;
    let passed = outcomes.iter().filter(|o| o.passed).count();
    let failed = outcomes.len() - passed;
    context.output.line(format_args!("{passed} passed, {failed} failed"))?;
    context.output.document(&Report { passed, failed, device: device.to_string(), cases: &outcomes })?;
    Ok(if failed == 0 { Status::Done } else { Status::Failed })
}
