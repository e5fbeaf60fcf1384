//! The CubeCL kernels: arithmetic in f32 whatever the storage, every sum in a fixed order.

pub(crate) mod around;
pub(crate) mod conv;
pub(crate) mod matrix;
pub(crate) mod pointwise;
pub(crate) mod to_rgb;
pub(crate) mod weight_gradient;

use cubecl::prelude::*;
use swinstyle_tensor::cube::math;

/// The outputs `first + q·step` of both axes that meet the same taps, and the taps that they meet, which are `taps` many from
/// the weight's tap `weight` on in steps of `weight_step`. Position q of an axis reads input `stride·q + offset + tap`.
///
/// Without zero insertion there is one such phase; with it the taps that would land on inserted zeros are in no phase's list.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(crate) struct Phase {
    /// Input image, in pixels.
    pub(crate) height: i32,
    pub(crate) width: i32,
    /// Output image, in pixels.
    pub(crate) out_height: u32,
    pub(crate) out_width: u32,
    /// Positions of the phase on each axis, and over all images.
    pub(crate) rows: u32,
    pub(crate) columns: u32,
    pub(crate) positions: u32,
    pub(crate) first_y: u32,
    pub(crate) first_x: u32,
    pub(crate) step: u32,
    pub(crate) stride: i32,
    pub(crate) offset_y: i32,
    pub(crate) offset_x: i32,
    pub(crate) taps_y: u32,
    pub(crate) taps_x: u32,
    pub(crate) weight_y: i32,
    pub(crate) weight_x: i32,
    pub(crate) weight_step: i32,
    pub(crate) kernel_width: i32,
}

/// A position of a phase, decoded.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Position {
    pub(crate) image: u32,
    pub(crate) row: u32,
    pub(crate) column: u32,
}

#[cube]
impl Position {
    pub(crate) fn of(index: u32, g: &Phase) -> Position {
        let line = index / g.columns;
        Position { image: line / g.rows, row: line % g.rows, column: index % g.columns }
    }
}

/// Index of an output pixel over all images.
#[cube]
pub(crate) fn output_pixel(p: &Position, g: &Phase) -> u32 {
    let y = g.first_y + p.row * g.step;
    let x = g.first_x + p.column * g.step;
    (p.image * g.out_height + y) * g.out_width + x
}

/// The part of the sum over input channels that a cube owns, where few cubes cannot keep a device busy: every part writes an image of its
/// own, and [`pointwise::finish_parts`] adds them.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Part {
    /// Whether there is one.
    pub(crate) exists: bool,
    /// The cube's number among those of the part.
    pub(crate) cube: u32,
    /// Slabs of input channels.
    pub(crate) first_slab: u32,
    pub(crate) slabs: u32,
    /// Pixels before its image.
    pub(crate) first_pixel: u32,
}

#[cube]
impl Part {
    /// That of a cube, of `blocks` a part, with `slabs` in all and `share` of them in a part.
    pub(crate) fn of(cube: u32, blocks: u32, slabs: u32, share: u32, g: &Phase) -> Part {
        let part = cube / blocks;
        let first_slab = part * share;
        let images = g.positions / (g.rows * g.columns);
        Part {
            exists: first_slab < slabs,
            cube: cube % blocks,
            first_slab,
            slabs: select(first_slab + share < slabs, share, slabs - first_slab),
            first_pixel: part * images * g.out_height * g.out_width,
        }
    }
}

/// `gain · (z > 0 ? z : slope·z)`, within ±bound unless that is 0; NaN stays NaN.
#[cube]
pub(crate) fn activate<N: Size>(z: Vector<f32, N>, slope: f32, gain: f32, bound: f32) -> Vector<f32, N> {
    let mut y = select_many(z.greater_than(Vector::new(0.0)), z, z * Vector::new(slope)) * Vector::new(gain);
    if bound > 0.0 {
        y = math::clamp::<N>(y, bound);
    }
    y
}
