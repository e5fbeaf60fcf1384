//! `swinstyle train`: killed at any moment and resumed; wrong configurations.

use std::{
    fs,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::support::{Ran, run, swinstyle, text};

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
    assert!(ran.stderr.contains("resumed from") && ran.stderr.contains("the time limit is over; --resume"), "{ran:?}");
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
    train(&config("avatar64-cpu-encoder.toml"), &[]).assert_one_error_line(&["encoder's", "swinstyle train encoder"]);
    train(&file, &["--set", "run.batch=4294967296"]).assert_one_error_line(&["run.batch", "65,536"]);
    train(&file, &["--set", "model.stddev_group=5"]).assert_one_error_line(&["run.batch", "stddev_group 5"]);
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

/// Some pictures of 10 px.
fn pictures(folder: &Path, count: u8) {
    fs::create_dir_all(folder).unwrap();
    for i in 0..count {
        let picture = image::RgbImage::from_pixel(10, 10, image::Rgb([i * 9, 200 - i * 9, 50]));
        picture.save(folder.join(format!("{i}.png"))).unwrap();
    }
}

/// A training of a generator on a folder of images without a file, small enough to end at once.
fn on_folder(images: &Path, out: &Path, more: &[&str]) -> Ran {
    let arguments =
        ["train", "generator", "--data", text(images), "--size", "8", "--out", text(out), "--device", "cpu"];
    let small = [
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
        "run.log_steps=2",
    ];
    run(&[&arguments, &small[..], more].concat())
}

#[test]
fn a_folder_of_images_trains_without_a_file_and_tells_a_machine_what_it_does() {
    let folder = tempfile::tempdir().unwrap();
    let (images, out) = (folder.path().join("2024"), folder.path().join("run"));
    pictures(&images, 6);
    fs::write(images.join("broken.png"), "no picture").unwrap();
    let ran = on_folder(&images, &out, &["--set", "run.images=16", "--json"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for part in ["preset avatar64-cpu-generator", "6 images (1 left out), 16 to show", "broken.png", "augment.kind=bgc"]
    {
        assert!(ran.stderr.contains(part), "{part}: {ran:?}");
    }
    let events: Vec<Value> = ran.stdout.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let of = |name: &str| events.iter().filter(|e| e["event"] == name).collect::<Vec<_>>();
    assert_eq!((of("started")[0]["data_images"].as_u64(), of("started")[0]["left_out"].as_u64()), (Some(6), Some(1)));
    assert_eq!(of("metrics").len(), 2);
    assert!(of("metrics")[1]["losses"]["d_loss"].is_f64() && of("metrics")[1]["step"] == 4, "{ran:?}");
    assert!(of("wrote").iter().any(|e| e["what"] == "model"));
    let last = events.last().unwrap();
    assert_eq!((last["event"].as_str(), last["reason"].as_str()), (Some("stopped"), Some("finished")));
    assert!(Path::new(last["model"].as_str().unwrap()).is_file() && last["images"] == 16, "{last}");
    // The run goes on with the configuration that it has, moved data and another batch.
    let moved = folder.path().join("moved");
    fs::rename(&images, &moved).unwrap();
    let resume = ["train", "generator", "--resume", "--out", text(&out), "--device", "cpu"];
    let again = run(&[&resume[..], &["--set", "run.images=32", "--set", "run.batch=8"]].concat());
    again.assert_last_error_line(&["2024"]);
    let ran = on_folder(&moved, &out, &["--set", "run.images=32", "--set", "run.batch=8", "--resume"]);
    assert!(ran.code == Some(0) && ran.stderr.contains("16 of them shown before"), "{ran:?}");
    assert!(ran.stderr.contains("stopped after 32 of 32 images"), "{ran:?}");
}

#[test]
fn what_is_no_folder_of_images_is_one_line_with_the_way_out_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("set.zip"), b"PK\x03\x04rest").unwrap();
    fs::write(at("set.tar"), "x").unwrap();
    pictures(&at("one"), 1);
    fs::create_dir(at("scans")).unwrap();
    fs::write(at("scans/a.tiff"), "II*").unwrap();
    fs::create_dir(at("broken")).unwrap();
    pictures(&at("broken"), 2);
    for i in 0..3 {
        fs::write(at("broken").join(format!("b{i}.jpg")), "no").unwrap();
    }
    for (name, parts) in [
        ("set.zip", &["set.zip", "zip archive", "unpack"][..]),
        ("set.tar", &["tar archive", "unpack"]),
        ("one/0.png", &["is a file", "folder"]),
        ("scans", &["holds no usable image", "TIFF"]),
        ("broken", &["3 of its 5", "b0.jpg", "data.max_broken"]),
        ("absent", &["absent"]),
    ] {
        let ran = on_folder(&at(name), &at("run"), &[]);
        ran.assert_last_error_line(parts);
        assert!(!at("run").exists(), "{name}");
    }
    let ran = run(&["train", "generator", "--out", text(&at("run"))]);
    assert!(ran.code == Some(2) && ran.stderr.contains("--data DIR"), "{ran:?}");
}

#[cfg(unix)]
mod signals {
    use std::{io::Read, os::unix::process::CommandExt, process::Stdio};

    use super::*;

    /// Trains under a shell line that ends in `exec "$@"`, sends a signal when there is a checkpoint, and waits.
    fn signalled(shell: &str, signal: &str, out: &Path) -> (Option<i32>, String) {
        let file = config("avatar64-cpu-generator.toml");
        let mut command = std::process::Command::new("sh");
        command.args(["-c", shell, "sh"]).arg(swinstyle().get_program());
        command.args(["train", "generator", "--config", text(&file), "--out", text(out), "--device", "cpu"]);
        command.args(SMALL).args(["--set", "run.images=100000000", "--time-limit", "4s", "--json"]);
        let usual = || {
            for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
                // SAFETY: it only gives the signal back its usual meaning, whatever the tests were started under.
                unsafe { libc::signal(signal, libc::SIG_DFL) };
            }
            Ok(())
        };
        // SAFETY: between fork and exec only `signal` is called, which may be.
        unsafe { command.pre_exec(usual) };
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        let metrics = || fs::metadata(out.join("metrics.jsonl")).is_ok();
        while !metrics() {
            assert!(begun.elapsed() < Duration::from_secs(60), "no metrics after a minute");
            sleep(Duration::from_millis(5));
        }
        std::process::Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        let mut stdout = String::new();
        child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        (child.wait().unwrap().code(), stdout.lines().last().unwrap_or_default().to_string())
    }

    #[test]
    fn an_interrupted_training_keeps_its_work_and_says_so_by_its_exit_code() {
        let folder = tempfile::tempdir().unwrap();
        for (signal, code) in [("-INT", 130), ("-TERM", 143), ("-HUP", 129)] {
            let out = folder.path().join(signal);
            let (ended, last) = signalled("exec \"$@\"", signal, &out);
            let last: Value = serde_json::from_str(&last).unwrap();
            assert_eq!((ended, last["signal"].as_i64()), (Some(code), Some(i64::from(code) - 128)), "{signal}: {last}");
            assert_eq!(last["reason"], "interrupted");
            assert!(out.join("generator.safetensors").is_file(), "{signal}");
        }
    }

    #[test]
    fn a_signal_that_was_ignored_when_the_program_began_stays_ignored() {
        let folder = tempfile::tempdir().unwrap();
        for (name, signal) in [("HUP", "-HUP"), ("INT", "-INT")] {
            let out = folder.path().join(name);
            let (ended, last) = signalled(&format!("trap '' {name}; exec \"$@\""), signal, &out);
            let last: Value = serde_json::from_str(&last).unwrap();
            assert_eq!((ended, last["reason"].as_str()), (Some(0), Some("time limit")), "{name}: {last}");
        }
    }
}
