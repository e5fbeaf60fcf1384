//! `cargo xtask tune` and `cargo xtask bench`: the program built in release and told where the clone keeps its tables and pages.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::process::{root, run_program};

/// What to tune; the program knows the kernels.
#[derive(Args)]
pub struct Tune {
    /// Where to tune: cpu, wgpu[:i] or cuda[:i]; without it the best device
    #[arg(long)]
    device: Option<String>,
    /// Fewer candidates, rounds and shapes: minutes instead of hours
    #[arg(long)]
    quick: bool,
    /// Only the kernels whose name contains this; the others keep their measurements
    #[arg(long, value_name = "NAME")]
    kernel: Option<String>,
    /// Keep what the table already has for the same code
    #[arg(long)]
    resume: bool,
}

/// What to bench.
#[derive(Args)]
pub struct Bench {
    /// Where to run: cpu, wgpu[:i] or cuda[:i]; without it the best device
    #[arg(long)]
    device: Option<String>,
    /// Python with PyTorch, which runs the same cases in alternation
    #[arg(long, value_name = "PYTHON")]
    peer: Option<PathBuf>,
    /// Only the cases whose name contains this
    #[arg(long, value_name = "SUBSTRING")]
    case: Option<String>,
    /// Times that the two alternate
    #[arg(long)]
    rounds: Option<u32>,
    /// Timed runs of a case a round
    #[arg(long)]
    runs: Option<u32>,
}

/// Builds the program and has it write the device's table into `tuning/`.
pub fn tune(options: &Tune) -> Result<()> {
    let mut words = vec!["tune".to_string(), "--out".to_string(), shown(root().join("tuning"))];
    option(&mut words, "--device", &options.device);
    option(&mut words, "--kernel", &options.kernel);
    words.extend(
        [(options.quick, "--quick"), (options.resume, "--resume")].iter().filter(|f| f.0).map(|f| f.1.to_string()),
    );
    program(&words)
}

/// Builds the program and has it write a page into `benches/results/`.
pub fn bench(options: &Bench) -> Result<()> {
    let script = shown(root().join("benches/peers/pytorch_peer.py"));
    let mut words = vec!["compare".to_string(), "--script".to_string(), script];
    words.extend(["--out".to_string(), shown(root().join("benches/results"))]);
    option(&mut words, "--device", &options.device);
    option(&mut words, "--case", &options.case);
    option(&mut words, "--peer", &options.peer.as_ref().map(|p| p.display()));
    option(&mut words, "--rounds", &options.rounds);
    option(&mut words, "--runs", &options.runs);
    program(&words)
}

fn shown(path: PathBuf) -> String {
    path.display().to_string()
}

fn option(words: &mut Vec<String>, name: &str, value: &Option<impl ToString>) {
    if let Some(value) = value {
        words.extend([name.to_string(), value.to_string()]);
    }
}

fn program(words: &[String]) -> Result<()> {
    let mut arguments = vec!["kernels"];
    arguments.extend(words.iter().map(String::as_str));
    run_program(&arguments, &[])
}
