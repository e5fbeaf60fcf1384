//! Runs count images: another batch goes on with the same data, schedule and end; the data must be the run's own.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::Value;
use swinstyle_data::{Dataset, Loader, LoaderOptions, Picture, picture::write_png};
use swinstyle_tensor::Device;
use swinstyle_train::{
    Event, GeneratorTrainer, Losses, Position, Result, Run, StepData, Trainer,
    config::{GeneratorTraining, RunConfig},
};
use swinstyle_weights::{Archive, CheckpointHeader};

use crate::small::{IMAGE, encoder, exported, generator, go, go_on, new_encoder, train_generator};

/// A training that learns nothing and writes down what it is shown.
struct Witness {
    config: GeneratorTraining,
    /// Where each step stood, and a sum of each of its images.
    shown: Vec<(Position, Vec<f32>)>,
}

impl Trainer for Witness {
    fn kind(&self) -> &'static str {
        "witness"
    }

    fn run_config(&self) -> &RunConfig {
        &self.config.run
    }

    fn flip(&self) -> bool {
        true
    }

    fn config_json(&self) -> Result<Value> {
        Ok(serde_json::to_value(&self.config).unwrap())
    }

    fn parameters(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }

    fn step(&mut self, at: Position, data: &StepData) -> Result<Losses> {
        let images = data.images.to_vec()?;
        self.shown.push((at, images.chunks(IMAGE * IMAGE * 3).map(fingerprint).collect()));
        Ok(Vec::new())
    }

    fn sample(&mut self) -> Result<Picture> {
        Ok(Picture::filled(1, 1, [0; 3]))
    }

    fn save(&self, _: &mut Archive) -> Result<()> {
        Ok(())
    }

    fn load(&mut self, _: &Archive) -> Result<()> {
        Ok(())
    }

    fn export(&self, folder: &Path, _: &CheckpointHeader) -> Result<PathBuf> {
        Ok(folder.join("nothing"))
    }

    fn header(&self, at: Position) -> Result<CheckpointHeader> {
        let config = self.config_json()?;
        Ok(CheckpointHeader { step: at.step, images_seen: at.images, config, ..CheckpointHeader::default() })
    }
}

/// A number that differs between images and their mirrors.
fn fingerprint(image: &[f32]) -> f32 {
    image.iter().enumerate().map(|(i, v)| v * (i % 31) as f32).sum()
}

/// Trains a witness with a batch up to a number of images.
fn witness(batch: usize, images: u64, folder: &Path, resume: bool) -> Vec<(Position, Vec<f32>)> {
    let config = generator(images, &[&format!("run.batch={batch}"), "data.count=13", "run.accumulate=1"]);
    let data = config.data.open(IMAGE).unwrap();
    let mut trainer = Witness { config, shown: Vec::new() };
    go(&mut trainer, data, folder, resume).unwrap();
    trainer.shown
}

#[test]
fn a_run_with_changing_batches_sees_every_image_once_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    let mut shown = witness(8, 128, &folder, false);
    // 128 more in batches of 16, then 256 more in batches of 8, then 100 in parts that do not divide them.
    shown.extend(witness(16, 256, &folder, true));
    shown.extend(witness(8, 512, &folder, true));
    shown.extend(witness(24, 612, &folder, true));
    let seen: Vec<f32> = shown.iter().flat_map(|(_, images)| images.clone()).collect();
    // The end is the first batch that reaches it: 512 + 5 · 24.
    assert_eq!(seen.len(), 632);
    let data = generator(4, &["data.count=13"]).data.open(IMAGE).unwrap();
    let options = LoaderOptions { batch_size: 1, seed: 1, flip: true, ..LoaderOptions::default() };
    let mut one_by_one = Loader::new(data, options).unwrap();
    for (i, seen) in seen.iter().enumerate() {
        assert_eq!(*seen, fingerprint(&one_by_one.next_batch().unwrap().images), "image {i}");
    }
    let mut at = Position::default();
    for (position, images) in &shown {
        assert_eq!(*position, at);
        at = Position { step: at.step + 1, images: at.images + images.len() as u64 };
    }
    assert_eq!(at, Position { step: 16 + 8 + 32 + 5, images: 632 });
    // A run that is at its end does nothing more.
    assert!(witness(16, 600, &folder, true).is_empty());
}

