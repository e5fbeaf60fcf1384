//! The file that kernels are kept in, and the folder that a process works in.
//!
//! The file is a mark, the XXH3 of the rest, and then CubeCL's files one after another: the length of a name, the name, the length of the
//! content, the content. It is replaced whole.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, ErrorKind},
    path::{Component, Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use serde::de::IgnoredAny;
use swinstyle_files::{Durability, Scratch, note, shown, write_atomic};
use xxhash_rust::xxh3::xxh3_128;

/// The store in its folder.
const FILE: &str = "kernels.bin";
/// What a process holds locked while it changes the store.
const LOCK: &str = "kernels.lock";
/// How long one process waits for another's change.
const PATIENCE: Duration = Duration::from_secs(1);
/// How the store begins.
const MARK: &[u8; 8] = b"swkrnl01";
/// Bytes of the checksum.
const SUM: usize = 16;
/// What CubeCL's files of compiled kernels end with; beside them it keeps a table that it can do without.
const KERNELS: &str = "cbor";

/// CubeCL's files by their path in its folder, with `/` between the parts.
type Kept = BTreeMap<String, Vec<u8>>;

/// The folder of a process, and what of its files came out of the store.
#[derive(Debug)]
pub(super) struct Working {
    folder: PathBuf,
    scratch: Scratch,
    /// Bytes of each file at the beginning: CubeCL only appends.
    known: BTreeMap<String, usize>,
}

impl Working {
    /// A working folder with what the store in `folder` holds. A damaged store is removed, with a note.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        if Scratch::sweep(folder) > 0 {
            note(format!("kernel cache: removed what a killed run left in {}", shown(folder)));
        }
        let kept = read(folder)?;
        let scratch = Scratch::create(folder)?;
        let mut known = BTreeMap::new();
        for (name, bytes) in kept {
            let path = scratch.path().join(&name);
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            fs::write(path, &bytes)?;
            known.insert(name, bytes.len());
        }
        Ok(Self { folder: folder.to_path_buf(), scratch, known })
    }

    pub(super) fn path(&self) -> &Path {
        self.scratch.path()
    }

    /// Add the kernels that this process compiled to the store.
    pub(super) fn save(&self) -> io::Result<()> {
        let mut fresh = Kept::new();
        for (name, path) in files(self.path(), "") {
            let bytes = fs::read(path)?;
            let appended = bytes.get(self.known.get(&name).copied().unwrap_or(0)..).unwrap_or_default();
            let whole = &appended[..whole_entries(appended)];
            if !whole.is_empty() {
                fresh.insert(name, whole.to_vec());
            }
        }
        if fresh.is_empty() {
            return Ok(());
        }
        let _lock = lock(&self.folder)?;
        // Another process may have added to it, or it may have been damaged meanwhile.
        let mut kept = read(&self.folder)?;
        for (name, bytes) in fresh {
            kept.entry(name).or_default().extend(bytes);
        }
        let payload = pack(&kept);
        write_atomic(&self.folder.join(FILE), Durability::Unsynced, |out| {
            out.write_all(MARK)?;
            out.write_all(&xxh3_128(&payload).to_le_bytes())?;
            out.write_all(&payload)
        })
    }
}

/// Removes the folder of a store, also one of an older build; what a live process works with stays.
pub fn clear(folder: &Path) -> io::Result<()> {
    Scratch::sweep(folder);
    let gone = match Scratch::any(folder) {
        true => fs::remove_file(folder.join(FILE)),
        false => fs::remove_dir_all(folder),
    };
    match gone {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The store's content, its checksum checked; nothing where there is none. A damaged one is removed, with a note.
fn read(folder: &Path) -> io::Result<Kept> {
    let path = folder.join(FILE);
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Kept::new()),
        result => result?,
    };
    if let Some(kept) = unpack(&bytes) {
        return Ok(kept);
    }
    fs::remove_file(&path)?;
    note(format!("kernel cache: {} was damaged and is made anew; kernels are compiled again", shown(&path)));
    Ok(Kept::new())
}

fn pack(kept: &Kept) -> Vec<u8> {
    let mut payload = Vec::new();
    for (name, bytes) in kept {
        for part in [name.as_bytes(), bytes] {
            payload.extend((part.len() as u64).to_le_bytes());
            payload.extend(part);
        }
    }
    payload
}

/// `None` unless every bit is as it was written.
fn unpack(bytes: &[u8]) -> Option<Kept> {
    let (sum, mut payload) = bytes.strip_prefix(MARK)?.split_first_chunk::<SUM>()?;
    if u128::from_le_bytes(*sum) != xxh3_128(payload) {
        return None;
    }
    let mut part = || {
        let (length, rest) = payload.split_first_chunk()?;
        let (part, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
        payload = rest;
        Some(part)
    };
    let mut kept = Kept::new();
    while let Some(name) = part() {
        let name = std::str::from_utf8(name).ok()?;
        // A path inside the working folder, whoever wrote the file.
        if !Path::new(name).components().all(|c| matches!(c, Component::Normal(_))) {
            return None;
        }
        kept.insert(name.to_string(), part()?.to_vec());
    }
    Some(kept)
}

/// Files of compiled kernels below a folder, by name.
fn files(folder: &Path, prefix: &str) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let Some(name) = name.to_str() else { continue };
        if path.is_dir() {
            found.extend(files(&path, &format!("{prefix}{name}/")));
        } else if path.extension().is_some_and(|e| e == KERNELS) {
            found.push((format!("{prefix}{name}"), path));
        }
    }
    found
}

