//! From what a user typed to inputs with names: files, folders, patterns in quotes, lists, and seeds where they are taken.

use std::{
    collections::HashSet,
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::{Result, anyhow};
use clap::Args;
use swinstyle_data::folder::list_images;

use super::{Names, Shown, list::read_list, pattern, report::Failure};
use crate::{
    commands::numbers::seeds,
    output::{Usage, one_line},
};

/// What puts a code into the name of its file: it is no part of the image's name.
const OF_CODES: [&str; 2] = ["-inverted", "-projected"];

/// Lists of inputs, beside those that are named one by one.
#[derive(Debug, Args)]
pub(crate) struct Lists {
    /// Also take the paths that FILE lists, one a line; - is stdin.
    #[arg(long, value_name = "FILE")]
    pub(crate) files_from: Option<PathBuf>,
    /// Paths in lists end with NUL instead of a line break, as `find -print0` writes them.
    #[arg(long, short = '0')]
    pub(crate) null: bool,
}

/// What a command takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accept {
    /// Files.
    Files,
    /// Files, code files among them, and seeds.
    Codes,
}

/// Where an input comes from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Source {
    File(PathBuf),
    Seed(u64),
}

impl Source {
    /// The file, if it is one.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Seed(_) => None,
        }
    }

    /// The seed, if it is one.
    pub(crate) fn seed(&self) -> Option<u64> {
        match self {
            Self::File(_) => None,
            Self::Seed(seed) => Some(*seed),
        }
    }

    /// The input as it was given, for documents.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::File(path) => path.to_string_lossy().into_owned(),
            Self::Seed(seed) => format!("seed:{seed}"),
        }
    }

    /// The input as it is shown to people.
    pub(crate) fn shown(&self) -> String {
        Shown(Path::new(&self.text())).to_string()
    }
}

/// An input and the stem of its results.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Item {
    pub(crate) source: Source,
    /// Unlike that of any other input of the list, and the same for the same list.
    pub(crate) name: String,
}

impl Item {
    /// The file of a command that takes files only.
    pub(crate) fn path(&self) -> &Path {
        self.source.path().unwrap_or(Path::new(""))
    }
}

/// The way from arguments to inputs, and what went wrong on it.
pub(crate) struct Expansion {
    accept: Accept,
    null: bool,
    /// Results of earlier runs, which a folder's images do not count among.
    results: HashSet<PathBuf>,
    stdin_was_read: bool,
    /// Folders without images, patterns without a match.
    pub(crate) failures: Vec<Failure>,
}

impl Expansion {
    pub(crate) fn new(accept: Accept, null: bool, results: HashSet<PathBuf>) -> Self {
        Self { accept, null, results, stdin_was_read: false, failures: Vec::new() }
    }

    /// The inputs of one list of arguments and perhaps a list in a file, in order.
    ///
    /// Errors: wrong usage (a seed that is none, stdin twice), a list that cannot be read, not one input.
    pub(crate) fn expand(&mut self, arguments: &[OsString], files_from: Option<&Path>) -> Result<Vec<Item>> {
        let (failures, mut sources) = (self.failures.len(), Vec::new());
        for argument in arguments {
            if argument == "-" {
                self.list(Path::new("-"), &mut sources)?;
            } else if self.accept == Accept::Codes && is_seed(argument) {
                sources.extend(seeds_of(argument)?);
            } else {
                self.path(argument, &mut sources);
            }
        }
        if let Some(list) = files_from {
            self.list(list, &mut sources)?;
        }
        if sources.is_empty() && self.failures.len() == failures {
            return Err(Usage("no inputs: the list is empty".into()).into());
        }
        let mut names = Names::default();
        let name = |source: &Source| match source {
            Source::File(path) => stem(path, self.accept),
            Source::Seed(seed) => format!("seed{seed}"),
        };
        Ok(sources.into_iter().map(|source| Item { name: names.claim(&name(&source)), source }).collect())
    }

    /// The entries of a list: literal files, folders and seeds.
    fn list(&mut self, path: &Path, sources: &mut Vec<Source>) -> Result<()> {
        if path.as_os_str() == "-" && std::mem::replace(&mut self.stdin_was_read, true) {
            return Err(Usage("stdin can be the list of one option only".into()).into());
        }
        for entry in read_list(path, self.null)? {
            if self.accept == Accept::Codes && is_seed(&entry) {
                sources.extend(seeds_of(&entry)?);
            } else if Path::new(&entry).is_dir() {
                self.folder(Path::new(&entry), sources);
            } else {
                sources.push(Source::File(entry.into()));
            }
        }
        Ok(())
    }

    /// A file, a folder's images, or what a pattern matches; a file may have a pattern's characters in its name.
    fn path(&mut self, argument: &OsString, sources: &mut Vec<Source>) {
        let path = Path::new(argument);
        if path.is_dir() {
            return self.folder(path, sources);
        }
        let is_pattern = argument.to_str().is_some_and(pattern::is_pattern) && path.symlink_metadata().is_err();
        if !is_pattern {
            return sources.push(Source::File(path.into()));
        }
        match pattern::matches(path) {
            Ok(found) if found.is_empty() => self.fail(path, "no file has such a name"),
            Ok(found) => sources.extend(found.into_iter().map(Source::File)),
            Err(error) => self.fail(path, &format!("no pattern: {}", error.msg)),
        }
    }

