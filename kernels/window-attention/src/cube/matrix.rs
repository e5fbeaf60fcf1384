//! The forward kernel on matrix units: see [`swinstyle_kit::attention::matrix`] for the parts.

use cubecl::prelude::*;
use swinstyle_kit::attention::{
    MASK,
    cube::{Map, PADDING, region, table_middle, table_place},
    matrix::{
        ABSENT, EDGE, MatrixTile, PLANE, Place, WIDTH, add_weighted_values, multiply_queries_and_keys, place, row_max,
        row_sum, spread, weigh, zeros,
    },
};

use super::{Sizes, token_or_none};

/// What regions are counted in: beyond every place in a table, for windows have at most 2¹⁵ cells.
const REGION: u32 = 1 << 20;

/// y, and of every query's logits the maximum and ln Σ exp(logit − maximum).
#[cube(launch_unchecked)]
pub(crate) fn forward_matrix<F: Float, N: Size>(
    qkv: &Array<Vector<F, N>>,   // [B, H, W, 3C]
    table: &Array<F>,            // [(2wh − 1)(2ww − 1), heads]
    pad: &Array<Vector<F, N>>,   // [3C], if s.pad
    y: &mut Array<Vector<F, N>>, // [B, H, W, C]
    stats: &mut Array<F>,        // [B, H, W, heads, 2]
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
    let mut key_places = SharedMemory::<u32>::new(comptime!(b.tasks * b.keys));

    let here = place(b);
    let task = (CUBE_POS * comptime!(b.tasks) + here.task) as u32;
    // Planes without a task follow along with nothing to write, for every unit must reach the barriers.
    let active = task < s.sets * s.heads;
    let task = select(active, task, 0);
    let set = task / s.heads;
    let head = task % s.heads;
    let first_channel = head * comptime!(b.head_vectors as u32);

    let turns = s.cells.div_ceil(comptime!((b.planes * EDGE) as u32));
    let tiles = s.cells.div_ceil(comptime!(b.keys as u32));
    let sweeps = comptime!(if b.whole { 1u32 } else { 2u32 });
    for turn in 0..turns {
        let first_query = (turn * comptime!(b.planes as u32) + here.plane as u32) * comptime!(EDGE as u32);
        let mut at = here.lane;
        while at < comptime!(EDGE * b.row_vectors()) {
            let other = token_or_none(set, first_query + (at / vectors) as u32, m, s);
            queries[here.queries + at / vectors * pitch + at % vectors] =
                part::<F, N>(qkv, pad, other, 0u32, first_channel, at % vectors, s, b);
            at += PLANE;
        }
        let query = first_query + here.row as u32;
        let own = token_or_none(set, query, m, s);
        let own_place = place_in_table(set, query, m, s);
        let mut max = f32::new(comptime!(ABSENT));
        let mut total = f32::new(0.0);
        let sums = zeros(b);
        for sweep in 0..sweeps {
            for t in 0..tiles {
                let first = t * comptime!(b.keys as u32);
                // Where one tile holds the whole window it stays.
                if comptime!(!b.whole) || turn == 0 {
                    sync_cube();
                    let mut at = here.unit;
                    while at < comptime!(b.keys * b.row_vectors()) {
                        let other = token_or_none(set, first + (at / vectors) as u32, m, s);
                        let to = here.keys + at / vectors * pitch + at % vectors;
                        keys[to] = part::<F, N>(qkv, pad, other, 1u32, first_channel, at % vectors, s, b);
                        values[to] = part::<F, N>(qkv, pad, other, 2u32, first_channel, at % vectors, s, b);
                        at += comptime!(b.planes * PLANE);
                    }
                    let mut key = here.unit;
                    while key < comptime!(b.keys) {
                        key_places[here.task * comptime!(b.keys) + key] = place_in_table(set, first + key as u32, m, s);
                        key += comptime!(b.planes * PLANE);
                    }
                    sync_cube();
                } else {
                    sync_plane();
                }
                multiply_queries_and_keys::<F, N>(&queries, &keys, &mut logits, &here, b);
                sync_plane();
                let highest = add_bias::<F, N>(table, &mut logits, &key_places, own_place, head, m, s, &here, b);
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
        #[unroll]
        for d in 0..comptime!(b.row_fragments()) {
            let v = spread::<N>(sums.index(d), &mut logits, &here, b) / Vector::new(total);
            let c = here.half + comptime!(2 * d);
            if active && own != PADDING && c < comptime!(b.head_vectors) {
                y[(own * s.channels + first_channel + c as u32) as usize] = Vector::cast_from(v);
            }
        }
        if active && own != PADDING && here.half == 0 {
            let at = (own * s.heads + head) as usize;
            stats[2 * at] = F::cast_from(max);
            stats[2 * at + 1] = F::cast_from(total.ln());
        }
    }
}

/// A vector of q, k or v (`which` 0, 1, 2) of a token's head as it is stored; zeros beyond the head.
#[cube]
fn part<F: Float, N: Size>(
    qkv: &Array<Vector<F, N>>,
    pad: &Array<Vector<F, N>>,
    token: u32,
    which: u32,
    first_channel: u32,
    vector: usize,
    s: &Sizes,
    #[comptime] b: MatrixTile,
) -> Vector<F, N> {
    let at = which * s.channels + first_channel + vector as u32;
    let mut v = Vector::<F, N>::cast_from(Vector::<f32, N>::new(0.0));
    if vector < comptime!(b.head_vectors) {
        if token != PADDING {
            v = qkv[(token * 3 * s.channels + at) as usize];
        } else if s.pad > 0 {
            v = pad[at as usize];
        }
    }
    v
}

/// A cell's [`table_place`], with its region in the upper bits; [`PADDING`] beyond the window.
#[cube]
fn place_in_table(set: u32, cell: u32, m: &Map, s: &Sizes) -> u32 {
    let mut place = PADDING.runtime();
    if cell < s.cells {
        place = table_place(cell, m) + region(set, cell, m) * comptime!(REGION);
    }
    place
}

/// Scales a unit's half row of logits, adds bias and mask, and returns the largest.
#[cube]
fn add_bias<F: Float, N: Size>(
    table: &Array<F>,
    logits: &mut SharedMemory<Vector<f32, N>>,
    key_places: &SharedMemory<u32>,
    own: u32,
    head: u32,
    m: &Map,
    s: &Sizes,
    here: &Place,
    #[comptime] b: MatrixTile,
) -> f32 {
    let mut highest = f32::new(comptime!(ABSENT));
    let row = here.strip + here.row * comptime!(b.logit_pitch());
    let middle = table_middle(m);
    #[unroll]
    for v in 0..comptime!(b.keys / EDGE) {
        let c = here.half + comptime!(2 * v);
        let mut logit = logits[row + c];
        #[unroll]
        for e in 0..WIDTH {
            let key = key_places[here.task * comptime!(b.keys) + c * WIDTH + e];
            let mut l = f32::new(comptime!(ABSENT));
            if own != PADDING && key != PADDING {
                let entry = own % comptime!(REGION) + middle - key % comptime!(REGION);
                l = logit[e] * s.scale + f32::cast_from(table[(entry * s.heads + head) as usize]);
                if own / comptime!(REGION) != key / comptime!(REGION) {
                    l += comptime!(MASK as f32);
                }
            }
            logit[e] = l;
            highest = f32::max(highest, l);
        }
        logits[row + c] = logit;
    }
    highest
}
