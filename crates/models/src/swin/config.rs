//! Sizes of a Swin Transformer.

use serde::{Deserialize, Serialize};

use crate::{
    ModelError, Result,
    ranges::{self, check},
};

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
            return error(format!("dims has {stages} stages; it must have from 1 to 8"));
        }
        let lengths = [("depths", self.depths.len()), ("heads", self.heads.len()), ("windows", self.windows.len())];
        for (key, found) in lengths {
            if found != stages {
                return error(format!("{key} has {found} entries, dims {:?} has {stages}", self.dims));
            }
        }
        check("swin", "in_channels", self.in_channels, &ranges::IN_CHANNELS)?;
        check("swin", "patch", self.patch, &ranges::PATCH)?;
        check("swin", "classes", self.classes.unwrap_or(1), &ranges::CLASSES)?;
        for stage in 0..stages {
            let (dim, heads) = (self.dims[stage], self.heads[stage]);
            check("swin", format_args!("dims[{stage}]"), dim, &ranges::CHANNELS)?;
            check("swin", format_args!("depths[{stage}]"), self.depths[stage], &ranges::DEPTH)?;
            check("swin", format_args!("heads[{stage}]"), heads, &ranges::HEADS)?;
            for side in self.windows[stage].size() {
                check("swin", format_args!("windows[{stage}]"), side, &ranges::WINDOW)?;
            }
            if dim % heads != 0 {
                return error(format!("heads {:?} do not divide dims {:?} (stage {stage})", self.heads, self.dims));
            }
        }
        check("swin", "mlp_ratio", self.mlp_ratio, &ranges::MLP_RATIO)?;
        check("swin", "stochastic_depth", self.stochastic_depth, &ranges::STOCHASTIC_DEPTH)?;
        Ok(())
    }
}
