//! Whole training runs on a small scale: resuming bit for bit, refusing what would lose work, stopping on NaN.

use std::{fs, path::Path, sync::Arc};

use swinstyle_data::Dataset;
use swinstyle_models::Model;
use swinstyle_tensor::Device;
use swinstyle_train::{
    EncoderTrainer, Event, GeneratorTrainer, Run, Stop, TrainError, Trainer,
    config::{EncoderTraining, GeneratorTraining, parse},
    sample_pictures, train,
};

const GENERATOR: &str = include_str!("../../../configs/avatar64-cpu-generator.toml");
const ENCODER: &str = include_str!("../../../configs/avatar64-cpu-encoder.toml");

fn overrides(list: &[&str]) -> Vec<String> {
    let small =
        ["run.batch=4", "run.log_steps=1", "run.sample_images=1000", "run.checkpoint_minutes=0", "data.count=100"];
    small.iter().chain(list).map(|s| s.to_string()).collect()
}

fn generator(images: u64, more: &[&str]) -> GeneratorTraining {
    let images = format!("run.images={images}");
    let mut list = vec![
        images.as_str(),
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
    list.extend(more);
    parse(GENERATOR, "generator.toml", &overrides(&list)).unwrap()
}

fn encoder(images: u64) -> EncoderTraining {
    let images = format!("run.images={images}");
    let list = [
        images.as_str(),
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
    parse(ENCODER, "encoder.toml", &overrides(&list)).unwrap()
}

fn go(trainer: &mut dyn Trainer, data: Arc<Dataset>, folder: &Path, resume: bool) -> Result<Vec<Event>, TrainError> {
    let run = Run { folder: folder.to_path_buf(), resume, device: Device::Cpu };
    let mut events = Vec::new();
    train(trainer, data, &run, &Stop::default(), &mut |e| events.push(e))?;
    Ok(events)
}

fn train_generator(images: u64, folder: &Path, resume: bool) -> Result<Vec<Event>, TrainError> {
    let config = generator(images, &[]);
    let data = config.data.open(8)?;
    go(&mut GeneratorTrainer::new(config, Device::Cpu)?, data, folder, resume)
}

/// The newest state, and the metrics without their speeds.
fn outcome(folder: &Path) -> (Vec<u8>, Vec<String>) {
    let mut states: Vec<_> = fs::read_dir(folder.join("checkpoints")).unwrap().map(|f| f.unwrap().path()).collect();
    states.sort();
    // The header holds the run's length, which differs on purpose: compare what follows it.
    let bytes = fs::read(states.last().unwrap()).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let metrics = fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    let strip = |l: &str| {
        let mut v: serde_json::Value = serde_json::from_str(l).unwrap();
        v.as_object_mut().unwrap().remove("images_per_second");
        v.to_string()
    };
    (bytes[8 + header..].to_vec(), metrics.lines().map(strip).collect())
}

#[test]
fn a_resumed_generator_run_has_the_bits_of_an_uninterrupted_one() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
    train_generator(28, &whole, false).unwrap();
    train_generator(12, &parts, false).unwrap();
    train_generator(28, &parts, true).unwrap();
    assert!(outcome(&whole) == outcome(&parts), "states or metrics differ");
}

#[test]
fn a_run_falls_back_to_the_newest_whole_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, broken) = (dir.path().join("whole"), dir.path().join("broken"));
    train_generator(28, &whole, false).unwrap();
    train_generator(16, &broken, false).unwrap();
    let newest = broken.join("checkpoints/state-00000004.safetensors");
    let bytes = fs::read(&newest).unwrap();
    fs::write(&newest, &bytes[..bytes.len() / 2]).unwrap();
    let events = train_generator(28, &broken, true).unwrap();
    let notes: Vec<String> =
        events.iter().filter_map(|e| if let Event::Note(t) = e { Some(t.clone()) } else { None }).collect();
    assert!(notes.iter().any(|n| n.contains("state-00000004")), "{notes:?}");
    assert!(notes.iter().any(|n| n.contains("state-00000003")), "{notes:?}");
    assert!(outcome(&whole) == outcome(&broken), "states or metrics differ");
}

