//! The forward kernel: a unit a query, one sweep over the tokens with a running maximum.

use cubecl::prelude::*;
use swinstyle_kit::attention::cube::{Map, PADDING};

use super::{Sizes, accumulate, bias_of, dot, load, result_row, token_row};
use crate::tune::UnitTile;

/// y, and of every query's logits the maximum and ln Σ exp(logit − maximum).
#[cube(launch_unchecked)]
pub(crate) fn forward<F: Float, N: Size>(
    q: &Array<Vector<F, N>>,     // [owners, M, C]
    kv: &Array<Vector<F, N>>,    // [groups, token rows, 2C]
    bias: &Array<F>,             // [groups, bias_len], if s.bias
    pad: &Array<Vector<F, N>>,   // [groups, 2C], if s.pad
    y: &mut Array<Vector<F, N>>, // [groups, rows, C]
    stats: &mut Array<F>,        // [groups, rows, heads, 2]
    m: &Map,
    s: &Sizes,
    #[comptime] b: UnitTile,
    #[define(F)] _dtype: StorageType,
) {
    let vectors = comptime![b.head_vectors];
    let tile = comptime![b.tile];
    let mut keys = SharedMemory::<Vector<f32, N>>::new(comptime![b.heads * b.tile * b.head_vectors]);
    let mut values = SharedMemory::<Vector<f32, N>>::new(comptime![b.heads * b.tile * b.head_vectors]);

    let local = UNIT_POS as usize / comptime![b.units];
    let unit = UNIT_POS as usize % comptime![b.units];
    let task = (CUBE_POS * comptime![b.heads] + local) as u32;
    // Units without a task follow along with nothing to write, for every unit must reach the barriers.
    let active = task < s.groups * s.sets * s.heads;
    let task = select(active, task, 0);
    let head = task % s.heads;
    let set = task / s.heads % s.sets;
    let group = task / s.heads / s.sets;
    let owner = select(s.own > 0, task / s.heads, group);
    let first_channel = head * vectors as u32;
    let base = local * comptime![b.tile * b.head_vectors];

    let turns = s.queries.div_ceil(comptime![b.units as u32]);
    let tiles = s.tokens.div_ceil(comptime![b.tile as u32]);
    for turn in 0..turns {
        let query = turn * comptime![b.units as u32] + unit as u32;
        let row = result_row(set, query, m, s);
        let mut mine = Array::<Vector<f32, N>>::new(vectors);
        let mut sum = Array::<Vector<f32, N>>::new(vectors);
        #[unroll]
        for c in 0..vectors {
            mine[c] = Vector::new(0.0);
            sum[c] = Vector::new(0.0);
            if row != PADDING {
                let at = (owner * s.queries + query) * s.channels + first_channel + c as u32;
                mine[c] = Vector::<f32, N>::cast_from(q[at as usize]) * Vector::new(s.scale);
            }
        }
        let mut max = f32::new(-1e30);
        let mut total = f32::new(0.0);
        for t in 0..tiles {
            let first = t * tile as u32;
            let count = u32::min(tile as u32, s.tokens - first);
            sync_cube();
            let mut at = unit;
            while at < count as usize * vectors {
                let other = token_row(set, first + (at / vectors) as u32, m, s);
                let channel = first_channel + (at % vectors) as u32;
                keys[base + at] = load::<F, N>(kv, pad, group, other, 0u32, channel, s);
                values[base + at] = load::<F, N>(kv, pad, group, other, 1u32, channel, s);
                at += comptime![b.units];
            }
            sync_cube();
            if row != PADDING {
                for j in 0..count {
                    let at = base + j as usize * vectors;
                    let logit =
                        dot::<N>(&mine, &keys, at, vectors) + bias_of::<F>(bias, group, query, first + j, head, m, s);
                    if logit > max {
                        // The sums so far are of exponentials below the old maximum.
                        let rest = (max - logit).exp();
                        total *= rest;
                        #[unroll]
                        for c in 0..vectors {
                            sum[c] *= Vector::new(rest);
                        }
                        max = logit;
                    }
                    let p = (logit - max).exp();
                    total += p;
                    accumulate::<N>(&mut sum, p, &values, at, vectors);
                }
            }
        }
        if active && row != PADDING {
            let at = (group * s.rows + row) * s.heads + head;
            #[unroll]
            for c in 0..vectors {
                y[at as usize * vectors + c] = Vector::cast_from(sum[c] / Vector::new(total));
            }
            stats[2 * at as usize] = F::cast_from(max);
            stats[2 * at as usize + 1] = F::cast_from(total.ln());
        }
    }
}
