//! `cargo xtask`: the one entry point for setting up, demonstrating, testing and checking the project.

mod dist;
mod inspect;
mod measure;
mod process;
mod setup;
mod steps;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Sets up, demonstrates, tests and checks SwinStyle")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Make sure that a Vulkan adapter exists for the tests, installing Mesa's software one where there is none
    Setup {
        /// Install NVRTC, CUDA's headers and nvdisasm instead, which `inspect` needs
        #[arg(long)]
        cuda_tools: bool,
        /// Install SPIR-V's validator and disassembler instead, which `inspect --arch vulkan` uses
        #[arg(long, conflicts_with = "cuda_tools")]
        spirv_tools: bool,
    },
    /// Build the program and invert held-out portraits into out/demo; installs nothing
    Demo,
    /// Run every test; first what `setup` does
    Test,
    /// Look at the GPU code of every kernel without a GPU: registers, spills, occupancy, widths of loads
    Inspect(inspect::Inspect),
    /// Time every legal variant of the kernels and write the winners to tuning/
    Tune(measure::Tune),
    /// Time the bench cases, with --peer against PyTorch in alternation, and write a page to benches/results/
    Bench(measure::Bench),
    /// Make a folder that checks, tunes and benches on a machine without a Rust toolchain
    Dist(dist::Dist),
    /// What continuous integration runs: formatting, lints, tidy, tests (which `setup` comes before)
    Ci,
    /// Check the project's own rules: dependency arrows, kernel rooms, leftovers, links
    Tidy,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Setup { cuda_tools: true, .. } => setup::cuda::install(),
        Task::Setup { spirv_tools: true, .. } => setup::spirv_tools(),
        Task::Setup { .. } => setup::run(),
        Task::Demo => steps::demo(),
        Task::Test => steps::test(),
        Task::Inspect(options) => inspect::run(&options),
        Task::Tune(options) => measure::tune(&options),
        Task::Bench(options) => measure::bench(&options),
        Task::Dist(options) => dist::run(&options),
        Task::Ci => steps::ci(),
        Task::Tidy => tidy::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
