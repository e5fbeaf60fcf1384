//! Sizes of a Swin Transformer.

use serde::{Deserialize, Serialize};

use crate::{ModelError, Result};

/// Tokens of an attention window: `4` or `[rows, columns]` in a configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Window {
    /// As many rows as columns.
    Square(usize),
    /// Rows and columns.
    Rectangle([usize; 2]),
}

impl Window {
    /// Rows and columns.
    pub fn size(self) -> [usize; 2] {
        match self {
            Self::Square(n) => [n, n],
            Self::Rectangle(size) => size,
        }
    }
}

/// Sizes of a Swin Transformer; one entry a stage in each list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwinConfig {
    /// Channels of the image, or of the one-hot label map.
    #[serde(default = "rgb")]
    pub in_channels: usize,
    /// Pixels of an edge of a patch.
    pub patch: usize,
    /// Channels.
    pub dims: Vec<usize>,
    /// Blocks. Odd ones (counted from 0) shift their windows by half.
    pub depths: Vec<usize>,
    /// Attention heads.
    pub heads: Vec<usize>,
    /// Attention windows.
    pub windows: Vec<Window>,
    /// Hidden width of the MLPs as a multiple of the stage's channels.
    #[serde(default = "four")]
    pub mlp_ratio: f64,
    /// Classes of the classifier; without, there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<usize>,
    /// Probability with which training drops the branches of the last block; earlier blocks' grow linearly from 0.
    #[serde(default)]
    pub stochastic_depth: f64,
}

fn rgb() -> usize {
    3
}

fn four() -> f64 {
    4.0
}

impl SwinConfig {
    /// Checks that the sizes make a network. Errors name the key and the values.
    pub fn validate(&self) -> Result<()> {
        let error = |detail: String| Err(ModelError::config("swin", detail));
        let stages = self.dims.len();
        if stages == 0 || stages > 8 {
            return error(format!("dims {:?}: one to eight stages expected", self.dims));
        }
        let lengths = [("depths", self.depths.len()), ("heads", self.heads.len()), ("windows", self.windows.len())];
        for (key, found) in lengths {
            if found != stages {
                return error(format!("{key} has {found} entries, dims {:?} has {stages}", self.dims));
            }
        }
        let single = [("in_channels", self.in_channels), ("patch", self.patch), ("classes", self.classes.unwrap_or(1))];
        for (key, value) in single {
            if !(1..=1 << 16).contains(&value) {
                return error(format!("{key} {value} is not between 1 and 65536"));
            }
        }
        for stage in 0..stages {
            let (dim, depth, heads) = (self.dims[stage], self.depths[stage], self.heads[stage]);
            if heads == 0 || dim == 0 || dim % heads != 0 || dim > 1 << 16 {
                return error(format!("heads {:?} do not divide dims {:?} (stage {stage})", self.heads, self.dims));
            }
            if depth == 0 || depth > 1000 {
                return error(format!("depths {:?}: stage {stage} has not between 1 and 1000 blocks", self.depths));
            }
            let window = self.windows[stage].size();
            if window.iter().any(|w| !(1..=256).contains(w)) {
                return error(format!("windows: stage {stage} has {window:?}, each side must be from 1 to 256"));
            }
        }
        if !(self.mlp_ratio > 0.0 && self.mlp_ratio <= 64.0) {
            return error(format!("mlp_ratio {} is not above 0 and at most 64", self.mlp_ratio));
        }
        if !(0.0..1.0).contains(&self.stochastic_depth) {
            return error(format!("stochastic_depth {} is not a probability below 1", self.stochastic_depth));
        }
        Ok(())
    }
}
