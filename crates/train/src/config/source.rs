//! A configuration as the user gives it: the text of a file or preset, and overrides such as `run.batch=8`.
//!
//! Nothing is judged before all overrides are applied, so that they may build a section key by key. Errors name the override at fault, or the
//! file's line.

use std::path::Path;

use serde::{Serialize, de::DeserializeOwned};
use swinstyle_files::read_stream;
use swinstyle_models::ModelError;
use toml::{Table, Value};

use super::{
    Kind,
    check::{self, Fault},
    tables::{get, leaves, remove, set},
};
use crate::{Result, TrainError};

/// No configuration is larger. A device or a pipe may be endless.
const MOST_BYTES: usize = 1 << 20;

/// A configuration that a file can hold.
pub trait ConfigFile: Serialize + DeserializeOwned {
    /// Which keys the file has.
    const KIND: Kind;
}

/// The text of a configuration file with overrides.
#[derive(Debug, Clone)]
pub struct Source {
    /// What stands for the text in errors: the file's path, or the preset's name.
    pub shown: String,
    /// TOML.
    pub text: String,
    /// `KEY=VALUE` in the order in which they are applied.
    pub overrides: Vec<String>,
}

impl Source {
    /// A file. Errors: it cannot be read, or is no text.
    pub fn read(path: &Path, overrides: &[String]) -> Result<Self> {
        let shown = path.display().to_string();
        let error = |detail: String| TrainError::Config { path: shown.clone(), detail };
        let bytes = read_stream(path, MOST_BYTES + 1).map_err(|e| error(format!("cannot be read: {e}")))?;
        if bytes.len() > MOST_BYTES {
            return Err(error(format!("is larger than {} MiB: no configuration", MOST_BYTES >> 20)));
        }
        let text = String::from_utf8(bytes).map_err(|_| error("is no text: a configuration is a TOML file".into()))?;
        // Some editors of Windows put a mark before the first character.
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text).to_string();
        Ok(Self { shown, text, overrides: overrides.to_vec() })
    }

    /// The configuration, with the defaults of keys that are not given.
    ///
    /// Errors: syntax, unknown keys, the file of another command, values of another type or out of their range, missing keys.
    pub fn load<C: ConfigFile>(&self) -> Result<C> {
        let (mut table, given) = self.tables()?;
        self.check_kind(C::KIND)?;
        leave_other_source(&mut table, &given);
        check::check(&table, C::KIND).map_err(|fault| self.place(fault))?;
        check::fill(&mut table, C::KIND).map_err(|fault| self.place(fault))?;
        // What the table of keys lets pass is read; a message of the reader's own would be a gap between the two.
        table.try_into().map_err(|e: toml::de::Error| self.error(self.shown.clone(), e.message().replace('\n', " ")))
    }

    /// An error of a network's or a trainer's sizes with the place that it comes from; other errors come back as they are.
    pub fn located(&self, error: TrainError) -> TrainError {
        let (key, detail) = match &error {
            TrainError::Config { path: key, detail } if !key.contains([' ', ':', '/', '`']) => {
                (key.clone(), detail.clone())
            }
            TrainError::Model(e @ ModelError::Config { .. }) => ("model".to_string(), e.to_string()),
            _ => return error,
        };
        self.place(Fault { key, detail, absent: false })
    }

    /// The file's table with the overrides in it, and the keys that the overrides gave.
    fn tables(&self) -> Result<(Table, Table)> {
        let mut table: Table = toml::from_str(&self.text).map_err(|e| self.syntax(e))?;
        let mut given = Table::new();
        for o in &self.overrides {
            let bad = |detail: String| self.error(format!("override `{o}`"), detail);
            let Some((key, value)) = o.split_once('=') else {
                return Err(bad("key=value expected, such as run.batch=8".into()));
            };
            let (key, value) = (key.trim(), typed(value.trim()));
            if key.is_empty() || key.split('.').any(|part| part.trim().is_empty()) {
                return Err(bad("key=value expected, such as run.batch=8".into()));
            }
            for target in [&mut table, &mut given] {
                set(target, key, value.clone()).map_err(|part| bad(format!("`{part}` is no section")))?;
            }
        }
        Ok((table, given))
    }

    /// Errors: a file whose keys are those of another command.
    fn check_kind(&self, kind: Kind) -> Result<()> {
        let table: Table = toml::from_str(&self.text).map_err(|e| self.syntax(e))?;
        match kind_of(&table) {
            Some(other) if other != kind => {
                let article = if other == Kind::Generator { "a" } else { "an" };
                let detail = format!("is {article} {other}'s configuration: {} reads it", other.command());
                Err(self.error(self.shown.clone(), detail))
            }
            _ => Ok(()),
        }
    }

    fn syntax(&self, e: toml::de::Error) -> TrainError {
        let line = e.span().map(|s| self.text[..s.start.min(self.text.len())].lines().count().max(1));
        let path = line.map_or_else(|| self.shown.clone(), |l| format!("{}:{l}", self.shown));
        self.error(path, e.message().replace('\n', " "))
    }

    fn error(&self, path: String, detail: String) -> TrainError {
        TrainError::Config { path, detail }
    }

    /// A fault with the override that it comes from, or the file and the line.
    fn place(&self, Fault { key, detail, absent }: Fault) -> TrainError {
        let under = |a: &str, b: &str| a.strip_prefix(b).is_some_and(|rest| rest.starts_with('.'));
        let names = |o: &&String| {
            o.split_once('=').is_some_and(|(k, _)| {
                let k = k.trim();
                let section = key.rsplit_once('.').map_or("", |(section, _)| section);
                k == key || under(&key, k) || (absent && under(k, section))
            })
        };
        if let Some(o) = self.overrides.iter().rev().find(names) {
            let own = o.split_once('=').is_some_and(|(k, _)| k.trim() == key);
            let detail = if own { detail } else { format!("{key}: {detail}") };
            return self.error(format!("override `{o}`"), detail);
        }
        match line_of(&self.text, &key) {
            Some(line) => self.error(format!("{}:{line}: {key}", self.shown), detail),
            // The section is not in the file: an override of a key of it is the nearest place.
            None => match self.overrides.iter().rev().find(|o| under(o, &key)) {
                Some(o) => self.error(format!("override `{o}`"), format!("{key}: {detail}")),
                None => self.error(format!("{}: {key}", self.shown), detail),
            },
        }
    }
}

