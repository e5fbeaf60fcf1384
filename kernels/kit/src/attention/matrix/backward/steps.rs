//! The steps of a tile: filling it, P and dS, the products that they are factors of, and what leaves the cube.

use cubecl::prelude::*;
use swinstyle_tensor::cube::fragments::Product;

use super::{
    super::{
        super::cube::{PADDING, add_padding},
        EDGE, Extent, GradientTile, Head, HeadExpand, PLANE, WIDTH,
        fragments::{add_product, multiply_rows, rows_of, spread},
        head::fill_tokens,
    },
    GradientPlace, Memory, PartialSums,
};

/// A tile of queries, the gradients of their results, and what is known of their logits.
#[cube]
pub(super) fn fill_queries<F: Float, N: Size, H: Head<F, N>>(
    head: &H,
    extent: &Extent,
    rows: &Array<f32>,
    dy: &Array<Vector<F, N>>,
    memory: &mut Memory<F, N>,
    first: u32,
    at: &GradientPlace,
    #[comptime] b: GradientTile,
) {
    let vectors = comptime!(b.row_vectors());
    let pitch = comptime!(b.pitch());
    let units = comptime!(b.planes() * PLANE);
    let first_row = at.task * comptime!(b.rows * EDGE);
    let mut i = at.unit;
    while i < comptime!(b.rows * EDGE * b.row_vectors()) {
        let to = (first_row + i / vectors) * pitch + i % vectors;
        let query = first + (i / vectors) as u32;
        let row = head.result_row(query);
        let mut q = Vector::<F, N>::cast_from(Vector::<f32, N>::new(0.0));
        let mut g = q;
        if row != PADDING && i % vectors < comptime!(b.head_vectors) {
            q = head.query(query, row, i % vectors);
            g = dy[(row * extent.heads + extent.head) as usize * comptime!(b.head_vectors) + i % vectors];
        }
        memory.queries[to] = q;
        memory.results[to] = g;
        i += units;
    }
    let mut i = at.unit;
    while i < comptime!(b.rows * EDGE) {
        let query = first + i as u32;
        let row = head.result_row(query);
        // Results that are dropped have no gradient; what is multiplied by their zero probabilities must be finite.
        let mut place = PADDING.runtime();
        let mut max = f32::new(0.0);
        let mut ln_sum = f32::new(0.0);
        let mut delta = f32::new(0.0);
        if row != PADDING {
            place = head.query_place(query);
            let from = (row * extent.heads + extent.head) as usize * 3;
            max = rows[from];
            ln_sum = rows[from + 1];
            delta = rows[from + 2];
        }
        let fact = 2 * (first_row + i);
        memory.facts[fact] = max + ln_sum;
        memory.facts[fact + 1] = delta;
        memory.query_places[first_row + i] = place;
        i += units;
    }
}

#[cube]
pub(super) fn fill_tile_of_tokens<F: Float, N: Size, H: Head<F, N>>(
    head: &H,
    extent: &Extent,
    memory: &mut Memory<F, N>,
    first: u32,
    at: &GradientPlace,
    #[comptime] b: GradientTile,
) {
    fill_tokens::<F, N, H>(
        head,
        &mut memory.keys,
        &mut memory.values,
        &mut memory.token_places,
        extent,
        at.task,
        first,
        at.unit,
        comptime!(b.planes() * PLANE),
        comptime!(b.columns * EDGE),
        comptime!(b.head_vectors),
        comptime!(b.pitch()),
    );
}

/// P and dS of a tile; with `last` P is written too, and dS added to the sums of the run.
#[cube]
pub(super) fn differentiate<F: Float, N: Size, H: Head<F, N>>(
    head: &H,
    extent: &Extent,
    partial: &mut Array<F>,
    sums: &PartialSums,
    memory: &mut Memory<F, N>,
    kept: &mut Array<Vector<f32, N>>,
    first_query: u32,
    first_token: u32,
    at: &GradientPlace,
    #[comptime] b: GradientTile,
    #[comptime] last: bool,
) {
    let pitch = comptime!(b.pitch());
    let fragments = comptime!(b.row_fragments());
    let patch_pitch = comptime!(b.patch_pitch());
    let strip = at.task * comptime!(b.rows) + at.strip;
    let own_rows = strip * comptime!(EDGE * b.pitch());
    let row = strip * EDGE + at.row;
    let query = first_query + (at.strip * EDGE + at.row) as u32;
    #[unroll]
    for t in 0..comptime!(b.plane_columns()) {
        let column = at.share + comptime!(t * b.shares);
        if column < comptime!(b.columns) {
            let strip = at.task * comptime!(b.columns) + column;
            let from = strip * comptime!(EDGE * b.pitch());
            // What belongs to the queries is fetched again for each strip of tokens: held over all of them it would not fit the registers.
            let queries = rows_of::<F, N>(&memory.queries, own_rows, fragments, pitch, b.ldmatrix);
            let product = multiply_rows::<F, N>(&queries, &memory.keys, from, fragments, pitch, b.ldmatrix);
            let products =
                spread::<N>(&product, &mut memory.patches, at.patch, at.row, at.half, patch_pitch, b.ldmatrix);
            let own = memory.query_places[row];
            let log_sum_exp = memory.facts[2 * row];
            let mut p = Vector::<f32, N>::new(0.0);
            #[unroll]
            for e in 0..WIDTH {
                let place = memory.token_places[strip * EDGE + at.half * WIDTH + e];
                if own != PADDING && place != PADDING {
                    p[e] = (head.logit(products[e], own, place) - log_sum_exp).exp();
                }
            }
            let results = rows_of::<F, N>(&memory.results, own_rows, fragments, pitch, b.ldmatrix);
            let product = multiply_rows::<F, N>(&results, &memory.values, from, fragments, pitch, b.ldmatrix);
            let gains = spread::<N>(&product, &mut memory.patches, at.patch, at.row, at.half, patch_pitch, b.ldmatrix);
            let ds = p * (gains - Vector::new(memory.facts[2 * row + 1]));
            let to = row * comptime!(b.weight_pitch()) + column * comptime!(EDGE / WIDTH) + at.half;
            memory.slopes[to] = Vector::cast_from(ds);
            if last {
                memory.weights[to] = Vector::cast_from(p);
                if comptime!(b.single) {
                    kept[t] += ds;
                } else if sums.bias > 0 && extent.active {
                    #[unroll]
                    for e in 0..WIDTH {
                        let token = first_token + (column * EDGE + at.half * WIDTH + e) as u32;
                        if query < extent.queries && token < extent.tokens {
                            let to = (sums.bias_first + token * extent.queries + query) as usize;
                            let mut sum = ds[e];
                            if sums.before > 0 {
                                sum += f32::cast_from(partial[to]);
                            }
                            partial[to] = F::cast_from(sum);
                        }
                    }
                }
            }
        }
    }
}

