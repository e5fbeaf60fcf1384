//! The range of every number of a network: from a training's configuration, from the header of a model file, or inferred from a
//! file's tensors, each is held to it before anything is allocated.
//!
//! Upper ends are far above what anybody trains; they are there so that a number of a damaged or hostile file cannot ask for terabytes.

use std::{
    fmt::{Debug, Display},
    ops::RangeInclusive,
};

use crate::{ModelError, Result};

/// Pixels of an edge of a generator's or discriminator's image; powers of two.
pub const SIZE: RangeInclusive<usize> = 8..=4096;
/// Length of z, w and each style.
pub const STYLE_DIM: RangeInclusive<usize> = 1..=1 << 14;
/// Layers of a mapping network. 0 is for networks that are given w; a model has one at least.
pub const MAPPING_LAYERS: RangeInclusive<usize> = 0..=64;
/// Learning-rate multiplier of a mapping network.
pub const MAPPING_LR_MULTIPLIER: RangeInclusive<f64> = 1e-6..=1e2;
/// Channels of a feature map.
pub const CHANNELS: RangeInclusive<usize> = 1..=1 << 16;
/// Images whose standard deviation is taken together.
pub const STDDEV_GROUP: RangeInclusive<usize> = 1..=1 << 10;
/// Outputs of a discriminator.
pub const OUTPUTS: RangeInclusive<usize> = 1..=1 << 14;

/// Pixels of an edge of an encoder's image.
pub const IMAGE_SIZE: RangeInclusive<usize> = 8..=4096;
/// Channels of an encoder's image: colours, or labels.
pub const IN_CHANNELS: RangeInclusive<usize> = 1..=1 << 12;
/// Pixels of an edge of a patch.
pub const PATCH: RangeInclusive<usize> = 1..=256;
/// Classes of a classifier.
pub const CLASSES: RangeInclusive<usize> = 1..=1 << 16;
/// Blocks of a stage.
pub const DEPTH: RangeInclusive<usize> = 1..=1000;
/// Attention heads.
pub const HEADS: RangeInclusive<usize> = 1..=1 << 10;
/// Tokens of an edge of an attention window.
pub const WINDOW: RangeInclusive<usize> = 1..=256;
/// Hidden width of an MLP as a multiple of the tokens' width.
pub const MLP_RATIO: RangeInclusive<f64> = 1e-3..=64.0;
/// Probability with which training drops a branch.
pub const STOCHASTIC_DEPTH: RangeInclusive<f64> = 0.0..=0.99;
/// Passes of ReStyle's refinement.
pub const REFINE_STEPS: RangeInclusive<usize> = 1..=100;

/// Hold a number to its range; NaN is in none.
///
/// # Errors
/// [`ModelError::Config`] of the network `what` with the key, the value and the range.
pub fn check<T>(what: &'static str, key: impl Display, value: T, range: &RangeInclusive<T>) -> Result<()>
where
    T: PartialOrd + Debug,
{
    if range.contains(&value) {
        return Ok(());
    }
    let (least, most) = (range.start(), range.end());
    Err(ModelError::config(what, format!("{key} is {value:?}; it must be from {least:?} to {most:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_outside_is_named_with_its_range_and_nan_is_outside() {
        check("generator", "style_dim", 512, &STYLE_DIM).unwrap();
        let line = check("generator", "style_dim", 0, &STYLE_DIM).unwrap_err().to_string();
        assert_eq!(line, "generator: style_dim is 0; it must be from 1 to 16384");
        for bad in [f64::NAN, f64::INFINITY, -1.0, 0.0, 1e308] {
            assert!(check("swin", "mlp_ratio", bad, &MLP_RATIO).is_err(), "{bad}");
        }
    }
}
