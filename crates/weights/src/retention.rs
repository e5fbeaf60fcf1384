//! A folder of numbered checkpoints: which is the newest whole one, what becomes of damaged ones, and which may go.

use std::fs;
use std::path::{Path, PathBuf};

use crate::archive::{open, parse_header};
use crate::read_safetensors::{self, Look};
use crate::sniff::Kind;
use crate::{CheckpointHeader, WeightsError};

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
    /// Newer files that cannot be used, newest first.
    pub skipped: Vec<Skipped>,
}

/// A checkpoint that cannot be used.
#[derive(Debug)]
pub struct Skipped {
    /// Its file.
    pub path: PathBuf,
    /// What is wrong with it; names the file.
    pub error: WeightsError,
}

/// Check that a safetensors file's header parses, that the file is as long as the header says, and that no bit has changed since this
/// program wrote it. The native header is returned if there is one.
///
/// It reads the whole file, about 5 GB/s once it is in memory.
///
/// # Errors
/// As [`Archive::read`](crate::Archive::read).
pub fn verify(path: &Path) -> Result<Option<CheckpointHeader>, WeightsError> {
    look(path, Look::Digest)
}

fn look(path: &Path, look: Look) -> Result<Option<CheckpointHeader>, WeightsError> {
    let (kind, file) = open(path)?;
    let metadata = match kind {
        Kind::Safetensors => read_safetensors::verify(path, &file, look)?,
        Kind::Torch => {
            return Err(WeightsError::not_a_checkpoint(path, "a torch file under a safetensors name"));
        }
        Kind::Numpy => return Err(WeightsError::not_a_checkpoint(path, "a NumPy array")),
        Kind::Other(what) => return Err(WeightsError::not_a_checkpoint(path, what)),
    };
    parse_header(path, &metadata)
}

/// The files `PREFIX<number>.safetensors` in `folder`, whole or not, newest (greatest number) first.
///
/// # Errors
/// [`WeightsError::Missing`] or [`WeightsError::Read`] when the folder cannot be listed.
pub fn checkpoints(folder: &Path, prefix: &str) -> Result<Vec<(u64, PathBuf)>, WeightsError> {
    let read_error = |error| WeightsError::read(folder, error);
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(read_error)? {
        let entry = entry.map_err(read_error)?;
        // Names that are not Unicode are none of ours.
        if let Some(step) = entry.file_name().to_str().and_then(|name| step(name, prefix)) {
            found.push((step, entry.path()));
        }
    }
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
            Err(error) => skipped.push(Skipped { path, error }),
        }
    }
    match skipped.into_iter().next() {
        Some(newest) => Err(newest.error),
        None => Ok(None),
    }
}

/// Rename a damaged checkpoint to `NAME.damaged` (or `NAME.damaged-2` …), where no run looks for checkpoints and the name is free for a new one.
/// It is not deleted: it may be the evidence of a failing disk. Returns the new name.
///
/// # Errors
/// [`WeightsError::Write`] when the system refuses.
pub fn put_aside(path: &Path) -> Result<PathBuf, WeightsError> {
    let name = |number: usize| {
        let mut name = path.as_os_str().to_owned();
        name.push(if number == 1 { ".damaged".to_string() } else { format!(".damaged-{number}") });
        PathBuf::from(name)
    };
    // Links that lead nowhere are taken names, too.
    let free = (1..).map(name).find(|aside| fs::symlink_metadata(aside).is_err()).unwrap_or_else(|| name(0));
    fs::rename(path, &free).map_err(|error| WeightsError::write(path, error))?;
    Ok(free)
}

/// Delete all but the newest `k` whole checkpoints in `folder`, and the temporaries that killed writers left;
/// returns the checkpoints deleted. Call it after a checkpoint was written, by the one process that writes there.
///
/// `k = 0` counts as 1. Damaged files neither count nor go, wherever they stand. To be whole is to have the length that the header says:
/// the digests were checked when the run began, and the newest file was written just now.
///
/// # Errors
/// [`WeightsError::Write`] when a file cannot be deleted.
pub fn keep_last(folder: &Path, prefix: &str, k: usize) -> Result<Vec<PathBuf>, WeightsError> {
    let whole = checkpoints(folder, prefix)?.into_iter().filter(|(_, path)| look(path, Look::Lengths).is_ok());
    let mut deleted = Vec::new();
    for (_, path) in whole.skip(k.max(1)) {
        fs::remove_file(&path).map_err(|error| WeightsError::write(&path, error))?;
        deleted.push(path);
    }
    swinstyle_files::sweep(folder);
    Ok(deleted)
}

/// The number in `PREFIX<number>.safetensors`.
fn step(name: &str, prefix: &str) -> Option<u64> {
    let number = name.strip_prefix(prefix)?.strip_suffix(EXTENSION)?;
    // `parse` alone would take a leading plus.
    let digits = number.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| number.parse().ok()).flatten()
}
