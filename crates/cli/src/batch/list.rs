//! Lists of paths, on stdin or in a file.

use std::{
    ffi::OsString,
    io::{self, Read},
    path::Path,
};

use anyhow::{Context, Result, bail};
use swinstyle_files::read_stream;

use super::Shown;

/// Bytes of a list at most.
const LIMIT: usize = 64 << 20;

/// The entries of a list: one a line, or ended by NUL. `-` is stdin. Entries are literal: no patterns, no escapes.
///
/// Errors: a list that cannot be read or is endless.
pub(super) fn read_list(path: &Path, null: bool) -> Result<Vec<OsString>> {
    let name = || if path.as_os_str() == "-" { "the list on stdin".to_string() } else { Shown(path).to_string() };
    let bytes = if path.as_os_str() == "-" { read_stdin() } else { read_file(path) }.with_context(name)?;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let end = if null { 0 } else { b'\n' };
    let mut entries = Vec::new();
    for entry in bytes.split(|&b| b == end) {
        // A list from Windows.
        let entry = entry.strip_suffix(b"\r").filter(|_| !null).unwrap_or(entry);
        if !null && entry.contains(&0) {
            bail!("{}: a path in it holds a NUL; lists that are ended by NUL are read with --null", name());
        }
        if !entry.is_empty() {
            entries.push(os_string(entry).with_context(name)?);
        }
    }
    Ok(entries)
}

fn read_stdin() -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::stdin().lock().take(LIMIT as u64 + 1).read_to_end(&mut bytes).context("cannot be read")?;
    within_limit(bytes)
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    if path.is_dir() {
        bail!("a folder; a list of paths is a file");
    }
    within_limit(read_stream(path, LIMIT + 1).context("cannot be read")?)
}

fn within_limit(bytes: Vec<u8>) -> Result<Vec<u8>> {
    if bytes.len() > LIMIT {
        bail!("more than {} MiB; that is no list of paths", LIMIT >> 20);
    }
    Ok(bytes)
}

#[cfg(unix)]
fn os_string(bytes: &[u8]) -> Result<OsString> {
    use std::os::unix::ffi::OsStringExt;
    Ok(OsString::from_vec(bytes.to_vec()))
}

#[cfg(not(unix))]
fn os_string(bytes: &[u8]) -> Result<OsString> {
    Ok(String::from_utf8(bytes.to_vec()).context("a path in it is not UTF-8")?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_lines_or_ended_by_nul() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list");
        let read = |text: &[u8], null: bool| {
            std::fs::write(&path, text).unwrap();
            read_list(&path, null).map(|l| l.iter().map(|e| e.to_string_lossy().into_owned()).collect::<Vec<_>>())
        };
        assert_eq!(read(b"\xef\xbb\xbfa.png\r\n\n b c.png\n*.png", false).unwrap(), ["a.png", " b c.png", "*.png"]);
        assert_eq!(read(b"a\nb.png\0c.png\0", true).unwrap(), ["a\nb.png", "c.png"]);
        let error = read(b"a.png\0b.png\0", false).unwrap_err().to_string();
        assert!(error.contains("--null"), "{error}");
    }
}
