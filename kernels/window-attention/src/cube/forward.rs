//! The forward kernel: a unit a query, one sweep over the keys with a running maximum.

use cubecl::prelude::*;
use swinstyle_kit::attention::cube::{Map, PADDING, token};

use super::{Sizes, accumulate, bias, dot, load, token_or_none};
use crate::tune::UnitTile;

/// y, and of every query's logits the maximum and ln Σ exp(logit − maximum).
#[cube(launch_unchecked)]
pub(crate) fn forward<F: Float, N: Size>(
    qkv: &Array<Vector<F, N>>,   // [B, H, W, 3C]
    table: &Array<F>,            // [(2wh − 1)(2ww − 1), heads]
    pad: &Array<Vector<F, N>>,   // [3C], if s.pad
    y: &mut Array<Vector<F, N>>, // [B, H, W, C]
    stats: &mut Array<F>,        // [B, H, W, heads, 2]
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
    let active = task < s.sets * s.heads;
    let task = select(active, task, 0);
    let set = task / s.heads;
    let head = task % s.heads;
    let first_channel = head * vectors as u32;
    let base = local * comptime![b.tile * b.head_vectors];

    let turns = s.cells.div_ceil(comptime![b.units as u32]);
    let tiles = s.cells.div_ceil(comptime![b.tile as u32]);
    for turn in 0..turns {
        let query = turn * comptime![b.units as u32] + unit as u32;
        let own = token_or_none(set, query, m, s);
        let mut q = Array::<Vector<f32, N>>::new(vectors);
        let mut sum = Array::<Vector<f32, N>>::new(vectors);
        #[unroll]
        for c in 0..vectors {
            q[c] = load::<F, N>(qkv, pad, own, 0u32, first_channel + c as u32, s) * Vector::new(s.scale);
            sum[c] = Vector::new(0.0);
        }
        let mut max = f32::new(-1e30);
        let mut total = f32::new(0.0);
        for t in 0..tiles {
            let first = t * tile as u32;
            let count = u32::min(tile as u32, s.cells - first);
            sync_cube();
            let mut at = unit;
            while at < count as usize * vectors {
                let other = token(set, first + (at / vectors) as u32, m);
                let channel = first_channel + (at % vectors) as u32;
                keys[base + at] = load::<F, N>(qkv, pad, other, 1u32, channel, s);
                values[base + at] = load::<F, N>(qkv, pad, other, 2u32, channel, s);
                at += comptime![b.units];
            }
            sync_cube();
            if own != PADDING {
                for j in 0..count {
                    let at = base + j as usize * vectors;
                    let logit = dot::<N>(&q, &keys, at, vectors) + bias::<F>(table, set, query, first + j, head, m, s);
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
        if active && own != PADDING {
            let at = own * s.heads + head;
            #[unroll]
            for c in 0..vectors {
                y[at as usize * vectors + c] = Vector::cast_from(sum[c] / Vector::new(total));
            }
            stats[2 * at as usize] = F::cast_from(max);
            stats[2 * at as usize + 1] = F::cast_from(total.ln());
        }
    }
}