/// `images` of every line of metrics.
fn logged(folder: &Path) -> Vec<u64> {
    let text = fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    text.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()["images"].as_u64().unwrap()).collect()
}

/// Positions in the headers of all checkpoints of a folder.
fn positions(folder: &Path) -> Vec<(u64, u64)> {
    let mut states: Vec<_> = fs::read_dir(folder.join("checkpoints")).unwrap().map(|f| f.unwrap().path()).collect();
    states.sort();
    let header = |path: &PathBuf| Archive::read(path).unwrap().header().unwrap().unwrap();
    states.iter().map(header).map(|h| (h.step, h.images_seen)).collect()
}

#[test]
fn a_generator_and_an_encoder_go_on_with_another_batch_from_the_images_seen() {
    let dir = tempfile::tempdir().unwrap();
    let g = dir.path().join("g");
    for (i, (first, second)) in [(8, 16), (16, 8)].into_iter().enumerate() {
        let batch = |n: usize| format!("run.batch={n}");
        let folder = dir.path().join(format!("generator{i}"));
        let augment = ["augment.kind=bgc", "augment.ada_images=40", "augment.ada_interval=3"];
        let of = |images, n| generator(images, &[&augment[..], &[&batch(n)]].concat());
        train_generator(of(32, first), &folder, false).unwrap();
        train_generator(of(96, second), &folder, true).unwrap();
        let expected: Vec<u64> = (1..=32 / first as u64)
            .map(|k| k * first as u64)
            .chain((1..=64 / second as u64).map(|k| 32 + k * second as u64))
            .collect();
        assert_eq!(logged(&folder), expected);
        assert_eq!(positions(&folder).last(), Some(&(expected.len() as u64, 96)));
        assert_eq!(exported(&folder).header.images_seen, 96);
        if i == 0 {
            train_generator(generator(4, &[]), &g, false).unwrap();
        }
        let folder = dir.path().join(format!("encoder{i}"));
        let run = |images, n, resume| {
            let (mut trainer, data) = new_encoder(encoder(images, &[&batch(n)]), &exported(&g)).unwrap();
            go(&mut trainer, data, &folder, resume).unwrap();
        };
        run(32, first, false);
        run(96, second, true);
        assert_eq!(logged(&folder), expected);
    }
}

#[test]
fn more_parts_of_a_batch_change_nothing_but_rounding_of_a_resumed_run() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    for (folder, parts) in [(&one, "run.accumulate=1"), (&two, "run.accumulate=2")] {
        train_generator(generator(8, &[]), folder, false).unwrap();
        train_generator(generator(24, &[parts, "model.stddev_group=1"]), folder, true).unwrap_err();
        train_generator(generator(24, &[parts]), folder, true).unwrap();
    }
    assert_eq!(logged(&one), logged(&two));
    assert_eq!(positions(&one).last(), positions(&two).last());
}

#[test]
fn a_state_that_does_not_count_images_is_taken_by_its_own_batch() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    train_generator(generator(12, &[]), &folder, false).unwrap();
    for state in fs::read_dir(folder.join("checkpoints")).unwrap() {
        let path = state.unwrap().path();
        let mut archive = Archive::read(&path).unwrap();
        let header = archive.header().unwrap().unwrap();
        archive.set_header(&CheckpointHeader { images_seen: 0, ..header });
        archive.write(&path, swinstyle_weights::FloatDtype::F32).unwrap();
    }
    train_generator(generator(28, &["run.batch=8"]), &folder, true).unwrap();
    assert_eq!(logged(&folder), [4, 8, 12, 20, 28]);
}

#[test]
fn the_first_line_of_metrics_after_a_resume_is_that_of_an_uninterrupted_run() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
    let config = |images| generator(images, &["run.log_steps=5"]);
    train_generator(config(48), &whole, false).unwrap();
    // Stopped after 3 and after 8 of the steps of a line.
    for (images, resume) in [(12, false), (32, true), (48, true)] {
        train_generator(config(images), &parts, resume).unwrap();
    }
    let lines = |folder: &Path| -> Vec<Value> {
        let text = fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
        let strip = |l: &str| {
            let mut line: Value = serde_json::from_str(l).unwrap();
            line.as_object_mut().unwrap().remove("images_per_second").unwrap();
            line
        };
        text.lines().map(strip).collect()
    };
    assert_eq!(lines(&whole).len(), 2);
    assert_eq!(lines(&whole), lines(&parts));
}

