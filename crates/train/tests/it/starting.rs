//! How a run starts: from another model's weights, in a folder that a killed run left, and never where another one is running.

use std::{fs, path::Path};

use swinstyle_models::{Model, Params};
use swinstyle_tensor::Device;
use swinstyle_train::{Event, GeneratorTrainer};

use crate::small::{IMAGE, encoder, exported, generator, go, new_encoder, train_generator};

/// A trained generator.
fn trained(images: u64, folder: &Path) -> Model {
    train_generator(generator(images, &[]), folder, false).unwrap();
    exported(folder)
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
    let first = trained(8, &dir.path().join("first"));
    let file = Path::new("somewhere/first.safetensors");
    let config = |images: u64| generator(images, &["data.style=adventurer", "optimizer.learning_rate=0.0"]);
    let folder = dir.path().join("second");
    let mut trainer = GeneratorTrainer::new(config(4), Device::Cpu).unwrap();
    let said = trainer.start_from(&first, file).unwrap();
    assert_eq!(said.taken, ["generator", "discriminator"]);
    go(&mut trainer, config(4).data.open(IMAGE).unwrap(), &folder, false).unwrap();
    // Nothing was learnt, so the weights are the first one's.
    let second = exported(&folder);
    assert!(near(&first.generator_params, &second.generator_params));
    train_generator(config(8), &folder, true).unwrap();
    let second = exported(&folder);
    let init = &second.header.config["training"]["generator"]["init"];
    assert_eq!(init["file"], "first.safetensors");
    assert_eq!(init["images_seen"], 8);
    assert!(init["data"].as_str().unwrap().contains("avataaars"), "{init}");
    assert_eq!(second.lineage().unwrap().ancestors(), [first.lineage().unwrap().own()]);
    // A model without a discriminator gives what it has.
    let mut bare = first.clone();
    bare.discriminator = None;
    let mut trainer = GeneratorTrainer::new(config(4), Device::Cpu).unwrap();
    assert_eq!(trainer.start_from(&bare, file).unwrap().taken, ["generator"]);
}

#[test]
fn an_encoder_starts_from_another_ones_weights_with_the_decoder_where_it_is_trained() {
    let dir = tempfile::tempdir().unwrap();
    let g = trained(4, &dir.path().join("g"));
    let (mut first, data) = new_encoder(encoder(8, &[]), &g).unwrap();
    go(&mut first, data, &dir.path().join("first"), false).unwrap();
    let first = Model::load(dir.path().join("first/model.safetensors"), Device::Cpu).unwrap();
    for (train_decoder, taken) in [("true", &["encoder", "generator"][..]), ("false", &["encoder"])] {
        let more = ["optimizer.learning_rate=0.0", &format!("train_decoder={train_decoder}")];
        let (mut trainer, data) = new_encoder(encoder(4, &more), &g).unwrap();
        assert_eq!(trainer.start_from(&first, Path::new("m.safetensors")).unwrap().taken, taken);
        let folder = dir.path().join(train_decoder);
        go(&mut trainer, data, &folder, false).unwrap();
        let second = Model::load(folder.join("model.safetensors"), Device::Cpu).unwrap();
        let encoder = |m: &Model| m.encoder.as_ref().unwrap().1.clone();
        assert!(near(&encoder(&first), &encoder(&second)));
        let decoder = if train_decoder == "true" { &first } else { &g };
        assert!(near(&decoder.generator_params, &second.generator_params));
        assert_eq!(second.header.config["training"]["encoder"]["init"]["taken"][0], "encoder");
        // A generator that was not trained is the one that it was; a trained one descends from what it began with.
        let lineage = second.lineage().unwrap();
        match train_decoder {
            // At a rate of 0 it may still be the same weights, and then is its own parent.
            "true" => {
                let parent = first.lineage().unwrap().own().to_string();
                assert!(lineage.own() == parent || lineage.ancestors()[0] == parent, "{lineage:?}");
            }
            _ => assert_eq!(lineage, g.lineage().unwrap()),
        }
    }
}

#[test]
fn weights_that_do_not_fit_are_refused_by_the_first_tensor_that_differs() {
    let dir = tempfile::tempdir().unwrap();
    let g = trained(4, &dir.path().join("g"));
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
    let (mut trainer, _) = new_encoder(encoder(4, &[]), &g).unwrap();
    let error = trainer.start_from(&g, file).unwrap_err().to_string();
    assert!(error.contains("other.safetensors") && error.contains("no encoder"), "{error}");
}

#[test]
fn a_folder_in_which_a_training_runs_is_refused_until_that_ends() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    trained(4, &folder);
    let lock = fs::File::open(folder.join(".lock")).unwrap();
    lock.lock().unwrap();
    for resume in [true, false] {
        let error = train_generator(generator(8, &[]), &folder, resume).unwrap_err().to_string();
        assert!(error.contains("another training") && error.contains("run"), "{error}");
    }
    // A process that is killed loses its lock.
    drop(lock);
    train_generator(generator(8, &[]), &folder, true).unwrap();
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
    let start = |resume: bool| train_generator(generator(4, &[]), &folder, resume);
    let error = start(true).unwrap_err().to_string();
    assert!(error.contains("no checkpoint") && error.contains("leave out --resume"), "{error}");
    let events = start(false).unwrap();
    assert!(events.iter().any(|e| matches!(e, Event::Note(n) if n.contains("anew"))), "{events:?}");
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
