//! Which cases a folder holds.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

/// A case on disk.
#[derive(Debug)]
pub(super) enum Source {
    /// One fixture.
    Fixture {
        /// Name for messages when the file's own cannot be read.
        case: String,
        /// The file.
        path: PathBuf,
    },
    /// The same checkpoint in both formats.
    Pair {
        /// Name of the case.
        case: String,
        /// As safetensors.
        safetensors: PathBuf,
        /// As torch wrote it.
        torch: PathBuf,
    },
    /// What cannot be looked into.
    Unreadable {
        /// Its name.
        case: String,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

impl Source {
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Fixture { path, .. } | Self::Unreadable { path, .. } => path,
            Self::Pair { safetensors, .. } => safetensors,
        }
    }
}

/// Every case under a folder in the order of their names, or the one of a file. What a folder holds that cannot be read is a case, too.
pub(super) fn find(root: &Path) -> Result<Vec<Source>> {
    let about = fs::metadata(root).with_context(|| format!("{} cannot be read", root.display()))?;
    let mut paths = Vec::new();
    if about.is_dir() {
        fs::read_dir(root).with_context(|| format!("{} cannot be read", root.display()))?;
        walk(root, &mut HashSet::new(), &mut paths);
    } else {
        paths.push((root.to_path_buf(), None));
    }
    paths.sort();
    let base = if about.is_dir() { root } else { root.parent().unwrap_or(root) };
    let sources: Vec<Source> = paths.into_iter().map(|(path, reason)| source(base, path, reason)).collect();
    if sources.is_empty() {
        bail!("{} holds no fixtures (*.safetensors); tests/golden/make_golden.py writes some", root.display());
    }
    Ok(sources)
}

fn source(base: &Path, path: PathBuf, reason: Option<String>) -> Source {
    let stem = path.with_extension("");
    let name = stem.strip_prefix(base).unwrap_or(&stem);
    let case = name.components().map(|c| c.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/");
    let special = || (!path.is_file()).then(|| format!("{} is not a file", path.display()));
    if let Some(reason) = reason.or_else(special) {
        return Source::Unreadable { case, path, reason };
    }
    let torch = path.with_extension("pt");
    match torch.is_file() {
        true => Source::Pair { case, safetensors: path, torch },
        false => Source::Fixture { case, path },
    }
}

/// Adds the fixtures under a folder, and what cannot be read with the reason. A folder that links lead to again is searched once.
fn walk(folder: &Path, seen: &mut HashSet<PathBuf>, found: &mut Vec<(PathBuf, Option<String>)>) {
    let cannot = |e: std::io::Error| (folder.to_path_buf(), Some(format!("{} cannot be read: {e}", folder.display())));
    let entries = match folder.canonicalize() {
        Ok(real) => {
            if !seen.insert(real) {
                return;
            }
            fs::read_dir(folder)
        }
        Err(e) => Err(e),
    };
    let entries = match entries {
        Ok(entries) => entries,
        Err(e) => return found.push(cannot(e)),
    };
    for entry in entries {
        match entry.map(|entry| entry.path()) {
            Ok(path) if path.is_dir() => walk(&path, seen, found),
            Ok(path) if path.extension().is_some_and(|e| e == "safetensors") => found.push((path, None)),
            Ok(_) => {}
            Err(e) => found.push(cannot(e)),
        }
    }
}
