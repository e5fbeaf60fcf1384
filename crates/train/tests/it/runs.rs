//! Whole training runs on a small scale: resuming bit for bit, refusing what would lose work, stopping on NaN.

use std::{fs, path::Path};

use swinstyle_models::{
    Model,
    styleformer::{PRESETS, Styleformer, StyleformerConfig},
};
use swinstyle_tensor::Device;
use swinstyle_train::{
    EncoderTrainer, Event, GeneratorTrainer, Samples, Task, TrainError,
    ablation::AblationConfig,
    config::{EncoderTraining, GeneratorTraining, Source, parse},
};

use crate::small::{GENERATOR, encoder, exported, generator, go, new_encoder, tensors, train_generator};

/// Trains an encoder against the generator that the run folder `g` exported.
fn train_encoder(config: EncoderTraining, g: &Path, folder: &Path, resume: bool) -> Result<Vec<Event>, TrainError> {
    let (mut trainer, data) = new_encoder(config, &exported(g))?;
    go(&mut trainer, data, folder, resume)
}

/// The newest state, and the metrics without their speeds.
fn outcome(folder: &Path) -> (Vec<u8>, Vec<String>) {
    let mut states: Vec<_> = fs::read_dir(folder.join("checkpoints")).unwrap().map(|f| f.unwrap().path()).collect();
    states.sort();
    let bytes = fs::read(states.last().unwrap()).unwrap();
    let metrics = fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    let strip = |l: &str| {
        let mut v: serde_json::Value = serde_json::from_str(l).unwrap();
        v.as_object_mut().unwrap().remove("images_per_second");
        v.to_string()
    };
    (tensors(&bytes).to_vec(), metrics.lines().map(strip).collect())
}

#[test]
fn a_resumed_generator_run_has_the_bits_of_an_uninterrupted_one() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
    train_generator(generator(28, &[]), &whole, false).unwrap();
    train_generator(generator(12, &[]), &parts, false).unwrap();
    train_generator(generator(28, &[]), &parts, true).unwrap();
    assert!(outcome(&whole) == outcome(&parts), "states or metrics differ");
}

#[test]
fn an_augmented_run_resumes_with_the_same_bits_and_probability() {
    let dir = tempfile::tempdir().unwrap();
    let augment = ["augment.kind=bgc", "augment.ada_images=40", "augment.target=-0.9", "augment.ada_interval=3"];
    let run = |images: u64, folder: &Path, resume: bool| {
        train_generator(generator(images, &augment), folder, resume).unwrap();
    };
    let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
    run(48, &whole, false);
    // Cut in the middle of an interval of the controller.
    run(20, &parts, false);
    run(48, &parts, true);
    let (states, metrics) = outcome(&whole);
    assert!((states, &metrics) == (outcome(&parts).0, &outcome(&parts).1), "states or metrics differ");
    let last: serde_json::Value = serde_json::from_str(&metrics[11]).unwrap();
    assert!(last["ada_p"].as_f64().unwrap() > 0.5 && last["ada_rt"].as_f64().is_some(), "{last}");
    assert!(whole.join("samples/augmentations.png").is_file());
}

#[test]
fn a_run_that_began_without_augmentation_resumes_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    train_generator(generator(8, &[]), &folder, false).unwrap();
    let config = generator(16, &["augment.kind=[\"blit\"]", "augment.initial_p=0.5"]);
    train_generator(config, &folder, true).unwrap();
    let metrics = outcome(&folder).1;
    assert!(metrics[1].contains("d_loss") && !metrics[1].contains("ada_p") && metrics[2].contains("ada_p"));
}

