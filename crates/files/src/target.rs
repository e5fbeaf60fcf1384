//! Which file a path means when it is written, and whether that file may be replaced.

use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf, is_separator};

/// Links that lead to links: as many as Linux follows.
const MOST_LINKS: usize = 40;

/// The end of a path's links.
#[derive(Debug)]
pub(crate) struct Target {
    /// Where the file is or will be: no link.
    pub(crate) path: PathBuf,
    /// The regular file that is there.
    pub(crate) replaced: Option<Metadata>,
}

impl Target {
    /// Follow the links of `path`.
    ///
    /// # Errors
    /// A path that names no file, or something that must not be replaced.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let refuse = |kind, reason: &str| Err(io::Error::new(kind, reason));
        if path.file_name().is_none() {
            return refuse(ErrorKind::InvalidInput, "the path names no file");
        }
        // First by the system's own way, which also knows the links of /proc that lead to no path.
        match fs::metadata(path) {
            Ok(found) if !found.is_file() => return Err(not_a_file(&found)),
            Ok(found) if found.permissions().readonly() => {
                return refuse(ErrorKind::PermissionDenied, "the file that is there is write-protected");
            }
            _ => {}
        }
        if path.as_os_str().to_string_lossy().ends_with(is_separator) {
            return refuse(ErrorKind::InvalidInput, "the path ends like a folder's; name a file");
        }
        let mut path = path.to_path_buf();
        for _ in 0..MOST_LINKS {
            let found = match fs::symlink_metadata(&path) {
                Ok(found) => found,
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self { path, replaced: None }),
                Err(error) => return Err(error),
            };
            if !found.is_symlink() {
                return match found.is_file() {
                    true => Ok(Self { path, replaced: Some(found) }),
                    false => Err(not_a_file(&found)),
                };
            }
            // An absolute target replaces the whole path.
            let next = fs::read_link(&path)?;
            path = parent(&path).join(next);
        }
        refuse(ErrorKind::InvalidInput, "its symbolic links lead in a circle")
    }

    /// The folder that the file is in.
    pub(crate) fn folder(&self) -> &Path {
        parent(&self.path)
    }
}

/// Whether [`write_atomic`](crate::write_atomic) would replace a file.
///
/// # Errors
/// What it would refuse before it writes.
pub fn is_there(path: &Path) -> io::Result<bool> {
    Target::of(path).map(|target| target.replaced.is_some())
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn not_a_file(found: &Metadata) -> io::Error {
    match found.is_dir() {
        true => io::Error::new(ErrorKind::IsADirectory, "a folder of this name exists"),
        false => {
            let reason = format!("this is {}, which is never replaced; name a file", kind(found));
            io::Error::new(ErrorKind::InvalidInput, reason)
        }
    }
}

#[cfg(unix)]
fn kind(found: &Metadata) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    let kind = found.file_type();
    match () {
        () if kind.is_char_device() || kind.is_block_device() => "a device",
        () if kind.is_fifo() => "a pipe",
        () if kind.is_socket() => "a socket",
        () => "no regular file",
    }
}

#[cfg(not(unix))]
fn kind(_found: &Metadata) -> &'static str {
    "no regular file"
}
