//! What `swinstyle train encoder` reads.

use serde::{Deserialize, Serialize};

use super::{ConfigFile, DataConfig, Kind, OptimizerConfig, RunConfig};
use crate::{adversary::AdversaryConfig, task::Task};

/// Form of the distribution alignment loss [paper names it].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Alignment {
    /// Neighbourhoods of features of the encoder's backbone against those of the generator [sibling]: [`pairwise_kl`](crate::losses::pairwise_kl).
    #[default]
    PairwiseKl,
    /// Codes against mapped w, as Gaussians [ours]: [`latent_kl`](crate::losses::latent_kl).
    LatentKl,
}

/// Weights of the encoder's loss terms; a term of weight 0 is not computed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderLoss {
    /// λ of the mean squared error.
    pub l2: f64,
    /// λ of the discriminator-feature distance.
    pub perceptual: f64,
    /// λ of ‖w − w_avg‖.
    pub w_norm: f64,
    /// λ of the distribution alignment.
    pub alignment: f64,
    /// Form of the alignment.
    #[serde(default)]
    pub alignment_form: Alignment,
    /// λ of the inversion discriminator's term; it needs `[discriminator]`.
    #[serde(default)]
    pub adversarial: f64,
    /// λ of e4e's Σ ‖w_i − w_0‖.
    #[serde(default)]
    pub delta: f64,
    /// λ of LPIPS.
    #[serde(default)]
    pub lpips: f64,
    /// The file or files with LPIPS' trunk and linear heads, as the process finds them from where it runs.
    #[serde(default, deserialize_with = "crate::foreign::files")]
    pub lpips_weights: Vec<std::path::PathBuf>,
    /// λ of the identity loss.
    #[serde(default)]
    pub identity: f64,
    /// The file with ArcFace's IR-SE50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_weights: Option<std::path::PathBuf>,
}

/// e4e's progressive stages [ref, arXiv 2102.02766, §4.2]: at first all styles are style 0; from `start_images` on another one is let go every
/// `every_images`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progressive {
    /// Images with one style.
    pub start_images: u64,
    /// Images of each stage after that.
    pub every_images: u64,
}

impl Progressive {
    /// Styles that have a value of their own after `images`, of `styles`.
    pub fn free_styles(&self, images: u64, styles: usize) -> usize {
        let Some(past) = images.checked_sub(self.start_images) else { return 1.min(styles) };
        (2 + (past / self.every_images.max(1)) as usize).min(styles)
    }
}

/// `swinstyle train encoder`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderTraining {
    /// Length, batch and outputs of the run.
    pub run: RunConfig,
    /// Training images.
    pub data: DataConfig,
    /// What the encoder reads.
    #[serde(default, skip_serializing_if = "Task::is_inversion")]
    pub task: Task,
    /// Sizes and switches of the encoder.
    pub model: swinstyle_models::styleformer::StyleformerConfig,
    /// Optimiser of the encoder.
    pub optimizer: OptimizerConfig,
    /// Objective.
    pub loss: EncoderLoss,
    /// The inversion discriminator, for `loss.adversarial`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discriminator: Option<AdversaryConfig>,
    /// Styles let go one after another; without it all are free from the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progressive: Option<Progressive>,
    /// Images over which the averaged weights forget half; 0 keeps no average.
    pub ema_half_life: f64,
    /// Whether the generator is trained along (pSp's option); recorded in the checkpoint.
    pub train_decoder: bool,
}

impl ConfigFile for EncoderTraining {
    const KIND: Kind = Kind::Encoder;
}