#[test]
fn samples_are_written_once_where_a_run_ends_on_them() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    let events = train_generator(generator(16, &["run.sample_images=8"]), &folder, false).unwrap();
    let samples = events.iter().filter(|e| matches!(e, Event::Wrote { what: "samples", .. })).count();
    assert_eq!((samples, fs::read_dir(folder.join("samples")).unwrap().count()), (2, 2));
}

/// Writes pictures of different shades.
fn pictures(folder: &Path, names: &[&str]) {
    for name in names {
        let shade = name.bytes().map(u32::from).sum::<u32>() as u8;
        write_png(&folder.join(name), &Picture::filled(12, 12, [shade, 255 - shade, 7])).unwrap();
    }
}

/// The overrides of a folder of images.
fn of_folder(path: &Path, more: &[&str]) -> GeneratorTraining {
    let path = format!("data.path={:?}", path.display().to_string());
    let mut all = vec!["data.source=folder", path.as_str()];
    all.extend(more);
    let images = if more.contains(&"long") { 16 } else { 8 };
    all.retain(|o| *o != "long");
    generator(images, &all)
}

fn on(config: GeneratorTraining, folder: &Path, resume: bool, data_changed: bool) -> Result<Vec<Event>> {
    let data: Arc<Dataset> = config.data.open(IMAGE)?;
    let run = Run { folder: folder.to_path_buf(), resume, data_changed, device: Device::Cpu };
    go_on(&mut GeneratorTrainer::new(config, Device::Cpu)?, data, &run)
}

/// The values of the newest state.
fn state(folder: &Path) -> Vec<u8> {
    crate::small::tensors(&fs::read(folder.join("checkpoints/state-00000004.safetensors")).unwrap()).to_vec()
}

#[test]
fn a_resumed_run_knows_its_data_again_wherever_they_lie_and_notices_a_change() {
    let dir = tempfile::tempdir().unwrap();
    let (here, there) = (dir.path().join("here"), dir.path().join("there"));
    for folder in [&here, &there] {
        fs::create_dir_all(folder.join("deep")).unwrap();
        pictures(folder, &["a.png", "b.png", "c.png", "deep/d.png", "deep/e.png"]);
    }
    let (whole, moved, grown) = (dir.path().join("whole"), dir.path().join("moved"), dir.path().join("grown"));
    on(of_folder(&here, &["long"]), &whole, false, false).unwrap();
    on(of_folder(&here, &[]), &moved, false, false).unwrap();
    on(of_folder(&here, &[]), &grown, false, false).unwrap();
    // Another place, on demand instead of in memory, another licence.
    on(of_folder(&there, &["long", "data.memory_mib=0", "data.licence=CC0"]), &moved, true, false).unwrap();
    assert!(state(&whole) == state(&moved), "states differ");

    pictures(&here, &["f.png", "g.png"]);
    let error = on(of_folder(&here, &["long"]), &grown, true, false).unwrap_err().to_string();
    assert!(error.contains("5 images then, 7 now") && error.contains("--data-changed"), "{error}");
    // The same number of files, one of them another picture.
    pictures(&there, &["a.png"]);
    fs::copy(there.join("b.png"), there.join("a.png")).unwrap();
    let error = on(of_folder(&there, &["long"]), &grown, true, false).unwrap_err().to_string();
    assert!(error.contains("5 images then and now, but not the same"), "{error}");
    let events = on(of_folder(&here, &["long"]), &grown, true, true).unwrap();
    let said = events.iter().any(|e| matches!(e, Event::Note(n) if n.contains("5 images then, 7 now")));
    assert!(said && logged(&grown) == [4, 8, 12, 16], "{events:?}");
    let record: Value = serde_json::from_str(&fs::read_to_string(grown.join("data.json")).unwrap()).unwrap();
    assert_eq!(record["images"], 7);
}

