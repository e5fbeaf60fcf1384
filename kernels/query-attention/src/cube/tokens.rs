//! The second sweep of the backward kernel: units gather the gradients of their keys and values over the queries of a set.

use cubecl::prelude::*;
use swinstyle_kit::attention::cube::{Map, PADDING};

use super::{Sizes, accumulate, add_padding, backward::Runs, bias_of, dot, load, result_row, token_row};
use crate::tune::UnitTile;

/// The gradients of the keys, of the values, or of both in one set: each unit gathers those of its tokens over the queries.
#[cube]
pub(crate) fn gather_tokens<F: Float, N: Size>(
    q: &Array<Vector<F, N>>,
    kv: &Array<Vector<F, N>>,
    rows: &Array<f32>,
    dy: &Array<Vector<F, N>>,
    bias: &Array<F>,
    dkv: &mut Array<Vector<F, N>>,
    partial: &mut Array<F>,
    m: &Map,
    s: &Sizes,
    r: &Runs,
    left: &mut SharedMemory<Vector<f32, N>>,
    right: &mut SharedMemory<Vector<f32, N>>,
    facts: &mut SharedMemory<f32>,
    factors: &mut SharedMemory<f32>,
    i: u32,
    set: u32,
    task: u32,
    active: bool,
    #[comptime] b: UnitTile,
    #[comptime] keys: bool,
    #[comptime] values: bool,
) {
    let vectors = comptime![b.head_vectors];
    let tile = comptime![b.tile];
    let local = UNIT_POS as usize / comptime![b.units];
    let unit = UNIT_POS as usize % comptime![b.units];
    let head = task % s.heads;
    let owner = task / s.heads / r.count;
    let group = select(s.own > 0, owner / s.sets, owner);
    let first_channel = head * vectors as u32;
    let row = task * r.row;
    let base = local * comptime![b.tile * b.head_vectors];
    let facts_base = local * comptime![b.tile * 3];
    let factors_base = local * comptime![b.tile * b.units] + unit;
    let units = comptime![b.units];
    // Keys of large heads: k, then v, then the gradient.
    let staged = comptime![b.staged() && keys];
    let key_turns = s.tokens.div_ceil(comptime![b.units as u32]);
    let query_tiles = s.queries.div_ceil(comptime![b.tile as u32]);

    for turn in 0..key_turns {
        let key = turn * comptime![b.units as u32] + unit as u32;
        let own = token_row(set, key, m, s);
        let mut k = Array::<Vector<f32, N>>::new(vectors);
        let mut v = Array::<Vector<f32, N>>::new(vectors);
        let mut dk = Array::<Vector<f32, N>>::new(vectors);
        let mut dv = Array::<Vector<f32, N>>::new(vectors);
        #[unroll]
        for c in 0..vectors {
            dk[c] = Vector::new(0.0);
            dv[c] = Vector::new(0.0);
        }
        if comptime![!staged] {
            load_part::<F, N>(&mut k, kv, group, own, 0u32, first_channel, s, vectors);
            if keys {
                load_part::<F, N>(&mut v, kv, group, own, 1u32, first_channel, s, vectors);
            }
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
                facts[facts_base + 3 * j + 1] = f32::new(0.0);
                facts[facts_base + 3 * j + 2] = f32::new(0.0);
                if other != PADDING {
                    let from = (((group * s.rows + other) * s.heads + head) * 3) as usize;
                    facts[facts_base + 3 * j] = rows[from];
                    facts[facts_base + 3 * j + 1] = rows[from + 1];
                    facts[facts_base + 3 * j + 2] = rows[from + 2];
                }
                j += comptime![b.units];
            }
            sync_cube();
            if staged {
                load_part::<F, N>(&mut k, kv, group, own, 0u32, first_channel, s, vectors);
                for j in 0..count {
                    let fact = facts_base + 3 * j as usize;
                    let mut p = f32::new(0.0);
                    if key < s.tokens && facts[fact] < f32::new(1e29) {
                        let logit = dot::<N>(&k, left, base + j as usize * vectors, vectors)
                            + bias_of::<F>(bias, group, first + j, key, head, m, s);
                        p = (logit - facts[fact] - facts[fact + 1]).exp();
                    }
                    factors[factors_base + j as usize * units] = p;
                }
                // The value takes the key's registers.
                load_part::<F, N>(&mut k, kv, group, own, 1u32, first_channel, s, vectors);
                for j in 0..count {
                    let delta = facts[facts_base + 3 * j as usize + 2];
                    factors[factors_base + j as usize * units] *=
                        dot::<N>(&k, right, base + j as usize * vectors, vectors) - delta;
                }
                for j in 0..count {
                    let ds = factors[factors_base + j as usize * units];
                    accumulate::<N>(&mut dk, ds, left, base + j as usize * vectors, vectors);
                }
            } else {
                for j in 0..count {
                    let at = base + j as usize * vectors;
                    let fact = facts_base + 3 * j as usize;
                    if key < s.tokens && facts[fact] < f32::new(1e29) {
                        let logit =
                            dot::<N>(&k, left, at, vectors) + bias_of::<F>(bias, group, first + j, key, head, m, s);
                        let p = (logit - facts[fact] - facts[fact + 1]).exp();
                        if values {
                            accumulate::<N>(&mut dv, p, right, at, vectors);
                        }
                        if keys {
                            let ds = p * (dot::<N>(&v, right, at, vectors) - facts[fact + 2]);
                            accumulate::<N>(&mut dk, ds, left, at, vectors);
                        }
                    }
                }
            }
        }
        if active && own != PADDING {
            let to = (group * s.token_rows + own) * 2 * s.channels + first_channel;
            #[unroll]
            for c in 0..vectors {
                if keys {
                    dkv[(to + c as u32) as usize] = Vector::cast_from(dk[c]);
                }
                if values {
                    dkv[(to + s.channels + c as u32) as usize] = Vector::cast_from(dv[c]);
                }
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
                    if keys {
                        add_padding::<F>(partial, at, dk[c][e], own, i);
                    }
                    if values {
                        add_padding::<F>(partial, at + half, dv[c][e], own, i);
                    }
                }
            }
        }
    }
}

/// The key or value (`part` 0, 1) of a unit.
#[cube]
fn load_part<F: Float, N: Size>(
    to: &mut Array<Vector<f32, N>>,
    kv: &Array<Vector<F, N>>,
    group: u32,
    own: u32,
    part: u32,
    first_channel: u32,
    s: &Sizes,
    #[comptime] vectors: usize,
) {
    #[unroll]
    for c in 0..vectors {
        to[c] = load::<F, N>(kv, kv, group, own, part, first_channel + c as u32, s);
    }
}
