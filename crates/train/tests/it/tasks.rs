//! What encoders read: label maps and small images, made from (seed, step), recorded in the trained model.

use std::{fs, path::Path};

use swinstyle_data::avatars::{DatasetOptions, Split, write_dataset};
use swinstyle_models::Model;
use swinstyle_tensor::{Device, Tensor};
use swinstyle_train::{
    Task, TrainError,
    config::EncoderTraining,
    task::{degrade, one_hot},
};

use crate::small::{ENCODER, PORTRAIT, encoder_of, exported, go, new_encoder, tensors, train_generator};

/// A fresh generator.
fn generator(folder: &Path) -> Model {
    train_generator(crate::small::generator(4, &[]), &folder.join("g"), false).unwrap();
    exported(&folder.join("g"))
}

fn encoder(task: &str, more: &[&str]) -> Result<EncoderTraining, TrainError> {
    let more = [&["data.count=20", "data.flip=true"], more].concat();
    encoder_of(&format!("{ENCODER}\n[task]\n{task}\n"), 12, &more)
}

/// Trains to the end; returns the exported model and the last state's tensors.
fn trained(config: &EncoderTraining, generator: &Model, folder: &Path) -> Result<(Model, Vec<u8>), TrainError> {
    let (mut trainer, data) = new_encoder(config.clone(), generator)?;
    go(&mut trainer, data, folder, false)?;
    let state = fs::read(folder.join("checkpoints/state-00000003.safetensors")).unwrap();
    Ok((Model::load(folder.join("model.safetensors"), Device::Cpu)?, tensors(&state).to_vec()))
}

#[test]
fn each_task_trains_alike_twice_and_is_recorded_in_the_model() {
    let dir = tempfile::tempdir().unwrap();
    let g = generator(dir.path());
    let cases = [
        ("segmentation", "kind = \"segmentation\"", "model.backbone.in_channels=11"),
        ("super-resolution", "kind = \"super-resolution\"\nmin_factor = 2\nmax_factor = 8", "run.batch=4"),
        ("inversion", "kind = \"inversion\"", "run.batch=4"),
    ];
    let mut states = Vec::new();
    for (name, task, more) in cases {
        let config = encoder(task, &[more]).unwrap();
        let run = |n: &str| trained(&config, &g, &dir.path().join(format!("{name}{n}"))).unwrap();
        let ((model, first), (_, second)) = (run("a"), run("b"));
        assert!(first == second, "{name}: two runs differ");
        let of_model = Task::of(&model).unwrap();
        assert_eq!(of_model.name(), name);
        if let Task::Segmentation { labels, .. } = &of_model {
            assert_eq!((labels.len(), labels[1].name.as_str()), (11, "skin"));
        }
        // Converting a model keeps what it reads.
        let copy = dir.path().join("copy.safetensors");
        model.save(&copy, swinstyle_weights::FloatDtype::F16).unwrap();
        assert_eq!(Task::of(&Model::load(&copy, Device::Cpu).unwrap()).unwrap(), of_model);
        states.push(first);
    }
    assert!(states[1] != states[2], "small images train like whole ones");
}

#[test]
fn a_folder_of_maps_trains_like_the_portraits_it_was_written_from() {
    let dir = tempfile::tempdir().unwrap();
    let g = generator(dir.path());
    let out = dir.path().join("set");
    let (style, split) = ("avataaars".to_string(), Split::Train);
    let options = DatasetOptions { style, size: PORTRAIT, count: 20, split, masks: true, seed: 0, out: out.clone() };
    write_dataset(&options, |_| {}).unwrap();
    let drawn = encoder("kind = \"segmentation\"", &["model.backbone.in_channels=11"]).unwrap();
    let mut folder = drawn.clone();
    folder.data = swinstyle_train::config::DataConfig::Folder {
        path: out.clone(),
        licence: String::new(),
        flip: true,
        memory_mib: 1,
        max_broken: 0.5,
    };
    let (_, a) = trained(&drawn, &g, &dir.path().join("a")).unwrap();
    let (_, b) = trained(&folder, &g, &dir.path().join("b")).unwrap();
    assert!(a == b, "states differ");
    fs::write(out.join("masks/000007.png"), "no map").unwrap();
    let error = trained(&folder, &g, &dir.path().join("c")).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("000007.png") && !dir.path().join("c").exists(), "{error}");
}

#[test]
fn degrading_by_one_changes_nothing_and_by_the_size_leaves_the_mean() {
    let values: Vec<f32> = (0..2 * 8 * 8 * 3).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect();
    let x = Tensor::from_vec(values, &[2, 8, 8, 3], Device::Cpu).unwrap();
    let y = degrade(&x, &[1.0, 8.0]).unwrap();
    let same = |a: &Tensor, b: &Tensor| {
        let pairs = a.to_vec().unwrap().into_iter().zip(b.to_vec().unwrap());
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    };
    assert_eq!(same(&x.slice(0, 0, 1).unwrap(), &y.slice(0, 0, 1).unwrap()), 0.0);
    let mean = x.slice(0, 1, 1).unwrap().mean(&[1, 2]).unwrap().broadcast_to(&[1, 8, 8, 3]).unwrap();
    assert!(same(&mean, &y.slice(0, 1, 1).unwrap()) < 1e-6);
    // A factor between whole ones takes the nearest whole number of pixels: 8 / 2.7 gives 3.
    let three = degrade(&x, &[2.7, 2.7]).unwrap();
    let by_hand = x.pool_area(3, 3).unwrap().resize_bilinear(8, 8, false).unwrap();
    assert!(same(&three, &by_hand) < 1e-6);
}

#[test]
fn a_one_hot_map_has_a_one_where_the_label_is() {
    let x = one_hot(&[0, 2, 1, 2], 3, &[1, 2, 2, 3], Device::Cpu).unwrap();
    assert_eq!(x.to_vec().unwrap(), [1., 0., 0., 0., 0., 1., 0., 1., 0., 0., 0., 1.]);
}

#[test]
fn wrong_tasks_are_errors_that_name_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let g = generator(dir.path());
    let refuse = |task: &str, more: &[&str], parts: &[&str]| {
        let outcome = encoder(task, more).and_then(|config| trained(&config, &g, &dir.path().join("never")));
        let error = outcome.map(|_| ()).unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        assert!(!dir.path().join("never").exists());
    };
    refuse("kind = \"colouring\"", &[], &["encoder.toml", "colouring", "super-resolution"]);
    refuse("kind = \"inversion\"\nfactor = 2", &[], &["encoder.toml", "factor"]);
    let range = |min: &str, max: &str| format!("kind = \"super-resolution\"\nmin_factor = {min}\nmax_factor = {max}");
    refuse(&range("0.5", "4"), &[], &["task.min_factor", "0.5"]);
    refuse(&range("4", "2"), &[], &["task.max_factor", "2"]);
    refuse(&range("2", "33"), &[], &["task.max_factor", "33"]);
    refuse("kind = \"segmentation\"", &[], &["model.backbone.in_channels", "3", "skin", "11"]);
    let other = "kind = \"segmentation\"\nlabels = [{ index = 0, name = \"sky\", color = [0, 0, 0] }]";
    refuse(other, &[], &["task.labels", "avataaars", "skin"]);
    refuse("kind = \"segmentation\"\nmaps = \"maps\"", &[], &["task.maps"]);
}
