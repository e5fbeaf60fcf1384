//! The trainings that the tests run: the checked-in configurations of 64 px, made so small that a step takes milliseconds.

use std::{path::Path, sync::Arc};

use swinstyle_data::Dataset;
use swinstyle_models::Model;
use swinstyle_tensor::Device;
use swinstyle_train::{
    EncoderTrainer, Event, GeneratorTrainer, Run, Samples, Stop, TrainError, Trainer,
    config::{EncoderTraining, GeneratorTraining, parse},
    train,
};

pub const GENERATOR: &str = include_str!("../../../../configs/avatar64-cpu-generator.toml");
pub const ENCODER: &str = include_str!("../../../../configs/avatar64-cpu-encoder.toml");

/// Portraits of the encoder's trainings.
pub const PORTRAIT: usize = 16;
/// Images of the generators.
pub const IMAGE: usize = 8;

fn overrides(images: u64, of_kind: &[&str], more: &[&str]) -> Vec<String> {
    let run = ["run.batch=4", "run.log_steps=1", "run.sample_images=1000", "run.checkpoint_minutes=0"];
    let portraits = if more.contains(&"data.source=folder") { None } else { Some("data.count=100") };
    let length = format!("run.images={images}");
    run.iter().chain(&portraits).chain(&[length.as_str()]).chain(of_kind).chain(more).map(|s| s.to_string()).collect()
}

pub fn generator(images: u64, more: &[&str]) -> GeneratorTraining {
    let small = [
        "model.size=8",
        "model.style_dim=8",
        "model.mapping_layers=2",
        "model.channel_base=64",
        "model.channel_max=8",
        "model.discriminator_base=64",
        "model.discriminator_max=8",
        "loss.r1_interval=3",
        "loss.path_length_interval=2",
    ];
    parse(GENERATOR, "generator.toml", &overrides(images, &small, more)).unwrap()
}

pub fn encoder(images: u64, more: &[&str]) -> EncoderTraining {
    encoder_of(ENCODER, images, more).unwrap()
}

/// The encoder of another text than [`ENCODER`].
pub fn encoder_of(text: &str, images: u64, more: &[&str]) -> Result<EncoderTraining, TrainError> {
    let small = [
        "model.image_size=16",
        "model.generator_size=8",
        "model.style_dim=8",
        "model.backbone.patch=1",
        "model.backbone.dims=[8,8,8]",
        "model.backbone.depths=[1,1,1]",
        "model.backbone.heads=[1,1,1]",
        "model.map2style.width=8",
        "model.map2style.heads=1",
        "loss.perceptual=0.0",
        "model.backbone.stochastic_depth=0.1",
    ];
    parse(text, "encoder.toml", &overrides(images, &small, more))
}

pub fn go(
    trainer: &mut dyn Trainer,
    data: Arc<Dataset>,
    folder: &Path,
    resume: bool,
) -> Result<Vec<Event>, TrainError> {
    let run = Run { folder: folder.to_path_buf(), resume, data_changed: false, device: Device::Cpu };
    go_on(trainer, data, &run)
}

/// Trains as `run` says.
pub fn go_on(trainer: &mut dyn Trainer, data: Arc<Dataset>, run: &Run) -> Result<Vec<Event>, TrainError> {
    let mut events = Vec::new();
    train(trainer, data, run, &Stop::default(), &mut |e| events.push(e))?;
    Ok(events)
}

/// Trains a generator to the end of its configuration.
pub fn train_generator(config: GeneratorTraining, folder: &Path, resume: bool) -> Result<Vec<Event>, TrainError> {
    let data = config.data.open(IMAGE)?;
    go(&mut GeneratorTrainer::new(config, Device::Cpu)?, data, folder, resume)
}

/// The generator that the run in a folder exported.
pub fn exported(folder: &Path) -> Model {
    Model::load(folder.join("generator.safetensors"), Device::Cpu).unwrap()
}

/// An encoder that is to be trained against a generator, and its data.
pub fn new_encoder(config: EncoderTraining, model: &Model) -> Result<(EncoderTrainer, Arc<Dataset>), TrainError> {
    let data = config.task.open(&config.data, PORTRAIT)?;
    let samples = Samples::take(&data, &config.task)?;
    Ok((EncoderTrainer::new(config, model.clone(), samples, Device::Cpu)?, data))
}

/// What follows the header of a safetensors file: the header holds the run's length, which may differ on purpose.
pub fn tensors(bytes: &[u8]) -> &[u8] {
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    &bytes[8 + header..]
}
