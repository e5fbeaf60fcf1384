//! `swinstyle ablate`: the file that names the rows.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use swinstyle_files::safe_name;

use super::ClassifierConfig;
use crate::{
    Result,
    config::{ConfigFile, EncoderTraining, Kind, Source, bad_key, load},
};

/// An ablation as its file gives it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AblationConfig {
    /// The generator that all rows invert into; the path is relative to this file.
    pub generator: PathBuf,
    /// The encoder configuration that all rows start from; the path is relative to this file.
    pub base: PathBuf,
    /// Overrides of all rows, as with `train encoder --set`.
    #[serde(default)]
    pub set: Vec<String>,
    /// Each row is trained once with each of these.
    pub seeds: Vec<u64>,
    /// What is measured on.
    pub heldout: Heldout,
    /// What agreement and features are measured with.
    pub classifier: ClassifierConfig,
    /// The rows, in the order of the table.
    pub rows: Vec<Row>,
}

/// Portraits that no training sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heldout {
    /// Seed of the picks.
    pub seed: u64,
    /// How many.
    pub images: u64,
}

/// One encoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Short name: that of its folder.
    pub id: String,
    /// Name in the table.
    pub name: String,
    /// Row whose overrides come before this one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// What differs.
    #[serde(default)]
    pub set: Vec<String>,
}

impl ConfigFile for AblationConfig {
    const KIND: Kind = Kind::Ablation;
}

impl AblationConfig {
    /// Reads and checks the file; `overrides` as with [`load`].
    ///
    /// Errors name the file and the line, or the key: no rows or seeds, two rows of one id, `after` a row that does not stand above.
    pub fn read(path: &Path, overrides: &[String]) -> Result<Self> {
        let mut config: Self = load(path, overrides)?;
        let bad = |key: &str, detail: String| Err(bad_key(&format!("{}: {key}", path.display()), detail));
        if config.rows.is_empty() {
            return bad("rows", "an ablation needs one row at least".into());
        }
        let distinct: BTreeSet<u64> = config.seeds.iter().copied().collect();
        if distinct.len() != config.seeds.len() {
            return bad("seeds", "two of them are equal".into());
        }
        let mut known: Vec<&str> = Vec::new();
        for row in &config.rows {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            if !row.id.chars().all(plain) || safe_name(&row.id) != row.id {
                return bad(
                    "rows.id",
                    format!("`{}` is not made of letters, digits and dashes, a letter or digit first", row.id),
                );
            }
            if known.contains(&row.id.as_str()) {
                return bad("rows.id", format!("two rows are called `{}`", row.id));
            }
            if let Some(after) = &row.after
                && !known.contains(&after.as_str())
            {
                return bad("rows.after", format!("no row `{after}` stands above `{}`", row.id));
            }
            known.push(&row.id);
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        (config.generator, config.base) = (folder.join(&config.generator), folder.join(&config.base));
        Ok(config)
    }

    /// The training of a row with a seed.
    ///
    /// Errors: those of the base file, and overrides that it does not know.
    pub fn training(&self, row: &Row, seed: u64) -> Result<EncoderTraining> {
        self.source(row, seed)?.load()
    }

    /// The base file with a row's overrides.
    pub fn source(&self, row: &Row, seed: u64) -> Result<Source> {
        Source::read(&self.base, &self.overrides(row, seed))
    }

    /// What a row's training has set over the base file, in order.
    pub fn overrides(&self, row: &Row, seed: u64) -> Vec<String> {
        let own = self.own_overrides(row);
        self.set.iter().cloned().chain(own).chain([format!("run.seed={seed}")]).collect()
    }

    /// A row's overrides after those of the rows that it builds on.
    fn own_overrides(&self, row: &Row) -> Vec<String> {
        let above = row.after.as_ref().and_then(|id| self.rows.iter().find(|r| r.id == *id));
        let mut all = above.map(|r| self.own_overrides(r)).unwrap_or_default();
        all.extend(row.set.iter().cloned());
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        generator = "g.safetensors"
        base = "encoder.toml"
        set = ["run.images=8"]
        seeds = [3]
        heldout = { seed = 1, images = 4 }
        classifier = { images = 8, batch = 4, learning_rate = 1e-3, width = 4, features = 4 }
        rows = [
            { id = "a", name = "A", set = ["model.multi_scale=false", "run.batch=4"] },
            { id = "b", name = "B", after = "a", set = ["model.multi_scale=true"] },
        ]
    "#;

    #[test]
    fn a_row_has_the_overrides_of_the_rows_that_it_builds_on() {
        let dir = tempfile::tempdir().unwrap();
        let base = include_str!("../../../../configs/avatar64-cpu-encoder.toml");
        std::fs::write(dir.path().join("encoder.toml"), base).unwrap();
        let path = dir.path().join("ablation.toml");
        std::fs::write(&path, FILE).unwrap();
        let config = AblationConfig::read(&path, &[]).unwrap();
        assert_eq!(config.generator, dir.path().join("g.safetensors"));
        let a = config.training(&config.rows[0], 3).unwrap();
        let b = config.training(&config.rows[1], 3).unwrap();
        assert_eq!((a.run.images, a.run.batch, a.model.multi_scale, a.run.seed), (8, 4, false, 3));
        assert_eq!((b.run.images, b.run.batch, b.model.multi_scale), (8, 4, true));
    }

    #[test]
    fn files_that_make_no_ablation_name_what_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ablation.toml");
        for (from, to, expected) in [
            ("after = \"a\"", "after = \"c\"", "no row `c`"),
            ("id = \"b\"", "id = \"a\"", "two rows are called `a`"),
            ("id = \"b\"", "id = \"../b\"", "letters"),
            ("seeds = [3]", "seeds = []", "a list of 1 to 1000"),
            ("seeds = [3]", "seeds = [3, 3]", "equal"),
            ("seeds", "sedes", "ablation.toml:"),
        ] {
            std::fs::write(&path, FILE.replace(from, to)).unwrap();
            let error = AblationConfig::read(&path, &[]).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains('\n'), "{to}: {error}");
        }
    }
}
