//! The forward kernel on matrix units: a plane multiplies sixteen queries with all keys of its window, in f16 or bf16 with f32 sums.
//!
//! Queries, keys and values stay in shared memory as they are stored. Logits, bias, mask and softmax are f32, a unit with half a row of
//! sixteen queries each; the probabilities, not yet divided by their sum, are rounded to the type for the second product. Windows of
//! more keys than a tile are swept twice: once for maxima and sums, once for the product, for fragments cannot be rescaled by rows.

use cubecl::{cmma, prelude::*};
use swinstyle_kit::attention::cube::{Map, PADDING};

use super::{Sizes, bias, token_or_none};
use crate::tune::{EDGE, MatrixTile, PLANE, WIDTH};

/// Logit of what is not there.
const ABSENT: f32 = -1e30;

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
    let pitch = comptime!(b.pitch());
    let logit_pitch = comptime!(b.logit_pitch());
    let row_vectors = comptime!(b.row_vectors());
    let mut queries = SharedMemory::<Vector<F, N>>::new(comptime!(b.all_planes() * EDGE * b.pitch()));
    let mut keys = SharedMemory::<Vector<F, N>>::new(comptime!(b.tasks * b.keys * b.pitch()));
    let mut values = SharedMemory::<Vector<F, N>>::new(comptime!(b.tasks * b.keys * b.pitch()));
    let mut logits = SharedMemory::<Vector<f32, N>>::new(comptime!(b.all_planes() * EDGE * b.logit_pitch()));
    let mut weights = SharedMemory::<Vector<F, N>>::new(comptime!(b.all_planes() * EDGE * b.logit_pitch()));
    let mut facts = SharedMemory::<f32>::new(comptime!(b.all_planes() * PLANE));

    let plane = UNIT_POS as usize / PLANE;
    let lane = UNIT_POS as usize % PLANE;
    let local = plane / comptime!(b.planes);
    let unit = UNIT_POS as usize % comptime!(b.planes * PLANE);
    let task = (CUBE_POS * comptime!(b.tasks) + local) as u32;
    // Planes without a task follow along with nothing to write, for every unit must reach the barriers.
    let active = task < s.sets * s.heads;
    let task = select(active, task, 0);
    let set = task / s.heads;
    let head = task % s.heads;
    let first_channel = head * comptime!(b.head_vectors as u32);

    let own_queries = plane * comptime!(EDGE * b.pitch());
    let own_keys = local * comptime!(b.keys * b.pitch());
    let strip = plane * comptime!(EDGE * b.logit_pitch());
    // The row of this unit, and which half of each pair of vectors.
    let row = lane / 2;
    let half = lane % 2;
    let own_row = strip + row * logit_pitch;
    let partner = plane * PLANE + lane + 1 - 2 * half;

    let turns = s.cells.div_ceil(comptime!((b.planes * EDGE) as u32));
    let tiles = s.cells.div_ceil(comptime!(b.keys as u32));
    let sweeps = comptime!(if b.whole { 1u32 } else { 2u32 });
    for turn in 0..turns {
        let first_query =
            (turn * comptime!(b.planes as u32) + (plane % comptime!(b.planes)) as u32) * comptime!(EDGE as u32);
        let mut at = lane;
        while at < comptime!(EDGE * b.row_vectors()) {
            let other = token_or_none(set, first_query + (at / row_vectors) as u32, m, s);
            let to = own_queries + at / row_vectors * pitch + at % row_vectors;
            queries[to] = part::<F, N>(qkv, pad, other, 0u32, first_channel, at % row_vectors, s, b);
            at += PLANE;
        }
        let query = first_query + row as u32;
        let own = token_or_none(set, query, m, s);
        let mut max = f32::new(comptime!(ABSENT));
        let mut total = f32::new(0.0);
        let sums = zeros(comptime!(b.row_vectors() / 2));
        for sweep in 0..sweeps {
            for t in 0..tiles {
                let first = t * comptime!(b.keys as u32);
                // Where one tile holds the whole window it stays.
                if comptime!(!b.whole) || turn == 0 {
                    sync_cube();
                    let mut at = unit;
                    while at < comptime!(b.keys * b.row_vectors()) {
                        let other = token_or_none(set, first + (at / row_vectors) as u32, m, s);
                        let to = own_keys + at / row_vectors * pitch + at % row_vectors;
                        keys[to] = part::<F, N>(qkv, pad, other, 1u32, first_channel, at % row_vectors, s, b);
                        values[to] = part::<F, N>(qkv, pad, other, 2u32, first_channel, at % row_vectors, s, b);
                        at += comptime!(b.planes * PLANE);
                    }
                    sync_cube();
                } else {
                    sync_plane();
                }
                product_of_queries_and_keys::<F, N>(&queries, &keys, &mut logits, own_queries, own_keys, strip, b);
                sync_plane();

                let mut highest = f32::new(comptime!(ABSENT));
                #[unroll]
                for v in 0..comptime!(b.keys / WIDTH / 2) {
                    let c = half + comptime!(2 * v);
                    let mut logit = logits[own_row + c];
                    #[unroll]
                    for e in 0..WIDTH {
                        let key = first + (c * WIDTH + e) as u32;
                        let mut l = f32::new(comptime!(ABSENT));
                        if query < s.cells && key < s.cells {
                            l = logit[e] * s.scale + bias::<F>(table, set, query, key, head, m, s);
                        }
                        logit[e] = l;
                        highest = f32::max(highest, l);
                    }
                    logits[own_row + c] = logit;
                }
                if sweep == 0 {
                    facts[plane * PLANE + lane] = highest;
                    sync_plane();
                    let higher = f32::max(max, f32::max(highest, facts[partner]));
                    total *= (max - higher).exp();
                    max = higher;
                }
                #[unroll]
                for v in 0..comptime!(b.keys / WIDTH / 2) {
                    let c = half + comptime!(2 * v);
                    let logit = logits[own_row + c];
                    let p = (logit - Vector::new(max)).exp();
                    if sweep == 0 {
                        #[unroll]
                        for e in 0..WIDTH {
                            total += p[e];
                        }
                    }
                    weights[own_row + c] = Vector::cast_from(p);
                }
                sync_plane();
                if sweep + 1 == sweeps {
                    add_weighted_values::<F, N>(&weights, &values, strip, own_keys, &sums, b);
                }
            }
        }
        sync_plane();
        facts[plane * PLANE + lane] = total;
        sync_plane();
        total += facts[partner];
        #[unroll]
        for d in 0..comptime!(b.row_vectors() / 2) {
            sync_plane();
            let end = strip + comptime!(EDGE * b.logit_pitch());
            cmma::store(
                &mut logits.slice_mut(strip, end),
                sums.index(d),
                comptime!((b.logit_pitch() * WIDTH) as u32),
                cmma::MatrixLayout::RowMajor,
            );
            sync_plane();
            let c = half + comptime!(2 * d);
            if active && own != PADDING && c < comptime!(b.head_vectors) {
                let v = logits[own_row + half] / Vector::new(total);
                y[(own * s.channels + first_channel + c as u32) as usize] = Vector::cast_from(v);
            }
        }
        if active && own != PADDING && half == 0 {
            let at = (own * s.heads + head) as usize;
            stats[2 * at] = F::cast_from(max);
            stats[2 * at + 1] = F::cast_from(total.ln());
        }
    }
}

