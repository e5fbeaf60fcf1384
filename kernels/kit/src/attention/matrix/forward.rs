//! The forward pass: a plane multiplies sixteen queries with all keys of its set.
//!
//! Logits and softmax are f32, a unit with half a row of the sixteen queries each; the probabilities, not yet divided by their sum, are
//! rounded to the type for the second product. Sets of more keys than a tile are swept twice: once for maxima and sums, once for the
//! product, for fragments cannot be rescaled by rows.

use cubecl::prelude::*;
use swinstyle_tensor::cube::fragments::write_product;

use super::{
    super::cube::PADDING,
    ABSENT, EDGE, Extent, Head, MatrixTile, PLANE, WIDTH,
    fragments::{add_product, multiply_rows, rows_of, spread, task_and_plane, zeros},
    head::{HeadExpand, fill_tokens},
};

/// Where a unit works: its task in the cube and, in vectors, where its plane's and task's tiles begin.
#[derive(CubeType, Clone, Copy)]
struct Place {
    /// Head of a set, of those of the cube.
    task: usize,
    /// Plane of those of the task, and the unit's number in them.
    plane: usize,
    unit: usize,
    lane: usize,
    queries: usize,
    keys: usize,
    /// The plane's sixteen rows of logits and of weights.
    strip: usize,
    /// Row of the sixteen, and which of each pair of vectors in it.
    row: usize,
    half: usize,
    /// The numbers of this unit, and of the one with the other half of the row.
    fact: usize,
    partner: usize,
}

#[cube]
fn place(#[comptime] b: MatrixTile) -> Place {
    let of_cube = UNIT_POS as usize / PLANE;
    let lane = UNIT_POS as usize % PLANE;
    let (task, plane) = task_and_plane(b.tasks, b.planes);
    Place {
        task,
        plane,
        unit: UNIT_POS as usize % comptime!(b.planes * PLANE),
        lane,
        queries: of_cube * comptime!(EDGE * b.pitch()),
        keys: task * comptime!(b.keys * b.pitch()),
        strip: of_cube * comptime!(EDGE * b.logit_pitch()),
        row: lane / 2,
        half: lane % 2,
        fact: of_cube * PLANE + lane,
        partner: of_cube * PLANE + lane + 1 - 2 * (lane % 2),
    }
}

/// y, and of every query's logits the maximum and ln Σ exp(logit − maximum).
#[cube]
pub fn attend<F: Float, N: Size, H: Head<F, N>>(
    head: &H,
    extent: &Extent,
    y: &mut Array<Vector<F, N>>, // [rows, heads · head_dim]
    stats: &mut Array<F>,        // [rows, heads, 2]
    #[comptime] b: MatrixTile,
) {
    let vectors = comptime!(b.row_vectors());
    let fragments = comptime!(b.row_fragments());
    let pitch = comptime!(b.pitch());
    let mut queries = SharedMemory::<Vector<F, N>>::new(comptime!(b.all_planes() * EDGE * b.pitch()));
    let mut keys = SharedMemory::<Vector<F, N>>::new(comptime!(b.tasks * b.keys * b.pitch()));
    let mut values = SharedMemory::<Vector<F, N>>::new(comptime!(b.tasks * b.keys * b.pitch()));
    let mut logits = SharedMemory::<Vector<f32, N>>::new(comptime!(b.all_planes() * EDGE * b.logit_pitch()));
    let mut weights = SharedMemory::<Vector<F, N>>::new(comptime!(b.all_planes() * EDGE * b.logit_pitch()));
    let mut facts = SharedMemory::<f32>::new(comptime!(b.units()));
    let mut places = SharedMemory::<u32>::new(comptime!(b.tasks * b.keys));

    let here = place(b);
    let turns = extent.queries.div_ceil(comptime!((b.planes * EDGE) as u32));
    let tiles = extent.tokens.div_ceil(comptime!(b.keys as u32));
    let sweeps = comptime!(if b.whole { 1u32 } else { 2u32 });
    for turn in 0..turns {
        let first_query = (turn * comptime!(b.planes as u32) + here.plane as u32) * comptime!(EDGE as u32);
        let mut at = here.lane;
        while at < comptime!(EDGE * b.row_vectors()) {
            let query = first_query + (at / vectors) as u32;
            let row = head.result_row(query);
            let mut v = Vector::<F, N>::cast_from(Vector::<f32, N>::new(0.0));
            if row != PADDING && at % vectors < comptime!(b.head_vectors) {
                v = head.query(query, row, at % vectors);
            }
            queries[here.queries + at / vectors * pitch + at % vectors] = v;
            at += PLANE;
        }
        let query = first_query + here.row as u32;
        let row = head.result_row(query);
        let mut own = PADDING.runtime();
        if query < extent.queries {
            own = head.query_place(query);
        }
        let mut max = f32::new(comptime!(ABSENT));
        let mut total = f32::new(0.0);
        let mut sums = zeros(fragments, b.ldmatrix);
        for sweep in 0..sweeps {
            for t in 0..tiles {
                // Where one tile holds the whole set it stays.
                if comptime!(!b.whole) || turn == 0 {
                    sync_cube();
                    fill_tokens::<F, N, H>(
                        head,
                        &mut keys,
                        &mut values,
                        &mut places,
                        extent,
                        here.task,
                        t * comptime!(b.keys as u32),
                        here.unit,
                        comptime!(b.planes * PLANE),
                        comptime!(b.keys),
                        comptime!(b.head_vectors),
                        pitch,
                    );
                    sync_cube();
                } else {
                    sync_plane();
                }
                let left = rows_of::<F, N>(&queries, here.queries, fragments, pitch, b.ldmatrix);
                #[unroll]
                for k in 0..comptime!(b.keys / EDGE) {
                    let from = here.keys + comptime!(k * EDGE * b.pitch());
                    let product = multiply_rows::<F, N>(&left, &keys, from, fragments, pitch, b.ldmatrix);
                    let to = here.strip + comptime!(k * EDGE / WIDTH);
                    write_product::<N>(&product, &mut logits, to, comptime!(b.logit_pitch()), b.ldmatrix);
                }
                sync_plane();
                let highest = add_bias::<F, N, H>(head, &mut logits, &places, own, &here, b);
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
                    add_product::<F, N>(
                        &weights,
                        here.strip,
                        &values,
                        here.keys,
                        &mut sums,
                        comptime!(b.keys / EDGE),
                        false,
                        comptime!(b.logit_pitch()),
                        fragments,
                        pitch,
                        b.ldmatrix,
                    );
                }
            }
        }
        let total = row_sum(&mut facts, &here, total);
        let at = (row * extent.heads + extent.head) as usize;
        #[unroll]
        for d in 0..fragments {
            let v = spread::<N>(
                sums.index(d),
                &mut logits,
                here.strip,
                here.row,
                here.half,
                comptime!(b.logit_pitch()),
                b.ldmatrix,
            );
            let c = here.half + comptime!(2 * d);
            if extent.active && row != PADDING && c < comptime!(b.head_vectors) {
                y[at * comptime!(b.head_vectors) + c] = Vector::cast_from(v / Vector::new(total));
            }
        }
        if extent.active && row != PADDING && here.half == 0 {
            stats[2 * at] = F::cast_from(max);
            stats[2 * at + 1] = F::cast_from(total.ln());
        }
    }
}

