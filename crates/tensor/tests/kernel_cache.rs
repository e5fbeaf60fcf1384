//! Kernels kept from one process to the next, on a real Vulkan device: each run is this test started once more.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use swinstyle_kit::testing::wgpu;
use swinstyle_tensor::{
    Tensor,
    cube::{cache_kernels, keep_kernels},
};

/// The folder of the store, in a run; with `die` before it the run ends without a word, as by `kill -9`.
const STORE: &str = "SWINSTYLE_TEST_STORE";
const DIE: &str = "SWINSTYLE_TEST_DIE";
const THIS: &str = "kernels_are_kept_and_damage_mends_itself";

/// One kernel on the device; prints its result and the remarks.
fn one_run(store: &Path) {
    cache_kernels(store);
    let x = Tensor::from_vec(vec![0.5_f32, -2.0, 3.25], &[3], wgpu()).unwrap();
    let y = x.add_scalar(1.0).unwrap().to_vec().unwrap();
    if std::env::var_os(DIE).is_some() {
        std::process::abort();
    }
    keep_kernels();
    println!("result {y:?}");
    swinstyle_files::take_notes().iter().for_each(|note| println!("note {note}"));
}

fn start(store: &Path, die: bool) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", THIS, "--nocapture"]).env(STORE, store);
    if die {
        command.env(DIE, "1");
    }
    command.output().unwrap()
}

/// The remarks of a run whose result is right.
fn notes(store: &Path) -> Vec<String> {
    let output = start(store, false);
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    assert!(printed.contains("result [1.5, -1.0, 4.25]"), "{printed}");
    printed.lines().filter_map(|line| line.strip_prefix("note ")).map(str::to_string).collect()
}

#[test]
fn kernels_are_kept_and_damage_mends_itself() {
    if let Some(store) = std::env::var_os(STORE) {
        return one_run(&PathBuf::from(store));
    }
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let file = store.join("kernels.bin");
    assert!(notes(&store).is_empty());
    let whole = fs::read(&file).unwrap();

    // The second run finds the kernel: it adds nothing.
    assert!(notes(&store).is_empty());
    assert!(fs::read(&file).unwrap() == whole, "the kernel was compiled again");

    let mut flipped = whole.clone();
    (1..=5).for_each(|i| flipped[i * whole.len() / 6] ^= 1 << i);
    fs::write(&file, flipped).unwrap();
    let said = notes(&store);
    assert!(said.len() == 1 && said[0].contains("was damaged and is made anew"), "{said:?}");
    assert_eq!(fs::read(&file).unwrap().len(), whole.len());

    // What a killed run leaves is its own, and goes with a word.
    assert!(!start(&store, true).status.success());
    assert_eq!(fs::read_dir(&store).unwrap().filter(|e| e.as_ref().unwrap().path().is_dir()).count(), 1);
    let said = notes(&store);
    assert!(said.len() == 1 && said[0].contains("removed what a killed run left"), "{said:?}");
    assert_eq!(fs::read_dir(&store).unwrap().filter(|e| e.as_ref().unwrap().path().is_dir()).count(), 0);
}