/// Fragments of zeros.
#[cube]
fn zeros(#[comptime] count: usize) -> Sequence<cmma::Matrix<f32>> {
    let mut sums = Sequence::<cmma::Matrix<f32>>::new();
    #[unroll]
    for _ in 0..count {
        sums.push(cmma::Matrix::<f32>::from_value(
            cmma::MatrixIdent::Accumulator,
            EDGE,
            EDGE,
            EDGE,
            cmma::MatrixLayout::Undefined,
            0.0f32,
        ));
    }
    sums
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

/// Q·Kᵀ of a plane's queries and a tile's keys into the plane's strip of logits.
#[cube]
fn product_of_queries_and_keys<F: Float, N: Size>(
    queries: &SharedMemory<Vector<F, N>>,
    keys: &SharedMemory<Vector<F, N>>,
    logits: &mut SharedMemory<Vector<f32, N>>,
    own_queries: usize,
    own_keys: usize,
    strip: usize,
    #[comptime] b: MatrixTile,
) {
    let stride = comptime!((b.pitch() * WIDTH) as u32);
    let rows = comptime!(EDGE * b.pitch());
    let mut left = Sequence::<cmma::Matrix<F>>::new();
    #[unroll]
    for d in 0..comptime!(b.row_vectors() / 2) {
        let at = own_queries + comptime!(2 * d);
        // SAFETY: it is loaded at once.
        let fragment = unsafe {
            cmma::Matrix::<F>::uninitialized(cmma::MatrixIdent::A, EDGE, EDGE, EDGE, cmma::MatrixLayout::RowMajor)
        };
        cmma::load(&fragment, &queries.slice(at, at + rows), stride);
        left.push(fragment);
    }
    #[unroll]
    for k in 0..comptime!(b.keys / EDGE) {
        let sum = cmma::Matrix::<f32>::from_value(
            cmma::MatrixIdent::Accumulator,
            EDGE,
            EDGE,
            EDGE,
            cmma::MatrixLayout::Undefined,
            0.0f32,
        );
        #[unroll]
        for d in 0..comptime!(b.row_vectors() / 2) {
            let at = own_keys + comptime!(k * EDGE * b.pitch() + 2 * d);
            // SAFETY: it is loaded at once. Keys lie in rows, which are the columns of the right factor.
            let fragment = unsafe {
                cmma::Matrix::<F>::uninitialized(cmma::MatrixIdent::B, EDGE, EDGE, EDGE, cmma::MatrixLayout::ColMajor)
            };
            cmma::load(&fragment, &keys.slice(at, at + rows), stride);
            cmma::execute::<F, F, f32, f32>(left.index(d), &fragment, &sum, &sum);
        }
        let at = strip + comptime!(k * EDGE / WIDTH);
        let end = at + comptime!(EDGE * b.logit_pitch());
        cmma::store(
            &mut logits.slice_mut(at, end),
            &sum,
            comptime!((b.logit_pitch() * WIDTH) as u32),
            cmma::MatrixLayout::RowMajor,
        );
    }
}

/// Adds P·V of a plane's weights and a tile's values to the plane's sums.
#[cube]
fn add_weighted_values<F: Float, N: Size>(
    weights: &SharedMemory<Vector<F, N>>,
    values: &SharedMemory<Vector<F, N>>,
    strip: usize,
    own_keys: usize,
    sums: &Sequence<cmma::Matrix<f32>>,
    #[comptime] b: MatrixTile,
) {
    #[unroll]
    for k in 0..comptime!(b.keys / EDGE) {
        let at = strip + comptime!(k * EDGE / WIDTH);
        // SAFETY: both are loaded at once.
        let left = unsafe {
            cmma::Matrix::<F>::uninitialized(cmma::MatrixIdent::A, EDGE, EDGE, EDGE, cmma::MatrixLayout::RowMajor)
        };
        let end = at + comptime!(EDGE * b.logit_pitch());
        cmma::load(&left, &weights.slice(at, end), comptime!((b.logit_pitch() * WIDTH) as u32));
        #[unroll]
        for d in 0..comptime!(b.row_vectors() / 2) {
            let at = own_keys + comptime!(k * EDGE * b.pitch() + 2 * d);
            let right = unsafe {
                cmma::Matrix::<F>::uninitialized(cmma::MatrixIdent::B, EDGE, EDGE, EDGE, cmma::MatrixLayout::RowMajor)
            };
            cmma::load(
                &right,
                &values.slice(at, at + comptime!(EDGE * b.pitch())),
                comptime!((b.pitch() * WIDTH) as u32),
            );
            let sum = sums.index(d);
            cmma::execute::<F, F, f32, f32>(&left, &right, sum, sum);
        }
    }
}
