//! Replacing a file whole or not at all, whatever happens in between.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::WeightsError;

/// What ends the name of a file that is being written.
pub(crate) const TEMPORARY: &str = ".tmp";

/// Write a file through `fill` so that readers see the old content or the new one, never a part.
///
/// The bytes go to `.NAME.….tmp` in the same folder, are fsynced, and the temporary is renamed to `path`,
/// then the folder is fsynced. After an error the temporary is gone and an older file at `path` is as it was.
/// A process that is killed leaves the temporary; [`keep_last`](crate::keep_last) sweeps those of checkpoints.
///
/// # Errors
/// [`WeightsError::Write`] naming `path`, for what `fill` returns as for what the system refuses.
pub fn write_atomic(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), WeightsError> {
    replace(path, fill).map_err(|error| WeightsError::write(path, error))
}

fn replace(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"))?;
    // Rename would fail only at the very end.
    if path.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "a folder of this name exists"));
    }
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let (file, temporary) = create_temporary(folder, &name.to_string_lossy())?;
    let mut writer = BufWriter::with_capacity(1 << 20, file);
    fill(&mut writer)?;
    let file = writer.into_inner().map_err(|error| error.into_error())?;
    // A full disk may show itself only here.
    file.sync_all()?;
    drop(file);
    fs::rename(&temporary.0, path)?;
    std::mem::forget(temporary);
    sync_folder(folder)
}

/// A file's path until its rename; dropped before, by an error or a panic, it takes the file with it.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // The error that brought us here is the one to report.
        let _ = fs::remove_file(&self.0);
    }
}

fn create_temporary(folder: &Path, name: &str) -> io::Result<(File, Temporary)> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    loop {
        let (process, serial) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = folder.join(format!(".{name}.{process}-{serial}{TEMPORARY}"));
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => return Ok((file, Temporary(path))),
            // Left by a killed process that had our number.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

/// Make the rename itself durable. Some file systems cannot fsync a folder and say so; the file is whole anyway.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        result => result,
    }
}

/// Other systems have no handle to a folder that can be flushed.
#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_failure_in_the_middle_leaves_the_old_file_and_no_temporary() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        fs::write(&path, "old").unwrap();
        let error = write_atomic(&path, |out| {
            out.write_all(&vec![7; 3 << 20])?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        })
        .unwrap_err();
        let line = error.to_string();
        assert!(line.starts_with(&path.display().to_string()), "{line}");
        assert!(line.contains("no storage space"), "{line}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["model.safetensors"]);
    }

    #[test]
    fn a_panic_in_the_middle_leaves_no_temporary() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let attempt = || write_atomic(&path, |_| panic!("on purpose"));
        assert!(std::panic::catch_unwind(attempt).is_err());
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn success_replaces_the_file_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        fs::write(&path, "old").unwrap();
        write_atomic(&path, |out| out.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["model.safetensors"]);
    }

    #[test]
    fn a_missing_folder_or_a_folder_in_the_way_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let absent = folder.path().join("absent/model.safetensors");
        let line = write_atomic(&absent, |_| Ok(())).unwrap_err().to_string();
        assert!(line.contains("absent/model.safetensors: cannot write"), "{line}");
        let line = write_atomic(folder.path(), |_| Ok(())).unwrap_err().to_string();
        assert!(line.contains("a folder of this name exists"), "{line}");
    }

    /// The limit on file sizes gives a real write error in the middle of a file, without root.
    /// It belongs to a process, so the test starts itself once more under `ulimit`.
    #[cfg(unix)]
    #[test]
    fn a_write_that_the_system_refuses_half_way_leaves_the_old_file() {
        const TARGET: &str = "SWINSTYLE_TEST_WRITE_TARGET";
        if let Some(path) = std::env::var_os(TARGET) {
            let written = write_atomic(Path::new(&path), |out| out.write_all(&vec![7; 4 << 20]));
            eprintln!("{}", written.unwrap_err());
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        fs::write(&path, "old").unwrap();
        let this_test = "atomic::tests::a_write_that_the_system_refuses_half_way_leaves_the_old_file";
        // Ignoring XFSZ turns the signal into the error EFBIG; an ignored signal stays so across exec.
        let output = std::process::Command::new("sh")
            .args(["-c", "trap '' XFSZ; ulimit -f 2048; exec \"$0\" \"$@\""])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", this_test, "--nocapture"])
            .env(TARGET, &path)
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{printed}");
        assert!(printed.contains("cannot write: File too large"), "{printed}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["model.safetensors"]);
    }
}
