//! The backward kernel: a unit gathers the gradient of its query over the keys, then the gradients of its key and value over
//! the queries. Probabilities are computed again from the forward's statistics, in both sweeps.

use cubecl::prelude::*;
use swinstyle_kit::attention::cube::{Map, PADDING, token};

use super::{Sizes, accumulate, bias, dot, load, token_or_none, tokens::gather_tokens};
use crate::tune::UnitTile;

/// Where the partial sums lie: a row a run of windows and head, `[n, n]` (keys down) of logit gradients if `table`, then
/// `[n, 2, head_dim]` of k and v gradients at padded cells if `padding`.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(crate) struct Runs {
    /// Number of runs.
    pub(crate) count: u32,
    /// Windows of a run.
    pub(crate) length: u32,
    /// Elements of a row.
    pub(crate) row: u32,
    pub(crate) table: u32,
    pub(crate) padding: u32,
    /// Where the padding's part of a row begins.
    pub(crate) padding_offset: u32,
}

/// The gradients of qkv and the partial sums of the others. A head of a cube walks through one run of windows.
#[cube(launch_unchecked)]
pub(crate) fn backward<F: Float, N: Size>(
    qkv: &Array<Vector<F, N>>,      // [B, H, W, 3C]
    table: &Array<F>,               // [(2wh − 1)(2ww − 1), heads]
    rows: &Array<f32>,              // [B, H, W, heads, 3]: maximum, ln Σ exp, Σ dy·y
    dy: &Array<Vector<F, N>>,       // [B, H, W, C]
    pad: &Array<Vector<F, N>>,      // [3C], if s.pad
    dqkv: &mut Array<Vector<F, N>>, // [B, H, W, 3C]
    partial: &mut Array<F>,         // [runs, heads, row]
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
    let has_task = task < r.count * s.heads;
    let task = select(has_task, task, 0);
    let run = task / s.heads;
    let head = task % s.heads;
    let first_channel = head * vectors as u32;
    let row = task * r.row;
    let base = local * comptime![b.tile * b.head_vectors];
    let units = comptime![b.units];
    let factors_base = local * comptime![b.tile * b.units] + unit;
    let turns = s.cells.div_ceil(comptime![b.units as u32]);
    let tiles = s.cells.div_ceil(comptime![b.tile as u32]);

    for i in 0..r.length {
        let set = run * r.length + i;
        // Every unit must reach the barriers: those without a window follow along on the first one and write nothing.
        let active = has_task && set < s.sets;
        let set = select(active, set, 0);

        for turn in 0..turns {
            let query = turn * comptime![b.units as u32] + unit as u32;
            let own = token_or_none(set, query, m, s);
            let mut q = Array::<Vector<f32, N>>::new(vectors);
            let mut g = Array::<Vector<f32, N>>::new(vectors);
            let mut dq = Array::<Vector<f32, N>>::new(vectors);
            #[unroll]
            for c in 0..vectors {
                dq[c] = Vector::new(0.0);
            }
            if comptime![!b.staged()] {
                load_query::<F, N>(&mut q, qkv, pad, own, first_channel, s, vectors);
                load_gradient::<F, N>(&mut g, dy, own, first_channel, s, vectors);
            }
            let mut max = f32::new(0.0);
            let mut ln_sum = f32::new(0.0);
            let mut delta = f32::new(0.0);
            if own != PADDING {
                let at = ((own * s.heads + head) * 3) as usize;
                max = rows[at];
                ln_sum = rows[at + 1];
                delta = rows[at + 2];
            }
            for t in 0..tiles {
                let first = t * tile as u32;
                let count = u32::min(tile as u32, s.cells - first);
                sync_cube();
                let mut at = unit;
                while at < count as usize * vectors {
                    let other = token(set, first + (at / vectors) as u32, m);
                    let channel = first_channel + (at % vectors) as u32;
                    left[base + at] = load::<F, N>(qkv, pad, other, 1u32, channel, s);
                    right[base + at] = load::<F, N>(qkv, pad, other, 2u32, channel, s);
                    at += comptime![b.units];
                }
                sync_cube();
                if comptime![b.staged()] {
                    load_query::<F, N>(&mut q, qkv, pad, own, first_channel, s, vectors);
                    for j in 0..count {
                        let at = base + j as usize * vectors;
                        let mut p = f32::new(0.0);
                        if own != PADDING {
                            let logit =
                                dot::<N>(&q, &left, at, vectors) + bias::<F>(table, set, query, first + j, head, m, s);
                            p = (logit - max - ln_sum).exp();
                        }
                        factors[factors_base + j as usize * units] = p;
                    }
                    // The gradient takes the query's registers.
                    load_gradient::<F, N>(&mut q, dy, own, first_channel, s, vectors);
                    for j in 0..count {
                        let at = base + j as usize * vectors;
                        factors[factors_base + j as usize * units] *= dot::<N>(&q, &right, at, vectors) - delta;
                    }
                }
                for j in 0..count {
                    let at = base + j as usize * vectors;
                    let mut ds = f32::new(0.0);
                    if own != PADDING {
                        if comptime![b.staged()] {
                            ds = factors[factors_base + j as usize * units];
                        } else {
                            let logit =
                                dot::<N>(&q, &left, at, vectors) + bias::<F>(table, set, query, first + j, head, m, s);
                            let p = (logit - max - ln_sum).exp();
                            ds = p * (dot::<N>(&g, &right, at, vectors) - delta);
                        }
                        accumulate::<N>(&mut dq, ds, &left, at, vectors);
                    }
                    if r.table > 0 && active && query < s.cells {
                        let to = (row + (first + j) * s.cells + query) as usize;
                        let mut sum = ds;
                        if i > 0 {
                            sum += f32::cast_from(partial[to]);
                        }
                        partial[to] = F::cast_from(sum);
                    }
                }
            }
            if active && own != PADDING {
                #[unroll]
                for c in 0..vectors {
                    let to = own * 3 * s.channels + first_channel + c as u32;
                    dqkv[to as usize] = Vector::cast_from(dq[c] * Vector::new(s.scale));
                }
            }
        }

        // Four vectors of a large head would not fit the registers of a unit: it then gathers v's gradient first, and the
        // logits once more for k's.
        if comptime![b.staged()] {
            gather_tokens::<F, N>(
                qkv,
                table,
                rows,
                dy,
                pad,
                dqkv,
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
            qkv,
            table,
            rows,
            dy,
            pad,
            dqkv,
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

/// The scaled query of a unit.
#[cube]
fn load_query<F: Float, N: Size>(
    to: &mut Array<Vector<f32, N>>,
    qkv: &Array<Vector<F, N>>,
    pad: &Array<Vector<F, N>>,
    own: u32,
    first_channel: u32,
    s: &Sizes,
    #[comptime] vectors: usize,
) {
    #[unroll]
    for c in 0..vectors {
        to[c] = load::<F, N>(qkv, pad, own, 0u32, first_channel + c as u32, s) * Vector::new(s.scale);
    }
}

/// The gradient of a unit's result, zero at a padded cell.
#[cube]
fn load_gradient<F: Float, N: Size>(
    to: &mut Array<Vector<f32, N>>,
    dy: &Array<Vector<F, N>>,
    own: u32,
    first_channel: u32,
    s: &Sizes,
    #[comptime] vectors: usize,
) {
    #[unroll]
    for c in 0..vectors {
        to[c] = Vector::new(0.0);
        if own != PADDING {
            to[c] = Vector::cast_from(dy[(own * s.channels + first_channel + c as u32) as usize]);
        }
    }
}
