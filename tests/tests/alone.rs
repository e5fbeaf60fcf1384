//! On the cpu an image has the same bits alone and in a batch, from file to file.

use std::{collections::BTreeMap, fs, path::Path};

use crate::support::{run, text};

/// Images of a batch at most.
const MOST: usize = 9;

/// Every file that a command makes of some inputs but the overview, by name.
fn made(command: &[&str], inputs: &[String], out: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut arguments: Vec<&str> = command.to_vec();
    arguments.extend(inputs.iter().map(String::as_str));
    let ran = run(&[&arguments[..], &["--out", text(out), "--device", "cpu"]].concat());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let files = fs::read_dir(out).unwrap().map(|entry| entry.unwrap().path());
    let named = files.map(|path| (path.file_name().unwrap().to_str().unwrap().to_string(), fs::read(path).unwrap()));
    let made: BTreeMap<String, Vec<u8>> =
        named.filter(|(name, _)| name != "grid.png" && !name.starts_with('.')).collect();
    assert!(!made.is_empty());
    made
}

/// Asserts that each input has the same files alone and in batches of one to nine.
fn assert_same_alone(command: &[&str], inputs: &[String]) {
    let folder = tempfile::tempdir().unwrap();
    let out = |name: String| folder.path().join(name);
    let mut alone = BTreeMap::new();
    for (i, input) in inputs.iter().enumerate() {
        alone.extend(made(command, std::slice::from_ref(input), &out(format!("alone{i}"))));
    }
    for count in 2..=inputs.len() {
        for (name, bytes) in made(command, &inputs[..count], &out(format!("batch{count}"))) {
            assert!(bytes == alone[&name], "{}: {name} of a batch of {count}", command[0]);
        }
    }
}

/// Portraits that no training saw, or their label maps.
fn portraits(folder: &Path, kind: &str) -> Vec<String> {
    let out = folder.join("portraits");
    let count = MOST.to_string();
    let ran = run(&["data", "avatars", "--masks", "--count", &count, "--split", "heldout", "--out", text(&out)]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    (0..MOST).map(|i| text(&out.join(format!("{kind}/{i:06}.png"))).to_string()).collect()
}

#[test]
fn inversions_are_the_same_in_every_batch() {
    let folder = tempfile::tempdir().unwrap();
    assert_same_alone(&["invert"], &portraits(folder.path(), "images"));
}

#[test]
fn faces_from_label_maps_are_the_same_in_every_batch() {
    let folder = tempfile::tempdir().unwrap();
    assert_same_alone(&["segment2face", "--samples", "2"], &portraits(folder.path(), "masks"));
}

#[test]
fn generated_images_are_the_same_in_every_batch() {
    let folder = tempfile::tempdir().unwrap();
    let of =
        |seeds: String| made(&["generate", "--truncation", "0.7", "--seeds", &seeds], &[], &folder.path().join(&seeds));
    let alone: BTreeMap<String, Vec<u8>> = (0..MOST).flat_map(|seed| of(seed.to_string())).collect();
    for last in 1..MOST {
        for (name, bytes) in of(format!("0-{last}")) {
            assert!(bytes == alone[&name], "{name} of seeds 0 to {last}");
        }
    }
}
