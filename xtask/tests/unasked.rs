//! What the tasks spawn, seen by stand-ins for cargo and for whatever could install something.
#![cfg(unix)]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

/// Programs that install, ask for rights or look for a Vulkan adapter.
const OTHERS: [&str; 10] =
    ["apt", "apt-get", "dnf", "pacman", "apk", "sudo", "pip", "python3", "ldconfig", "vulkaninfo"];

fn stand_in(folder: &Path, name: &str, script: &str) {
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Runs `cargo xtask` in an empty clone; returns its output and a line a spawned program.
fn xtask(clone: &Path, arguments: &[&str]) -> (Output, Vec<String>) {
    let (bin, log) = (clone.join("bin"), clone.join("spawned"));
    fs::create_dir_all(&bin).unwrap();
    fs::create_dir_all(clone.join("xtask")).unwrap();
    fs::write(&log, "").unwrap();
    for name in OTHERS {
        stand_in(&bin, name, &format!("echo {name} >> '{}'", log.display()));
    }
    // Its demo writes what a demo writes.
    let made = "mkdir -p out/demo; for f in grid.png index.html metrics.json; do echo > out/demo/$f; done";
    stand_in(&bin, "cargo", &format!("echo cargo \"$@\" >> '{}'; {made}", log.display()));
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(arguments)
        .env("CARGO", bin.join("cargo"))
        .env("CARGO_MANIFEST_DIR", clone.join("xtask"))
        .env("PATH", format!("{}:/usr/bin:/bin", bin.display()))
        .output()
        .unwrap();
    (output, fs::read_to_string(log).unwrap().lines().map(String::from).collect())
}

#[test]
fn the_demo_builds_and_runs_the_program_and_nothing_else() {
    let clone = tempfile::tempdir().unwrap();
    let (output, spawned) = xtask(clone.path(), &["demo"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(spawned, ["cargo run --release --package swinstyle -- demo --out out/demo"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("index.html"), "{output:?}");
}

#[test]
fn no_build_is_quiet() {
    for arguments in [&["bench"][..], &["tune", "--quick"], &["inspect", "--arch", "vulkan"], &["demo"]] {
        let clone = tempfile::tempdir().unwrap();
        let (output, spawned) = xtask(clone.path(), arguments);
        assert!(output.status.success(), "{output:?}");
        let [cargo] = &spawned[..] else { panic!("{spawned:?}") };
        assert!(cargo.starts_with("cargo run --release --package swinstyle -- "), "{cargo}");
        assert!(!cargo.contains("quiet"), "{cargo}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("building swinstyle"), "{output:?}");
    }
    let alias = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cargo/config.toml")).unwrap();
    assert!(alias.contains("xtask = \"run --release") && !alias.contains("--quiet"), "{alias}");
}