/// Bytes of the whole entries at the beginning of what CubeCL appended: another thread may still be writing the last one.
fn whole_entries(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    let mut whole = 0;
    while !rest.is_empty() && ciborium::from_reader::<IgnoredAny, _>(&mut rest).is_ok() {
        whole = bytes.len() - rest.len();
    }
    whole
}

/// Wait until no other process changes the store. The system unlocks the file when a process ends, however it ends.
fn lock(folder: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create(true).append(true).open(folder.join(LOCK))?;
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if begun.elapsed() < PATIENCE => sleep(Duration::from_millis(10)),
            Err(TryLockError::WouldBlock) => return Err(ErrorKind::WouldBlock.into()),
            // A file system without locks: the store is replaced whole, so at worst one process's kernels are lost.
            Ok(()) | Err(TryLockError::Error(_)) => return Ok(file),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// What CubeCL writes for a kernel, as far as anybody here looks at it.
    fn entry(key: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        ciborium::into_writer(&(key, vec![key; 20]), &mut bytes).unwrap();
        bytes
    }

    const CHUNK: &str = "vulkan/0.10.0/spirv/chunk0.cbor";

    /// A run that compiles kernels; returns the entries it began with.
    fn run(folder: &Path, compiled: &[u64]) -> Vec<u8> {
        let working = Working::open(folder).unwrap();
        let path = working.path().join(CHUNK);
        let begun = fs::read(&path).unwrap_or_default();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = OpenOptions::new().create(true).append(true).open(&path).unwrap();
        compiled.iter().for_each(|&key| file.write_all(&entry(key)).unwrap());
        working.save().unwrap();
        begun
    }

    #[test]
    fn what_a_run_compiles_the_next_one_has_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        assert!(run(folder.path(), &[1, 2]).is_empty());
        assert_eq!(run(folder.path(), &[3]), [entry(1), entry(2)].concat());
        assert_eq!(run(folder.path(), &[]), [entry(1), entry(2), entry(3)].concat());
        let names = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name());
        assert_eq!(names.collect::<std::collections::BTreeSet<_>>(), [FILE, LOCK].map(Into::into).into());
    }

    #[test]
    fn two_processes_at_once_add_what_each_compiled() {
        let folder = tempfile::tempdir().unwrap();
        run(folder.path(), &[1]);
        let (a, b) = (Working::open(folder.path()).unwrap(), Working::open(folder.path()).unwrap());
        for (working, key) in [(&a, 2), (&b, 3)] {
            assert_eq!(fs::read(working.path().join(CHUNK)).unwrap(), entry(1));
            OpenOptions::new().append(true).open(working.path().join(CHUNK)).unwrap().write_all(&entry(key)).unwrap();
            working.save().unwrap();
        }
        drop((a, b));
        assert_eq!(run(folder.path(), &[]), [entry(1), entry(2), entry(3)].concat());
    }

    #[test]
    fn a_damaged_store_is_noticed_wherever_it_is_damaged_and_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        run(folder.path(), &[1, 2, 3]);
        let path = folder.path().join(FILE);
        let whole = fs::read(&path).unwrap();
        assert!(unpack(&whole).is_some());
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                assert!(unpack(&bytes).is_none(), "byte {at}, bit {bit}");
            }
            assert!(unpack(&whole[..at]).is_none(), "cut at {at}");
        }
        let longer = [&whole[..], b"x"].concat();
        for damaged in [&b""[..], b"garbage", &whole[..whole.len() / 2], &longer] {
            fs::write(&path, damaged).unwrap();
            assert!(run(folder.path(), &[4]).is_empty());
            assert_eq!(run(folder.path(), &[]), entry(4));
        }
        let notes = swinstyle_files::take_notes();
        assert!(notes.iter().any(|n| n.contains("kernels.bin was damaged and is made anew")), "{notes:?}");
    }

    #[test]
    fn an_entry_that_is_half_written_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let working = Working::open(folder.path()).unwrap();
        let path = working.path().join("cuda/chunk0.cbor");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, [entry(1), entry(2)[..9].to_vec()].concat()).unwrap();
        working.save().unwrap();
        drop(working);
        let next = Working::open(folder.path()).unwrap();
        assert_eq!(fs::read(next.path().join("cuda/chunk0.cbor")).unwrap(), entry(1));
    }

    #[test]
    fn a_store_that_names_files_outside_is_not_used() {
        for name in ["../evil.cbor", "/etc/evil.cbor", "a/../../b.cbor"] {
            let payload = pack(&[(name.to_string(), vec![1])].into());
            let bytes = [&MARK[..], &xxh3_128(&payload).to_le_bytes(), &payload].concat();
            assert!(unpack(&bytes).is_none(), "{name}");
        }
    }
}
