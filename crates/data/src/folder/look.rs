//! A look at the files of a folder: which can be used, and what the same files are known by.
//!
//! Of a file its size, its header and its ends are read, 64 KiB at most, on many threads, since a disk or a network answers many questions in the
//! time of one. Of a folder of more than [`LOOKED_AT`] files that many are looked at, evenly spread; of the others the sizes are taken, and what
//! is wrong with them comes out when they are read. So 70,000 files on a local disk take seconds, and any number of files a bounded time.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::decode::{self, decode_image};
use crate::{DataError, Result};

/// Files whose content is looked at, at most.
pub(super) const LOOKED_AT: usize = 32_768;
/// Threads that look: they wait for the disk more than they compute.
const THREADS: usize = 16;
/// Bytes of either end of a file.
const END: u64 = 32 << 10;

/// What was found out about a file.
pub(super) struct Look {
    /// Why it cannot be used; of a file that was not looked at only whether it is there.
    pub(super) outcome: Result<()>,
    /// Hash of its size, and of its ends where they were read.
    pub(super) content: u64,
}

/// Whether file `i` of `n` is among those that are looked at.
fn chosen(i: usize, n: usize) -> bool {
    n <= LOOKED_AT || i * LOOKED_AT / n != (i + 1) * LOOKED_AT / n
}

/// Looks at the files, in their order.
pub(super) fn look_at(files: &[PathBuf]) -> Vec<Look> {
    each(files, |i, path| {
        if chosen(i, files.len()) {
            look(path)
        } else {
            let size = fs::metadata(path).map(|m| m.len()).map_err(|source| DataError::read(path, source));
            Look { content: *size.as_ref().unwrap_or(&0), outcome: size.map(|_| ()) }
        }
    })
}

/// Hashes of the files' content, in their order; of one that cannot be read the hash of nothing.
pub(super) fn contents(files: &[PathBuf]) -> Vec<u64> {
    each(files, |i, path| match chosen(i, files.len()) {
        true => ends(path).map_or(0, |ends| ends.hash()),
        false => fs::metadata(path).map_or(0, |m| m.len()),
    })
}

/// `f` of every file, on many threads.
fn each<T: Send>(files: &[PathBuf], f: impl Fn(usize, &Path) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Vec::with_capacity(files.len()));
    std::thread::scope(|scope| {
        for _ in 0..THREADS.min(files.len()) {
            scope.spawn(|| {
                let mut own = Vec::new();
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    let Some(path) = files.get(i) else { break };
                    own.push((i, f(i, path)));
                }
                found.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend(own);
            });
        }
    });
    let mut found = found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    found.sort_by_key(|(i, _)| *i);
    found.into_iter().map(|(_, value)| value).collect()
}

/// A file's size, its first bytes and its last; they overlap in a small one.
struct Ends {
    size: u64,
    head: Vec<u8>,
    tail: Vec<u8>,
}

impl Ends {
    fn hash(&self) -> u64 {
        let mut hash = Xxh3::new();
        hash.update(&self.size.to_le_bytes());
        hash.update(&self.head);
        hash.update(&self.tail);
        hash.digest()
    }

    /// Whether the file ends where its image does, as far as its ends show.
    fn is_whole(&self) -> bool {
        let tail_has = |mark: &[u8]| self.tail.windows(mark.len()).any(|w| w == mark);
        match self.head[..] {
            [0x89, b'P', b'N', b'G', ..] => tail_has(b"IEND"),
            [0xff, 0xd8, ..] => tail_has(&[0xff, 0xd9]),
            [b'R', b'I', b'F', b'F', a, b, c, d, ..] => self.size >= 8 + u64::from(u32::from_le_bytes([a, b, c, d])),
            _ => true,
        }
    }
}

fn ends(path: &Path) -> std::io::Result<Ends> {
    let mut file = fs::File::open(path)?;
    let size = file.metadata()?.len();
    let mut head = Vec::new();
    file.by_ref().take(END).read_to_end(&mut head)?;
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(size.saturating_sub(END)))?;
    file.take(END).read_to_end(&mut tail)?;
    Ok(Ends { size, head, tail })
}

/// One at a time: an image that is decoded to the end may take much memory.
static DECODING: Mutex<()> = Mutex::new(());

fn look(path: &Path) -> Look {
    // This also refuses pipes and devices, which must not be opened.
    if let Err(error) = decode::probe(path) {
        return Look { outcome: Err(error), content: 0 };
    }
    match ends(path) {
        Ok(ends) if ends.is_whole() => Look { outcome: Ok(()), content: ends.hash() },
        Ok(ends) => {
            // Cut short, or with something behind the image: only reading it all tells.
            let _one = DECODING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            Look { outcome: decode_image(path).map(|_| ()), content: ends.hash() }
        }
        Err(source) => Look { outcome: Err(DataError::read(path, source)), content: 0 },
    }
}

/// What files of these names below `root` and these contents are known by; it does not hang on where the root lies.
pub(super) fn fingerprint<'a>(root: &Path, files: impl Iterator<Item = (&'a PathBuf, u64)>) -> u64 {
    let mut hash = Xxh3::new();
    for (path, content) in files {
        let name = path.strip_prefix(root).unwrap_or(path).as_os_str().as_encoded_bytes();
        // The name's own hash: of fixed length, so that names cannot run into each other.
        hash.update(&xxh3_64(name).to_le_bytes());
        hash.update(&content.to_le_bytes());
    }
    hash.digest()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_files_of_a_large_folder_are_looked_at_as_there_may_be() {
        for n in [1, 100, LOOKED_AT, LOOKED_AT + 1, 70_000, 1_000_003] {
            let looked = (0..n).filter(|&i| chosen(i, n)).count();
            assert_eq!(looked, n.min(LOOKED_AT), "{n}");
        }
    }

    #[test]
    fn every_file_is_looked_at_once_and_in_order() {
        let files: Vec<PathBuf> = (0..1000).map(|i| PathBuf::from(i.to_string())).collect();
        let seen = each(&files, |i, path| (i, path.to_owned()));
        assert!(seen.iter().enumerate().all(|(i, (j, path))| i == *j && *path == files[i]) && seen.len() == 1000);
    }
}
