//! The compile-time choices of the convolution kernels: the form, and how it shares out the work.

use serde::{Deserialize, Serialize};
use swinstyle_kit::{
    Limits,
    tuning::{Key, Tunable},
};
use swinstyle_tensor::{
    DType, Device, Tensor,
    cube::fragments::{EDGE, MatrixTile, WIDTH},
};

use crate::Problem;

/// A variant of the convolution kernels, in one of two forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Blueprint {
    /// Each unit adds outer products in its registers: any type on any device.
    Units(UnitTile),
    /// Planes multiply fragments on matrix units, pixels (input channels in the weight gradient) by output channels: half types, and
    /// channels in whole vectors of eight.
    Matrix(MatrixTile),
}

/// Work of a cube whose units multiply in registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct UnitTile {
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

impl UnitTile {
    /// The tile for a problem on a device of WebGPU's base limits.
    pub fn default_for(problem: &Problem) -> Self {
        let out_width = width(problem.out_channels);
        // Narrow layers (to RGB) would leave most units without a channel.
        let channel_units = if problem.out_channels.div_ceil(out_width) > 4 { 16 } else { 4 };
        // Half as deep with four times the pixels, which keeps the tile within 16 KiB.
        let depth = if channel_units == 16 { 4 } else { 2 };
        Self { in_width: width(problem.in_channels), out_width, channel_units, pixels: 4, depth, log_units: 8 }
    }

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

/// Every tile that a device with these limits can hold.
fn matrix_tiles(limits: &Limits) -> Vec<MatrixTile> {
    let mut all = Vec::new();
    for planes in [[1, 1], [2, 1], [2, 2], [4, 1], [4, 2], [2, 4]] {
        for fragments in [[1, 1], [1, 2], [2, 1], [2, 2], [4, 1], [4, 2]] {
            for depth in [16, 32, 64] {
                for ldmatrix in [false, true] {
                    all.push(MatrixTile { depth, ldmatrix, ..MatrixTile::new(planes, fragments) });
                }
            }
        }
    }
    let fits =
        |t: &MatrixTile| t.units() <= limits.units_per_cube as usize && t.shared_memory() <= limits.shared_memory;
    all.retain(|t| t.is_even() && fits(t) && t.ldmatrix <= limits.ldmatrix);
    all
}

/// The two ways to double the resolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UpForm {
    /// A transposed convolution, then the filter, then the epilogue, each a pass over the large image.
    TwoSteps,
    /// One convolution by the product of weight and filter, epilogue included: four times the multiplications, one pass.
    Polyphase,
}

/// Input channels up to which the four-fold multiplications of the polyphase form should cost less than the passes that it saves: with
/// N·H·W = P pixels and I, O channels it multiplies and adds 54·I·O·P times more and moves 32·O·P bytes less in a half type, which at
/// 200 TFLOP/s and 3 TB/s balance at I = 39. An estimate: nothing was timed yet.
const POLYPHASE_CHANNELS: usize = 32;

impl UpForm {
    /// The form for a layer where nothing was tuned: polyphase for few channels in a half type on a GPU.
    pub fn best_for(x: &Tensor, weight: &Tensor) -> Self {
        let half = matches!(x.dtype(), DType::F16 | DType::BF16) && x.device() != Device::Cpu;
        let fits = |channels: usize| channels.is_multiple_of(WIDTH) && channels >= EDGE;
        let (inputs, outputs) = match *weight.shape() {
            [_, _, i, o] => (i, o),
            _ => return Self::TwoSteps,
        };
        match half && fits(inputs) && fits(outputs) && inputs <= POLYPHASE_CHANNELS {
            true => Self::Polyphase,
            false => Self::TwoSteps,
        }
    }
}

/// 4 where it divides the channels, else 1: few variants to compile, and 2 gains little over 1.
pub(crate) fn width(channels: usize) -> usize {
    if channels.is_multiple_of(4) { 4 } else { 1 }
}

/// Whether the form on matrix units is legal: whole vectors of channels, and enough of them to fill fragments.
fn matrix_is_legal(problem: &Problem, limits: &Limits) -> bool {
    let fits = |channels: usize| channels.is_multiple_of(WIDTH) && channels >= EDGE;
    limits.matrix_units && fits(problem.in_channels) && fits(problem.out_channels)
}

impl Blueprint {
    /// The blueprint of the weight gradient: the tile of its matrix form, or nothing where that is not legal.
    pub(crate) fn for_weight_gradient(problem: &Problem, limits: &Limits) -> Option<MatrixTile> {
        let taps = problem.geometry.kernel.iter().product();
        matrix_is_legal(problem, limits)
            .then(|| MatrixTile::fitting(problem.in_channels, problem.out_channels, taps, limits.ldmatrix))
            .filter(|t| t.shared_memory() <= limits.shared_memory)
    }
}

impl swinstyle_kit::Blueprint for Blueprint {
    type Problem = Problem;

    fn default_for(problem: &Problem) -> Self {
        Self::Units(UnitTile::default_for(problem))
    }

    fn best_for(problem: &Problem, limits: &Limits) -> Self {
        // The largest of an output's phases counts; there are as many as `up` is relatively prime to `down`, all of about one size.
        let [h, w] = problem.geometry.output.map(|n| n.div_ceil(problem.geometry.up));
        let tile = MatrixTile::fitting(problem.batch * h * w, problem.out_channels, 1, limits.ldmatrix);
        match matrix_is_legal(problem, limits) && tile.shared_memory() <= limits.shared_memory {
            true => Self::Matrix(tile),
            false => Self::default_for(problem),
        }
    }

    fn space(problem: &Problem, limits: &Limits) -> Vec<Self> {
        let base = UnitTile::default_for(problem);
        let mut all = Vec::new();
        for log_units in [6, 7, 8] {
            for channel_units in [4, 8, 16, 32] {
                for pixels in [2, 4, 8] {
                    for depth in [1, 2, 4, 8] {
                        all.push(UnitTile { channel_units, pixels, depth, log_units, ..base });
                    }
                }
            }
        }
        all.retain(|b| b.units() <= limits.units_per_cube as usize && b.shared_memory() <= limits.shared_memory);
        let matrix = if matrix_is_legal(problem, limits) { matrix_tiles(limits) } else { Vec::new() };
        all.into_iter().map(Self::Units).chain(matrix.into_iter().map(Self::Matrix)).collect()
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
    /// The batch is left out: the forms round differently, and an image must not hang on its neighbours.
    fn key(problem: &Problem) -> Key {
        key(&Problem { batch: 1, ..*problem })
    }
}
