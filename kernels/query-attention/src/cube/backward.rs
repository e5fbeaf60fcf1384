//! The backward kernel: units first gather the gradients of their queries over all sets of a run, then, set by set, the gradients
//! of their keys and values over the queries. Probabilities are computed again from the forward's statistics, in both sweeps.

use cubecl::prelude::*;
use swinstyle_kit::attention::cube::{Map, PADDING};

use super::{Sizes, accumulate, bias_of, dot, load, result_row, token_row, tokens::gather_tokens};
use crate::tune::UnitTile;

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
    #[comptime] b: UnitTile,
    #[define(F)] _dtype: StorageType,
) {
    let vectors = comptime![b.head_vectors];
    let tile = comptime![b.tile];
    // First keys and values, then queries and output gradients.
    let mut left = SharedMemory::<Vector<f32, N>>::new(comptime![b.heads * b.tile * b.head_vectors]);
    let mut right = SharedMemory::<Vector<f32, N>>::new(comptime![b.heads * b.tile * b.head_vectors]);
    let mut facts = SharedMemory::<f32>::new(comptime![b.heads * b.tile * 3]);
    let mut factors = SharedMemory::<f32>::new(comptime![if b.staged() { b.heads * b.tile * b.units } else { 1 }]);

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
    let units = comptime![b.units];
    let factors_base = local * comptime![b.tile * b.units] + unit;

    let query_turns = s.queries.div_ceil(comptime![b.units as u32]);
    let key_tiles = s.tokens.div_ceil(comptime![b.tile as u32]);

    for turn in 0..query_turns {
        let query = turn * comptime![b.units as u32] + unit as u32;
        let mut mine = Array::<Vector<f32, N>>::new(vectors);
        let mut g = Array::<Vector<f32, N>>::new(vectors);
        let mut dq = Array::<Vector<f32, N>>::new(vectors);
        #[unroll]
        for c in 0..vectors {
            dq[c] = Vector::new(0.0);
        }
        if comptime![!b.staged()] {
            load_query::<F, N>(&mut mine, q, owner, query, first_channel, s, vectors);
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
            }
            if comptime![!b.staged()] {
                load_gradient::<F, N>(&mut g, dy, group, own, first_channel, s, vectors);
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
                if comptime![b.staged()] {
                    load_query::<F, N>(&mut mine, q, owner, query, first_channel, s, vectors);
                    for j in 0..count {
                        let at = base + j as usize * vectors;
                        let mut p = f32::new(0.0);
                        if own != PADDING {
                            let logit = dot::<N>(&mine, &left, at, vectors)
                                + bias_of::<F>(bias, group, query, first + j, head, m, s);
                            p = (logit - max - ln_sum).exp();
                        }
                        factors[factors_base + j as usize * units] = p;
                    }
                    // The gradient takes the query's registers.
                    load_gradient::<F, N>(&mut mine, dy, group, own, first_channel, s, vectors);
                    for j in 0..count {
                        let at = base + j as usize * vectors;
                        factors[factors_base + j as usize * units] *= dot::<N>(&mine, &right, at, vectors) - delta;
                    }
                }
                for j in 0..count {
                    let at = base + j as usize * vectors;
                    let mut ds = f32::new(0.0);
                    if own != PADDING {
                        if comptime![b.staged()] {
                            ds = factors[factors_base + j as usize * units];
                        } else {
                            let logit = dot::<N>(&mine, &left, at, vectors)
                                + bias_of::<F>(bias, group, query, first + j, head, m, s);
                            let p = (logit - max - ln_sum).exp();
                            ds = p * (dot::<N>(&g, &right, at, vectors) - delta);
                        }
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
        // Four vectors of a large head would not fit the registers of a unit: it then gathers v's gradient first, and the
        // logits once more for k's.
        if comptime![b.staged()] {
            gather_tokens::<F, N>(
                q,
                kv,
                rows,
                dy,
                bias,
                dkv,
                partial,
                m,
                s,
                r,
                &mut left,
                &mut right,
                &mut facts,
                &mut factors,
                i,
                set,
                task,
                active,
                b,
                false,
                true,
            );
        }
        gather_tokens::<F, N>(
            q,
            kv,
            rows,
            dy,
            bias,
            dkv,
            partial,
            m,
            s,
            r,
            &mut left,
            &mut right,
            &mut facts,
            &mut factors,
            i,
            set,
            task,
            active,
            b,
            true,
            comptime![!b.staged()],
        );
    }
}

/// The scaled query of a unit, zero where there is none.
#[cube]
fn load_query<F: Float, N: Size>(
    to: &mut Array<Vector<f32, N>>,
    q: &Array<Vector<F, N>>,
    owner: u32,
    query: u32,
    first_channel: u32,
    s: &Sizes,
    #[comptime] vectors: usize,
) {
    #[unroll]
    for c in 0..vectors {
        to[c] = Vector::new(0.0);
        if query < s.queries {
            let at = (owner * s.queries + query) * s.channels + first_channel + c as u32;
            to[c] = Vector::<f32, N>::cast_from(q[at as usize]) * Vector::new(s.scale);
        }
    }
}

/// The gradient of a unit's result, zero where it is dropped.
#[cube]
fn load_gradient<F: Float, N: Size>(
    to: &mut Array<Vector<f32, N>>,
    dy: &Array<Vector<F, N>>,
    group: u32,
    own: u32,
    first_channel: u32,
    s: &Sizes,
    #[comptime] vectors: usize,
) {
    #[unroll]
    for c in 0..vectors {
        to[c] = Vector::new(0.0);
        if own != PADDING {
            to[c] = Vector::cast_from(dy[((group * s.rows + own) * s.channels + first_channel + c as u32) as usize]);
        }
    }
}
