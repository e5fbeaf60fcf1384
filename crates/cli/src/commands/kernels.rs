//! `swinstyle kernels`: the rooms and the networks against PyTorch's numbers, and against the clock.

use std::{path::PathBuf, str::FromStr};

use anyhow::Result;
use clap::{Args, Subcommand};
use serde::Serialize;
use swinstyle_tensor::cube::dry::Chip;

use super::Context;
use crate::{
    bench,
    check::{self, Outcome},
    inspect,
    output::Status,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run every fixture of a folder (made by tests/golden/make_golden.py) and compare values and gradients.
    Check(Check),
    /// Time the cases of benches/peers/pytorch_peer.py.
    Bench(Bench),
    /// Compile the kernels of the bench cases for a CUDA chip that need not be there, and look at the code.
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

/// `cargo xtask inspect` is this with its tools and folders.
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
