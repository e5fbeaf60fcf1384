//! The forward kernel on matrix units: see [`swinstyle_kit::attention::matrix`] for the parts.

use cubecl::prelude::*;
use swinstyle_kit::attention::{
    cube::{Map, PADDING, table_middle, table_place},
    matrix::{
        ABSENT, EDGE, MatrixTile, PLANE, Place, WIDTH, add_weighted_values, multiply_queries_and_keys, place, row_max,
        row_sum, spread, weigh, zeros,
    },
};

use super::{Sizes, result_row, token_row};

/// y, and of every query's logits the maximum and ln Σ exp(logit − maximum).
#[cube(launch_unchecked)]
pub(crate) fn forward_matrix<F: Float, N: Size>(
    q: &Array<Vector<F, N>>,     // [owners, M, C]
    kv: &Array<Vector<F, N>>,    // [groups, token rows, 2C]
    bias: &Array<F>,             // [groups, bias_len], if s.bias
    pad: &Array<Vector<F, N>>,   // [groups, 2C], if s.pad
    y: &mut Array<Vector<F, N>>, // [groups, rows, C]
    stats: &mut Array<F>,        // [groups, rows, heads, 2]
    m: &Map,
    s: &Sizes,
    #[comptime] b: MatrixTile,
    #[define(F)] _dtype: StorageType,
) {
    let vectors = comptime!(b.row_vectors());
    let pitch = comptime!(b.pitch());
    let mut queries = SharedMemory::<Vector<F, N>>::new(comptime!(b.all_planes() * EDGE * b.pitch()));
    let mut keys = SharedMemory::<Vector<F, N>>::new(comptime!(b.tasks * b.keys * b.pitch()));
    let mut values = SharedMemory::<Vector<F, N>>::new(comptime!(b.tasks * b.keys * b.pitch()));
    let mut logits = SharedMemory::<Vector<f32, N>>::new(comptime!(b.all_planes() * EDGE * b.logit_pitch()));
    let mut weights = SharedMemory::<Vector<F, N>>::new(comptime!(b.all_planes() * EDGE * b.logit_pitch()));
    let mut facts = SharedMemory::<f32>::new(comptime!(b.units()));

    let here = place(b);
    let task = (CUBE_POS * comptime!(b.tasks) + here.task) as u32;
    // Planes without a task follow along with nothing to write, for every unit must reach the barriers.
    let active = task < s.groups * s.sets * s.heads;
    let task = select(active, task, 0);
    let head = task % s.heads;
    let set = task / s.heads % s.sets;
    let group = task / s.heads / s.sets;
    let owner = select(s.own > 0, task / s.heads, group);
    let first_channel = head * comptime!(b.head_vectors as u32);

    let turns = s.queries.div_ceil(comptime!((b.planes * EDGE) as u32));
    let tiles = s.tokens.div_ceil(comptime!(b.keys as u32));
    let sweeps = comptime!(if b.whole { 1u32 } else { 2u32 });
    for turn in 0..turns {
        let first_query = (turn * comptime!(b.planes as u32) + here.plane as u32) * comptime!(EDGE as u32);
        let mut at = here.lane;
        while at < comptime!(EDGE * b.row_vectors()) {
            let query = first_query + (at / vectors) as u32;
            let mut v = Vector::<F, N>::cast_from(Vector::<f32, N>::new(0.0));
            if query < s.queries && at % vectors < comptime!(b.head_vectors) {
                v = q[((owner * s.queries + query) * s.channels + first_channel + (at % vectors) as u32) as usize];
            }
            queries[here.queries + at / vectors * pitch + at % vectors] = v;
            at += PLANE;
        }
        let query = first_query + here.row as u32;
        let row = result_row(set, query, m, s);
        let mut max = f32::new(comptime!(ABSENT));
        let mut total = f32::new(0.0);
        let sums = zeros(b);
        for sweep in 0..sweeps {
            for t in 0..tiles {
                let first = t * comptime!(b.keys as u32);
                // Where one tile holds the whole set it stays.
                if comptime!(!b.whole) || turn == 0 {
                    sync_cube();
                    let mut at = here.unit;
                    while at < comptime!(b.keys * b.row_vectors()) {
                        let index = first + (at / vectors) as u32;
                        let to = here.keys + at / vectors * pitch + at % vectors;
                        let other = token_row(set, index, m, s);
                        let channel = first_channel + (at % vectors) as u32;
                        let inside = index < s.tokens && at % vectors < comptime!(b.head_vectors);
                        keys[to] = part::<F, N>(kv, pad, group, other, 0u32, channel, inside, s);
                        values[to] = part::<F, N>(kv, pad, group, other, 1u32, channel, inside, s);
                        at += comptime!(b.planes * PLANE);
                    }
                    sync_cube();
                } else {
                    sync_plane();
                }
                multiply_queries_and_keys::<F, N>(&queries, &keys, &mut logits, &here, b);
                sync_plane();
                let highest = add_bias::<F, N>(bias, &mut logits, group, query, first, head, m, s, &here, b);
                if sweep == 0 {
                    let higher = f32::max(max, row_max(&mut facts, &here, highest));
                    total *= (max - higher).exp();
                    max = higher;
                }
                let sum = weigh::<F, N>(&logits, &mut weights, &here, max, b);
                if sweep == 0 {
                    total += sum;
                }
                sync_plane();
                if sweep + 1 == sweeps {
                    add_weighted_values::<F, N>(&weights, &values, &sums, &here, b);
                }
            }
        }
        let total = row_sum(&mut facts, &here, total);
        let at = (group * s.rows + row) * s.heads + head;
        #[unroll]
        for d in 0..comptime!(b.row_fragments()) {
            let v = spread::<N>(sums.index(d), &mut logits, &here, b) / Vector::new(total);
            let c = here.half + comptime!(2 * d);
            if active && row != PADDING && c < comptime!(b.head_vectors) {
                y[at as usize * comptime!(b.head_vectors) + c] = Vector::cast_from(v);
            }
        }
        if active && row != PADDING && here.half == 0 {
            stats[2 * at as usize] = F::cast_from(max);
            stats[2 * at as usize + 1] = F::cast_from(total.ln());
        }
    }
}

