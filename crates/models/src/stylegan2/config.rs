//! Sizes of a generator and a discriminator.

use serde::{Deserialize, Serialize};

use crate::{ModelError, Result};

/// Channels of the feature maps at 4, 8, … pixels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Channels(pub Vec<usize>);

impl Channels {
    /// `min(base/resolution, max)` for every resolution up to `size`.
    pub fn from_base(size: usize, base: usize, max: usize) -> Self {
        Self(resolutions(size).map(|r| (base / r).clamp(1, max.max(1))).collect())
    }

    /// Channels at a resolution that is part of the network.
    pub fn at(&self, resolution: usize) -> usize {
        self.0[resolution.trailing_zeros() as usize - 2]
    }
}

/// 4, 8, …, size.
pub fn resolutions(size: usize) -> impl Iterator<Item = usize> + Clone {
    (2..=size.max(4).ilog2()).map(|k| 1 << k)
}

pub(crate) fn check_size(what: &'static str, size: usize, channels: &Channels) -> Result<()> {
    if !size.is_power_of_two() || !(8..=4096).contains(&size) {
        return Err(ModelError::config(what, format!("size {size} is not a power of two from 8 to 4096")));
    }
    let expected = resolutions(size).count();
    if channels.0.len() != expected || channels.0.contains(&0) {
        let detail =
            format!("channels {:?} for {size} px: {expected} positive numbers (4 px first) expected", channels.0);
        return Err(ModelError::config(what, detail));
    }
    Ok(())
}

/// Sizes of a generator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GeneratorConfig {
    /// Pixels of an edge of the image.
    pub size: usize,
    /// Length of z, w and each style of W+.
    pub style_dim: usize,
    /// Layers of the mapping network.
    pub mapping_layers: usize,
    /// Learning-rate multiplier of the mapping network: its weights are stored divided by it.
    pub mapping_lr_multiplier: f64,
    /// Channels by resolution, 4 px first.
    pub channels: Channels,
}

impl GeneratorConfig {
    /// Checks the sizes.
    pub fn validate(&self) -> Result<()> {
        check_size("generator", self.size, &self.channels)?;
        if self.style_dim == 0 || self.mapping_lr_multiplier <= 0.0 || !self.mapping_lr_multiplier.is_finite() {
            let detail = format!("style_dim {}, mapping_lr_multiplier {}", self.style_dim, self.mapping_lr_multiplier);
            return Err(ModelError::config("generator", detail));
        }
        Ok(())
    }

    /// Styles of W+: 2·log₂(size) − 2.
    pub fn n_styles(&self) -> usize {
        2 * self.size.ilog2() as usize - 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_follow_base_and_maximum() {
        assert_eq!(Channels::from_base(64, 1024, 64).0, [64, 64, 64, 32, 16]);
        assert_eq!(Channels::from_base(64, 1024, 64).at(32), 32);
    }

    #[test]
    fn impossible_sizes_are_named() {
        let channels = Channels(vec![8; 5]);
        let config =
            GeneratorConfig { size: 60, style_dim: 8, mapping_layers: 2, mapping_lr_multiplier: 0.01, channels };
        assert!(config.validate().unwrap_err().to_string().contains("60"));
        assert!(GeneratorConfig { size: 32, ..config }.validate().unwrap_err().to_string().contains("4 positive"));
    }
}
