//! Which cases a folder holds.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

/// Folders inside folders that are searched; a loop of links must end.
const DEEPEST: usize = 32;

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
}

impl Source {
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Fixture { path, .. } => path,
            Self::Pair { safetensors, .. } => safetensors,
        }
    }
}

/// Every case under a folder in the order of their names, or the one of a file.
pub(super) fn find(root: &Path) -> Result<Vec<Source>> {
    let about = fs::metadata(root).with_context(|| format!("{} cannot be read", root.display()))?;
    let mut paths = Vec::new();
    match about.is_dir() {
        true => walk(root, DEEPEST, &mut paths)?,
        false => paths.push(root.to_path_buf()),
    }
    paths.sort();
    let base = if about.is_dir() { root } else { root.parent().unwrap_or(root) };
    let sources: Vec<Source> = paths.into_iter().map(|path| source(base, path)).collect();
    if sources.is_empty() {
        bail!("{} holds no fixtures (*.safetensors); tests/golden/make_golden.py writes some", root.display());
    }
    Ok(sources)
}

fn source(base: &Path, path: PathBuf) -> Source {
    let stem = path.with_extension("");
    let name = stem.strip_prefix(base).unwrap_or(&stem);
    let case = name.components().map(|c| c.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/");
    let torch = path.with_extension("pt");
    match torch.is_file() {
        true => Source::Pair { case, safetensors: path, torch },
        false => Source::Fixture { case, path },
    }
}

fn walk(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<()> {
    let cannot = || format!("{} cannot be read", folder.display());
    for entry in fs::read_dir(folder).with_context(cannot)? {
        let path = entry.with_context(cannot)?.path();
        if path.is_dir() && depth > 0 {
            walk(&path, depth - 1, found)?;
        } else if path.extension().is_some_and(|e| e == "safetensors") {
            found.push(path);
        }
    }
    Ok(())
}
