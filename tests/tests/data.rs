//! `swinstyle data avatars`.

use std::{fs, path::Path};

use crate::support::{run, text};

fn avatars(out: &Path, more: &[&str]) -> crate::support::Ran {
    let arguments = ["data", "avatars", "--size", "32", "--count", "6", "--masks", "--json", "--out", text(out)];
    run(&[&arguments, more].concat())
}

#[test]
fn portraits_are_written_with_masks_and_manifest_and_the_same_seed_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("a"), folder.path().join("b"));
    for out in [&first, &second] {
        let ran = avatars(out, &["--seed", "7"]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert_eq!(ran.document()["images"], 6);
    }
    for file in ["images/000003.png", "masks/000003.png", "manifest.jsonl"] {
        assert_eq!(fs::read(first.join(file)).unwrap(), fs::read(second.join(file)).unwrap(), "{file}");
    }
}

#[test]
fn a_folder_that_holds_something_else_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("diary.txt"), "mine").unwrap();
    avatars(folder.path(), &[]).assert_one_error_line(&["not empty"]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let file = folder.path().join("diary.txt");
    avatars(&file, &[]).assert_one_error_line(&["diary.txt"]);
}

#[test]
fn a_size_that_no_portrait_can_have_is_wrong_usage() {
    let folder = tempfile::tempdir().unwrap();
    let ran = avatars(&folder.path().join("new"), &["--size", "0"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stderr.starts_with("error: "), "{ran:?}");
}
