//! `swinstyle profile`: which pass, with what.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use swinstyle_data::{
    Picture,
    avatars::{PortraitSet, Renderer, Split, Style},
};
use swinstyle_models::Model;
use swinstyle_tensor::{DType, Device, Tensor, rng::Philox};
use swinstyle_train::{EncoderTrainer, GeneratorTrainer, Position, Samples, StepData, Trainer, config};

use super::{
    Context,
    codes::upload,
    invert::encoder_size,
    model::{ModelFile, Precision},
};
use crate::{
    output::Status,
    profile::{self, Pass},
};

/// Configurations of the training steps where none is named.
const ENCODER: &str = include_str!("../../../../configs/avatar64-cpu-encoder.toml");
const TRAINING: &str = include_str!("../../../../configs/avatar64-cpu-generator.toml");

#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    /// Images to codes and back.
    Invert,
    /// Random codes to images.
    Generate,
    /// One training step of generator and discriminator, with both regularisations.
    TrainStep,
    /// One training step of an encoder, with all that its configuration has.
    EncoderStep,
}

#[derive(Debug, Args)]
pub(super) struct Profile {
    /// The pass.
    what: What,
    #[command(flatten)]
    model: ModelFile,
    #[command(flatten)]
    precision: Precision,
    /// Images of a pass; a training step has its configuration's.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Configuration of the training step; without it the CPU one of 64 px.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Passes that are measured.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    runs: u16,
    /// Folder to write: profile.json, trace.json (Perfetto), roofline.svg and index.html.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(super) fn run(context: &Context, args: Profile) -> Result<Status> {
    let device = context.device()?;
    let batch = usize::from(args.batch);
    let (name, pass) = match args.what {
        What::Invert => (format!("invert, batch {batch}"), invert(&args.model, &args.precision, batch, device)?),
        What::Generate => (format!("generate, batch {batch}"), generate(&args.model, &args.precision, batch, device)?),
        What::TrainStep => train_step(args.config.as_deref(), args.precision.precision, device)?,
        What::EncoderStep => encoder_step(args.config.as_deref(), &args.model, args.precision.precision, device)?,
    };
    profile::run(&name, device, usize::from(args.runs), args.out.as_deref(), context.output, pass)
}

/// Held-out portraits `[N, size, size, 3]`.
fn portraits(n: usize, size: usize, device: Device) -> Result<Tensor> {
    let set = PortraitSet::new(Renderer::new(&Style::named(Style::NAMES[0])?, size)?, 2024, Split::Heldout, n as u64)?;
    let pictures = (0..n as u64).map(|i| set.picture(i)).collect::<Result<Vec<Picture>, _>>()?;
    upload(&pictures, device)
}

fn invert(model: &ModelFile, precision: &Precision, batch: usize, device: Device) -> Result<Pass> {
    let model = precision.load(&model.locate()?, device)?;
    let images = portraits(batch, encoder_size(&model)?, device)?;
    Ok(Box::new(move || Ok(model.invert(&images).map(drop)?)))
}

fn generate(model: &ModelFile, precision: &Precision, batch: usize, device: Device) -> Result<Pass> {
    let model = precision.load(&model.locate()?, device)?;
    let z = Philox::new(0, 0).normal(&[batch, model.generator.config.style_dim], device)?;
    Ok(Box::new(move || Ok(model.generate(&z, 0.7).map(drop)?)))
}

fn train_step(file: Option<&std::path::Path>, precision: DType, device: Device) -> Result<(String, Pass)> {
    let mut config: config::GeneratorTraining = match file {
        Some(file) => config::load(file, &[])?,
        None => config::parse(TRAINING, "the built-in configuration", &[])?,
    };
    // Both regularisations in every step: what it costs at most.
    (config.loss.r1_interval, config.loss.path_length_interval) = (1, 1);
    config.run.precision = precision;
    let (batch, size) = (config.run.batch, config.model.size);
    let data = StepData { images: portraits(batch, size, device)?, labels: Vec::new() };
    let mut trainer = GeneratorTrainer::new(config, device)?;
    let mut step = 0;
    let pass = move || {
        step += 1;
        Ok(trainer.step(Position { step, images: step * batch as u64 }, &data).map(drop)?)
    };
    Ok((format!("training step of {size} px with both regularisations, batch {batch}"), Box::new(pass)))
}

fn encoder_step(
    file: Option<&std::path::Path>,
    model: &ModelFile,
    precision: DType,
    device: Device,
) -> Result<(String, Pass)> {
    let mut config: config::EncoderTraining = match file {
        Some(file) => config::load(file, &[])?,
        None => config::parse(ENCODER, "the built-in configuration", &[])?,
    };
    config.run.precision = precision;
    let (batch, size) = (config.run.batch, config.model.image_size);
    let samples = Samples::take(&*config.task.open(&config.data, size)?, &config.task)?;
    // Whatever the label maps show, a step takes as long.
    let labels = vec![0; batch * size * size];
    let data = StepData { images: portraits(batch, size, device)?, labels };
    let generator = Model::load(model.locate_generator()?, device)?;
    let mut trainer = EncoderTrainer::new(config, generator, samples, device)?;
    let mut step = 0;
    let pass = move || {
        step += 1;
        Ok(trainer.step(Position { step, images: step * batch as u64 }, &data).map(drop)?)
    };
    Ok((format!("training step of an encoder of {size} px, batch {batch}"), Box::new(pass)))
}
