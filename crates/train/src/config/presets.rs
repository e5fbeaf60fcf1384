//! The configurations that come with the program: the files of `configs/`, by their names.

use super::{Kind, Source};
use crate::{Result, config::bad_key};

/// A configuration that is built into the program.
#[derive(Debug, Clone, Copy)]
pub struct Preset {
    /// Its name: that of the file in `configs/`.
    pub name: &'static str,
    /// Which command reads it.
    pub kind: Kind,
    /// The file.
    pub text: &'static str,
}

macro_rules! presets {
    ($($name:literal: $kind:ident),* $(,)?) => {
        [$(Preset {
            name: $name,
            kind: Kind::$kind,
            text: include_str!(concat!("../../../../configs/", $name, ".toml")),
        }),*]
    };
}

/// All presets, by name.
pub const PRESETS: &[Preset] = &presets![
    "ablation-avatar64": Ablation,
    "ablation-smoke": Ablation,
    "adventurer-cpu-encoder": Encoder,
    "adventurer-cpu-generator": Generator,
    "avatar64-cpu-encoder": Encoder,
    "avatar64-cpu-generator": Generator,
    "avatar64-cpu-segmentation": Encoder,
    "avatar64-cpu-super-resolution": Encoder,
    "avatar64-encoder": Encoder,
    "avatar64-generator": Generator,
    "face1024-encoder": Encoder,
    "face1024-generator": Generator,
    "face256-encoder": Encoder,
    "face256-generator": Generator,
    "toon-head-cpu-encoder": Encoder,
    "toon-head-cpu-generator": Generator,
];

impl Preset {
    /// The preset of a kind by its name, or by that without the kind: `avatar64-cpu` for `avatar64-cpu-generator`.
    ///
    /// Errors: an unknown name, one of another kind; both list what there is.
    pub fn find(name: &str, kind: Kind) -> Result<&'static Self> {
        let full = format!("{name}-{kind}");
        let found = PRESETS.iter().find(|p| p.kind == kind && (p.name == name || p.name == full));
        found.ok_or_else(|| {
            let names: Vec<&str> = PRESETS.iter().filter(|p| p.kind == kind).map(|p| p.name).collect();
            let other = PRESETS.iter().find(|p| p.name == name);
            let what = other.map_or("is no preset".to_string(), |p| format!("is for {}", p.kind.command()));
            bad_key(
                &format!("preset `{name}`"),
                format!("{what}; those of {} are {}", kind.command(), names.join(", ")),
            )
        })
    }

    /// The preset with overrides.
    pub fn source(&self, overrides: Vec<String>) -> Source {
        Source { shown: format!("preset {}", self.name), text: self.text.to_string(), overrides }
    }

    /// What its first lines say about it.
    pub fn about(&self) -> String {
        let comment = self.text.lines().map_while(|line| line.strip_prefix('#')).map(str::trim);
        let text: Vec<&str> = comment.take_while(|line| !line.is_empty() && !line.starts_with("swinstyle ")).collect();
        text.join(" ")
    }
}
