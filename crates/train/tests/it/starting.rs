//! How a run starts: from another model's weights, in a folder that a killed run left, and never where another one is running.

use std::{fs, path::Path};

use swinstyle_models::{Model, Params};
use swinstyle_tensor::Device;
use swinstyle_train::{
    EncoderTrainer, Event, GeneratorTrainer, Run, Samples, Stop, TrainError, Trainer,
    config::{EncoderTraining, GeneratorTraining, parse},
    train,
};

const GENERATOR: &str = include_str!("../../../configs/avatar64-cpu-generator.toml");
const ENCODER: &str = include_str!("../../../configs/avatar64-cpu-encoder.toml");
const RUN: [&str; 5] =
    ["run.batch=4", "run.log_steps=1", "run.checkpoint_minutes=0", "data.count=20", "loss.w_norm=0.0"];

fn generator(images: u64, more: &[&str]) -> GeneratorTraining {
    let small = ["model.size=8", "model.style_dim=8", "model.mapping_layers=2", "model.channel_max=8"];
    let images = format!("run.images={images}");
    let rest = ["model.discriminator_max=8", "loss.path_length_weight=0.0", &images];
    let all = RUN[..4].iter().chain(&small).chain(&rest).chain(more).map(|s| s.to_string()).collect::<Vec<_>>();
    parse(GENERATOR, "g.toml", &all).unwrap()
}

fn encoder(images: u64, more: &[&str]) -> EncoderTraining {
    let images = format!("run.images={images}");
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
        &images,
    ];
    let all: Vec<String> = RUN.iter().chain(&small).chain(more).map(|s| s.to_string()).collect();
    parse(ENCODER, "e.toml", &all).unwrap()
}

fn go(trainer: &mut dyn Trainer, size: usize, folder: &Path, resume: bool) -> Result<Vec<String>, TrainError> {
    let run = Run { folder: folder.to_path_buf(), resume, device: Device::Cpu };
    let data = generator(4, &[]).data.open(size)?;
    let mut notes = Vec::new();
    train(trainer, data, &run, &Stop::default(), &mut |e| {
        if let Event::Note(text) = e {
            notes.push(text);
        }
    })?;
    Ok(notes)
}

fn train_generator(images: u64, folder: &Path) -> Model {
    go(&mut GeneratorTrainer::new(generator(images, &[]), Device::Cpu).unwrap(), 8, folder, false).unwrap();
    Model::load(folder.join("generator.safetensors"), Device::Cpu).unwrap()
}

fn new_encoder(config: EncoderTraining, model: &Model) -> EncoderTrainer {
    let data = config.task.open(&config.data, 16).unwrap();
    let samples = Samples::take(&data, &config.task).unwrap();
    EncoderTrainer::new(config, model.clone(), samples, Device::Cpu).unwrap()
}

/// Whether weights are the same but for rounding: the running average of equal weights rounds.
fn near(a: &Params, b: &Params) -> bool {
    a.iter().all(|(name, value)| {
        let mut pairs = value.to_vec().unwrap().into_iter().zip(b.get(name).unwrap().to_vec().unwrap());
        pairs.all(|(a, b)| (a - b).abs() <= 1e-6 * a.abs())
    })
}

#[test]
fn a_generator_starts_from_another_ones_weights_and_says_so_also_after_resuming() {
    let dir = tempfile::tempdir().unwrap();
    let first = train_generator(8, &dir.path().join("first"));
    let file = Path::new("somewhere/first.safetensors");
    let config = |images: u64| generator(images, &["data.style=adventurer", "optimizer.learning_rate=0.0"]);
    let folder = dir.path().join("second");
    let mut trainer = GeneratorTrainer::new(config(4), Device::Cpu).unwrap();
    let said = trainer.start_from(&first, file).unwrap();
    assert_eq!(said.taken, ["generator", "discriminator"]);
    go(&mut trainer, 8, &folder, false).unwrap();
    // Nothing was learnt, so the weights are the first one's.
    let second = Model::load(folder.join("generator.safetensors"), Device::Cpu).unwrap();
    assert!(near(&first.generator_params, &second.generator_params));
    go(&mut GeneratorTrainer::new(config(8), Device::Cpu).unwrap(), 8, &folder, true).unwrap();
    let second = Model::load(folder.join("generator.safetensors"), Device::Cpu).unwrap();
    let init = &second.header.config["training"]["generator"]["init"];
    assert_eq!(init["file"], "first.safetensors");
    assert_eq!(init["images_seen"], 8);
    assert!(init["data"].as_str().unwrap().contains("avataaars"), "{init}");
    // A model without a discriminator gives what it has.
    let mut bare = first.clone();
    bare.discriminator = None;
    let mut trainer = GeneratorTrainer::new(config(4), Device::Cpu).unwrap();
    assert_eq!(trainer.start_from(&bare, file).unwrap().taken, ["generator"]);
}

