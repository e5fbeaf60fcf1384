//! TOML tables by paths such as `run.batch`.

use toml::{Table, Value};

/// The value at a path.
pub(super) fn get<'a>(table: &'a Table, path: &str) -> Option<&'a Value> {
    match path.split_once('.') {
        Some((section, rest)) => get(table.get(section)?.as_table()?, rest),
        None => table.get(path),
    }
}

/// Puts a value at a path, making the sections on the way. Errors: the part of the path that is a value already.
pub(super) fn set(table: &mut Table, path: &str, value: Value) -> Result<(), String> {
    let Some((section, rest)) = path.split_once('.') else {
        table.insert(path.trim().to_string(), value);
        return Ok(());
    };
    let section = section.trim();
    match table.entry(section).or_insert_with(|| Table::new().into()) {
        Value::Table(inner) => set(inner, rest, value),
        _ => Err(section.to_string()),
    }
}

/// Takes the value at a path out.
pub(super) fn remove(table: &mut Table, path: &str) {
    match path.split_once('.') {
        Some((section, rest)) => {
            if let Some(Value::Table(inner)) = table.get_mut(section) {
                remove(inner, rest);
            }
        }
        None => {
            table.remove(path);
        }
    }
}

/// Paths of all values that are no tables, and of empty tables.
pub(super) fn leaves(table: &Table) -> Vec<String> {
    let mut paths = Vec::new();
    for (name, value) in table {
        match value {
            Value::Table(inner) if !inner.is_empty() => {
                paths.extend(leaves(inner).into_iter().map(|rest| format!("{name}.{rest}")));
            }
            _ => paths.push(name.clone()),
        }
    }
    paths
}