#[test]
fn files_that_are_left_out_are_named_and_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let (images, folder) = (dir.path().join("images"), dir.path().join("run"));
    fs::create_dir(&images).unwrap();
    let good: Vec<String> = (0..14).map(|i| format!("good{i:02}.png")).collect();
    pictures(&images, &good.iter().map(String::as_str).collect::<Vec<_>>());
    for i in 0..12 {
        fs::write(images.join(format!("bad{i:02}.jpg")), "no picture").unwrap();
    }
    fs::write(images.join("scan.tiff"), "II*").unwrap();
    fs::write(images.join("notes.txt"), "no picture, and none is expected").unwrap();
    let events = on(of_folder(&images, &[]), &folder, false, false).unwrap();
    let notes: Vec<&str> =
        events.iter().filter_map(|e| if let Event::Note(n) = e { Some(n.as_str()) } else { None }).collect();
    let named = notes.iter().filter(|n| n.starts_with("left out: ") && n.contains("bad")).count();
    assert!(named == 10 && notes.iter().any(|n| n.contains("3 more files")), "{notes:?}");
    let started = events.iter().find_map(|e| match e {
        Event::Started { data_images, left_out, .. } => Some((*data_images, *left_out)),
        _ => None,
    });
    assert_eq!(started, Some((14, 13)));
    let record: Value = serde_json::from_str(&fs::read_to_string(folder.join("data.json")).unwrap()).unwrap();
    let left_out = record["left_out"].as_array().unwrap();
    assert!(left_out.len() == 13 && left_out[12]["reason"].as_str().unwrap().contains("TIFF"), "{record}");
    // One more, and more than half of them are broken: nothing is written.
    for i in 12..16 {
        fs::write(images.join(format!("bad{i:02}.jpg")), "no picture").unwrap();
    }
    let fresh = dir.path().join("fresh");
    let error = on(of_folder(&images, &[]), &fresh, false, false).unwrap_err().to_string();
    assert!(error.contains("17 of its 31 picture files") && error.contains("data.max_broken"), "{error}");
    assert!(!fresh.exists());
    on(of_folder(&images, &["data.max_broken=1.0"]), &fresh, false, false).unwrap();
}

#[test]
fn files_that_vanish_while_training_are_named_once() {
    let dir = tempfile::tempdir().unwrap();
    let (images, folder) = (dir.path().join("images"), dir.path().join("run"));
    fs::create_dir(&images).unwrap();
    pictures(&images, &["a.png", "b.png", "c.png"]);
    let config = of_folder(&images, &["long", "data.memory_mib=0"]);
    let data = config.data.open(IMAGE).unwrap();
    fs::remove_file(images.join("b.png")).unwrap();
    let events = go(&mut GeneratorTrainer::new(config, Device::Cpu).unwrap(), data, &folder, false).unwrap();
    let said = events.iter().filter(|e| matches!(e, Event::Note(n) if n.contains("b.png"))).count();
    assert_eq!(said, 1);
    assert!(fs::read_to_string(folder.join("data.json")).unwrap().contains("b.png"));
}

#[test]
fn a_feature_loss_takes_any_batch_and_any_size_of_discriminator() {
    let dir = tempfile::tempdir().unwrap();
    let g = dir.path().join("g");
    train_generator(generator(4, &[]), &g, false).unwrap();
    for (i, batch) in [["run.batch=6", "run.accumulate=1"], ["run.batch=10", "run.accumulate=2"]].iter().enumerate() {
        let config = encoder(12, &[&["loss.perceptual=0.5"][..], batch].concat());
        let (mut trainer, data) = new_encoder(config, &exported(&g)).unwrap();
        go(&mut trainer, data, &dir.path().join(i.to_string()), false).unwrap();
    }
    // A generator without its discriminator: the way out is named, and works.
    let mut bare = exported(&g);
    bare.discriminator = None;
    let error = new_encoder(encoder(8, &["loss.perceptual=0.5"]), &bare).map(drop).unwrap_err().to_string();
    assert!(error.starts_with("loss.perceptual: ") && error.contains("loss.perceptual=0"), "{error}");
    new_encoder(encoder(8, &["loss.perceptual=0"]), &bare).map(drop).unwrap();
}
