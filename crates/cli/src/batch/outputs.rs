//! What a command may write, and what it must leave alone.
//!
//! A file that is there already is replaced only where it is a result of the same command of the same files, as the folder's
//! record says, or with `--force`. The files that a command reads, folders and devices are never replaced by a result.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use swinstyle_files::{FileId, is_there, same_file};

use super::{Item, Shown, identity::origin, inputs::Source, record::Record};
use crate::output::Usage;

/// Endings that belong to files, not to folders.
const FILE_ENDINGS: [&str; 22] = [
    "png",
    "apng",
    "jpg",
    "jpeg",
    "webp",
    "gif",
    "bmp",
    "tif",
    "tiff",
    "avif",
    "mp4",
    "mov",
    "avi",
    "mkv",
    "webm",
    "pt",
    "pth",
    "pkl",
    "onnx",
    "npy",
    "npz",
    "safetensors",
];

/// Leave to replace what is there.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Force {
    /// Replace files that are there already. Without it only earlier results of the same command of the same files are replaced: the
    /// output folder keeps a hidden record of them.
    #[arg(long)]
    pub(crate) force: bool,
}

/// The results of one input: where they go, and what they are made of.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) files: Vec<PathBuf>,
    names: Vec<String>,
    of: Vec<String>,
}

/// The folder that a command writes.
#[derive(Debug)]
pub(crate) struct Outputs {
    folder: PathBuf,
    command: &'static str,
    force: bool,
    record: Record,
    /// What the command reads, with its names.
    read: HashMap<FileId, String>,
    /// What every result is made with: the model, a direction.
    with: Vec<String>,
}

impl Outputs {
    /// Errors: a name that is a file's.
    pub(crate) fn open(folder: &Path, command: &'static str, force: &Force) -> Result<Self> {
        check_folder(folder)?;
        let (read, with) = Default::default();
        Ok(Self { folder: folder.into(), command, force: force.force, record: Record::of(folder), read, with })
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The results of earlier runs in the folder, as whole paths.
    pub(crate) fn results(&self) -> HashSet<PathBuf> {
        let Ok(folder) = fs::canonicalize(&self.folder) else { return HashSet::new() };
        self.record.files().map(|file| folder.join(file)).collect()
    }

    /// A file that all results are made with.
    pub(crate) fn uses(&mut self, file: &Path) {
        self.with.push(origin(file));
        self.protect(file);
    }

    /// Files that are read.
    pub(crate) fn reads(&mut self, items: &[Item]) {
        for path in items.iter().filter_map(|item| item.source.path()) {
            self.protect(path);
        }
    }

    fn protect(&mut self, file: &Path) {
        if let Some(id) = FileId::of(file) {
            self.read.insert(id, Shown(file).to_string());
        }
    }

    /// Where the results of one input, or of several together, go. Errors: the first that may not be written, with the way out.
    pub(crate) fn plan(&self, names: impl IntoIterator<Item = String>, of: &[&Item]) -> Result<Planned> {
        let names: Vec<String> = names.into_iter().collect();
        let of = self.origins(of);
        for name in &names {
            self.check(name, &of)?;
        }
        let files = names.iter().map(|name| self.folder.join(name)).collect();
        Ok(Planned { files, names, of })
    }

    /// Where a picture of everything goes: it is numbered where another's is there.
    pub(crate) fn plan_overview(&self, stem: &str, of: &[&Item]) -> Result<Planned> {
        let of = self.origins(of);
        for number in 1_u32.. {
            let name = if number == 1 { format!("{stem}.png") } else { format!("{stem}-{number}.png") };
            let free = self.folder.join(&name).symlink_metadata().is_err();
            if free || self.force || self.record.knows(&name, self.command, &of) {
                self.check(&name, &of)?;
                return Ok(Planned { files: vec![self.folder.join(&name)], names: vec![name], of });
            }
        }
        bail!("{}: every number of {stem}.png is taken", Shown(&self.folder));
    }

    /// Makes the folder and records the results that are written next. Errors: a folder that cannot be written.
    pub(crate) fn start(&mut self, planned: &Planned) -> Result<()> {
        make_folder(&self.folder)?;
        self.record.add(&planned.names, self.command, &planned.of)
    }

    fn origins(&self, of: &[&Item]) -> Vec<String> {
        let own = of.iter().map(|item| match &item.source {
            Source::File(path) => origin(path),
            Source::Seed(seed) => format!("seed:{seed}"),
        });
        own.chain(self.with.iter().cloned()).collect()
    }

    fn check(&self, name: &str, of: &[String]) -> Result<()> {
        let path = self.folder.join(name);
        if let Some(input) = FileId::of(&path).and_then(|id| self.read.get(&id)) {
            bail!("{}: not written: it is the input {input}; choose another --out", Shown(&path));
        }
        let known = || self.record.knows(name, self.command, of) && !path.is_symlink();
        if !would_replace(&path)? || self.force || known() {
            return Ok(());
        }
        bail!(
            "{}: not written: it is there already and no earlier result of this input; --force replaces it",
            Shown(&path)
        );
    }
}

/// Whether a write would replace a file, or make one behind a link. Errors: what is never replaced, such as a folder or a device.
fn would_replace(path: &Path) -> Result<bool> {
    let there = is_there(path).with_context(|| format!("{}: not written", Shown(path)))?;
    Ok(there || path.is_symlink())
}

/// Whether a path is to be a folder: it is one, or ends like one, or has no ending.
pub(crate) fn is_folder_name(path: &Path) -> bool {
    let slash = path.as_os_str().as_encoded_bytes().last().is_some_and(|&b| std::path::is_separator(char::from(b)));
    slash || path.is_dir() || path.extension().is_none()
}

/// Errs for a folder's name that says a kind of file.
fn check_folder(folder: &Path) -> Result<()> {
    let ending = folder.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
    if !is_folder_name(folder) && FILE_ENDINGS.contains(&ending.as_str()) && !folder.exists() {
        let shown = Shown(folder);
        let detail = format!("--out {shown}: this command writes a folder; write {shown}/ if that is to be its name");
        return Err(Usage(detail).into());
    }
    match fs::metadata(folder) {
        Ok(about) if !about.is_dir() => {
            bail!("{}: cannot be the folder of the results: it is no folder", Shown(folder))
        }
        _ => Ok(()),
    }
}

/// The folder, made where it is not there.
pub(crate) fn make_folder(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("{}: cannot be made", Shown(folder)))
}

