//! Folders that one process has for itself while it runs.
//!
//! Beside the folder lies a file that the process holds locked. The lock goes with the process, however it ends; a folder whose file can be
//! locked is nobody's any more.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Beginning of the names, and end of the locked files'.
const PREFIX: &str = "work-";
const LOCK: &str = ".lock";

/// A folder of this process, removed when it is dropped or, after a crash, by [`Scratch::sweep`].
#[derive(Debug)]
pub struct Scratch {
    folder: PathBuf,
    lock: PathBuf,
    _locked: File,
}

impl Scratch {
    /// An empty folder inside `parent`.
    pub fn create(parent: &Path) -> io::Result<Self> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        loop {
            let name = format!("{PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let (folder, lock) = (parent.join(&name), parent.join(name + LOCK));
            // The locked file is there before the folder and goes after it: there is no folder without one.
            let file = match OpenOptions::new().write(true).create_new(true).open(&lock) {
                Ok(file) => file,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(error),
            };
            // Between the two calls another process may have taken it for an orphan's.
            if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) || !lock.exists() {
                continue;
            }
            fs::create_dir(&folder)?;
            return Ok(Self { folder, lock, _locked: file });
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Whether `parent` holds such folders.
    pub fn any(parent: &Path) -> bool {
        fs::read_dir(parent).into_iter().flatten().flatten().any(|entry| Self::is_name(&entry.file_name()))
    }

    /// Whether a file or folder of this name is one of them.
    pub fn is_name(name: &OsStr) -> bool {
        name.as_encoded_bytes().starts_with(PREFIX.as_bytes())
    }

    /// Remove the folders in `parent` that killed processes left; returns how many.
    pub fn sweep(parent: &Path) -> usize {
        let mut swept = 0;
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(of) = name.to_str().filter(|n| n.starts_with(PREFIX)).and_then(|n| n.strip_suffix(LOCK)) else {
                continue;
            };
            let path = entry.path();
            let free = OpenOptions::new().write(true).open(&path).ok().filter(|file| file.try_lock().is_ok());
            if free.is_some() {
                let there = fs::remove_dir_all(parent.join(of)).is_ok();
                swept += usize::from(fs::remove_file(&path).is_ok() && there);
            }
        }
        swept
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now, the next process sweeps.
        let _ = fs::remove_dir_all(&self.folder);
        let _ = fs::remove_file(&self.lock);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_processs_folder_is_swept_and_a_live_ones_stays() {
        let parent = tempfile::tempdir().unwrap();
        let dead = parent.path().join("work-1-0");
        fs::create_dir_all(dead.join("deep")).unwrap();
        fs::write(parent.path().join("work-1-0.lock"), "").unwrap();
        let live = Scratch::create(parent.path()).unwrap();
        fs::write(live.path().join("a"), "x").unwrap();
        assert_eq!(Scratch::sweep(parent.path()), 1);
        assert!(!dead.exists() && live.path().join("a").exists());
        assert_eq!(Scratch::sweep(parent.path()), 0);
        drop(live);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }
}