#[test]
fn a_run_falls_back_to_the_newest_whole_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, broken) = (dir.path().join("whole"), dir.path().join("broken"));
    train_generator(generator(28, &[]), &whole, false).unwrap();
    train_generator(generator(16, &[]), &broken, false).unwrap();
    let newest = broken.join("checkpoints/state-00000004.safetensors");
    let bytes = fs::read(&newest).unwrap();
    fs::write(&newest, &bytes[..bytes.len() / 2]).unwrap();
    let events = train_generator(generator(28, &[]), &broken, true).unwrap();
    let notes: Vec<String> =
        events.iter().filter_map(|e| if let Event::Note(t) = e { Some(t.clone()) } else { None }).collect();
    assert!(notes.iter().any(|n| n.contains("state-00000004")), "{notes:?}");
    assert!(notes.iter().any(|n| n.contains("state-00000003")), "{notes:?}");
    assert!(outcome(&whole) == outcome(&broken), "states or metrics differ");
}

#[test]
fn a_resumed_generator_run_in_f16_goes_on_with_its_loss_scales() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
    let half = |images: u64| generator(images, &["run.precision=f16"]);
    train_generator(half(28), &whole, false).unwrap();
    train_generator(half(12), &parts, false).unwrap();
    train_generator(half(28), &parts, true).unwrap();
    assert!(outcome(&whole) == outcome(&parts), "states or metrics differ");
    let last = outcome(&whole).1.pop().unwrap();
    let last: serde_json::Value = serde_json::from_str(&last).unwrap();
    for key in ["g_loss_scale", "d_loss_scale"] {
        assert!((1.0..=65_536.0).contains(&last[key].as_f64().unwrap()), "{last}");
    }
    assert_eq!((last["g_skipped"].as_f64(), last["d_skipped"].as_f64()), (Some(0.0), Some(0.0)), "{last}");
}

