//! What a native checkpoint says about itself: the JSON under one key of the safetensors metadata.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Key of the header in a file's metadata.
pub(crate) const KEY: &str = "swinstyle";

/// The header of a native checkpoint.
///
/// Keys that this version does not know are ignored and absent ones take their default, so that older and
/// newer files stay readable.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CheckpointHeader {
    /// What the weights are of, such as `stylegan2` or `swinstyleformer`.
    pub architecture: String,
    /// The preset whose sizes the network has, such as `avatar64`; empty where they are nobody's.
    pub preset: String,
    /// The whole configuration, as the code that builds the model wants it.
    pub config: Value,
    /// Training steps done.
    pub step: u64,
    /// Training images shown, with repetition.
    pub images_seen: u64,
    /// What it was trained on.
    pub data: DataSource,
    /// The run's seed.
    pub seed: u64,
    /// Program and version that wrote the file.
    pub created_by: String,
}

/// The data behind a checkpoint, as far as its users must know.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DataSource {
    /// What it is, in words.
    pub description: String,
    /// Its licence.
    pub licence: String,
    /// Whom the licence asks to name.
    pub attribution: String,
}
