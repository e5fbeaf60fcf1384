//! `cargo xtask`: the one entry point for setting up, demonstrating, testing and checking the project.

mod inspect;
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
    },
    /// Build the program and invert held-out portraits into out/demo
    Demo,
    /// Run every test
    Test,
    /// Look at the GPU code of every kernel without a GPU: registers, spills, occupancy, widths of loads
    Inspect(inspect::Inspect),
    /// What continuous integration runs: formatting, lints, tidy, tests
    Ci,
    /// Check the project's own rules: dependency arrows, kernel rooms, leftovers, links
    Tidy,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Setup { cuda_tools: true } => setup::cuda::install(),
        Task::Setup { cuda_tools: false } => setup::run(),
        Task::Demo => steps::demo(),
        Task::Test => steps::test(),
        Task::Inspect(options) => inspect::run(&options),
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
