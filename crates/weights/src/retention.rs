//! A folder of numbered checkpoints: which is the newest whole one, and which may go.

use std::fs;
use std::path::{Path, PathBuf};

use crate::archive::{open, parse_header};
use crate::atomic::TEMPORARY;
use crate::sniff::Kind;
use crate::{CheckpointHeader, WeightsError, read_safetensors};

/// What follows the number in a checkpoint's name: `step-00012000.safetensors` for the prefix `step-`.
const EXTENSION: &str = ".safetensors";

/// The newest whole checkpoint of a folder.
#[derive(Debug)]
pub struct Latest {
    /// Its file.
    pub path: PathBuf,
    /// The number in its name.
    pub step: u64,
    /// Its header, if it has one.
    pub header: Option<CheckpointHeader>,
    /// Newer files that are broken, newest first, each with what is wrong with it.
    pub skipped: Vec<WeightsError>,
}

/// Check that a safetensors file's header parses and that the file is as long as the header says.
///
/// Values are not looked at, so this takes no longer for a large file. The native header is returned if there is one.
///
/// # Errors
/// As [`Archive::read`](crate::Archive::read).
pub fn verify(path: &Path) -> Result<Option<CheckpointHeader>, WeightsError> {
    let (kind, file) = open(path)?;
    let metadata = match kind {
        Kind::Safetensors => read_safetensors::verify(path, &file)?,
        Kind::Torch => {
            return Err(WeightsError::not_a_checkpoint(path, "a torch file under a safetensors name"));
        }
        Kind::Other(what) => return Err(WeightsError::not_a_checkpoint(path, what)),
    };
    parse_header(path, &metadata)
}

/// The files `PREFIX<number>.safetensors` in `folder`, whole or not, newest (greatest number) first.
///
/// # Errors
/// [`WeightsError::Missing`] or [`WeightsError::Read`] when the folder cannot be listed.
pub fn checkpoints(folder: &Path, prefix: &str) -> Result<Vec<(u64, PathBuf)>, WeightsError> {
    let mut found: Vec<(u64, PathBuf)> =
        list(folder)?.into_iter().filter_map(|(name, path)| Some((step(&name, prefix)?, path))).collect();
    // By path among equal numbers (`7` and `007`), so that the order does not depend on the file system.
    found.sort_by(|a, b| b.cmp(a));
    Ok(found)
}

/// The newest whole checkpoint in `folder`, or `None` when the folder has no checkpoints.
///
/// # Errors
/// When the folder cannot be listed, or when it has checkpoints and none is whole: then the newest one's error.
pub fn latest(folder: &Path, prefix: &str) -> Result<Option<Latest>, WeightsError> {
    let mut skipped = Vec::new();
    for (step, path) in checkpoints(folder, prefix)? {
        match verify(&path) {
            Ok(header) => {
                return Ok(Some(Latest { path, step, header, skipped }));
            }
            Err(error) => skipped.push(error),
        }
    }
    match skipped.into_iter().next() {
        Some(newest) => Err(newest),
        None => Ok(None),
    }
}

/// Delete all but the newest `k` whole checkpoints in `folder`, and the temporaries that killed writers left;
/// returns the checkpoints deleted. Call it after a checkpoint was written, by the one process that writes there.
///
/// Nothing is deleted unless the newest checkpoint is whole, and `k = 0` counts as 1. A broken file is deleted only
/// when `k` newer ones are whole: before that it is evidence.
///
/// # Errors
/// The newest checkpoint's, when it is broken; [`WeightsError::Write`] when a file cannot be deleted.
pub fn keep_last(folder: &Path, prefix: &str, k: usize) -> Result<Vec<PathBuf>, WeightsError> {
    let all = checkpoints(folder, prefix)?;
    if let Some((_, newest)) = all.first() {
        verify(newest)?;
    }
    let mut whole = 0;
    let mut deleted = Vec::new();
    for (_, path) in all {
        if whole >= k.max(1) {
            delete(&path)?;
            deleted.push(path);
        } else if verify(&path).is_ok() {
            whole += 1;
        }
    }
    for (name, path) in list(folder)? {
        if is_temporary(&name, prefix) {
            delete(&path)?;
        }
    }
    Ok(deleted)
}

fn delete(path: &Path) -> Result<(), WeightsError> {
    fs::remove_file(path).map_err(|error| WeightsError::write(path, error))
}

/// Names and paths in a folder; names that are not Unicode are none of ours.
fn list(folder: &Path) -> Result<Vec<(String, PathBuf)>, WeightsError> {
    let read_error = |error| WeightsError::read(folder, error);
    let mut listed = Vec::new();
    for entry in fs::read_dir(folder).map_err(read_error)? {
        let entry = entry.map_err(read_error)?;
        if let Ok(name) = entry.file_name().into_string() {
            listed.push((name, entry.path()));
        }
    }
    Ok(listed)
}

/// The number in `PREFIX<number>.safetensors`.
fn step(name: &str, prefix: &str) -> Option<u64> {
    let number = name.strip_prefix(prefix)?.strip_suffix(EXTENSION)?;
    // `parse` alone would take a leading plus.
    let digits = number.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| number.parse().ok()).flatten()
}

/// Whether `name` is what [`write_atomic`](crate::write_atomic) calls an unfinished checkpoint of `prefix`.
fn is_temporary(name: &str, prefix: &str) -> bool {
    let target = || {
        let (target, _serial) = name.strip_prefix('.')?.strip_suffix(TEMPORARY)?.rsplit_once('.')?;
        step(target, prefix)
    };
    target().is_some()
}
