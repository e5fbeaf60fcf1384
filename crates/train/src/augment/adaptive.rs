//! The probability p of augmentation and how it follows the discriminator.

use swinstyle_tensor::Tensor;
use swinstyle_weights::Archive;

use super::AugmentConfig;
use crate::{Result, TrainError};

/// Metadata keys of a training state.
const KEYS: [&str; 3] = ["ada.p", "ada.signs", "ada.logits"];

/// Steers p by `r_t = E[sign D(real)]` (section 3 of the paper): where it exceeds the target the discriminator overfits and p rises,
/// else it falls, by the share of `ada_images` that were seen; p stays in [0, 1].
///
/// The published code adjusts p after the generator's step of a batch, here it is before; it counts the signs of R1's pass too, and p may pass 1.
#[derive(Debug, Clone)]
pub struct Adaptive {
    config: AugmentConfig,
    p: f64,
    /// Sum of the signs since the last adjustment and their number, of logits already read back ...
    signs: f64,
    logits: u64,
    /// ... and logits that are not.
    pending: Vec<Tensor>,
}

impl Adaptive {
    /// p at its start.
    pub fn new(config: AugmentConfig) -> Self {
        let p = config.fixed_p.unwrap_or(config.initial_p);
        Self { config, p, signs: 0.0, logits: 0, pending: Vec::new() }
    }

    /// The probability now.
    pub fn p(&self) -> f64 {
        self.p
    }

    /// Takes the discriminator's logits of real images.
    pub fn observe(&mut self, on_real: &Tensor) {
        self.pending.push(on_real.detach());
    }

    /// Ends a step; every `ada_interval` steps it adjusts p and returns r_t, for which it waits for the device, once.
    pub fn adjust(&mut self, step: u64) -> Result<Option<f64>> {
        if !(step + 1).is_multiple_of(self.config.ada_interval) {
            return Ok(None);
        }
        let (signs, logits) = self.counted()?;
        self.pending.clear();
        (self.signs, self.logits) = (0.0, 0);
        let rt = signs / logits.max(1) as f64;
        if self.config.fixed_p.is_none() {
            let change = logits as f64 / self.config.ada_images as f64;
            let direction = sign(rt - self.config.target);
            self.p = (self.p + direction * change).clamp(0.0, 1.0);
        }
        Ok(Some(rt))
    }

    /// Sum of the signs since the last adjustment, and their number.
    fn counted(&self) -> Result<(f64, u64)> {
        let (mut signs, mut logits) = (self.signs, self.logits);
        for values in Tensor::to_vecs(&self.pending.iter().collect::<Vec<_>>())? {
            logits += values.len() as u64;
            signs += values.into_iter().map(|v| sign(f64::from(v))).sum::<f64>();
        }
        Ok((signs, logits))
    }

    pub(crate) fn save(&self, archive: &mut Archive) -> Result<()> {
        let (signs, logits) = self.counted()?;
        let values = [self.p.to_string(), signs.to_string(), logits.to_string()];
        archive.metadata.extend(KEYS.map(String::from).into_iter().zip(values));
        Ok(())
    }

    /// Goes on from a training state; one that was written without augmentation leaves p at its start.
    pub(crate) fn load(&mut self, archive: &Archive) -> Result<()> {
        if !archive.metadata.contains_key(KEYS[0]) {
            return Ok(());
        }
        let read = |key: &str| -> Result<f64> {
            let value = archive.metadata.get(key).and_then(|v| v.parse().ok()).filter(|v: &f64| v.is_finite());
            value
                .ok_or_else(|| TrainError::run(archive.origin(), format!("has no number `{key}` beside `{}`", KEYS[0])))
        };
        let [p, signs, logits] = [read(KEYS[0])?, read(KEYS[1])?, read(KEYS[2])?];
        self.p = self.config.fixed_p.unwrap_or(p.clamp(0.0, 1.0));
        (self.signs, self.logits) = (signs, logits as u64);
        self.pending.clear();
        Ok(())
    }
}

/// −1, 0 or 1; `f64::signum` knows no 0.
fn sign(v: f64) -> f64 {
    if v > 0.0 {
        1.0
    } else if v < 0.0 {
        -1.0
    } else {
        0.0
    }
}
