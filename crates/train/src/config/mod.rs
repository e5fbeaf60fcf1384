//! Configuration files of training runs: TOML, unknown keys are errors, command-line overrides by `key=value`.

mod data;
mod encoder;
mod generator;
mod optimizer;

use std::path::Path;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use swinstyle_models::ModelError;
use swinstyle_tensor::DType;

use crate::{Result, TrainError};

pub use data::DataConfig;
pub use encoder::{Alignment, EncoderLoss, EncoderTraining, Progressive};
pub use generator::{GanLoss, GanModel, GeneratorTraining};
pub use optimizer::OptimizerConfig;

/// What every training run has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Seed of the initial weights, the order of the images and all noise.
    pub seed: u64,
    /// Training images to show in all.
    pub images: u64,
    /// Images a step.
    pub batch: usize,
    /// Parts in which a step's images are computed, their gradients added up: memory for time. Terms that compare the images of a
    /// batch (alignment, minibatch standard deviation) see one part at a time.
    #[serde(default = "one")]
    pub accumulate: usize,
    /// Steps between lines of `metrics.jsonl`.
    pub log_steps: u64,
    /// Images between sample grids.
    pub sample_images: u64,
    /// Minutes between checkpoints; there is one at the start and one at the end too.
    pub checkpoint_minutes: f64,
    /// Checkpoints that are kept.
    pub keep: usize,
    /// Type in which the networks compute: `f32`, `bf16` or `f16`. Weights, averages, optimizer, regularisations and the inversion
    /// discriminator are f32 in any case.
    #[serde(default = "single", with = "precision")]
    pub precision: DType,
}

fn single() -> DType {
    DType::F32
}

/// A type as text.
mod precision {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use swinstyle_tensor::DType;

    pub(super) fn serialize<S: Serializer>(dtype: &DType, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(dtype)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<DType, D::Error> {
        String::deserialize(d)?.parse().map_err(D::Error::custom)
    }
}

fn one() -> usize {
    1
}

/// Reads a configuration and applies overrides such as `run.batch=8`.
///
/// Errors name the file and the line, or the override: syntax, unknown or missing keys, wrong types.
pub fn load<C: DeserializeOwned>(path: &Path, overrides: &[String]) -> Result<C> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|e| TrainError::Config { path: shown.clone(), detail: format!("cannot be read: {e}") })?;
    parse(&text, &shown, overrides)
}

/// [`load`] from text; `shown` stands for the file in errors.
pub fn parse<C: DeserializeOwned>(text: &str, shown: &str, overrides: &[String]) -> Result<C> {
    let located = |e: toml::de::Error| {
        let line = e.span().map(|s| text[..s.start.min(text.len())].lines().count().max(1));
        let path = line.map_or_else(|| shown.to_string(), |l| format!("{shown}:{l}"));
        TrainError::Config { path, detail: e.message().replace('\n', " ") }
    };
    // The file alone first: its errors have lines.
    let config: C = toml::from_str(text).map_err(located)?;
    if overrides.is_empty() {
        return Ok(config);
    }
    let mut table: toml::Table = toml::from_str(text).map_err(located)?;
    for o in overrides {
        let bad = |detail: String| TrainError::Config { path: format!("override `{o}`"), detail };
        let Some((key, value)) = o.split_once('=') else {
            return Err(bad("key=value expected, such as run.batch=8".to_string()));
        };
        // A bare word is a string, so that `data.style=adventurer` needs no quotes.
        let value = value.trim();
        let value = format!("v = {value}")
            .parse::<toml::Table>()
            .ok()
            .and_then(|mut t| t.remove("v"))
            .unwrap_or_else(|| toml::Value::String(value.to_string()));
        let mut place = &mut table;
        let mut parts = key.trim().split('.').peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                place.insert(part.to_string(), value.clone());
                break;
            }
            // A section may be left out of the file; what no configuration knows is refused below.
            place = match place.entry(part).or_insert_with(|| toml::Table::new().into()) {
                toml::Value::Table(t) => t,
                _ => return Err(bad(format!("`{part}` is no section"))),
            };
        }
        // Checked one by one, so that the error names the override at fault.
        let checked: std::result::Result<C, _> = table.clone().try_into();
        if let Err(e) = checked {
            return Err(bad(e.message().replace('\n', " ")));
        }
    }
    table.try_into().map_err(located)
}

/// An error of a network's or a trainer's sizes with the place that it comes from: the override, or the file and the line of the key.
///
/// Errors that are not about the configuration come back as they are.
pub fn located(path: &Path, overrides: &[String], error: TrainError) -> TrainError {
    let (key, detail) = match &error {
        TrainError::Config { path: key, detail } if !key.contains([' ', ':', '/', '`']) => {
            (key.clone(), detail.clone())
        }
        TrainError::Model(e @ ModelError::Config { .. }) => ("model".to_string(), e.to_string()),
        _ => return error,
    };
    let names = |o: &&String| o.split_once('=').is_some_and(|(k, _)| k.trim() == key);
    if let Some(o) = overrides.iter().rev().find(names) {
        return TrainError::Config { path: format!("override `{o}`"), detail };
    }
    let line = std::fs::read_to_string(path).ok().and_then(|text| line_of(&text, &key));
    let line = line.map(|l| format!(":{l}")).unwrap_or_default();
    TrainError::Config { path: format!("{}{line}: {key}", path.display()), detail }
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

/// A configuration error at a key.
pub(crate) fn bad_key(key: &str, detail: impl Into<String>) -> TrainError {
    TrainError::Config { path: key.to_string(), detail: detail.into() }
}

/// Checks what every run must satisfy.
pub(crate) fn check_run(run: &RunConfig) -> Result<()> {
    let fields = [
        ("run.batch", run.batch as u64),
        ("run.accumulate", run.accumulate as u64),
        ("run.images", run.images),
        ("run.log_steps", run.log_steps),
        ("run.sample_images", run.sample_images),
        ("run.keep", run.keep as u64),
    ];
    let bad = |key: &str, detail: &str| Err(bad_key(key, detail));
    match fields.iter().find(|(_, v)| *v == 0) {
        Some((key, _)) => bad(key, "must be at least 1"),
        None if run.checkpoint_minutes.is_nan() || run.checkpoint_minutes < 0.0 => {
            bad("run.checkpoint_minutes", "must be a number from 0 on")
        }
        None if !run.batch.is_multiple_of(run.accumulate) => {
            bad("run.accumulate", &format!("{} does not divide run.batch {}", run.accumulate, run.batch))
        }
        None => Ok(()),
    }
}
