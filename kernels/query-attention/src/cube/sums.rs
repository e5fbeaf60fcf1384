//! The last pass of the gradients that sets share: one unit an entry, from the sums of the runs, adding owners in order.

use cubecl::prelude::*;
use swinstyle_kit::attention::cube::Map;

use super::{Sizes, backward::Runs};

/// The queries' gradient.
#[cube(launch_unchecked)]
pub(crate) fn sum_queries<P: Float, F: Float>(
    partial: &Array<P>, // [owners, runs, heads, row]
    dq: &mut Array<F>,  // [owners, M, C]
    s: &Sizes,
    r: &Runs,
    head_dim: u32,
    entries: u32,
    #[define(P, F)] _dtypes: [StorageType; 2],
) {
    let at = ABSOLUTE_POS as u32;
    if at >= entries {
        terminate!();
    }
    let channel = at % (s.heads * head_dim);
    let row = at / (s.heads * head_dim);
    let query = row % s.queries;
    let owner = row / s.queries;
    let mut sum = f32::new(0.0);
    for run in 0..r.count {
        let from = ((owner * r.count + run) * s.heads + channel / head_dim) * r.row;
        sum += f32::cast_from(partial[(from + query * head_dim + channel % head_dim) as usize]);
    }
    dq[at as usize] = F::cast_from(sum);
}

/// The bias's gradient: one pair of a query and a token, or all pairs at one relative position.
#[cube(launch_unchecked)]
pub(crate) fn sum_bias<P: Float, F: Float>(
    partial: &Array<P>,   // [owners, runs, heads, row]
    dbias: &mut Array<F>, // [groups, bias_len]
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
    let owners = r.owners / s.groups;
    let first_owner = at / s.bias_len * owners;
    let entry = at % s.bias_len;
    let mut sum = f32::new(0.0);
    if s.bias == 1 {
        let head = entry / s.tokens / s.queries;
        let pair = entry % s.tokens * s.queries + entry / s.tokens % s.queries;
        sum = pair_sum::<P>(partial, first_owner, owners, head, pair, s, r);
    } else {
        let head = entry % s.heads;
        // Query minus key, plus window − 1.
        let dy = entry / s.heads / (2 * m.window_x - 1);
        let dx = entry / s.heads % (2 * m.window_x - 1);
        for query in 0..s.queries {
            let y = query / m.window_x + m.window_y - 1;
            let x = query % m.window_x + m.window_x - 1;
            if y >= dy && y - dy < m.window_y && x >= dx && x - dx < m.window_x {
                let key = (y - dy) * m.window_x + x - dx;
                sum += pair_sum::<P>(partial, first_owner, owners, head, key * s.queries + query, s, r);
            }
        }
    }
    dbias[at as usize] = F::cast_from(sum);
}

/// The logit gradient of one pair, over the owners of a group and their runs.
#[cube]
fn pair_sum<P: Float>(
    partial: &Array<P>,
    first_owner: u32,
    owners: u32,
    head: u32,
    pair: u32,
    s: &Sizes,
    r: &Runs,
) -> f32 {
    let mut sum = f32::new(0.0);
    for i in 0..owners * r.count {
        let from = ((first_owner * r.count + i) * s.heads + head) * r.row;
        sum += f32::cast_from(partial[(from + r.bias_offset + pair) as usize]);
    }
    sum
}

/// The padded tokens' gradient.
#[cube(launch_unchecked)]
pub(crate) fn sum_padding<P: Float, F: Float>(
    partial: &Array<P>,  // [owners, runs, heads, row]
    dpad: &mut Array<F>, // [groups, 2C]
    s: &Sizes,
    r: &Runs,
    head_dim: u32,
    entries: u32,
    #[define(P, F)] _dtypes: [StorageType; 2],
) {
    let at = ABSOLUTE_POS as u32;
    if at >= entries {
        terminate!();
    }
    let channels = s.heads * head_dim;
    let group = at / (2 * channels);
    let part = at / channels % 2;
    let head = at % channels / head_dim;
    let mut sum = f32::new(0.0);
    for run in 0..r.count {
        let row = ((group * r.count + run) * s.heads + head) * r.row + r.padding_offset;
        for token in 0..s.tokens {
            sum += f32::cast_from(partial[(row + (token * 2 + part) * head_dim + at % head_dim) as usize]);
        }
    }
    dpad[at as usize] = F::cast_from(sum);
}