/// A vector of a key or value (`which` 0, 1) as it is stored; zeros where it is not `inside`.
#[cube]
fn part<F: Float, N: Size>(
    kv: &Array<Vector<F, N>>,
    pad: &Array<Vector<F, N>>,
    group: u32,
    row: u32,
    which: u32,
    channel: u32,
    inside: bool,
    s: &Sizes,
) -> Vector<F, N> {
    let mut v = Vector::<F, N>::cast_from(Vector::<f32, N>::new(0.0));
    if inside && row != PADDING {
        v = kv[(((group * s.token_rows + row) * 2 + which) * s.channels + channel) as usize];
    } else if inside && s.pad > 0 {
        v = pad[(s.pad_first + (group * 2 + which) * s.channels + channel) as usize];
    }
    v
}

/// Scales a unit's half row of logits, adds the bias, and returns the largest.
#[cube]
fn add_bias<F: Float, N: Size>(
    bias: &Array<F>,
    logits: &mut SharedMemory<Vector<f32, N>>,
    group: u32,
    query: u32,
    first: u32,
    head: u32,
    m: &Map,
    s: &Sizes,
    here: &Place,
    #[comptime] b: MatrixTile,
) -> f32 {
    let mut highest = f32::new(comptime!(ABSENT));
    let row = here.strip + here.row * comptime!(b.logit_pitch());
    // Entries of this query: one a key, or in the table of relative positions one a place.
    let dense = ((group * s.heads + head) * s.queries + query) * s.tokens;
    let table = table_place(query, m) + table_middle(m);
    #[unroll]
    for v in 0..comptime!(b.keys / EDGE) {
        let c = here.half + comptime!(2 * v);
        let mut logit = logits[row + c];
        #[unroll]
        for e in 0..WIDTH {
            let key = first + (c * WIDTH + e) as u32;
            let mut l = f32::new(comptime!(ABSENT));
            if query < s.queries && key < s.tokens {
                l = logit[e] * s.scale;
                if s.bias == 1 {
                    l += f32::cast_from(bias[(dense + key) as usize]);
                } else if s.bias == 2 {
                    let entry = group * s.bias_len + (table - table_place(key, m)) * s.heads + head;
                    l += f32::cast_from(bias[entry as usize]);
                }
            }
            logit[e] = l;
            highest = f32::max(highest, l);
        }
        logits[row + c] = logit;
    }
    highest
}