#[test]
fn an_unknown_precision_is_an_error_that_lists_the_known() {
    let error = parse::<GeneratorTraining>(GENERATOR, "g.toml", &["run.precision=f8".to_string()]).unwrap_err();
    assert!(error.to_string().contains(r#"one of "f32", "bf16", "f16""#), "{error}");
}

#[test]
fn an_encoder_run_in_bf16_trains_exports_and_resumes_with_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let g = dir.path().join("g");
    train_generator(generator(4, &[]), &g, false).unwrap();
    let run = |images: u64, folder: &Path, resume: bool| {
        train_encoder(encoder(images, &["run.precision=bf16"]), &g, folder, resume)
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

/// Overrides of every form of encoder and training beside the plain one.
fn forms() -> Vec<Vec<&'static str>> {
    let latent = "discriminator={ kind = 'latent', learning_rate = 1e-3, width = 8, pool = 6, r1_interval = 2 }";
    let pair = "discriminator={ kind = 'image-pair', learning_rate = 1e-3, channel_base = 64, channel_max = 8, embedding = 6, r1_interval = 2 }";
    vec![
        vec!["loss.adversarial=0.1", latent, "loss.alignment_form=latent-kl", "optimizer.algorithm=ranger"],
        vec!["loss.adversarial=0.1", pair, "optimizer.clip_norm=0.5", "train_decoder=false"],
        vec!["model.refine_steps=2", "model.backbone.in_channels=6", "run.accumulate=1"],
        vec!["model.codes=delta", "loss.delta=0.01", "progressive={ start_images = 4, every_images = 4 }"],
        vec!["model.trunk=ir-se", "model.map2style.head=convolution"],
    ]
}

#[test]
fn every_form_of_encoder_training_resumes_with_the_same_bits_and_its_model_inverts() {
    let dir = tempfile::tempdir().unwrap();
    let g = dir.path().join("g");
    train_generator(generator(4, &[]), &g, false).unwrap();
    for (i, form) in forms().into_iter().enumerate() {
        let (whole, parts) = (dir.path().join(format!("whole{i}")), dir.path().join(format!("parts{i}")));
        let run = |folder: &Path, resume| train_encoder(encoder(24, &form), &g, folder, resume).unwrap();
        run(&whole, false);
        run(&parts, false);
        fs::remove_file(parts.join("checkpoints/state-00000006.safetensors")).unwrap();
        run(&parts, true);
        assert!(outcome(&whole) == outcome(&parts), "states or metrics differ: {form:?}");
        let model = Model::load(whole.join("model.safetensors"), Device::Cpu).unwrap();
        let picture = encoder(4, &[]).data.open(16).unwrap().picture(0).unwrap();
        let image = swinstyle_tensor::Tensor::from_vec(picture.to_f32(), &[1, 16, 16, 3], Device::Cpu).unwrap();
        let made = model.invert(&image).unwrap();
        assert_eq!((made.images.shape(), made.w_plus.shape()), (&[1, 8, 8, 3][..], &[1, 4, 8][..]), "{form:?}");
    }
}

#[test]
fn the_metrics_of_an_inversion_discriminator_hold_its_accuracy() {
    let dir = tempfile::tempdir().unwrap();
    let (g, folder) = (dir.path().join("g"), dir.path().join("run"));
    train_generator(generator(4, &[]), &g, false).unwrap();
    train_encoder(encoder(8, &forms()[0]), &g, &folder, false).unwrap();
    let metrics = fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    let line: serde_json::Value = serde_json::from_str(metrics.lines().next().unwrap()).unwrap();
    for key in ["adversarial", "adv_d_loss", "adv_r1"] {
        assert!(line[key].as_f64().is_some_and(f64::is_finite), "{key}: {line}");
    }
    assert!((0.0..=1.0).contains(&line["adv_accuracy"].as_f64().unwrap()));
}

#[test]
fn a_batch_in_parts_has_the_gradient_of_the_whole() {
    let dir = tempfile::tempdir().unwrap();
    let g = dir.path().join("g");
    train_generator(generator(4, &[]), &g, false).unwrap();
    // The mean squared error alone: terms that compare images see a part at a time.
    let plain = ["loss.alignment=0.0", "model.backbone.stochastic_depth=0.0", "run.images=4"];
    let train = |name: &str, accumulate: &str| {
        let folder = dir.path().join(name);
        let list: Vec<&str> = plain.iter().copied().chain([accumulate]).collect();
        train_encoder(encoder(4, &list), &g, &folder, false).unwrap();
        Model::load(folder.join("model.safetensors"), Device::Cpu).unwrap().encoder.unwrap().1
    };
    let (whole, parts) = (train("whole", "run.accumulate=1"), train("parts", "run.accumulate=2"));
    // Adam's first step is lr·sign(g): equal but where a gradient is nearly zero.
    let (mut same, mut all) = (0, 0);
    for (name, a) in whole.iter() {
        for (a, b) in a.to_vec().unwrap().iter().zip(parts.get(name).unwrap().to_vec().unwrap()) {
            all += 1;
            same += usize::from((a - b).abs() < 1e-7);
        }
    }
    assert!(same as f64 > 0.98 * all as f64, "{same} of {all}");
}

#[test]
fn the_discriminators_term_reaches_the_encoder_and_its_gradient_leads_down() {
    let dir = tempfile::tempdir().unwrap();
    let g = dir.path().join("g");
    train_generator(generator(4, &[]), &g, false).unwrap();
    for form in &forms()[..2] {
        // Nothing but the term, a discriminator that stands still: all change is the term's.
        let still = form.iter().map(|f| f.replace("learning_rate = 1e-3", "learning_rate = 0.0")).collect::<Vec<_>>();
        let more = [
            "loss.l2=0.0",
            "loss.alignment=0.0",
            "optimizer.algorithm=adamw",
            "optimizer.warmup_images=0",
            "optimizer.schedule=constant",
            "optimizer.learning_rate=1e-3",
            "data.count=4",
            "optimizer.weight_decay=0.0",
            "model.backbone.stochastic_depth=0.0",
        ];
        let list: Vec<&str> = still.iter().map(String::as_str).chain(more).collect();
        let folder = dir.path().join(list[1].len().to_string());
        let events = train_encoder(encoder(80, &list), &g, &folder, false).unwrap();
        let terms: Vec<f64> = events
            .iter()
            .filter_map(|e| match e {
                Event::Metrics { losses, .. } => losses.iter().find(|(n, _)| n == "adversarial").map(|(_, v)| *v),
                _ => None,
            })
            .collect();
        assert_eq!(terms.len(), 20);
        let mean = |t: &[f64]| t.iter().sum::<f64>() / t.len() as f64;
        let (first, last) = (mean(&terms[..3]), mean(&terms[17..]));
        assert!(last < 0.999 * first, "{form:?}: {first} to {last}");
    }
}

#[test]
fn what_does_not_fit_together_names_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let g = dir.path().join("g");
    train_generator(generator(4, &[]), &g, false).unwrap();
    let cases: [(&[&str], &str); 6] = [
        (&["loss.adversarial=0.1"], "[discriminator]"),
        (&["run.accumulate=3"], "run.accumulate: 3 does not divide"),
        (&["run.accumulate=2", "loss.alignment=0.01"], "run.batch: 2 at a time"),
        (&["progressive={ start_images = 4, every_images = 100 }"], "progressive: the last style"),
        (&["optimizer.schedule=step"], "optimizer.decay_images"),
        (&["model.refine_steps=3"], "in_channels 3"),
    ];
    for (list, expected) in cases {
        let error = train_encoder(encoder(8, list), &g, &dir.path().join("run"), false).unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains('\n'), "{list:?}: {error}");
    }
}

