//! `swinstyle train`: killed at any moment and resumed; wrong configurations.

use std::{
    fs,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use crate::support::{run, swinstyle, text};

fn config(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs").join(name)
}

/// Overrides that make a generator of 8 px, whose steps take milliseconds.
const SMALL: [&str; 20] = [
    "--set",
    "model.size=8",
    "--set",
    "model.style_dim=8",
    "--set",
    "model.mapping_layers=2",
    "--set",
    "model.channel_base=64",
    "--set",
    "model.discriminator_base=64",
    "--set",
    "run.batch=4",
    "--set",
    "run.checkpoint_minutes=0.001",
    "--set",
    "data.count=50",
    "--set",
    "run.log_steps=5",
    "--set",
    "run.sample_images=100000",
];

#[test]
fn a_killed_run_resumes_from_a_whole_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let file = config("avatar64-generator.toml");
    let mut arguments = vec!["train", "generator", "--config", text(&file), "--out", text(&out), "--device", "cpu"];
    arguments.extend(SMALL);
    let mut child = swinstyle().args(&arguments).stderr(std::process::Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    let states = || fs::read_dir(out.join("checkpoints")).map_or(0, |d| d.count());
    // Past the first checkpoint, so that the kill falls among writes.
    while states() < 2 {
        assert!(begun.elapsed() < Duration::from_secs(60), "no checkpoint after a minute");
        sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    arguments.extend(["--resume", "--time-limit", "1s"]);
    let ran = run(&arguments);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stderr.contains("resumed from") && ran.stderr.contains("time limit"), "{ran:?}");
    assert!(out.join("generator.safetensors").is_file());
    for line in fs::read_to_string(out.join("metrics.jsonl")).unwrap().lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
}

#[test]
fn wrong_configurations_are_one_line_with_file_and_key() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let broken = folder.path().join("broken.toml");
    let right = fs::read_to_string(config("avatar64-generator.toml")).unwrap();
    fs::write(&broken, right.replace("batch", "bacth")).unwrap();
    let train = |config: &Path, more: &[&str]| {
        let arguments = ["train", "generator", "--config", text(config), "--out", text(&out), "--device", "cpu"];
        run(&[&arguments, more].concat())
    };
    train(&broken, &[]).assert_one_error_line(&["broken.toml", "bacth"]);
    train(&folder.path().join("absent.toml"), &[]).assert_one_error_line(&["absent.toml"]);
    let file = config("avatar64-generator.toml");
    train(&file, &["--set", "run.speed=9"]).assert_one_error_line(&["run.speed"]);
    train(&file, &["--set", "model.size=60"]).assert_one_error_line(&["60"]);
    assert!(!out.exists());
    let ran = train(&file, &["--time-limit", "soon"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
}

#[test]
fn an_empty_folder_of_images_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let images = folder.path().join("images");
    fs::create_dir(&images).unwrap();
    let out = folder.path().join("run");
    let file = config("face256-generator.toml");
    let path = format!("data.path={}", text(&images));
    let ran =
        run(&["train", "generator", "--config", text(&file), "--set", &path, "--out", text(&out), "--device", "cpu"]);
    ran.assert_one_error_line(&["images"]);
}
