//! The CubeCL kernels: arithmetic in f32 whatever the storage, every sum in a fixed order.

pub(crate) mod backward;
pub(crate) mod forward;
pub(crate) mod join;
pub(crate) mod matrix;
pub(crate) mod sums;
mod tokens;

use cubecl::prelude::*;
use swinstyle_kit::attention::cube::{Map, PADDING, table_index, token};
pub(crate) use swinstyle_kit::attention::cube::{accumulate, add_padding, dot};

/// Run-time sizes of all kernels; vectors of channels count as one.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) groups: u32,
    /// Sets of a group, and queries and tokens of a set.
    pub(crate) sets: u32,
    pub(crate) queries: u32,
    pub(crate) tokens: u32,
    pub(crate) heads: u32,
    /// Vectors of C.
    pub(crate) channels: u32,
    /// Rows of results and of tokens of a group.
    pub(crate) rows: u32,
    pub(crate) token_rows: u32,
    /// 1 where every set has queries of its own.
    pub(crate) own: u32,
    /// 1 where sets are windows of a map.
    pub(crate) windowed: u32,
    /// 0 without bias, 1 for one entry a pair, 2 for a table of relative positions; and the entries of a group.
    pub(crate) bias: u32,
    pub(crate) bias_len: u32,
    /// 1 where rows for padded tokens are given (else they are zero), and where they begin, in vectors.
    pub(crate) pad: u32,
    pub(crate) pad_first: u32,
    pub(crate) scale: f32,
}

/// The row of a set's token in its group, or [`PADDING`]; beyond the set too.
#[cube]
pub(crate) fn token_row(set: u32, index: u32, m: &Map, s: &Sizes) -> u32 {
    let mut row = PADDING.runtime();
    if index < s.tokens {
        row = set * s.tokens + index;
        if s.windowed > 0 {
            row = token(set, index, m);
        }
    }
    row
}

/// The row of a query's result in its group, or [`PADDING`] where it is dropped or there is no such query.
#[cube]
pub(crate) fn result_row(set: u32, query: u32, m: &Map, s: &Sizes) -> u32 {
    let mut row = PADDING.runtime();
    if query < s.queries {
        row = set * s.queries + query;
        if s.windowed > 0 {
            row = token(set, query, m);
        }
    }
    row
}

/// One vector of a key or value (`part` 0, 1).
#[cube]
pub(crate) fn load<F: Float, N: Size>(
    kv: &Array<Vector<F, N>>,
    pad: &Array<Vector<F, N>>,
    group: u32,
    row: u32,
    part: u32,
    channel: u32,
    s: &Sizes,
) -> Vector<f32, N> {
    let mut v = Vector::<f32, N>::new(0.0);
    if row != PADDING {
        v = Vector::cast_from(kv[(((group * s.token_rows + row) * 2 + part) * s.channels + channel) as usize]);
    } else if s.pad > 0 {
        v = Vector::cast_from(pad[(s.pad_first + (group * 2 + part) * s.channels + channel) as usize]);
    }
    v
}

/// What is added to the logit of a query and a token.
#[cube]
pub(crate) fn bias_of<F: Float>(
    bias: &Array<F>,
    group: u32,
    query: u32,
    key: u32,
    head: u32,
    m: &Map,
    s: &Sizes,
) -> f32 {
    let mut b = f32::new(0.0);
    if s.bias == 1 {
        b = f32::cast_from(bias[(((group * s.heads + head) * s.queries + query) * s.tokens + key) as usize]);
    } else if s.bias == 2 {
        b = f32::cast_from(bias[(group * s.bias_len + table_index(query, key, m) * s.heads + head) as usize]);
    }
    b
}

/// `all`, then `last`: for kernels that have no binding left for a second buffer.
#[cube(launch_unchecked)]
pub(crate) fn append<F: Float, N: Size>(
    all: &Array<Vector<F, N>>,
    last: &Array<Vector<F, N>>,
    out: &mut Array<Vector<F, N>>,
    first: u32,
    #[define(F)] _dtype: StorageType,
) {
    let at = ABSOLUTE_POS;
    if at >= out.len() {
        terminate!();
    }
    let first = first as usize;
    if at < first {
        out[at] = all[at];
    } else {
        out[at] = last[at - first];
    }
}
