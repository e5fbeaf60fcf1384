//! What `swinstyle train generator` reads.

use serde::{Deserialize, Serialize};
use swinstyle_models::stylegan2::{Channels, DiscriminatorConfig, GeneratorConfig};

use super::{ConfigFile, DataConfig, Kind, OptimizerConfig, RunConfig};
use crate::augment::AugmentConfig;

/// Sizes of a generator and its discriminator, as configuration files give them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GanModel {
    /// Pixels of an edge.
    pub size: usize,
    /// Length of z and w.
    pub style_dim: usize,
    /// Layers of the mapping network.
    pub mapping_layers: usize,
    /// Learning-rate multiplier of the mapping network.
    pub mapping_lr_multiplier: f64,
    /// Channels are min(base / resolution, max).
    pub channel_base: usize,
    /// See `channel_base`.
    pub channel_max: usize,
    /// The discriminator's `channel_base`.
    pub discriminator_base: usize,
    /// The discriminator's `channel_max`.
    pub discriminator_max: usize,
    /// Group of the minibatch standard deviation.
    pub stddev_group: usize,
}

impl GanModel {
    /// The generator's sizes.
    pub fn generator(&self) -> GeneratorConfig {
        GeneratorConfig {
            size: self.size,
            style_dim: self.style_dim,
            mapping_layers: self.mapping_layers,
            mapping_lr_multiplier: self.mapping_lr_multiplier,
            channels: Channels::from_base(self.size, self.channel_base, self.channel_max),
        }
    }

    /// The discriminator's sizes.
    pub fn discriminator(&self) -> DiscriminatorConfig {
        DiscriminatorConfig {
            size: self.size,
            channels: Channels::from_base(self.size, self.discriminator_base, self.discriminator_max),
            stddev_group: self.stddev_group,
            outputs: 1,
        }
    }
}

/// StyleGAN2's objective and regularisation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GanLoss {
    /// Weight γ of R1 (its loss is γ/2 · R1).
    pub r1_gamma: f64,
    /// Steps between R1 steps.
    pub r1_interval: u64,
    /// Weight of the path-length penalty; 0 leaves it out.
    pub path_length_weight: f64,
    /// Rate of the running mean of path lengths.
    pub path_length_decay: f64,
    /// Steps between path-length steps.
    pub path_length_interval: u64,
    /// The path-length batch is the batch divided by this.
    pub path_length_batch_shrink: usize,
    /// Probability that a batch mixes the styles of two codes.
    pub style_mixing: f64,
    /// Images over which the averaged weights forget half.
    pub ema_half_life: f64,
}

/// `swinstyle train generator`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GeneratorTraining {
    /// Length, batch and outputs of the run.
    pub run: RunConfig,
    /// Training images.
    pub data: DataConfig,
    /// Sizes.
    pub model: GanModel,
    /// Adam for both networks.
    pub optimizer: OptimizerConfig,
    /// Objective.
    pub loss: GanLoss,
    /// Adaptive augmentation of what the discriminator sees; without the section there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub augment: Option<AugmentConfig>,
}

impl ConfigFile for GeneratorTraining {
    const KIND: Kind = Kind::Generator;
}
