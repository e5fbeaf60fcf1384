//! Configuration files of training runs: TOML, unknown keys are errors, command-line overrides by `key=value`.
//!
//! [`keys`] says what every key takes and means; [`Source`] is a file or preset with its overrides.

mod check;
mod data;
mod document;
mod encoder;
mod generator;
pub mod keys;
mod optimizer;
mod presets;
mod source;
mod tables;

use std::path::Path;

use serde::{Deserialize, Serialize};
use swinstyle_tensor::DType;

use crate::{Result, TrainError};

pub use data::DataConfig;
pub use document::{page, schema};
pub use encoder::{Alignment, EncoderLoss, EncoderTraining, Progressive};
pub use generator::{GanLoss, GanModel, GeneratorTraining};
pub use keys::Kind;
pub use optimizer::OptimizerConfig;
pub use presets::{PRESETS, Preset};
pub use source::{ConfigFile, Source, kind_of};

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
/// Errors name the file and the line, or the override: see [`Source::load`].
pub fn load<C: ConfigFile>(path: &Path, overrides: &[String]) -> Result<C> {
    Source::read(path, overrides)?.load()
}

/// [`load`] from text; `shown` stands for the file in errors.
pub fn parse<C: ConfigFile>(text: &str, shown: &str, overrides: &[String]) -> Result<C> {
    Source { shown: shown.into(), text: text.into(), overrides: overrides.to_vec() }.load()
}

/// A configuration error at a key.
pub(crate) fn bad_key(key: &str, detail: impl Into<String>) -> TrainError {
    TrainError::Config { path: key.to_string(), detail: detail.into() }
}

/// Checks a configuration that code has put together, as [`Source::load`] checks a file. Errors name the key.
pub(crate) fn check_values<C: ConfigFile>(config: &C) -> Result<()> {
    let table = toml::Table::try_from(config).map_err(|e| bad_key("configuration", e.to_string()))?;
    check::check(&table, C::KIND).map_err(|fault| bad_key(&fault.key, fault.detail))
}

/// Checks what the keys of a run say together.
pub(crate) fn check_run(run: &RunConfig) -> Result<()> {
    if run.batch.is_multiple_of(run.accumulate.max(1)) {
        return Ok(());
    }
    Err(bad_key("run.accumulate", format!("{} does not divide run.batch {}", run.accumulate, run.batch)))
}
