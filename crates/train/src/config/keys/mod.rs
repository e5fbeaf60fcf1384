//! Every key of the configuration files: what it means, which values it takes, what it is where nothing is said.
//!
//! The one place for ranges and defaults. Files and overrides are checked against it before anything is built, and `swinstyle config keys`, the
//! JSON schema and docs/configuration.md are made from it.

mod ablation;
mod encoder;
mod generator;
mod shared;
mod values;

use std::fmt;

pub use values::Values;

/// A kind of configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `swinstyle train generator`.
    Generator,
    /// `swinstyle train encoder`.
    Encoder,
    /// `swinstyle ablate`.
    Ablation,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Generator, Self::Encoder, Self::Ablation];

    /// Its keys, in the order of the reference.
    pub fn keys(self) -> impl Iterator<Item = &'static Key> + Clone {
        let (first, second, third): (&[Key], &[Key], &[Key]) = match self {
            Self::Generator => (shared::KEYS, generator::KEYS, &[]),
            Self::Encoder => (shared::KEYS, encoder::KEYS, encoder::MODEL),
            Self::Ablation => (ablation::KEYS, &[], &[]),
        };
        first.iter().chain(second).chain(third)
    }

    /// The key of a path such as `run.batch`.
    pub fn key(self, path: &str) -> Option<&'static Key> {
        self.keys().find(|k| k.path == path)
    }

    /// The command that reads such a file.
    pub fn command(self) -> &'static str {
        match self {
            Self::Generator => "swinstyle train generator",
            Self::Encoder => "swinstyle train encoder",
            Self::Ablation => "swinstyle ablate",
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Generator => "generator",
            Self::Encoder => "encoder",
            Self::Ablation => "ablation",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What holds where a file does not have a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// This value, as TOML.
    Is(&'static str),
    /// Generators' and encoders' files differ.
    Differs {
        /// Of a generator, as TOML.
        generator: &'static str,
        /// Of an encoder, as TOML.
        encoder: &'static str,
    },
    /// Nothing: the key is optional, and this is what its absence means.
    Nothing(&'static str),
    /// An error: nobody but the user knows.
    Error,
}

/// A key of a configuration file.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Sections and name, such as `run.batch`.
    pub path: &'static str,
    /// What it takes.
    pub values: Values,
    /// What holds without it.
    pub absent: Absent,
    /// What it means, in one sentence or two.
    pub meaning: &'static str,
    /// The key and the value that this one belongs to, such as `data.source` and `folder`.
    pub only: Option<(&'static str, &'static str)>,
}

impl Key {
    pub(super) const fn new(path: &'static str, values: Values, absent: Absent, meaning: &'static str) -> Self {
        Self { path, values, absent, meaning, only: None }
    }

    /// A key that exists only where another has a certain value.
    pub(super) const fn only(mut self, tag: (&'static str, &'static str)) -> Self {
        self.only = Some(tag);
        self
    }

    /// Its section, empty at the top.
    pub fn section(&self) -> &'static str {
        self.path.rsplit_once('.').map_or("", |(section, _)| section)
    }

    /// Its name within the section.
    pub fn name(&self) -> &'static str {
        self.path.rsplit_once('.').map_or(self.path, |(_, name)| name)
    }

    /// Its default in a kind of file, as TOML.
    pub fn default(&self, kind: Kind) -> Option<&'static str> {
        match (self.absent, kind) {
            (Absent::Is(value), _) => Some(value),
            (Absent::Differs { encoder, .. }, Kind::Encoder) => Some(encoder),
            (Absent::Differs { generator, .. }, _) => Some(generator),
            (Absent::Nothing(_) | Absent::Error, _) => None,
        }
    }
}

/// Sections that a file has only where it wants what they describe: their defaults hold within them, not without them.
pub const OPTIONAL_SECTIONS: [&str; 4] = ["augment", "discriminator", "progressive", "task"];

/// Keys whose value decides which others exist.
pub const TAGS: [&str; 2] = ["data.source", "task.kind"];
