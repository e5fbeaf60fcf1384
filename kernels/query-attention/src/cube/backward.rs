//! The backward kernel: units first gather the gradients of their queries over all sets of a run, then, set by set, the gradients
//! of their keys and values over the queries. Probabilities are computed again from the forward's statistics, in both sweeps.

use cubecl::prelude::*;
use swinstyle_kit::attention::cube::{Map, PADDING};

use super::{Sizes, accumulate, bias_of, dot, load, result_row, token_row};
use crate::tune::Blueprint;

/// Where the partial sums lie: a row an owner of queries, run of its sets and head: `[M, head_dim]` of query gradients if `q`,
/// `[N, M]` of logit gradients if `bias`, `[N, 2, head_dim]` of k and v gradients at padded cells if `padding`.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(crate) struct Runs {
    /// Owners of queries, runs of one, and sets of one.
    pub(crate) owners: u32,
    pub(crate) count: u32,
    pub(crate) sets: u32,
    /// Sets of a run.
    pub(crate) length: u32,
    /// Elements of a row.
    pub(crate) row: u32,
    pub(crate) q: u32,
    pub(crate) bias: u32,
    pub(crate) bias_offset: u32,
    pub(crate) padding: u32,
    pub(crate) padding_offset: u32,
}

/// The gradients of keys and values and the partial sums of the others. A head of a cube walks through one run of sets.
#[cube(launch_unchecked)]
pub(crate) fn backward<F: Float, N: Size>(
    q: &Array<Vector<F, N>>,       // [owners, M, C]
    kv: &Array<Vector<F, N>>,      // [groups, token rows, 2C], then rows for padded tokens if s.pad
    rows: &Array<f32>,             // [groups, rows, heads, 3]: maximum, ln Σ exp, Σ dy·y
    dy: &Array<Vector<F, N>>,      // [groups, rows, C]
    bias: &Array<F>,               // [groups, bias_len], if s.bias
    dkv: &mut Array<Vector<F, N>>, // [groups, token rows, 2C]
    partial: &mut Array<F>,        // [owners, runs, heads, row]
    m: &Map,
    s: &Sizes,
    r: &Runs,
    #[comptime] b: Blueprint,
    #[define(F)] _dtype: StorageType,
) {
    let vectors = comptime![b.head_vectors];
    let tile = comptime![b.tile];
    // First keys and values, then queries and output gradients.
    let mut left = SharedMemory::<Vector<f32, N>>::new(comptime![b.heads * b.tile * b.head_vectors]);
    let mut right = SharedMemory::<Vector<f32, N>>::new(comptime![b.heads * b.tile * b.head_vectors]);
    let mut facts = SharedMemory::<f32>::new(comptime![b.heads * b.tile * 3]);

    let local = UNIT_POS as usize / comptime![b.units];
    let unit = UNIT_POS as usize % comptime![b.units];
    let task = (CUBE_POS * comptime![b.heads] + local) as u32;
    let has_task = task < r.owners * r.count * s.heads;
    let task = select(has_task, task, 0);
    let head = task % s.heads;
    let run = task / s.heads % r.count;
    let owner = task / s.heads / r.count;
    let group = select(s.own > 0, owner / s.sets, owner);
    let first_channel = head * vectors as u32;
    let row = task * r.row;
    let base = local * comptime![b.tile * b.head_vectors];
    let facts_base = local * comptime![b.tile * 3];

    let query_turns = s.queries.div_ceil(comptime![b.units as u32]);
    let query_tiles = s.queries.div_ceil(comptime![b.tile as u32]);
    let key_turns = s.tokens.div_ceil(comptime![b.units as u32]);
    let key_tiles = s.tokens.div_ceil(comptime![b.tile as u32]);

    for turn in 0..query_turns {
        let query = turn * comptime![b.units as u32] + unit as u32;
        let mut mine = Array::<Vector<f32, N>>::new(vectors);
        let mut g = Array::<Vector<f32, N>>::new(vectors);
        let mut dq = Array::<Vector<f32, N>>::new(vectors);
        #[unroll]
        for c in 0..vectors {
            mine[c] = Vector::new(0.0);
            dq[c] = Vector::new(0.0);
            if query < s.queries {
                let at = (owner * s.queries + query) * s.channels + first_channel + c as u32;
                mine[c] = Vector::<f32, N>::cast_from(q[at as usize]) * Vector::new(s.scale);
            }
        }
        for i in 0..r.length {
            // Every unit must reach the barriers: those without a set follow along on the first one and add nothing.
            let index = run * r.length + i;
            let active = has_task && index < r.sets;
            let set = select(s.own > 0, owner % s.sets, select(active, index, 0));
            let own = select(active, result_row(set, query, m, s), PADDING);
            let mut max = f32::new(0.0);
            let mut ln_sum = f32::new(0.0);
            let mut delta = f32::new(0.0);
            if own != PADDING {
                let at = (((group * s.rows + own) * s.heads + head) * 3) as usize;
                max = rows[at];
                ln_sum = rows[at + 1];
                delta = rows[at + 2];
                #[unroll]
                for c in 0..vectors {
                    g[c] = Vector::cast_from(
                        dy[((group * s.rows + own) * s.channels + first_channel + c as u32) as usize],
                    );
                }
            }
            for t in 0..key_tiles {
                let first = t * tile as u32;
                let count = u32::min(tile as u32, s.tokens - first);
                sync_cube();
                let mut at = unit;
                while at < count as usize * vectors {
                    let other = token_row(set, first + (at / vectors) as u32, m, s);
                    let channel = first_channel + (at % vectors) as u32;
                    left[base + at] = load::<F, N>(kv, kv, group, other, 0u32, channel, s);
                    right[base + at] = load::<F, N>(kv, kv, group, other, 1u32, channel, s);
                    at += comptime![b.units];
                }
                sync_cube();
                for j in 0..count {
                    let at = base + j as usize * vectors;
                    let mut ds = f32::new(0.0);
                    if own != PADDING {
                        let logit = dot::<N>(&mine, &left, at, vectors)
                            + bias_of::<F>(bias, group, query, first + j, head, m, s);
                        let p = (logit - max - ln_sum).exp();
                        ds = p * (dot::<N>(&g, &right, at, vectors) - delta);
                        accumulate::<N>(&mut dq, ds, &left, at, vectors);
                    }
                    if r.bias > 0 && active && query < s.queries {
                        let to = (row + r.bias_offset + (first + j) * s.queries + query) as usize;
                        let mut sum = ds;
                        if i > 0 {
                            sum += f32::cast_from(partial[to]);
                        }
                        partial[to] = F::cast_from(sum);
                    }
                }
            }
        }
        if has_task && r.q > 0 && query < s.queries {
            #[unroll]
            for c in 0..vectors {
                #[unroll]
                for e in 0..N::value() {
                    let to = (row + query * comptime![(b.head_vectors * b.vector_width) as u32]) as usize;
                    partial[to + c * N::value() + e] = F::cast_from(dq[c][e] * s.scale);
                }
            }
        }
    }

    for i in 0..r.length {
        let index = run * r.length + i;
        let active = has_task && index < r.sets;
        let set = select(s.own > 0, owner % s.sets, select(active, index, 0));
        for turn in 0..key_turns {
            let key = turn * comptime![b.units as u32] + unit as u32;
            let own = token_row(set, key, m, s);
            let mut k = Array::<Vector<f32, N>>::new(vectors);
            let mut v = Array::<Vector<f32, N>>::new(vectors);
            let mut dk = Array::<Vector<f32, N>>::new(vectors);
            let mut dv = Array::<Vector<f32, N>>::new(vectors);
            #[unroll]
            for c in 0..vectors {
                let channel = first_channel + c as u32;
                k[c] = load::<F, N>(kv, kv, group, own, 0u32, channel, s);
                v[c] = load::<F, N>(kv, kv, group, own, 1u32, channel, s);
                dk[c] = Vector::new(0.0);
                dv[c] = Vector::new(0.0);
            }
            for t in 0..query_tiles {
                let first = t * tile as u32;
                let count = u32::min(tile as u32, s.queries - first);
                sync_cube();
                let mut at = unit;
                while at < count as usize * vectors {
                    let query = first + (at / vectors) as u32;
                    let other = result_row(set, query, m, s);
                    let channel = first_channel + (at % vectors) as u32;
                    let from = (owner * s.queries + query) * s.channels + channel;
                    left[base + at] = Vector::<f32, N>::cast_from(q[from as usize]) * Vector::new(s.scale);
                    let mut g = Vector::<f32, N>::new(0.0);
                    if other != PADDING {
                        g = Vector::cast_from(dy[((group * s.rows + other) * s.channels + channel) as usize]);
                    }
                    right[base + at] = g;
                    at += comptime![b.units];
                }
                let mut j = unit;
                while j < count as usize {
                    let other = result_row(set, first + j as u32, m, s);
                    // Results of padded cells are dropped: a maximum beyond every logit marks them.
                    facts[facts_base + 3 * j] = f32::new(1e30);
                    if other != PADDING {
                        let from = (((group * s.rows + other) * s.heads + head) * 3) as usize;
                        facts[facts_base + 3 * j] = rows[from];
                        facts[facts_base + 3 * j + 1] = rows[from + 1];
                        facts[facts_base + 3 * j + 2] = rows[from + 2];
                    }
                    j += comptime![b.units];
                }
                sync_cube();
                for j in 0..count {
                    let at = base + j as usize * vectors;
                    let fact = facts_base + 3 * j as usize;
                    if key < s.tokens && facts[fact] < f32::new(1e29) {
                        let logit =
                            dot::<N>(&k, &left, at, vectors) + bias_of::<F>(bias, group, first + j, key, head, m, s);
                        let p = (logit - facts[fact] - facts[fact + 1]).exp();
                        let ds = p * (dot::<N>(&v, &right, at, vectors) - facts[fact + 2]);
                        accumulate::<N>(&mut dv, p, &right, at, vectors);
                        accumulate::<N>(&mut dk, ds, &left, at, vectors);
                    }
                }
            }
            if active && own != PADDING {
                let to = (group * s.token_rows + own) * 2 * s.channels + first_channel;
                #[unroll]
                for c in 0..vectors {
                    dkv[(to + c as u32) as usize] = Vector::cast_from(dk[c]);
                    dkv[(to + s.channels + c as u32) as usize] = Vector::cast_from(dv[c]);
                }
            }
            if active && key < s.tokens && r.padding > 0 {
                let half = comptime![b.head_vectors * b.vector_width];
                let to = (row + r.padding_offset) as usize + key as usize * 2 * half;
                #[unroll]
                for c in 0..vectors {
                    #[unroll]
                    for e in 0..N::value() {
                        let at = to + c * N::value() + e;
                        let mut sum_k = select(own == PADDING, dk[c][e], f32::new(0.0));
                        let mut sum_v = select(own == PADDING, dv[c][e], f32::new(0.0));
                        if i > 0 {
                            sum_k += f32::cast_from(partial[at]);
                            sum_v += f32::cast_from(partial[at + half]);
                        }
                        partial[at] = F::cast_from(sum_k);
                        partial[at + half] = F::cast_from(sum_v);
                    }
                }
            }
        }
    }
}