/// A file of random weights from the models' tests.
fn foreign(name: &str) -> String {
    format!("{}/../models/tests/foreign/{name}.weights.safetensors", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn lpips_and_identity_are_trained_on_where_weights_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let g = dir.path().join("g");
    train_generator(generator(4, &[]), &g, false).unwrap();
    let build = |more: &[(&str, String)]| {
        let mut config = encoder(8, &[]);
        config.model.image_size = 64;
        config.model.backbone.patch = 4;
        for (key, value) in more {
            match *key {
                "lpips" => (config.loss.lpips, config.loss.lpips_weights) = (0.5, vec![value.into()]),
                "identity" => (config.loss.identity, config.loss.identity_weights) = (0.25, Some(value.into())),
                other => panic!("{other}"),
            }
        }
        let data = config.data.open(64).unwrap();
        let samples = Samples::take(&data, &config.task).unwrap();
        EncoderTrainer::new(config, exported(&g), samples, Device::Cpu).map(|t| (t, data))
    };
    let step = |more: &[(&str, String)], folder: &str| -> serde_json::Value {
        let (mut trainer, data) = build(more).map_err(|e| e.to_string()).unwrap();
        go(&mut trainer, data, &dir.path().join(folder), false).unwrap();
        serde_json::from_str(outcome(&dir.path().join(folder)).1.first().unwrap()).unwrap()
    };
    let plain = step(&[], "plain");
    let both = step(&[("lpips", foreign("lpips_alex")), ("identity", foreign("arcface"))], "both");
    let get = |v: &serde_json::Value, k: &str| v[k].as_f64().unwrap();
    assert!(plain.get("lpips").is_none() && get(&both, "lpips") > 0.0 && get(&both, "identity") > 0.0);
    let expected = get(&plain, "loss") + 0.5 * get(&both, "lpips") + 0.25 * get(&both, "identity");
    assert!((get(&both, "loss") - expected).abs() < 1e-4, "{both} {plain}");

    let said = build(&[("lpips", foreign("arcface"))]).err().unwrap().to_string();
    assert!(said.contains("arcface") && said.contains("`features.0.weight`"), "{said}");
    let mut config = encoder(8, &[]);
    config.loss.identity = 0.1;
    let said = new_encoder(config, &exported(&g)).err().unwrap().to_string();
    assert!(said.contains("loss.identity") && said.contains("identity_weights"), "{said}");
}

#[test]
fn a_folder_that_holds_something_is_refused_and_an_empty_one_cannot_be_resumed() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("thesis.txt"), "precious").unwrap();
    let error = train_generator(generator(4, &[]), dir.path(), false).unwrap_err().to_string();
    assert!(error.contains("not empty") && error.contains("--resume"), "{error}");
    let error = train_generator(generator(4, &[]), &dir.path().join("new"), true).unwrap_err().to_string();
    assert!(error.contains("no checkpoint"), "{error}");
}