/// Makes a unit's half row of products logits, and returns the largest.
#[cube]
fn add_bias<F: Float, N: Size, H: Head<F, N>>(
    head: &H,
    logits: &mut SharedMemory<Vector<f32, N>>,
    places: &SharedMemory<u32>,
    own: u32,
    here: &Place,
    #[comptime] b: MatrixTile,
) -> f32 {
    let mut highest = f32::new(comptime!(ABSENT));
    let row = here.strip + here.row * comptime!(b.logit_pitch());
    #[unroll]
    for v in 0..comptime!(b.keys / EDGE) {
        let c = here.half + comptime!(2 * v);
        let mut logit = logits[row + c];
        #[unroll]
        for e in 0..WIDTH {
            let token = places[here.task * comptime!(b.keys) + c * WIDTH + e];
            let mut l = f32::new(comptime!(ABSENT));
            if own != PADDING && token != PADDING {
                l = head.logit(logit[e], own, token);
            }
            logit[e] = l;
            highest = f32::max(highest, l);
        }
        logits[row + c] = logit;
    }
    highest
}

/// The larger of both halves of a row.
#[cube]
fn row_max(facts: &mut SharedMemory<f32>, at: &Place, own: f32) -> f32 {
    facts[at.fact] = own;
    sync_plane();
    f32::max(own, facts[at.partner])
}

/// The sum of both halves of a row.
#[cube]
fn row_sum(facts: &mut SharedMemory<f32>, at: &Place, own: f32) -> f32 {
    // The maxima have been read.
    sync_plane();
    facts[at.fact] = own;
    sync_plane();
    own + facts[at.partner]
}

/// From a unit's half row of logits to weights exp(logit − max); returns their sum before they are rounded.
#[cube]
fn weigh<F: Float, N: Size>(
    logits: &SharedMemory<Vector<f32, N>>,
    weights: &mut SharedMemory<Vector<F, N>>,
    at: &Place,
    max: f32,
    #[comptime] b: MatrixTile,
) -> f32 {
    let mut total = f32::new(0.0);
    let first = at.strip + at.row * comptime!(b.logit_pitch()) + at.half;
    #[unroll]
    for v in 0..comptime!(b.keys / EDGE) {
        let c = first + comptime!(2 * v);
        let p = (logits[c] - Vector::new(max)).exp();
        #[unroll]
        for e in 0..WIDTH {
            total += p[e];
        }
        weights[c] = Vector::cast_from(p);
    }
    total
}
