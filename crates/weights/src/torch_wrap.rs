//! Torch files of one tensor, or of a list, without a name: `torch.save(direction, "age.pt")`.
//!
//! The reader wants a dict at the root. So a copy of the file is read in which the pickled object stands in a dict: `{"tensor": object}`. Only
//! the pickle's first and last bytes change.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};

use zip::ZipArchive;
use zip::write::{SimpleFileOptions, ZipWriter};

/// Largest file that is copied: codes and directions have kilobytes.
const LARGEST: u64 = 64 << 20;
/// The dict's beginning: protocol 2, an empty dict, the key.
const OPEN: &[u8] = b"\x80\x02}X\x06\x00\x00\x00tensor";
/// The dict's end: put the item in, stop.
const CLOSE: &[u8] = b"s.";

/// Write the copy. Errors: a file that is too large, or that is not laid out as torch does.
pub(crate) fn named(file: &File, copy: &std::path::Path) -> io::Result<()> {
    let strange = || io::Error::other("not laid out as torch does");
    if file.metadata()?.len() > LARGEST {
        return Err(io::Error::other("too large for one tensor"));
    }
    let mut again = file;
    io::Seek::rewind(&mut again)?;
    let mut bytes = Vec::new();
    again.read_to_end(&mut bytes)?;
    if !bytes.starts_with(b"PK") {
        return fs::write(copy, legacy(&bytes).ok_or_else(strange)?);
    }
    let mut source = ZipArchive::new(BufReader::new(io::Cursor::new(&bytes[..])))?;
    let mut target = ZipWriter::new(BufWriter::new(File::create_new(copy)?));
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for index in 0..source.len() {
        let entry = source.by_index(index)?;
        let name = entry.name()?.into_owned();
        if !name.ends_with("data.pkl") {
            target.raw_copy_file(entry)?;
            continue;
        }
        let mut pickle = Vec::new();
        entry.take(LARGEST).read_to_end(&mut pickle)?;
        target.start_file(name, stored)?;
        target.write_all(&in_a_dict(&pickle).ok_or_else(strange)?)?;
    }
    target.finish()?.flush()
}

/// A pickle's object in a dict. Its own first two bytes are the protocol, its last one stops.
fn in_a_dict(pickle: &[u8]) -> Option<Vec<u8>> {
    let object = pickle.strip_prefix(b"\x80")?.get(1..)?.strip_suffix(b".")?;
    Some([OPEN, object, CLOSE].concat())
}

/// The older stream: magic number, protocol and system are pickles before the object's, the list of storages is one after it.
fn legacy(bytes: &[u8]) -> Option<Vec<u8>> {
    let next = |from: usize, begin: &[u8]| {
        let found = bytes.get(from..)?.windows(begin.len() + 1).position(|w| w[0] == b'.' && &w[1..] == begin)?;
        Some(from + found + 1)
    };
    let protocol = next(0, b"\x80\x02")?;
    let system = next(protocol, b"\x80\x02")?;
    let object = next(system, b"\x80\x02")?;
    let storages = next(object, b"\x80\x02]")?;
    Some([&bytes[..object], &in_a_dict(&bytes[object..storages])?, &bytes[storages..]].concat())
}