/// An override's value: TOML, or text where it is none, so that `data.style=adventurer` needs no quotes.
fn typed(value: &str) -> Value {
    let table = format!("v = {value}").parse::<Table>().ok();
    table.filter(|t| t.len() == 1).and_then(|mut t| t.remove("v")).unwrap_or_else(|| Value::String(value.to_string()))
}

/// The kind of configuration whose keys a table has; nothing where that cannot be told.
pub fn kind_of(table: &Table) -> Option<Kind> {
    let paths = leaves(table);
    let unknown = |kind: Kind| paths.iter().filter(|p| check::known(kind, p).is_none()).count();
    let mut counts: Vec<(usize, Kind)> = Kind::ALL.map(|k| (unknown(k), k)).to_vec();
    counts.sort_by_key(|(count, _)| *count);
    // One key too many is a typing error; a file of another kind has many.
    match counts[..] {
        [(least, kind), (next, _), ..] if next >= 2 * least + 2 => Some(kind),
        _ => None,
    }
}

/// Where overrides choose another source of data (or another task), what the file says of its own source is left out.
fn leave_other_source(table: &mut Table, given: &Table) {
    for tag in super::keys::TAGS {
        if get(given, tag).is_none() {
            continue;
        }
        let chosen = get(table, tag).cloned();
        for kind in Kind::ALL {
            for key in kind.keys() {
                let others = key
                    .only
                    .is_some_and(|(t, value)| t == tag && chosen.as_ref().and_then(Value::as_str) != Some(value));
                if others && get(given, key.path).is_none() {
                    remove(table, key.path);
                }
            }
        }
    }
}

/// The line, from 1, of a key such as `run.batch`, or of the section that it would stand in.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let document = toml::de::DeTable::parse(text).ok()?;
    let mut table = document.get_ref();
    let mut place = None;
    for part in key.split('.') {
        let Some((name, value)) = table.iter().find(|(name, _)| name.get_ref() == part) else { break };
        place = Some(name.span().start);
        let Some(inner) = value.get_ref().as_table() else { break };
        table = inner;
    }
    place.map(|at| text[..at.min(text.len())].matches('\n').count() + 1)
}