#[test]
fn an_encoder_run_trains_exports_and_resumes_with_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let g = dir.path().join("g");
    train_generator(4, &g, false).unwrap();
    let run = |images: u64, folder: &Path, resume: bool| {
        let config = encoder(images);
        let data = config.data.open(16).unwrap();
        let model = Model::load(g.join("generator.safetensors"), Device::Cpu).unwrap();
        let samples = sample_pictures(&data).unwrap();
        let mut trainer = EncoderTrainer::new(config, model, samples, Device::Cpu).unwrap();
        go(&mut trainer, data, folder, resume)
    };
    let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
    run(20, &whole, false).unwrap();
    // The cosine's length is the run's: the first part is cut by its folder being copied, not by a shorter run.
    run(20, &parts, false).unwrap();
    for step in [4, 5] {
        let state = parts.join(format!("checkpoints/state-{step:08}.safetensors"));
        if step == 5 {
            fs::remove_file(state).unwrap()
        }
    }
    run(20, &parts, true).unwrap();
    assert!(outcome(&whole) == outcome(&parts), "states or metrics differ");
    let model = Model::load(whole.join("model.safetensors"), Device::Cpu).unwrap();
    assert!(model.encoder.is_some() && model.header.images_seen == 20);
}

#[test]
fn a_folder_that_holds_something_is_refused_and_an_empty_one_cannot_be_resumed() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("thesis.txt"), "precious").unwrap();
    let error = train_generator(4, dir.path(), false).unwrap_err().to_string();
    assert!(error.contains("not empty") && error.contains("--resume"), "{error}");
    let error = train_generator(4, &dir.path().join("new"), true).unwrap_err().to_string();
    assert!(error.contains("no checkpoint"), "{error}");
}

#[test]
fn another_model_does_not_resume() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    train_generator(4, &folder, false).unwrap();
    let config = generator(8, &["model.mapping_layers=3"]);
    let data = config.data.open(8).unwrap();
    let error = go(&mut GeneratorTrainer::new(config, Device::Cpu).unwrap(), data, &folder, true).unwrap_err();
    assert!(error.to_string().contains("another [model]"), "{error}");
}

#[test]
fn a_loss_that_is_not_a_number_names_step_images_and_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    let config = generator(400, &["optimizer.learning_rate=1e30", "run.checkpoint_minutes=60"]);
    let data = config.data.open(8).unwrap();
    let error = go(&mut GeneratorTrainer::new(config, Device::Cpu).unwrap(), data, &folder, false).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, TrainError::NotFinite { .. }), "{text}");
    assert!(text.contains("step") && text.contains("state-00000000"), "{text}");
    assert!(!folder.join("generator.safetensors").exists());
}

#[test]
fn config_errors_name_the_key_and_the_line() {
    let wrong = GENERATOR.replace("batch = 16", "bacth = 16");
    let error = parse::<GeneratorTraining>(&wrong, "c.toml", &[]).unwrap_err().to_string();
    assert!(error.contains("bacth") && error.contains("c.toml:"), "{error}");
    let error = parse::<GeneratorTraining>(GENERATOR, "c.toml", &["run.nonsense=1".into()]).unwrap_err().to_string();
    assert!(error.contains("nonsense"), "{error}");
    let error = parse::<GeneratorTraining>(GENERATOR, "c.toml", &["walk.batch=1".into()]).unwrap_err().to_string();
    assert!(error.contains("walk"), "{error}");
    let ok: GeneratorTraining =
        parse(GENERATOR, "c.toml", &["data.style=adventurer".into(), "run.batch=8".into()]).unwrap();
    assert_eq!(ok.run.batch, 8);
}

#[test]
fn every_checked_in_configuration_parses_and_makes_networks() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
    let mut seen = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.ends_with("-generator.toml") {
            let c: GeneratorTraining = parse(&text, &name, &[]).unwrap();
            swinstyle_models::stylegan2::Generator::new(c.model.generator()).unwrap();
        } else {
            let c: EncoderTraining = parse(&text, &name, &[]).unwrap();
            let preset = name.trim_end_matches("-encoder.toml");
            assert_eq!(c.model, swinstyle_models::styleformer::StyleformerConfig::preset(preset).unwrap(), "{name}");
        }
        seen += 1;
    }
    assert!(seen >= 8);
}
