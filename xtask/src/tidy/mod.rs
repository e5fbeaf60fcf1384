//! `cargo xtask tidy`: the project's own rules, which neither the compiler nor clippy knows.

mod arrows;
mod links;
mod rooms;
mod text;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::process::{output_of, root};

/// A file of the project that is text.
pub struct Source {
    /// Where it is, relative to the root, with `/` between the parts.
    pub path: String,
    /// What is in it.
    pub text: String,
}

/// What the rules found.
#[derive(Default)]
pub struct Findings {
    /// Broken rules, a line each.
    pub errors: Vec<String>,
    /// What deserves a look and breaks nothing.
    pub warnings: Vec<String>,
}

impl Findings {
    /// Adds a broken rule.
    pub fn error(&mut self, place: &str, what: impl std::fmt::Display) {
        self.errors.push(format!("{place}: {what}"));
    }
}

/// Checks every rule, prints what is broken and fails if anything is.
pub fn run() -> Result<()> {
    let root = root();
    let sources = sources(&root)?;
    let mut findings = Findings::default();
    text::check(&sources, &mut findings);
    links::check(&sources, |path| root.join(path).exists(), &mut findings);
    rooms::check(&root.join("kernels"), &mut findings)?;
    arrows::check(&mut findings)?;
    for warning in &findings.warnings {
        eprintln!("warning: {warning}");
    }
    for error in &findings.errors {
        eprintln!("tidy: {error}");
    }
    if !findings.errors.is_empty() {
        bail!("tidy found {} broken rules", findings.errors.len());
    }
    eprintln!("tidy: {} files are in order", sources.len());
    Ok(())
}

/// Every text file that git knows or would add.
fn sources(root: &Path) -> Result<Vec<Source>> {
    let mut git = Command::new("git");
    git.current_dir(root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let listed = output_of(&mut git).context("tidy reads the list of files from git")?;
    let mut paths: Vec<&str> = listed.split('\0').filter(|p| !p.is_empty()).collect();
    paths.sort_unstable();
    paths.dedup();
    let mut sources = Vec::new();
    for path in paths {
        let file: PathBuf = root.join(path);
        // A file may be deleted but not yet committed so; a binary one has no lines to check.
        let Ok(bytes) = fs::read(&file) else { continue };
        let Ok(text) = String::from_utf8(bytes) else { continue };
        sources.push(Source { path: path.to_string(), text });
    }
    Ok(sources)
}

#[cfg(test)]
pub fn source(path: &str, text: &str) -> Source {
    Source { path: path.to_string(), text: text.to_string() }
}
