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
}

fn tenth() -> f64 {
    0.1
}

fn six() -> u64 {
    6
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
        }
    }

    /// Checks what types do not say; `section` begins the key in errors.
    pub(crate) fn check(&self, section: &str) -> Result<()> {
        let bad = |key: &str, detail: String| Err(bad_key(&format!("{section}.{key}"), detail));
        for (key, value) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&value) {
                return bad(key, format!("{value} is not from 0 to below 1"));
            }
        }
        for (key, value) in [
            ("learning_rate", self.learning_rate),
            ("weight_decay", self.weight_decay),
            ("clip_norm", self.clip_norm),
            ("decay_factor", self.decay_factor),
        ] {
            if !(value >= 0.0 && value.is_finite()) {
                return bad(key, format!("{value} is not a number from 0 on"));
            }
        }
        if self.schedule == Schedule::Step && self.decay_images.is_empty() {
            return bad("decay_images", "the schedule `step` needs the images after which the rate falls".to_string());
        }
        if self.lookahead_steps == 0 || !(0.0..=1.0).contains(&self.lookahead_alpha) {
            return bad("lookahead_alpha", "lookahead_steps from 1 on and lookahead_alpha from 0 to 1".to_string());
        }
        Ok(())
    }
}
