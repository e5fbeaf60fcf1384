//! The reference of all keys: as text, as a JSON schema, as a page of the documentation.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::keys::{Absent, Key, Kind, Values};

impl Key {
    /// What holds without it, in words.
    pub fn default_in_words(&self, kind: Kind) -> String {
        match (self.default(kind), self.absent) {
            (Some(value), _) => value.to_string(),
            (None, Absent::Nothing(what)) => format!("none: {what}"),
            _ => "required".into(),
        }
    }

    /// Its meaning, with the choice that it belongs to.
    pub fn meaning_in_full(&self) -> String {
        match self.only {
            Some((tag, value)) => format!("With {tag} = \"{value}\": {}", self.meaning),
            None => self.meaning.to_string(),
        }
    }
}

/// The keys of a kind as a JSON schema (draft 2020-12).
pub fn schema(kind: Kind) -> Value {
    let mut root = section();
    root["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    root["title"] = format!("{} --config FILE", kind.command()).into();
    for key in kind.keys() {
        put(&mut root, key.path, property(key, kind));
    }
    root
}

/// Puts a property at a path, making the sections on the way.
fn put(object: &mut Value, path: &str, property: Value) {
    match path.split_once('.') {
        None => object["properties"][path] = property,
        Some((name, rest)) => {
            let inner = &mut object["properties"][name];
            if inner.is_null() {
                *inner = section();
            }
            put(inner, rest, property);
        }
    }
}

fn section() -> Value {
    json!({ "type": "object", "additionalProperties": false, "properties": {} })
}

fn property(key: &Key, kind: Kind) -> Value {
    let mut property = values(&key.values);
    property["description"] = key.meaning_in_full().into();
    let default = key.default(kind).and_then(|text| format!("v = {text}").parse::<toml::Table>().ok());
    if let Some(default) = default.and_then(|t| serde_json::to_value(&t["v"]).ok()) {
        property["default"] = default;
    }
    property
}

fn values(values: &Values) -> Value {
    let groups = ["blit", "geometric", "colour"];
    match values {
        Values::Whole(from, to) => json!({ "type": "integer", "minimum": from, "maximum": to }),
        Values::PowerOfTwo(from, to) => {
            let powers: Vec<u64> = (0..64).map(|k| 1 << k).filter(|v| (*from..=*to).contains(v)).collect();
            json!({ "enum": powers })
        }
        Values::Number(from, to, above, below) => {
            let low = if *above { "exclusiveMinimum" } else { "minimum" };
            let high = if *below { "exclusiveMaximum" } else { "maximum" };
            json!({ "type": "number", low: from, high: to })
        }
        Values::Flag => json!({ "type": "boolean" }),
        Values::Text => json!({ "type": "string" }),
        Values::Path => json!({ "type": "string", "minLength": 1 }),
        Values::Choice(words) => json!({ "enum": words }),
        Values::Wholes([from, to], [shortest, longest]) => {
            let items = json!({ "type": "integer", "minimum": from, "maximum": to });
            json!({ "type": "array", "items": items, "minItems": shortest, "maxItems": longest })
        }
        Values::Windows => {
            let side = json!({ "type": "integer", "minimum": 1, "maximum": 256 });
            let pair = json!({ "type": "array", "items": side, "minItems": 2, "maxItems": 2 });
            json!({ "type": "array", "items": { "anyOf": [side, pair] }, "minItems": 3, "maxItems": 8 })
        }
        Values::Files => json!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] }),
        Values::Texts => json!({ "type": "array", "items": { "type": "string" } }),
        Values::Groups => {
            let list = json!({ "type": "array", "items": { "enum": groups }, "minItems": 1 });
            json!({ "anyOf": [{ "type": "string", "pattern": "^[bgc]+$" }, list] })
        }
        Values::Labels | Values::Rows => json!({ "type": "array", "items": { "type": "object" } }),
    }
}

/// The reference of all keys as a page in Markdown: docs/configuration.md.
pub fn page() -> String {
    let mut text = String::from(
        "# Configuration files\n\n\
         Every key of the files that `swinstyle train` and `swinstyle ablate` read, made by `swinstyle config keys --markdown`.\n\
         All have a default but those marked as required, so that a file may be as small as what it changes. `--set run.batch=8` overrides a key, \
         and may build a section key by key. Values out of their range, unknown keys and the file of another command are errors before anything is \
         written. `swinstyle config list` names the presets, `show NAME` prints one, `check FILE` judges a file, `schema KIND` prints a JSON schema.\n",
    );
    for (title, kind, keys) in parts() {
        let _ = write!(text, "\n## {title}\n");
        tables(&mut text, kind, keys);
    }
    text
}

/// The parts of the page.
fn parts() -> [(&'static str, Option<Kind>, Vec<&'static Key>); 4] {
    let shared: Vec<&Key> =
        Kind::Generator.keys().filter(|k| Kind::Encoder.key(k.path).is_some_and(|e| std::ptr::eq(*k, e))).collect();
    let own = |kind: Kind| kind.keys().filter(|k| !shared.iter().any(|s| std::ptr::eq(*s, *k))).collect::<Vec<_>>();
    let (generator, encoder) = (own(Kind::Generator), own(Kind::Encoder));
    [
        ("Generators and encoders", None, shared),
        ("Generators", Some(Kind::Generator), generator),
        ("Encoders", Some(Kind::Encoder), encoder),
        ("Ablations", Some(Kind::Ablation), Kind::Ablation.keys().collect()),
    ]
}

/// A table of each section.
fn tables(text: &mut String, kind: Option<Kind>, keys: Vec<&'static Key>) {
    let mut open = None;
    for key in keys {
        if open != Some(key.section()) {
            open = Some(key.section());
            let heading = match key.section() {
                "" => "At the top of the file".to_string(),
                section => format!("`[{section}]`"),
            };
            let _ = write!(text, "\n### {heading}\n\n| key | takes | default | meaning |\n|---|---|---|---|\n");
        }
        let cell = |s: String| s.replace('|', "\\|");
        let (takes, meaning) = (cell(key.values.describe()), cell(key.meaning_in_full()));
        let _ = writeln!(text, "| `{}` | {takes} | {} | {meaning} |", key.name(), cell(default_cell(key, kind)));
    }
}

fn default_cell(key: &Key, kind: Option<Kind>) -> String {
    match (key.default(Kind::Generator), key.default(Kind::Encoder)) {
        (Some(generator), Some(encoder)) if kind.is_none() && generator != encoder => {
            format!("`{generator}` (encoders: `{encoder}`)")
        }
        (Some(value), _) => format!("`{value}`"),
        _ => key.default_in_words(kind.unwrap_or(Kind::Generator)),
    }
}
