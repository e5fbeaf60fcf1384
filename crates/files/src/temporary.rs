//! Files that are being written: names that are taken by nobody, and the removal of what killed processes left.
//!
//! A writer holds its temporary locked. The lock goes with the process, however it ends, so a temporary that can be locked has
//! no writer any more.

use std::collections::HashSet;
use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Beginning and end of a temporary's name. The target's name is no part of it: both together could be too long.
const PREFIX: &str = ".swinstyle-";
const SUFFIX: &str = ".tmp";

/// A file until its rename; dropped before, by an error or a panic, it is removed.
#[derive(Debug)]
pub(crate) struct Temporary {
    pub(crate) file: File,
    path: PathBuf,
    renamed: bool,
}

impl Temporary {
    /// An empty file in `folder`, locked, readable by nobody else while it is to replace a file of other permissions.
    pub(crate) fn create(folder: &Path, replaced: Option<&Metadata>) -> io::Result<Self> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        sweep_once(folder);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        if replaced.is_some() {
            private(&mut options);
        }
        loop {
            let (process, serial) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let path = folder.join(format!("{PREFIX}{process}-{serial}{SUFFIX}"));
            // Exclusive: neither a file nor a link of this name can be there.
            let file = match options.open(&path) {
                Ok(file) => file,
                // Left by a killed process that had our number.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(error),
            };
            let temporary = Self { file, path, renamed: false };
            // Between the two calls another process may have taken it for an orphan, and holds or removed it.
            let ours = !matches!(temporary.file.try_lock(), Err(TryLockError::WouldBlock)) && temporary.path.exists();
            if ours {
                return Ok(temporary);
            }
        }
    }

    pub(crate) fn rename_to(mut self, path: &Path) -> io::Result<()> {
        fs::rename(&self.path, path)?;
        self.renamed = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.renamed {
            // The error that brought us here is the one to report.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(unix)]
fn private(options: &mut OpenOptions) {
    use std::os::unix::fs::OpenOptionsExt;
    options.mode(0o600);
}

#[cfg(not(unix))]
fn private(_options: &mut OpenOptions) {}

/// [`sweep`], the first time that this process writes into the folder.
fn sweep_once(folder: &Path) {
    static SWEPT: Mutex<Option<HashSet<PathBuf>>> = Mutex::new(None);
    let Ok(folder) = fs::canonicalize(folder) else { return };
    let mut swept = SWEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if swept.get_or_insert_default().insert(folder.clone()) {
        sweep(&folder);
    }
}

/// Remove the temporaries in a folder that no process is writing any more. What cannot be removed stays.
pub fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let ours = name.to_str().is_some_and(|n| n.starts_with(PREFIX) && n.ends_with(SUFFIX));
        // A link of such a name is not from here, and opening a pipe would wait for its other end.
        if !ours || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        let path = entry.path();
        let Ok(file) = OpenOptions::new().write(true).open(&path) else { continue };
        // A file system without locks says nothing about the writer: then it stays.
        if file.try_lock().is_ok() {
            let _ = fs::remove_file(&path);
        }
    }
}