    fn folder(&mut self, folder: &Path, sources: &mut Vec<Source>) {
        let (files, bad) = match list_images(folder) {
            Ok(found) => found,
            Err(error) => return self.fail(folder, &one_line(&anyhow!(error))),
        };
        let before = sources.len();
        let is_result = |file: &PathBuf| {
            !self.results.is_empty() && std::fs::canonicalize(file).is_ok_and(|real| self.results.contains(&real))
        };
        sources.extend(files.into_iter().filter(|file| !is_result(file)).map(Source::File));
        let found = sources.len() > before || !bad.is_empty();
        for file in bad {
            self.fail(&file.path, &file.reason);
        }
        if !found {
            self.fail(folder, "no images in this folder (png, jpg, jpeg, webp)");
        }
    }

    fn fail(&mut self, path: &Path, reason: &str) {
        self.failures.push(Failure::new(&path.to_string_lossy(), reason));
    }
}

fn is_seed(argument: &OsString) -> bool {
    argument.as_encoded_bytes().starts_with(b"seed:")
}

/// The seeds of `seed:7` or `seed:0-3`.
fn seeds_of(argument: &OsString) -> Result<Vec<Source>> {
    let text = argument.to_string_lossy();
    let found = seeds(text.trim_start_matches("seed:"))
        .map_err(|error| Usage(format!("{}: {error}", Shown(Path::new(argument)))))?;
    Ok(found.all.into_iter().map(Source::Seed).collect())
}

/// The file's name without its ending; where codes are taken, without what `invert` has put behind it.
fn stem(path: &Path, accept: Accept) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    // A name that could drive a terminal is no name for a result.
    let stem = stem.replace(char::is_control, "_");
    let own = OF_CODES.iter().find_map(|end| stem.strip_suffix(end)).filter(|own| !own.is_empty());
    match own {
        Some(own) if accept == Accept::Codes => own.to_string(),
        _ => stem,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn expansion(accept: Accept) -> Expansion {
        Expansion::new(accept, false, HashSet::new())
    }

    fn shown(items: &[Item]) -> Vec<(String, &str)> {
        items.iter().map(|i| (i.source.shown(), i.name.as_str())).collect()
    }

    #[test]
    fn codes_are_files_and_seeds_and_an_image_and_its_code_have_two_names() {
        let arguments = ["x/a-inverted.safetensors", "b/a.png", "seed:3-4", "./seed:9"].map(OsString::from);
        let items = expansion(Accept::Codes).expand(&arguments, None).unwrap();
        let expected = [
            ("x/a-inverted.safetensors", "a"),
            ("b/a.png", "a-2"),
            ("seed:3", "seed3"),
            ("seed:4", "seed4"),
            ("./seed:9", "seed:9"),
        ];
        assert_eq!(shown(&items), expected.map(|(file, name)| (file.to_string(), name)));
        let odd = expansion(Accept::Files).expand(&["a\n\u{1b}b.png".into()], None).unwrap();
        assert_eq!(odd[0].name, "a__b");
        let error = expansion(Accept::Codes).expand(&["seed:x".into()], None).unwrap_err();
        assert!(error.is::<Usage>() && error.to_string().contains("seed:x"), "{error}");
        let files = expansion(Accept::Files).expand(&["seed:x".into()], None).unwrap();
        assert_eq!(files[0].path(), Path::new("seed:x"));
    }

    #[test]
    fn folders_patterns_and_lists_become_their_files_and_what_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("in/more")).unwrap();
        fs::create_dir(at("empty")).unwrap();
        for name in ["in/b.png", "in/a.JPG", "in/more/c.webp", "in/notes.txt", "[x].png"] {
            fs::write(at(name), "").unwrap();
        }
        fs::write(at("list"), format!("{}\n*.png\n", at("in").display())).unwrap();
        let arguments = ["in", "empty", "*.gif", "[x].png", "absent.png"].map(|name| at(name).into_os_string());
        let mut expansion = expansion(Accept::Files);
        let items = expansion.expand(&arguments, Some(&at("list"))).unwrap();
        let relative = |item: &Item| item.path().strip_prefix(folder.path()).unwrap_or(item.path()).to_path_buf();
        let expected = [
            "in/a.JPG",
            "in/b.png",
            "in/more/c.webp",
            "[x].png",
            "absent.png",
            "in/a.JPG",
            "in/b.png",
            "in/more/c.webp",
            "*.png",
        ];
        assert_eq!(items.iter().map(relative).collect::<Vec<_>>(), expected.map(PathBuf::from));
        let names = ["a", "b", "c", "[x]", "absent", "a-2", "b-2", "c-2", "*"];
        assert_eq!(items.iter().map(|i| i.name.as_str()).collect::<Vec<_>>(), names);
        let failed: Vec<&str> = expansion.failures.iter().map(|f| f.reason.as_str()).collect();
        assert!(
            failed.len() == 2 && failed[0].contains("empty: no images") && failed[1].contains("*.gif: no file"),
            "{failed:?}"
        );
    }

    #[test]
    fn results_of_earlier_runs_are_no_inputs_of_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let files = ["a.png", "a-inverted.png"].map(|name| folder.path().join(name));
        for file in &files {
            fs::write(file, "").unwrap();
        }
        let results = HashSet::from([fs::canonicalize(&files[1]).unwrap()]);
        let mut expansion = Expansion::new(Accept::Files, false, results);
        let items = expansion.expand(&[folder.path().into()], None).unwrap();
        assert_eq!(items.iter().map(Item::path).collect::<Vec<_>>(), [&files[0]]);
    }
}
