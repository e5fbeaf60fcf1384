//! The last pass of the gradients that all windows share: one unit an entry, from the sums of the runs.

use cubecl::prelude::*;
use swinstyle_kit::attention::cube::Map;

use super::{Sizes, backward::Runs};

/// The bias table's gradient: all pairs of cells at one relative position.
#[cube(launch_unchecked)]
pub(crate) fn sum_table<P: Float, F: Float>(
    partial: &Array<P>,   // [runs, heads, row]
    table: &mut Array<F>, // [(2wh − 1)(2ww − 1), heads]
    m: &Map,
    s: &Sizes,
    r: &Runs,
    entries: u32,
    #[define(P, F)] _dtypes: [StorageType; 2],
) {
    let at = ABSOLUTE_POS as u32;
    if at >= entries {
        terminate!();
    }
    let head = at % s.heads;
    let position = at / s.heads;
    // Query minus key, plus window − 1.
    let dy = position / (2 * m.window_x - 1);
    let dx = position % (2 * m.window_x - 1);
    let mut sum = f32::new(0.0);
    for query in 0..s.cells {
        let y = query / m.window_x + m.window_y - 1;
        let x = query % m.window_x + m.window_x - 1;
        if y >= dy && y - dy < m.window_y && x >= dx && x - dx < m.window_x {
            let key = (y - dy) * m.window_x + x - dx;
            for run in 0..r.count {
                sum += f32::cast_from(partial[((run * s.heads + head) * r.row + key * s.cells + query) as usize]);
            }
        }
    }
    table[at as usize] = F::cast_from(sum);
}

/// The padded token's gradient; its query has none.
#[cube(launch_unchecked)]
pub(crate) fn sum_padding<P: Float, F: Float>(
    partial: &Array<P>, // [runs, heads, row]
    pad: &mut Array<F>, // [3C]
    s: &Sizes,
    r: &Runs,
    head_dim: u32,
    #[define(P, F)] _dtypes: [StorageType; 2],
) {
    let at = ABSOLUTE_POS as u32;
    let channels = s.heads * head_dim;
    if at >= 3 * channels {
        terminate!();
    }
    let part = at / channels;
    let head = at % channels / head_dim;
    let mut sum = f32::new(0.0);
    if part > 0 {
        for run in 0..r.count {
            let row = (run * s.heads + head) * r.row + r.padding_offset;
            for cell in 0..s.cells {
                sum += f32::cast_from(partial[(row + (cell * 2 + part - 1) * head_dim + at % head_dim) as usize]);
            }
        }
    }
    pad[at as usize] = F::cast_from(sum);
}