#[test]
fn another_model_does_not_resume() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    train_generator(generator(4, &[]), &folder, false).unwrap();
    let config = generator(8, &["model.mapping_layers=3"]);
    let error = train_generator(config, &folder, true).unwrap_err();
    assert!(error.to_string().contains("another [model]"), "{error}");
}

#[test]
fn a_loss_that_is_not_a_number_names_step_images_and_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    let config = generator(400, &["optimizer.learning_rate=1e6", "run.checkpoint_minutes=60"]);
    let error = train_generator(config, &folder, false).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, TrainError::NotFinite { .. }), "{text}");
    assert!(text.contains("step") && text.contains("state-00000000"), "{text}");
    assert!(!folder.join("generator.safetensors").exists());
}

#[test]
fn errors_of_sizes_name_the_file_and_the_line_or_the_override() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.toml");
    let text =
        GENERATOR.replace("r1_gamma = 1.0", "r1_gamma = 1.0 # γ").replace("style_mixing = 0.5", "style_mixing = 1.5");
    fs::write(&path, &text).unwrap();
    let new = |overrides: &[String]| {
        let source = Source::read(&path, overrides).unwrap();
        let config = match source.load::<GeneratorTraining>() {
            Ok(config) => config,
            Err(error) => return error.to_string(),
        };
        source.located(GeneratorTrainer::new(config, Device::Cpu).map(drop).unwrap_err()).to_string()
    };
    let line = text.lines().position(|l| l.starts_with("style_mixing")).unwrap() + 1;
    assert!(new(&[]).contains(&format!("c.toml:{line}: loss.style_mixing: 1.5")), "{}", new(&[]));
    let error = new(&["loss.style_mixing=7.0".into()]);
    assert!(error.starts_with("override `loss.style_mixing=7.0`: 7"), "{error}");
    let error = new(&["loss.style_mixing=0.5".into(), "model.size=60".into()]);
    assert!(error.starts_with("override `model.size=60`: 60 is not a power of two"), "{error}");
    // Keys that do not go together, one of the file.
    let line = text.lines().position(|l| l.starts_with("batch")).unwrap() + 1;
    let error = new(&["loss.style_mixing=0.5".into(), "model.stddev_group=5".into()]);
    assert!(error.contains(&format!("c.toml:{line}: run.batch: 16 is not a multiple")), "{error}");
    // A key that the file does not have: its section.
    let line = text.lines().position(|l| l == "[optimizer]").unwrap() + 1;
    let error = new(&["loss.style_mixing=0.5".into(), "optimizer.schedule=step".into()]);
    assert!(error.contains(&format!("c.toml:{line}: optimizer.decay_images: ")), "{error}");
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

/// Every row makes an encoder; pSp's has the parameters of the full SwinStyleformer, within 5 %.
fn check_ablation(path: &Path) {
    let ablation = AblationConfig::read(path, &[]).unwrap();
    let count = |id: &str| -> f64 {
        let row = ablation.rows.iter().find(|r| r.id == id).unwrap();
        let specs = Styleformer::new(ablation.training(row, 1).unwrap().model).unwrap().specs();
        specs.iter().filter(|s| s.trainable).map(|s| s.shape.iter().product::<usize>()).sum::<usize>() as f64
    };
    for row in &ablation.rows {
        assert!(count(&row.id) > 1e5, "{}", row.id);
    }
    let ratio = count("psp") / count("discriminator");
    assert!((ratio - 1.0).abs() < 0.05, "{ratio}");
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
        } else if name.starts_with("ablation-") {
            check_ablation(&path);
        } else {
            let c: EncoderTraining = parse(&text, &name, &[]).unwrap();
            let stem = name.trim_end_matches("-encoder.toml");
            // Other domains and tasks have the small preset's sizes.
            let preset = if PRESETS.contains(&stem) { stem } else { "avatar64-cpu" };
            let mut model = StyleformerConfig::preset(preset).unwrap();
            if matches!(c.task, Task::Segmentation { .. }) {
                model.backbone.in_channels = c.task.open(&c.data, 64).unwrap().labels().len();
            }
            assert_eq!(c.model, model, "{name}");
        }
        seen += 1;
    }
    assert!(seen >= 14);
}
