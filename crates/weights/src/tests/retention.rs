//! Folders of numbered checkpoints, some of them broken.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Archive, Array, CheckpointHeader, FloatDtype, WeightsError};
use crate::{checkpoints, keep_last, latest, put_aside, verify};

fn checkpoint(folder: &Path, step: u64) -> PathBuf {
    let mut archive = Archive::new();
    archive.arrays.insert("w".into(), Array::new(vec![64], vec![step as f32; 64]).unwrap());
    archive.set_header(&CheckpointHeader { step, ..CheckpointHeader::default() });
    let path = folder.join(format!("step-{step:06}.safetensors"));
    archive.write(&path, FloatDtype::F32).unwrap();
    path
}

fn cut(path: &Path) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
}

fn steps(folder: &Path) -> Vec<u64> {
    let all = checkpoints(folder, "step-").unwrap();
    all.into_iter().map(|(step, _)| step).collect()
}

#[test]
fn the_newest_is_by_number_and_other_files_are_none_of_it() {
    let folder = tempfile::tempdir().unwrap();
    assert!(latest(folder.path(), "step-").unwrap().is_none());
    for step in [9, 1_000_000, 70] {
        checkpoint(folder.path(), step);
    }
    for other in ["step-x.safetensors", "step-+5.safetensors", "other-3.safetensors", "step-9.pt"] {
        fs::write(folder.path().join(other), "x").unwrap();
    }
    assert_eq!(steps(folder.path()), [1_000_000, 70, 9]);
    let found = latest(folder.path(), "step-").unwrap().unwrap();
    assert_eq!((found.step, found.header.unwrap().step), (1_000_000, 1_000_000));
    assert!(found.skipped.is_empty());
}

#[test]
fn broken_checkpoints_are_skipped_and_told() {
    let folder = tempfile::tempdir().unwrap();
    checkpoint(folder.path(), 1);
    cut(&checkpoint(folder.path(), 2));
    fs::write(checkpoint(folder.path(), 3), "").unwrap();
    let found = latest(folder.path(), "step-").unwrap().unwrap();
    assert_eq!(found.step, 1);
    let errors: Vec<&WeightsError> = found.skipped.iter().map(|s| &s.error).collect();
    assert!(matches!(errors[..], [WeightsError::Empty { .. }, WeightsError::Truncated { .. }]));
    assert!(found.skipped[0].path.ends_with("step-000003.safetensors"));
    cut(&found.path);
    let error = latest(folder.path(), "step-").unwrap_err();
    assert!(error.to_string().contains("step-000003.safetensors: the file is empty"));
    let absent = folder.path().join("absent");
    assert!(matches!(latest(&absent, "step-"), Err(WeightsError::Missing { .. })));
}

#[test]
fn a_header_that_does_not_parse_makes_a_checkpoint_broken() {
    let folder = tempfile::tempdir().unwrap();
    let path = checkpoint(folder.path(), 1);
    let mut archive = Archive::read(&path).unwrap();
    archive.metadata.insert("swinstyle".into(), "{".into());
    archive.write(&path, FloatDtype::F32).unwrap();
    assert!(matches!(verify(&path), Err(WeightsError::Malformed { .. })));
}

/// Flip the lowest bit of a byte, counted from the end of the file.
fn flip(path: &Path, from_end: usize) {
    let mut bytes = fs::read(path).unwrap();
    let at = bytes.len() - from_end;
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_flipped_bit_makes_a_checkpoint_broken() {
    let folder = tempfile::tempdir().unwrap();
    checkpoint(folder.path(), 1);
    flip(&checkpoint(folder.path(), 2), 7);
    let found = latest(folder.path(), "step-").unwrap().unwrap();
    assert_eq!(found.step, 1);
    let line = found.skipped[0].error.to_string();
    assert!(line.contains("step-000002.safetensors: damaged: its digest"), "{line}");
    assert!(found.skipped[0].error.is_damage());
}

#[test]
fn the_last_k_whole_ones_stay_and_damaged_ones_neither_count_nor_go() {
    let folder = tempfile::tempdir().unwrap();
    for step in 1..=5 {
        checkpoint(folder.path(), step);
    }
    cut(&folder.path().join("step-000002.safetensors"));
    cut(&folder.path().join("step-000004.safetensors"));
    assert_eq!(keep_last(folder.path(), "step-", 2).unwrap(), [folder.path().join("step-000001.safetensors")]);
    assert_eq!(steps(folder.path()), [5, 4, 3, 2]);
    keep_last(folder.path(), "step-", 0).unwrap();
    assert_eq!(steps(folder.path()), [5, 4, 2]);
}

#[test]
fn a_damaged_newer_checkpoint_is_no_error_and_protects_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for step in 1..=3 {
        checkpoint(folder.path(), step);
    }
    fs::write(folder.path().join("step-000009.safetensors"), "garbage").unwrap();
    assert_eq!(keep_last(folder.path(), "step-", 2).unwrap().len(), 1);
    assert_eq!(steps(folder.path()), [9, 3, 2]);
}

#[test]
fn what_is_put_aside_is_kept_and_no_checkpoint_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let path = checkpoint(folder.path(), 7);
    let first = put_aside(&path).unwrap();
    assert_eq!(first.file_name().unwrap(), "step-000007.safetensors.damaged");
    let second = put_aside(&checkpoint(folder.path(), 7)).unwrap();
    assert_eq!(second.file_name().unwrap(), "step-000007.safetensors.damaged-2");
    assert!(first.exists() && second.exists() && steps(folder.path()).is_empty());
}

#[test]
fn temporaries_of_killed_writers_are_swept() {
    let folder = tempfile::tempdir().unwrap();
    checkpoint(folder.path(), 1);
    let (stale, foreign) = (folder.path().join(".swinstyle-123-0.tmp"), folder.path().join(".other.123-0.tmp"));
    fs::write(&stale, "half").unwrap();
    fs::write(&foreign, "half").unwrap();
    keep_last(folder.path(), "step-", 3).unwrap();
    assert!(!stale.exists() && foreign.exists());
    assert_eq!(steps(folder.path()), [1]);
}
