//! `cargo xtask dist`: a folder that checks, tunes and benches on a machine with a GPU and without a Rust toolchain.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::process::{output_of, root, run_cargo};

/// Bytes of the folder at most.
const LIMIT: u64 = 60 << 20;

/// The script that does everything there.
const RUN: &str = include_str!("dist/run.sh");

/// What goes into the folder beside the program: from where in the clone, to where.
const PARTS: [(&str, &str); 5] = [
    ("tests/golden", "golden"),
    ("benches/peers", "peers"),
    ("tuning", "tuning"),
    ("LICENSE-MIT", "LICENSE-MIT"),
    ("LICENSE-APACHE", "LICENSE-APACHE"),
];

/// Where to.
#[derive(Args)]
pub struct Dist {
    /// Folder to write; it must be empty or not there
    #[arg(long, value_name = "DIR", default_value = "out/dist")]
    out: PathBuf,
}

/// Builds the program and fills the folder. Errors: a folder that is in use, a size beyond the limit.
pub fn run(options: &Dist) -> Result<()> {
    let out = root().join(&options.out);
    if fs::read_dir(&out).is_ok_and(|mut entries| entries.next().is_some()) {
        bail!("{} is not empty; remove it or name another folder with --out", out.display());
    }
    run_cargo(&["build", "--release", "--package", "swinstyle"])?;
    fs::create_dir_all(&out).with_context(|| format!("{} cannot be made", out.display()))?;
    let name = format!("swinstyle{}", std::env::consts::EXE_SUFFIX);
    let program = out.join(&name);
    copy(&target()?.join("release").join(&name), &program)?;
    strip(&program)?;
    for (from, to) in PARTS {
        copy(&root().join(from), &out.join(to))?;
    }
    let script = out.join("run.sh");
    fs::write(&script, RUN).with_context(|| format!("{} cannot be written", script.display()))?;
    executable(&script)?;
    let total = size(&out)?;
    if total > LIMIT {
        bail!("{} has {} MiB, more than {}", out.display(), total >> 20, LIMIT >> 20);
    }
    println!("dist: {} ({:.1} MiB); copy it to a machine and start run.sh", out.display(), total as f64 / 1048576.0);
    Ok(())
}

/// The target folder that cargo uses.
fn target() -> Result<PathBuf> {
    let mut cargo = crate::process::cargo();
    let text = output_of(cargo.args(["metadata", "--format-version", "1", "--no-deps"]))?;
    let json: serde_json::Value = serde_json::from_str(&text).context("cargo metadata")?;
    Ok(PathBuf::from(json["target_directory"].as_str().context("cargo metadata names no target folder")?))
}

/// Removes symbols and line tables, of which nothing at run time has need.
fn strip(program: &Path) -> Result<()> {
    let fix = "install binutils (Linux) or the command-line developer tools (macOS)";
    if !cfg!(windows) {
        output_of(Command::new("strip").arg(program)).with_context(|| format!("strip is needed: {fix}"))?;
    }
    Ok(())
}

fn executable(file: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(file, fs::Permissions::from_mode(0o755))?;
    }
    let _ = file;
    Ok(())
}

/// Copies a file or a folder.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let context = || format!("{} cannot be copied to {}", from.display(), to.display());
    if !from.is_dir() {
        return fs::copy(from, to).map(drop).with_context(context);
    }
    fs::create_dir_all(to).with_context(context)?;
    for entry in fs::read_dir(from).with_context(context)? {
        let entry = entry?;
        // What Python leaves behind is nobody's.
        if entry.file_name() != "__pycache__" {
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Bytes of the files below a folder.
fn size(folder: &Path) -> Result<u64> {
    let mut total = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        total += if metadata.is_dir() { size(&entry.path())? } else { metadata.len() };
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_copied_exists() {
        for (from, _) in PARTS {
            assert!(root().join(from).exists(), "{from}");
        }
    }

    #[test]
    fn folders_are_copied_whole_without_pythons_leftovers() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir_all(from.join("deep")).unwrap();
        fs::create_dir_all(from.join("__pycache__")).unwrap();
        fs::write(from.join("deep/a"), "12345").unwrap();
        fs::write(from.join("__pycache__/b"), "1").unwrap();
        copy(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("deep/a")).unwrap(), "12345");
        assert!(!to.join("__pycache__").exists());
        assert_eq!(size(&to).unwrap(), 5);
    }

    #[test]
    fn a_folder_in_use_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), "").unwrap();
        let error = run(&Dist { out: folder.path().to_path_buf() }).unwrap_err().to_string();
        assert!(error.contains("not empty"), "{error}");
    }
}
