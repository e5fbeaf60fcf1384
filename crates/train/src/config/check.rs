//! A configuration against the table of keys: unknown keys, types, ranges, defaults.

use toml::{Table, Value};

use super::{
    Kind,
    keys::{Absent, Key, OPTIONAL_SECTIONS, TAGS},
    tables::{get, leaves, set},
};

/// What is wrong at a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) key: String,
    pub(super) detail: String,
    /// Whether the key is not there: then whoever opened its section is at fault.
    pub(super) absent: bool,
}

fn fault(key: &str, detail: impl Into<String>) -> Fault {
    Fault { key: key.to_string(), detail: detail.into(), absent: false }
}

/// The key of a path. Sections are known too, where they are empty.
pub(super) fn known(kind: Kind, path: &str) -> Option<&'static Key> {
    let inside = |k: &&Key| k.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'));
    kind.key(path).or_else(|| kind.keys().find(inside))
}

/// The value of a tag in a table, or its default.
fn chosen<'a>(table: &'a Table, kind: Kind, tag: &str) -> Option<&'a str> {
    let default = || kind.key(tag)?.default(kind).map(|text| text.trim_matches('"'));
    get(table, tag).and_then(Value::as_str).or_else(default)
}

/// Errs at the first key that is unknown, that belongs to another source or task, or whose value is not taken.
pub(super) fn check(table: &Table, kind: Kind) -> Result<(), Fault> {
    // The choices first: what other keys mean hangs on them.
    for tag in TAGS {
        if let (Some(key), Some(value)) = (kind.key(tag), get(table, tag)) {
            take(key, value)?;
        }
    }
    for path in leaves(table) {
        let Some(key) = known(kind, &path) else { return Err(unknown(kind, &path)) };
        if key.path != path {
            // An empty section, or a value where a section belongs.
            match get(table, &path) {
                Some(Value::Table(_)) => continue,
                Some(value) => return Err(fault(&path, format!("{} where a section is expected", shown(value)))),
                None => continue,
            }
        }
        if let Some((tag, wanted)) = key.only {
            let now = chosen(table, kind, tag).unwrap_or_default();
            if now != wanted {
                return Err(fault(&path, format!("belongs to {tag} = \"{wanted}\", and here it is \"{now}\"")));
            }
        }
        if let Some(value) = get(table, &path) {
            take(key, value)?;
        }
    }
    Ok(())
}

fn take(key: &Key, value: &Value) -> Result<(), Fault> {
    if key.values.take(value) {
        return Ok(());
    }
    Err(fault(key.path, format!("{} is not {}", shown(value), key.values.describe())))
}

/// A value in an error, short.
fn shown(value: &Value) -> String {
    let text = value.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn unknown(kind: Kind, path: &str) -> Fault {
    let (section, name) = path.rsplit_once('.').unwrap_or(("", path));
    let mut names: Vec<&str> = kind.keys().filter(|k| k.section() == section).map(Key::name).collect();
    if section.is_empty() {
        let mut sections: Vec<&str> = kind.keys().filter_map(|k| Some(k.path.split_once('.')?.0)).collect();
        sections.dedup();
        names.extend(sections);
    }
    if names.is_empty() {
        return fault(path, format!("there is no section `{section}`; `swinstyle config keys {kind}` lists all keys"));
    }
    fault(path, format!("unknown key `{name}`; the keys here are {}", names.join(", ")))
}

/// Puts in what holds where a key is not given. Errs for what nobody but the user knows.
pub(super) fn fill(table: &mut Table, kind: Kind) -> Result<(), Fault> {
    for key in kind.keys() {
        let section = key.path.split_once('.').map_or("", |(section, _)| section);
        if get(table, key.path).is_some() || (OPTIONAL_SECTIONS.contains(&section) && !table.contains_key(section)) {
            continue;
        }
        if let Some((tag, wanted)) = key.only
            && chosen(table, kind, tag) != Some(wanted)
        {
            continue;
        }
        match (key.default(kind), key.absent) {
            (Some(text), _) => {
                let value = format!("v = {text}").parse::<Table>().ok().and_then(|mut t| t.remove("v"));
                let value = value.ok_or_else(|| fault(key.path, "its default cannot be read"))?;
                set(table, key.path, value).map_err(|part| fault(&part, "is no section"))?;
            }
            (None, Absent::Error) => {
                return Err(Fault { absent: true, ..fault(key.path, format!("is missing: {}", key.meaning)) });
            }
            _ => {}
        }
    }
    Ok(())
}
