//! `[optimizer]`: the optimiser of one network and its schedule.

use serde::{Deserialize, Serialize};

use super::bad_key;
use crate::{AdamOptions, Algorithm, Result, Schedule, schedule::Course};

/// Optimiser of one network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerConfig {
    /// Which one; `adamw` where nothing is said.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// Learning rate.
    pub learning_rate: f64,
    /// Adam's β₁.
    pub beta1: f64,
    /// Adam's β₂.
    pub beta2: f64,
    /// Adam's ε.
    pub epsilon: f64,
    /// Weight decay: decoupled, but for `adam`.
    pub weight_decay: f64,
    /// Schedule of the learning rate.
    pub schedule: Schedule,
    /// Images over which the learning rate rises.
    pub warmup_images: u64,
    /// Where the schedule `step` falls, in images.
    #[serde(default)]
    pub decay_images: Vec<u64>,
    /// By what it falls there.
    #[serde(default = "tenth")]
    pub decay_factor: f64,
    /// Limit of the common norm of all gradients; 0 for none.
    #[serde(default)]
    pub clip_norm: f64,
    /// `ranger`: fast steps between slow ones.
    #[serde(default = "six")]
    pub lookahead_steps: u64,
    /// `ranger`: how far the slow weights follow.
    #[serde(default = "half")]
    pub lookahead_alpha: f64,
    /// `ranger`: take from each gradient its mean over the axes of what an output reads, as pSp does.
    #[serde(default = "yes")]
    pub centralise: bool,
}

fn tenth() -> f64 {
    0.1
}

fn six() -> u64 {
    6
}

fn yes() -> bool {
    true
}

fn half() -> f64 {
    0.5
}

impl OptimizerConfig {
    /// The constants of the step after `images` of a run of `total`.
    pub fn options(&self, images: u64, total: u64) -> AdamOptions {
        let course = Course {
            schedule: self.schedule,
            warmup: self.warmup_images,
            total,
            decay_images: &self.decay_images,
            decay_factor: self.decay_factor,
        };
        AdamOptions {
            algorithm: self.algorithm,
            learning_rate: self.learning_rate * course.factor(images),
            beta1: self.beta1,
            beta2: self.beta2,
            epsilon: self.epsilon,
            weight_decay: self.weight_decay,
            lookahead_steps: self.lookahead_steps,
            lookahead_alpha: self.lookahead_alpha,
            centralise: self.centralise,
        }
    }

    /// Checks what the keys say together; `section` begins the key in errors.
    pub(crate) fn check(&self, section: &str) -> Result<()> {
        if self.schedule == Schedule::Step && self.decay_images.is_empty() {
            let detail = "the schedule `step` needs the images after which the rate falls";
            return Err(bad_key(&format!("{section}.decay_images"), detail));
        }
        Ok(())
    }
}
