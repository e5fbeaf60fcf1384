//! Sizes and switches of the encoder.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::{
    ModelError, Result, defaults,
    ranges::{self, check},
    swin::SwinConfig,
};

/// What turns a map into a style.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Head {
    /// Window attention with learned queries [paper].
    LearnableQuery,
    /// Window self-attention in the same place (ablation) [paper].
    SelfAttention,
    /// pSp's strided convolutions (ablation) [ref].
    Convolution,
}

/// Sizes of the map2style heads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MapToStyleConfig {
    /// Kind of head.
    pub head: Head,
    /// Channels of the three maps and of the heads' tokens.
    pub width: usize,
    /// Attention heads.
    pub heads: usize,
    /// Tokens of an edge of the attention window, a power of two; smaller maps are one window.
    #[serde(default = "four")]
    pub window: usize,
    /// Hidden width of the MLPs as a multiple of `width`.
    #[serde(default = "two")]
    pub mlp_ratio: f64,
    /// Whether the styles of a level share the N1 steps, which bring the level's tokens to 16 [ours]. The paper gives each style
    /// its own; shared, a level costs one network of N1 steps instead of one a style. The N2 steps stay each style's own.
    #[serde(default, skip_serializing_if = "defaults::usual")]
    pub shared_trunk: bool,
}

fn four() -> usize {
    4
}

fn two() -> f64 {
    2.0
}

fn yes() -> bool {
    true
}

/// The network that the maps come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trunk {
    /// The Swin Transformer [paper].
    #[default]
    Swin,
    /// pSp's convolutional residual network [ref], for the ablation: of the backbone's sizes it reads patch, dims, depths and in_channels.
    IrSe,
}

/// How styles follow from the heads' outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Codes {
    /// Each head gives its style's offset [ref pSp].
    #[default]
    Independent,
    /// Head 0 gives the offset of all styles, the others what their style differs by [ref e4e, arXiv 2102.02766].
    Delta,
}

/// Sizes and switches of the encoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StyleformerConfig {
    /// Pixels of an edge of the image.
    pub image_size: usize,
    /// Pixels of an edge of the generator's image: there are 2·log₂ − 2 styles.
    pub generator_size: usize,
    /// Length of w.
    pub style_dim: usize,
    /// Top-down connections between the stages; without them every level reads the last stage alone (ablation) [ours].
    #[serde(default = "yes")]
    pub multi_scale: bool,
    /// Which network the backbone is.
    #[serde(default, skip_serializing_if = "defaults::usual")]
    pub trunk: Trunk,
    /// How styles follow from the heads.
    #[serde(default, skip_serializing_if = "defaults::usual")]
    pub codes: Codes,
    /// Passes of ReStyle's refinement [ref, arXiv 2104.02699]. From 2 on the encoder reads the image and its last inversion (from the second pass on;
    /// in the first that of w_avg), `backbone.in_channels` is three more than the image's, and each pass adds to the code.
    #[serde(default = "defaults::one", skip_serializing_if = "defaults::is_one")]
    pub refine_steps: usize,
    /// The backbone's sizes.
    pub backbone: SwinConfig,
    /// The heads.
    pub map2style: MapToStyleConfig,
}

/// One of the three maps and the styles that read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level {
    /// `coarse`, `medium` or `fine`.
    pub name: &'static str,
    /// Stage of the backbone at the map's resolution.
    pub stage: usize,
    /// Tokens of an edge.
    pub side: usize,
    /// The styles.
    pub styles: Range<usize>,
}

impl StyleformerConfig {
    /// Channels of the image that is inverted: the backbone's without the last inversion's.
    pub fn image_channels(&self) -> usize {
        self.backbone.in_channels - if self.refine_steps > 1 { 3 } else { 0 }
    }

    /// Styles of W+: 2·log₂(generator_size) − 2 [ref].
    pub fn n_styles(&self) -> usize {
        (2 * self.generator_size.max(2).ilog2() as usize).saturating_sub(2)
    }

    /// The levels that some style reads, coarse first: styles 0–2, 3–6 and the rest [ref].
    pub fn levels(&self) -> Vec<Level> {
        let n = self.n_styles();
        let side = |stage: usize| self.image_size / (self.backbone.patch << stage);
        let level = |name, stage, from: usize, to: usize| Level {
            name,
            stage,
            side: side(stage),
            styles: from.min(n)..to.min(n),
        };
        let mut levels = vec![level("coarse", 2, 0, 3), level("medium", 1, 3, 7), level("fine", 0, 7, n)];
        levels.retain(|l| !l.styles.is_empty());
        levels
    }

    /// Checks that the sizes make a network. Errors name the key and the values.
    pub fn validate(&self) -> Result<()> {
        let error = |detail: String| Err(ModelError::config("styleformer", detail));
        self.backbone.validate()?;
        check("styleformer", "generator_size", self.generator_size, &ranges::SIZE)?;
        if !self.generator_size.is_power_of_two() {
            return error(format!("generator_size {} is not a power of two", self.generator_size));
        }
        check("styleformer", "image_size", self.image_size, &ranges::IMAGE_SIZE)?;
        check("styleformer", "style_dim", self.style_dim, &ranges::STYLE_DIM)?;
        check("styleformer", "refine_steps", self.refine_steps, &ranges::REFINE_STEPS)?;
        let stages = self.backbone.dims.len();
        if stages < 3 {
            return error(format!("backbone.dims {:?}: three stages at least give the three maps", self.backbone.dims));
        }
        if self.refine_steps > 1 && self.backbone.in_channels < 4 {
            return error(format!(
                "backbone.in_channels {}: with refine_steps {} the encoder reads three channels more than the image has",
                self.backbone.in_channels, self.refine_steps
            ));
        }
        if let Some(classes) = self.backbone.classes {
            return error(format!("backbone.classes {classes}: the encoder has no classifier"));
        }
        let patch = self.backbone.patch;
        let fine = self.image_size / patch;
        // The coarse map, two stages down, must hold 16 tokens, and the last stage one.
        let least = 16.max(1 << (stages - 1));
        if fine * patch != self.image_size || !fine.is_power_of_two() || !(least..=1 << 12).contains(&fine) {
            return error(format!(
                "image_size {} over backbone.patch {patch} is not a power of two from {least} to 4096 ({stages} stages)",
                self.image_size
            ));
        }
        let h = &self.map2style;
        check("styleformer", "map2style.width", h.width, &ranges::CHANNELS)?;
        check("styleformer", "map2style.heads", h.heads, &ranges::HEADS)?;
        check("styleformer", "map2style.window", h.window, &ranges::WINDOW)?;
        check("styleformer", "map2style.mlp_ratio", h.mlp_ratio, &ranges::MLP_RATIO)?;
        if !h.width.is_multiple_of(h.heads) {
            return error(format!("map2style.heads {} do not divide map2style.width {}", h.heads, h.width));
        }
        if !h.window.is_power_of_two() {
            return error(format!("map2style.window {} is not a power of two", h.window));
        }
        Ok(())
    }
}
