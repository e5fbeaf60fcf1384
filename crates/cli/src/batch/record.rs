//! The record of an output folder: which result was made by which command of which files.
//!
//! A line of JSON a result, appended before the result is written: a program that is killed in between leaves a line too much,
//! never a result that nobody knows. Several programs may write into one folder at once.

use std::{
    collections::HashMap,
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// The record's name in the folder.
const NAME: &str = ".swinstyle-results.jsonl";

/// What is known of a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    file: String,
    command: String,
    /// The files (and seeds) that it was made of.
    of: Vec<String>,
}

/// The record of one folder.
#[derive(Debug)]
pub(super) struct Record {
    path: PathBuf,
    entries: HashMap<String, Entry>,
    /// Whether the last line has its end.
    whole: bool,
}

impl Record {
    /// Reads a folder's record; without one, or where it cannot be read, nothing is known.
    pub(super) fn of(folder: &Path) -> Self {
        let path = folder.join(NAME);
        let is_file = path.symlink_metadata().is_ok_and(|m| m.is_file());
        let bytes = if is_file { fs::read(&path).unwrap_or_default() } else { Vec::new() };
        let lines = bytes.split(|&b| b == b'\n').filter_map(|line| serde_json::from_slice::<Entry>(line).ok());
        let entries = lines.map(|entry| (entry.file.clone(), entry)).collect();
        Self { path, entries, whole: bytes.last().is_none_or(|&b| b == b'\n') }
    }

    /// The names of all results.
    pub(super) fn files(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Whether a file is the result of that command of just those files.
    pub(super) fn knows(&self, file: &str, command: &str, of: &[String]) -> bool {
        self.entries.get(file).is_some_and(|entry| entry.command == command && entry.of == of)
    }

    /// Adds results. Errors: a record that cannot be written.
    pub(super) fn add(&mut self, files: &[String], command: &str, of: &[String]) -> Result<()> {
        let mut lines = String::new();
        for file in files.iter().filter(|file| !self.knows(file, command, of)) {
            let entry = Entry { file: file.clone(), command: command.into(), of: of.to_vec() };
            lines += &serde_json::to_string(&entry)?;
            lines.push('\n');
        }
        if lines.is_empty() {
            return Ok(());
        }
        self.append(&lines).with_context(|| format!("{}: cannot be written", self.path.display()))?;
        let entry = |file: &String| Entry { file: file.clone(), command: command.into(), of: of.to_vec() };
        self.entries.extend(files.iter().map(|file| (file.clone(), entry(file))));
        Ok(())
    }

    fn append(&mut self, lines: &str) -> Result<()> {
        // A link would lead elsewhere.
        if self.path.symlink_metadata().is_ok_and(|m| !m.is_file()) {
            bail!("this is not a regular file");
        }
        let mut file = OpenOptions::new().append(true).create(true).open(&self.path)?;
        let start = if self.whole { "" } else { "\n" };
        file.write_all(format!("{start}{lines}").as_bytes())?;
        self.whole = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_also_after_a_line_that_was_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let text = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let mut record = Record::of(folder.path());
        assert!(!record.knows("a.png", "invert", &text(&["/a"])));
        record.add(&text(&["a.png", "a.safetensors"]), "invert", &text(&["/a"])).unwrap();
        let path = folder.path().join(NAME);
        let written = fs::read(&path).unwrap();
        record.add(&text(&["a.png"]), "invert", &text(&["/a"])).unwrap();
        assert_eq!(fs::read(&path).unwrap(), written, "what is known is not written again");
        fs::write(&path, &written[..written.len() - 5]).unwrap();
        let mut record = Record::of(folder.path());
        assert!(
            record.knows("a.png", "invert", &text(&["/a"])) && !record.knows("a.safetensors", "invert", &text(&["/a"]))
        );
        record.add(&text(&["b.png"]), "invert", &text(&["/b"])).unwrap();
        let record = Record::of(folder.path());
        assert!(record.knows("b.png", "invert", &text(&["/b"])));
        assert!(!record.knows("a.png", "edit", &text(&["/a"])) && !record.knows("a.png", "invert", &text(&["/b"])));
    }
}
