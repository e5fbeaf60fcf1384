//! The CubeCL kernels: arithmetic in f32 whatever the storage, every sum in a fixed order.

pub(crate) mod backward;
pub(crate) mod forward;
pub(crate) mod matrix;
pub(crate) mod sums;
mod tokens;

use cubecl::prelude::*;
pub(crate) use swinstyle_kit::attention::cube::{accumulate, add_padding, dot};
use swinstyle_kit::attention::{
    MASK,
    cube::{Map, PADDING, region, table_index, token},
};

/// Run-time sizes of all kernels; vectors of channels count as one.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(crate) struct Sizes {
    /// Windows of all images.
    pub(crate) sets: u32,
    /// Cells of a window.
    pub(crate) cells: u32,
    pub(crate) heads: u32,
    /// Vectors of C.
    pub(crate) channels: u32,
    /// 1 where a row for padded tokens is given; else they are zero.
    pub(crate) pad: u32,
    pub(crate) scale: f32,
}

/// One vector of q, k or v (`part` 0, 1, 2) of a token.
#[cube]
pub(crate) fn load<F: Float, N: Size>(
    qkv: &Array<Vector<F, N>>,
    pad: &Array<Vector<F, N>>,
    token: u32,
    part: u32,
    channel: u32,
    s: &Sizes,
) -> Vector<f32, N> {
    let at = part * s.channels + channel;
    let mut v = Vector::<f32, N>::new(0.0);
    if token != PADDING {
        v = Vector::cast_from(qkv[(token * 3 * s.channels + at) as usize]);
    } else if s.pad > 0 {
        v = Vector::cast_from(pad[at as usize]);
    }
    v
}

/// What is added to the logit of a query and a key: their relative position's bias, and the mask between regions.
#[cube]
pub(crate) fn bias<F: Float>(table: &Array<F>, set: u32, query: u32, key: u32, head: u32, m: &Map, s: &Sizes) -> f32 {
    let b = f32::cast_from(table[(table_index(query, key, m) * s.heads + head) as usize]);
    select(region(set, query, m) == region(set, key, m), b, b + comptime![MASK as f32])
}

/// The cell's token of a window, [`PADDING`] beyond the window too.
#[cube]
pub(crate) fn token_or_none(set: u32, cell: u32, m: &Map, s: &Sizes) -> u32 {
    let mut t = PADDING.runtime();
    if cell < s.cells {
        t = token(set, cell, m);
    }
    t
}
