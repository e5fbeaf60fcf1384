//! Replacing a file whole or not at all, whatever happens in between.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::target::Target;
use crate::temporary::Temporary;

/// What a written file survives beside a crash of the program, which none of them minds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// A power failure too: the file and its name are flushed to the disk before the call returns.
    Synced,
    /// What the file system orders by itself. For what can be made again: pictures by the thousand would wait for the disk.
    Unsynced,
}

/// Write a file through `fill` so that readers see the old content or the new one, never a part.
///
/// The bytes go to a temporary of an unused short name in the same folder, which is then renamed to `path`.
///
/// - A symbolic link stays, and the file that it points to is replaced, also one that is not there yet.
/// - Only a regular file is replaced. A folder, device, pipe or socket, and a file without any write permission, is refused.
/// - The new file has the old one's permissions, and its owner and group where the system lets us. Other hard links keep the
///   old content.
/// - After an error the temporary is gone and the old file is as it was. A process that is killed leaves its temporary; the
///   next process that writes into the folder removes it ([`sweep`](crate::sweep)).
///
/// # Errors
/// What `fill` returns, and what the system or the rules above refuse. The caller names the path.
pub fn write_atomic(
    path: &Path,
    durability: Durability,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let target = Target::of(path)?;
    let folder = target.folder();
    let temporary = Temporary::create(folder, target.replaced.as_ref())?;
    let mut writer = BufWriter::with_capacity(1 << 20, &temporary.file);
    fill(&mut writer)?;
    writer.into_inner().map_err(|error| error.into_error())?;
    if durability == Durability::Synced {
        // A full disk may show itself only here.
        temporary.file.sync_all()?;
    }
    if let Some(old) = &target.replaced {
        keep_owner(&temporary.file, old);
        temporary.file.set_permissions(old.permissions())?;
    }
    temporary.rename_to(&target.path)?;
    match durability {
        Durability::Synced => sync_folder(folder),
        Durability::Unsynced => Ok(()),
    }
}

/// Where the system refuses (only root gives files away), the file belongs to whoever wrote it, as after any copy.
#[cfg(unix)]
fn keep_owner(file: &File, old: &fs::Metadata) {
    use std::os::unix::fs::{MetadataExt, fchown};
    let _ = file.metadata().and_then(|new| match (new.uid(), new.gid()) == (old.uid(), old.gid()) {
        true => Ok(()),
        false => fchown(file, Some(old.uid()), Some(old.gid())),
    });
}

/// Files inherit their owner from the folder there.
#[cfg(not(unix))]
fn keep_owner(_file: &File, _old: &fs::Metadata) {}

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
mod tests;
