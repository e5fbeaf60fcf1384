//! Names the build: a fingerprint of all sources, one of each kernel room's code, and the commit.
//!
//! Compiled kernels are cached under the first, and tuned blueprints are trusted by the second.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// FNV-1a: the same on every machine and with every compiler.
fn hash(state: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(state, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

const START: u64 = 0xcbf2_9ce4_8422_2325;

/// Sources below a folder in the order of their paths; tests change no kernel.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
    entries.sort();
    let mut files = Vec::new();
    for path in entries {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !["tests", "target"].contains(&name.as_str()) {
            files.extend(sources(&path));
        } else if name.ends_with(".rs") && name != "tests.rs" {
            files.push(path);
        }
    }
    files
}

fn fingerprint(folders: &[PathBuf]) -> u64 {
    folders.iter().flat_map(|f| sources(f)).fold(START, |h, file| {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        hash(hash(h, name.as_bytes()), &fs::read(&file).unwrap_or_default())
    })
}

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("../..");
    let (crates, kernels) = (root.join("crates"), root.join("kernels"));
    for watched in [&crates, &kernels, &root.join("Cargo.lock")] {
        println!("cargo::rerun-if-changed={}", watched.display());
    }
    let lock = fs::read(root.join("Cargo.lock")).unwrap_or_default();
    let build = hash(fingerprint(&[crates, kernels.clone()]), &lock);
    println!("cargo::rustc-env=SWINSTYLE_BUILD={build:016x}");

    let mut rooms: Vec<String> = fs::read_dir(&kernels)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .filter(|name| name != "kit" && kernels.join(name).join("src").is_dir())
        .collect();
    rooms.sort();
    let code = |room: &String| {
        let mut folders = vec![kernels.join(room).join("src")];
        if room.ends_with("attention") {
            folders.push(kernels.join("kit/src/attention"));
        }
        format!("{room}={:016x}", fingerprint(&folders))
    };
    println!("cargo::rustc-env=SWINSTYLE_CODE={}", rooms.iter().map(code).collect::<Vec<_>>().join(","));

    let git = Command::new("git").current_dir(&root).args(["rev-parse", "--short", "HEAD"]).output();
    let commit = git.ok().filter(|o| o.status.success()).and_then(|o| String::from_utf8(o.stdout).ok());
    println!("cargo::rustc-env=SWINSTYLE_COMMIT={}", commit.as_deref().unwrap_or("unknown").trim());
}
