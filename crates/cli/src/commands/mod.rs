//! The subcommands, one file each, and what they share: device and output.

mod ablate;
mod animation;
mod attributes;
pub(crate) mod codes;
mod config;
mod convert;
mod data;
mod demo;
mod directions;
mod doctor;
mod edit;
mod explain;
mod familiarity;
mod generate;
mod images;
mod interpolate;
mod invert;
mod kernels;
mod latency;
mod mix;
mod model;
pub(crate) mod numbers;
mod profile;
mod project;
mod showcase;
mod tasks;
mod train;

use anyhow::Result;
use clap::{Parser, Subcommand};
use swinstyle_tensor::Device;

use crate::{
    output::{Output, Status},
    tune::tables,
};

/// Invert images into StyleGAN2's W+ space with a Swin encoder, train both, and edit what was inverted.
#[derive(Debug, Parser)]
#[command(name = "swinstyle", version, max_term_width = 120)]
struct Cli {
    /// Where to compute: cpu, wgpu[:i] or cuda[:i]. Without it SWINSTYLE_DEVICE decides, then the best that is present.
    #[arg(long, global = true, value_parser = device)]
    device: Option<Device>,
    /// Print JSON on stdout; everything else goes to stderr.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List devices, drivers and what is missing, with the fix.
    Doctor(doctor::Doctor),
    /// Make training data.
    #[command(subcommand)]
    Data(data::Command),
    /// Train a generator or an encoder.
    #[command(subcommand)]
    Train(train::Command),
    /// List presets and every key of the configuration files; check a file.
    #[command(subcommand)]
    Config(config::Command),
    /// Train encoders that differ in one part each, and compare them.
    Ablate(ablate::Ablate),
    /// Invert images: W+ codes, reconstructions and an overview.
    Invert(invert::Invert),
    /// Draw faces from label maps, several answers each.
    #[command(name = "segment2face")]
    Segment2Face(tasks::Segment2Face),
    /// Draw large images from small ones, several answers each.
    SuperResolve(tasks::SuperResolve),
    /// Make images of random codes.
    Generate(generate::Generate),
    /// Find directions of editing: by the weights, by samples of w, or by portraits' attributes.
    #[command(subcommand)]
    Directions(directions::Command),
    /// Move codes along a direction.
    Edit(edit::Edit),
    /// Mix two codes by layers.
    Mix(mix::Mix),
    /// Invert by optimisation, slowly and closely; with --tune also the generator's weights (PTI).
    Project(project::Project),
    /// Go from one code to the next, as an animation.
    Interpolate(interpolate::Interpolate),
    /// Say what a pass spends in which kernel, with a trace and a roofline picture.
    Profile(profile::Profile),
    /// Measure how long an image takes from file to file, by part.
    Latency(latency::Latency),
    /// Write a model that can be read as a model file of this program, by default in f16.
    Convert(convert::Convert),
    /// Invert held-out portraits and put them on a page.
    Demo(demo::Demo),
    /// Check the kernels against fixtures, and time them.
    #[command(subcommand)]
    Kernels(kernels::Command),
}

fn device(text: &str) -> Result<Device, &'static str> {
    text.parse().map_err(|_| "devices are written cpu, wgpu[:i] or cuda[:i]")
}

/// What every command is given beside its own arguments.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    /// `--device`, if it was given.
    requested: Option<Device>,
    /// Where to write.
    pub output: Output,
}

impl Context {
    /// The device that was asked for, or `SWINSTYLE_DEVICE`, or the best one, as a name only.
    fn named_device(&self) -> Result<Device> {
        match self.requested {
            Some(device) => Ok(device),
            None => Ok(Device::from_env()?),
        }
    }

    /// That device, opened, with its tuning table in use. Errors: one that this machine does not have, with the way out.
    pub fn device(&self) -> Result<Device> {
        let device = self.named_device()?;
        device.check()?;
        for note in tables::use_for(device) {
            self.output.note(format_args!("tuning: {note}"));
        }
        Ok(device)
    }
}

pub(crate) fn run_from_arguments() -> Result<Status> {
    let Cli { device, json, command } = Cli::try_parse()?;
    let context = Context { requested: device, output: Output::new(json) };
    let outcome = match command {
        Command::Doctor(args) => doctor::run(&context, args),
        Command::Data(command) => data::run(&context, command),
        Command::Train(command) => train::run(&context, command),
        Command::Config(command) => config::run(&context, command),
        Command::Ablate(args) => ablate::run(&context, args),
        Command::Invert(args) => invert::run(&context, args),
        Command::Segment2Face(args) => tasks::segment2face(&context, args),
        Command::SuperResolve(args) => tasks::super_resolve(&context, args),
        Command::Generate(args) => generate::run(&context, args),
        Command::Directions(command) => directions::run(&context, command),
        Command::Edit(args) => edit::run(&context, args),
        Command::Mix(args) => mix::run(&context, args),
        Command::Project(args) => project::run(&context, args),
        Command::Interpolate(args) => interpolate::run(&context, args),
        Command::Profile(args) => profile::run(&context, args),
        Command::Latency(args) => latency::run(&context, args),
        Command::Convert(args) => convert::run(&context, args),
        Command::Demo(args) => demo::run(&context, args),
        Command::Kernels(command) => kernels::run(&context, command),
    };
    for note in swinstyle_kit::tuning::take_notes() {
        context.output.note(format_args!("tuning: {note}"));
    }
    for note in swinstyle_files::take_notes() {
        context.output.note(note);
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn device_and_json_are_accepted_before_and_after_the_command() {
        for line in ["swinstyle --device wgpu:1 --json doctor", "swinstyle doctor --json --device wgpu:1"] {
            let cli = parse(line).unwrap();
            assert_eq!((cli.device, cli.json), (Some(Device::Wgpu(1)), true), "{line}");
        }
    }

    #[test]
    fn wrong_usage_has_exit_code_2_and_names_the_argument() {
        let cases = [
            ("swinstyle", "Usage"),
            ("swinstyle frobnicate", "frobnicate"),
            ("swinstyle doctor --device gpu", "wgpu[:i]"),
            ("swinstyle kernels check", "DIR"),
            ("swinstyle kernels bench --runs 0", "--runs"),
            ("swinstyle data avatars --out d --style cubist", "toon-head"),
            ("swinstyle data avatars --out d --split test", "heldout"),
            ("swinstyle data avatars --out d --count many", "--count"),
            ("swinstyle data avatars", "--out"),
        ];
        for (line, named) in cases {
            let error = parse(line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(error.to_string().contains(named), "{line}: {error}");
        }
    }

    #[test]
    fn the_definition_of_the_arguments_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
