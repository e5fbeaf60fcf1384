//! What the files of a training say about it.

use serde_json::{Value, json};
use swinstyle_weights::CheckpointHeader;

use crate::{
    Position, Result, TrainError,
    config::{DataConfig, RunConfig},
    init::{self, Init},
};

/// A configuration as JSON.
pub(crate) fn to_json(value: &impl serde::Serialize) -> Result<Value> {
    serde_json::to_value(value)
        .map_err(|e| TrainError::Config { path: "configuration".into(), detail: format!("cannot be written: {e}") })
}

/// What a model's file says about the training of one of its networks.
pub(crate) fn training_record(header: &CheckpointHeader, init: Option<&Init>) -> Result<Value> {
    let mut record = json!({ "config": header.config, "images_seen": header.images_seen });
    if let Some(init) = init {
        record[init::KEY] = to_json(init)?;
    }
    Ok(record)
}

/// Header of a training state; `config` is the whole configuration that `run` and `data` are parts of.
pub(crate) fn state_header(
    architecture: &str,
    preset: &str,
    config: &impl serde::Serialize,
    (run, data): (&RunConfig, &DataConfig),
    at: Position,
) -> Result<CheckpointHeader> {
    Ok(CheckpointHeader {
        architecture: architecture.into(),
        preset: preset.into(),
        config: to_json(config)?,
        step: at.step,
        images_seen: at.images,
        data: data.describe()?,
        seed: run.seed,
        created_by: concat!("swinstyle ", env!("CARGO_PKG_VERSION")).into(),
    })
}