#[test]
fn an_encoder_starts_from_another_ones_weights_with_the_decoder_where_it_is_trained() {
    let dir = tempfile::tempdir().unwrap();
    let g = train_generator(4, &dir.path().join("g"));
    let mut first = new_encoder(encoder(8, &[]), &g);
    go(&mut first, 16, &dir.path().join("first"), false).unwrap();
    let first = Model::load(dir.path().join("first/model.safetensors"), Device::Cpu).unwrap();
    for (train_decoder, taken) in [("true", &["encoder", "generator"][..]), ("false", &["encoder"])] {
        let more = ["optimizer.learning_rate=0.0", &format!("train_decoder={train_decoder}")];
        let mut trainer = new_encoder(encoder(4, &more), &g);
        assert_eq!(trainer.start_from(&first, Path::new("m.safetensors")).unwrap().taken, taken);
        let folder = dir.path().join(train_decoder);
        go(&mut trainer, 16, &folder, false).unwrap();
        let second = Model::load(folder.join("model.safetensors"), Device::Cpu).unwrap();
        let encoder = |m: &Model| m.encoder.as_ref().unwrap().1.clone();
        assert!(near(&encoder(&first), &encoder(&second)));
        let decoder = if train_decoder == "true" { &first } else { &g };
        assert!(near(&decoder.generator_params, &second.generator_params));
        assert_eq!(second.header.config["training"]["encoder"]["init"]["taken"][0], "encoder");
    }
}

#[test]
fn weights_that_do_not_fit_are_refused_by_the_first_tensor_that_differs() {
    let dir = tempfile::tempdir().unwrap();
    let g = train_generator(4, &dir.path().join("g"));
    let file = Path::new("other.safetensors");
    let refuse = |more: &[&str], parts: &[&str]| {
        let mut trainer = GeneratorTrainer::new(generator(4, more), Device::Cpu).unwrap();
        let error = trainer.start_from(&g, file).unwrap_err().to_string();
        assert!(parts.iter().chain(&["other.safetensors"]).all(|p| error.contains(p)), "{error}");
    };
    refuse(&["model.style_dim=6"], &["generator.", "[8, 8]", "[6, 6]"]);
    refuse(&["model.mapping_layers=3"], &["generator.style.3", "missing"]);
    refuse(&["model.mapping_layers=1"], &["generator.style.2", "none"]);
    refuse(&["model.discriminator_max=4"], &["discriminator."]);
    let mut trainer = new_encoder(encoder(4, &[]), &g);
    let error = trainer.start_from(&g, file).unwrap_err().to_string();
    assert!(error.contains("other.safetensors") && error.contains("no encoder"), "{error}");
}

#[test]
fn a_folder_in_which_a_training_runs_is_refused_until_that_ends() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    train_generator(4, &folder);
    let lock = fs::File::open(folder.join(".lock")).unwrap();
    lock.lock().unwrap();
    for resume in [true, false] {
        let mut trainer = GeneratorTrainer::new(generator(8, &[]), Device::Cpu).unwrap();
        let error = go(&mut trainer, 8, &folder, resume).unwrap_err().to_string();
        assert!(error.contains("another training") && error.contains("run"), "{error}");
    }
    // A process that is killed loses its lock.
    drop(lock);
    go(&mut GeneratorTrainer::new(generator(8, &[]), Device::Cpu).unwrap(), 8, &folder, true).unwrap();
}

#[test]
fn a_run_killed_before_its_first_checkpoint_is_begun_anew_and_one_with_work_in_it_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    let checkpoints = folder.join("checkpoints");
    for d in [&checkpoints, &folder.join("samples")] {
        fs::create_dir_all(d).unwrap();
    }
    fs::write(folder.join("config.json"), "{ \"run\": ").unwrap();
    let start =
        |resume: bool| go(&mut GeneratorTrainer::new(generator(4, &[]), Device::Cpu).unwrap(), 8, &folder, resume);
    let error = start(true).unwrap_err().to_string();
    assert!(error.contains("no checkpoint") && error.contains("leave out --resume"), "{error}");
    let notes = start(false).unwrap();
    assert!(notes.iter().any(|n| n.contains("anew")), "{notes:?}");
    let error = start(false).unwrap_err().to_string();
    assert!(error.contains("not empty"), "{error}");
    // All states torn: said, and nothing is overwritten.
    for state in fs::read_dir(&checkpoints).unwrap() {
        fs::write(state.unwrap().path(), "torn").unwrap();
    }
    for resume in [true, false] {
        let error = start(resume).unwrap_err().to_string();
        assert!(error.contains("state-00000001.safetensors") || error.contains("not empty"), "{error}");
    }
    assert_eq!(fs::read(checkpoints.join("state-00000001.safetensors")).unwrap(), b"torn");
}
