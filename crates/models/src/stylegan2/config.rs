//! Sizes of a generator and a discriminator.

use serde::{Deserialize, Serialize};

use crate::{
    ModelError, Result,
    ranges::{self, check},
};

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
    check(what, "size", size, &ranges::SIZE)?;
    if !size.is_power_of_two() {
        return Err(ModelError::config(what, format!("size {size} is not a power of two")));
    }
    let expected = resolutions(size).count();
    if channels.0.len() != expected {
        let detail = format!("channels has {} numbers; {size} px has {expected} (4 px first)", channels.0.len());
        return Err(ModelError::config(what, detail));
    }
    channels
        .0
        .iter()
        .enumerate()
        .try_for_each(|(i, &c)| check(what, format_args!("channels[{i}]"), c, &ranges::CHANNELS))
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
        check("generator", "style_dim", self.style_dim, &ranges::STYLE_DIM)?;
        check("generator", "mapping_layers", self.mapping_layers, &ranges::MAPPING_LAYERS)?;
        check("generator", "mapping_lr_multiplier", self.mapping_lr_multiplier, &ranges::MAPPING_LR_MULTIPLIER)?;
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
    fn every_number_has_its_range() {
        let good = GeneratorConfig {
            size: 8,
            style_dim: 8,
            mapping_layers: 2,
            mapping_lr_multiplier: 0.01,
            channels: Channels(vec![8; 2]),
        };
        good.validate().unwrap();
        let refused = |change: &dyn Fn(&mut GeneratorConfig)| {
            let mut config = good.clone();
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        for layers in [65, 1_000_000_000, usize::MAX] {
            assert!(refused(&|c| c.mapping_layers = layers).contains("mapping_layers is "));
        }
        for multiplier in [f64::NAN, f64::INFINITY, -0.01, 0.0, 1e9, 1e308] {
            assert!(refused(&|c| c.mapping_lr_multiplier = multiplier).contains("mapping_lr_multiplier is "));
        }
        assert!(refused(&|c| c.style_dim = 0).contains("style_dim is 0; it must be from 1 to 16384"));
        assert!(refused(&|c| c.style_dim = 1 << 40).contains("style_dim"));
        assert!(refused(&|c| c.size = 1 << 40).contains("size is 1099511627776; it must be from 8 to 4096"));
        assert!(refused(&|c| c.channels.0[1] = 0).contains("channels[1] is 0"));
        assert!(refused(&|c| c.channels.0[0] = usize::MAX).contains("channels[0]"));
        assert!(refused(&|c| c.channels.0 = vec![8; 1_000_000]).contains("channels has 1000000 numbers; 8 px has 2"));
    }

    #[test]
    fn impossible_sizes_are_named() {
        let channels = Channels(vec![8; 5]);
        let config =
            GeneratorConfig { size: 60, style_dim: 8, mapping_layers: 2, mapping_lr_multiplier: 0.01, channels };
        assert!(config.validate().unwrap_err().to_string().contains("60"));
        assert!(GeneratorConfig { size: 32, ..config }.validate().unwrap_err().to_string().contains("32 px has 4"));
    }
}
