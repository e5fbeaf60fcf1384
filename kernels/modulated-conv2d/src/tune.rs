//! The compile-time choices of the convolution kernel.

use serde::{Deserialize, Serialize};
use swinstyle_kit::{
    Limits,
    tuning::{Key, Tunable},
};

use crate::Problem;

/// A variant of the forward and data-gradient kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Blueprint {
    /// Input channels of one load, which divide I: 1 or 4.
    pub in_width: usize,
    /// Output channels of one load, which divide O: 1 or 4.
    pub out_width: usize,
    /// Units of a cube along the output channels, a vector each; the others lie along the pixels.
    pub channel_units: usize,
    /// Pixels of a unit.
    pub pixels: usize,
    /// Vectors of input channels of a step.
    pub depth: usize,
    /// log2 of the units of a cube.
    pub log_units: u32,
}

impl Blueprint {
    /// Units of a cube.
    pub fn units(&self) -> usize {
        1 << self.log_units
    }

    /// Pixels of a cube.
    pub fn tile_pixels(&self) -> usize {
        self.units() / self.channel_units * self.pixels
    }

    /// Bytes of shared memory.
    pub fn shared_memory(&self) -> usize {
        let image = self.tile_pixels() * (self.depth + 1) * self.in_width;
        let weights = self.depth * self.in_width * self.channel_units * self.out_width;
        (image + weights) * size_of::<f32>()
    }
}

/// 4 where it divides the channels, else 1: few variants to compile, and 2 gains little over 1.
pub(crate) fn width(channels: usize) -> usize {
    if channels.is_multiple_of(4) { 4 } else { 1 }
}

impl swinstyle_kit::Blueprint for Blueprint {
    type Problem = Problem;

    fn default_for(problem: &Problem) -> Self {
        let out_width = width(problem.out_channels);
        // Narrow layers (to RGB) would leave most units without a channel.
        let channel_units = if problem.out_channels.div_ceil(out_width) > 4 { 16 } else { 4 };
        // Half as deep with four times the pixels, which keeps the tile within 16 KiB.
        let depth = if channel_units == 16 { 4 } else { 2 };
        Self { in_width: width(problem.in_channels), out_width, channel_units, pixels: 4, depth, log_units: 8 }
    }

    fn space(problem: &Problem, limits: &Limits) -> Vec<Self> {
        let base = Self::default_for(problem);
        let mut all = Vec::new();
        for log_units in [6, 7, 8] {
            for channel_units in [4, 8, 16, 32] {
                for pixels in [2, 4, 8] {
                    for depth in [1, 2, 4, 8] {
                        all.push(Self { channel_units, pixels, depth, log_units, ..base });
                    }
                }
            }
        }
        all.retain(|b| b.units() <= limits.units_per_cube as usize && b.shared_memory() <= limits.shared_memory);
        all
    }
}

impl Tunable for Blueprint {
    fn key(problem: &Problem) -> Key {
        key(problem)
    }
}

/// The geometry is the class; output pixels and channels are the sizes.
fn key(p: &Problem) -> Key {
    let g = &p.geometry;
    let class = format!("{}x{} up {} down {}", g.kernel[0], g.kernel[1], g.up, g.down);
    Key::new(class, &[p.batch * g.output[0] * g.output[1], p.in_channels, p.out_channels])
}

/// A form of the host's convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HostBlueprint {
    /// By Winograd's F(2×2, 3×3) instead of directly.
    pub winograd: bool,
}

impl swinstyle_kit::Blueprint for HostBlueprint {
    type Problem = Problem;

    fn default_for(problem: &Problem) -> Self {
        Self { winograd: crate::host::winograd_pays(problem) }
    }

    fn space(problem: &Problem, _: &Limits) -> Vec<Self> {
        let forms = if crate::host::winograd_is_legal(problem) { &[false, true][..] } else { &[false] };
        forms.iter().map(|&winograd| Self { winograd }).collect()
    }
}

impl Tunable for HostBlueprint {
    fn key(problem: &Problem) -> Key {
        key(problem)
    }
}