/// dv += Pᵀg of a plane's strip of tokens and the tile's queries.
#[cube]
pub(super) fn add_value_gradients<F: Float, N: Size>(
    memory: &Memory<F, N>,
    dv: &mut Sequence<Product>,
    at: &GradientPlace,
    #[comptime] b: GradientTile,
) {
    add_token_gradients::<F, N>(&memory.weights, &memory.results, dv, at, b);
}

/// dk += dSᵀq of a plane's strip of tokens and the tile's queries.
#[cube]
pub(super) fn add_key_gradients<F: Float, N: Size>(
    memory: &Memory<F, N>,
    dk: &mut Sequence<Product>,
    at: &GradientPlace,
    #[comptime] b: GradientTile,
) {
    add_token_gradients::<F, N>(&memory.slopes, &memory.queries, dk, at, b);
}

/// sums += weightsᵀ · queries of a plane's strip of tokens, which are columns of the weights.
#[cube]
fn add_token_gradients<F: Float, N: Size>(
    weights: &SharedMemory<Vector<F, N>>,
    queries: &SharedMemory<Vector<F, N>>,
    sums: &mut Sequence<Product>,
    at: &GradientPlace,
    #[comptime] b: GradientTile,
) {
    add_product::<F, N>(
        weights,
        at.task * comptime!(b.rows * EDGE * b.weight_pitch()) + at.plane * comptime!(EDGE / WIDTH),
        queries,
        at.task * comptime!(b.rows * EDGE * b.pitch()),
        sums,
        comptime!(b.rows),
        true,
        comptime!(b.weight_pitch()),
        comptime!(b.row_fragments()),
        comptime!(b.pitch()),
        b.ldmatrix,
    );
}

/// dq += dS·k of a plane's strip of queries and the tile's tokens.
#[cube]
pub(super) fn add_query_gradients<F: Float, N: Size>(
    memory: &Memory<F, N>,
    dq: &mut Sequence<Product>,
    at: &GradientPlace,
    #[comptime] b: GradientTile,
) {
    if at.plane < comptime!(b.rows) {
        let strip = at.task * comptime!(b.rows) + at.plane;
        add_product::<F, N>(
            &memory.slopes,
            strip * comptime!(EDGE * b.weight_pitch()),
            &memory.keys,
            at.task * comptime!(b.columns * EDGE * b.pitch()),
            dq,
            comptime!(b.columns),
            false,
            comptime!(b.weight_pitch()),
            comptime!(b.row_fragments()),
            comptime!(b.pitch()),
            b.ldmatrix,
        );
    }
}

/// Writes a plane's gradients of keys or values (`part` 0, 1), and adds those of padded tokens to the sums of the run.
#[cube]
pub(super) fn write_gradients<F: Float, N: Size, H: Head<F, N>>(
    head: &H,
    extent: &Extent,
    gradients: &Sequence<Product>,
    part: u32,
    scale: f32,
    token: u32,
    dtokens: &mut Array<Vector<F, N>>,
    partial: &mut Array<F>,
    sums: &PartialSums,
    memory: &mut Memory<F, N>,
    at: &GradientPlace,
    #[comptime] b: GradientTile,
) {
    let row = head.token_row(token);
    #[unroll]
    for d in 0..comptime!(b.row_fragments()) {
        let v = spread::<N>(
            gradients.index(d),
            &mut memory.patches,
            at.patch,
            at.row,
            at.half,
            comptime!(b.patch_pitch()),
            b.ldmatrix,
        ) * Vector::new(scale);
        let c = at.half + comptime!(2 * d);
        if extent.active && token < extent.tokens && c < comptime!(b.head_vectors) {
            if row != PADDING {
                dtokens[head.token_gradient(row, part) + c] = Vector::cast_from(v);
            }
            if sums.padding > 0 && (row == PADDING || sums.before == 0) {
                let to = sums.padding_first as usize
                    + (token * 2 + part) as usize * comptime!(b.head_vectors * WIDTH)
                    + c * WIDTH;
                #[unroll]
                for e in 0..WIDTH {
                    add_padding::<F>(partial, to + e, v[e], row, sums.before);
                }
            }
        }
    }
}