/// Errs where a command's only file may not be written: it is read, or it is there and nobody said `--force`, or is a folder or a device.
pub(crate) fn check_single(path: &Path, read: &[&Path], force: &Force) -> Result<()> {
    if let Some(input) = read.iter().find(|file| same_file(path, file)) {
        bail!("{}: not written: it is the input {}; choose another --out", Shown(path), Shown(input));
    }
    if !would_replace(path)? || force.force {
        return Ok(());
    }
    bail!("{}: not written: it is there already; --force replaces it", Shown(path));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(path: &Path) -> Item {
        Item { source: Source::File(path.into()), name: "a".into() }
    }

    fn outputs(folder: &Path, force: bool) -> Outputs {
        Outputs::open(folder, "invert", &Force { force }).unwrap()
    }

    #[test]
    fn results_of_the_same_input_are_replaced_and_all_else_only_by_force() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b, out) = (folder.path().join("a.png"), folder.path().join("b.png"), folder.path().join("out"));
        for file in [&a, &b] {
            fs::write(file, "").unwrap();
        }
        let name = || ["r.png".to_string()];
        let mut first = outputs(&out, false);
        let planned = first.plan(name(), &[&item(&a)]).unwrap();
        first.start(&planned).unwrap();
        fs::write(&planned.files[0], "result").unwrap();
        let again = outputs(&out, false);
        assert!(again.plan(name(), &[&item(&a)]).is_ok());
        let error = again.plan(name(), &[&item(&b)]).unwrap_err().to_string();
        assert!(error.contains("r.png") && error.contains("--force"), "{error}");
        assert!(outputs(&out, true).plan(name(), &[&item(&b)]).is_ok());
        let mut other = outputs(&out, false);
        other.uses(&b);
        assert!(other.plan(name(), &[&item(&a)]).is_err(), "another model or direction makes another result");
        fs::write(out.join("mine.png"), "").unwrap();
        assert!(again.plan(["mine.png".to_string()], &[&item(&a)]).is_err());
        // An overview is numbered instead.
        fs::write(out.join("grid.png"), "").unwrap();
        let grid = again.plan_overview("grid", &[&item(&a)]).unwrap();
        assert_eq!(grid.files, [out.join("grid-2.png")]);
        assert_eq!(outputs(&out, true).plan_overview("grid", &[&item(&a)]).unwrap().files, [out.join("grid.png")]);
    }

    #[cfg(unix)]
    #[test]
    fn inputs_folders_and_pipes_are_not_replaced_even_by_force() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("in.png"), "").unwrap();
        fs::hard_link(at("in.png"), at("hard.png")).unwrap();
        std::os::unix::fs::symlink(at("in.png"), at("soft.png")).unwrap();
        fs::create_dir(at("folder.png")).unwrap();
        let made = std::process::Command::new("mkfifo").arg(at("pipe.png")).status().unwrap();
        assert!(made.success());
        let mut outputs = outputs(folder.path(), true);
        outputs.reads(&[item(&at("in.png"))]);
        for (name, said) in [
            ("in.png", "the input"),
            ("hard.png", "the input"),
            ("soft.png", "the input"),
            ("folder.png", "folder"),
            ("pipe.png", "pipe"),
        ] {
            let error = outputs.plan([name.to_string()], &[]).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(said), "{error}");
        }
        let single = |name: &str, force: bool| check_single(&at(name), &[&at("in.png")], &Force { force });
        assert!(single("hard.png", false).unwrap_err().to_string().contains("the input"));
        assert!(single("hard.png", true).is_err() && single("new.png", false).is_ok());
        fs::write(at("old.png"), "").unwrap();
        assert!(
            single("old.png", false).unwrap_err().to_string().contains("--force") && single("old.png", true).is_ok()
        );
        assert!(single("folder.png", true).is_err() && single("pipe.png", true).is_err());
    }

    #[test]
    fn a_folder_with_a_files_ending_is_asked_about() {
        let folder = tempfile::tempdir().unwrap();
        let opened = |name: &str| Outputs::open(&folder.path().join(name), "invert", &Force::default());
        for bad in ["x.png", "x.GIF", "x.mp4", "x.safetensors"] {
            assert!(opened(bad).unwrap_err().is::<Usage>(), "{bad}");
        }
        for good in ["x", "x.png/", "v1.2", "run.old"] {
            assert!(opened(good).is_ok(), "{good}");
        }
        fs::create_dir(folder.path().join("there.png")).unwrap();
        assert!(opened("there.png").is_ok());
        fs::write(folder.path().join("file"), "").unwrap();
        assert!(opened("file").unwrap_err().to_string().contains("file: cannot be the folder"));
    }
}
