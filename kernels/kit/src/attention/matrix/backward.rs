//! The gradients: from tiles of queries and tokens, probabilities are made again, and from them the factors of three products.
//!
//! With P the probabilities, g the gradient of the result and δ = Σ g·y: dS = P ∘ (g·vᵀ − δ), dv = Pᵀg, dk = scale·dSᵀq, dq = scale·dS·k.
//! Planes share the logits of a tile; then each gathers the gradients of a strip of tokens, and of a strip of queries. Nothing that belongs
//! to a pair of query and token leaves the cube but the sums of dS over sets, where they are asked for.

use cubecl::{cmma, prelude::*};

use super::{
    super::cube::{PADDING, add_padding},
    EDGE, Extent, GradientTile, Head, PLANE, WIDTH,
    fragments::{add_product, multiply_rows, rows_of, spread, zeros},
    head::{HeadExpand, fill_tokens},
};

/// Shared memory of a cube, each part with the rows of all its tasks.
#[derive(CubeType)]
pub struct Memory<F: Float, N: Size> {
    queries: SharedMemory<Vector<F, N>>,
    /// Gradients of the queries' results.
    results: SharedMemory<Vector<F, N>>,
    keys: SharedMemory<Vector<F, N>>,
    values: SharedMemory<Vector<F, N>>,
    /// P and dS, a row a query.
    weights: SharedMemory<Vector<F, N>>,
    slopes: SharedMemory<Vector<F, N>>,
    /// A product of each plane on its way to the units.
    patches: SharedMemory<Vector<f32, N>>,
    /// Three statistics a query.
    facts: SharedMemory<f32>,
    query_places: SharedMemory<u32>,
    token_places: SharedMemory<u32>,
}

#[cube]
impl<F: Float, N: Size> Memory<F, N> {
    pub fn new(#[comptime] b: GradientTile) -> Self {
        let queries = comptime!(b.tasks * b.rows * EDGE);
        let tokens = comptime!(b.tasks * b.columns * EDGE);
        Memory::<F, N> {
            queries: SharedMemory::new(comptime!(queries * b.pitch())),
            results: SharedMemory::new(comptime!(queries * b.pitch())),
            keys: SharedMemory::new(comptime!(tokens * b.pitch())),
            values: SharedMemory::new(comptime!(tokens * b.pitch())),
            weights: SharedMemory::new(comptime!(queries * b.weight_pitch())),
            slopes: SharedMemory::new(comptime!(queries * b.weight_pitch())),
            patches: SharedMemory::new(comptime!(b.tasks * b.planes() * EDGE * b.patch_pitch())),
            facts: SharedMemory::new(comptime!(3 * queries)),
            query_places: SharedMemory::new(queries),
            token_places: SharedMemory::new(tokens),
        }
    }
}

/// Where a unit works.
#[derive(CubeType, Clone, Copy)]
pub struct GradientPlace {
    /// Head of a run, of those of the cube.
    pub task: usize,
    /// Plane of those of the task, whose strip of tokens and, below `rows`, of queries it gathers.
    pub plane: usize,
    /// Number of the unit in the task.
    unit: usize,
    /// Strip of queries whose logits it makes, and which part of them.
    strip: usize,
    share: usize,
    /// Row of the sixteen, and which of each pair of vectors in it.
    pub row: usize,
    pub half: usize,
    /// Where the plane's patch begins.
    patch: usize,
}

#[cube]
pub fn gradient_place(#[comptime] b: GradientTile) -> GradientPlace {
    let of_cube = UNIT_POS as usize / PLANE;
    let lane = UNIT_POS as usize % PLANE;
    let plane = of_cube % comptime!(b.planes());
    GradientPlace {
        task: of_cube / comptime!(b.planes()),
        plane,
        unit: UNIT_POS as usize % comptime!(b.planes() * PLANE),
        strip: plane % comptime!(b.rows),
        share: plane / comptime!(b.rows),
        row: lane / 2,
        half: lane % 2,
        patch: of_cube * comptime!(EDGE * b.patch_pitch()),
    }
}

/// Which partial sums a run of sets leaves beside the gradients of its tokens, and where.
#[derive(CubeType, Clone, Copy)]
pub struct PartialSums {
    /// Whether logits' gradients are wanted, and where `[tokens, queries]` of them begin.
    pub bias: u32,
    pub bias_first: u32,
    /// Whether gradients at padded tokens are wanted, and where `[tokens, 2, head_dim]` of them begin.
    pub padding: u32,
    pub padding_first: u32,
    /// Sets of the run so far.
    pub before: u32,
    /// Factor on q·k.
    pub scale: f32,
}

/// The logits' gradients of a unit over a run, where one tile holds them all: a vector for each strip of tokens of its plane.
#[cube]
pub fn kept<N: Size>(#[comptime] b: GradientTile) -> Array<Vector<f32, N>> {
    let count = comptime!(if b.single { b.plane_columns() } else { 1 });
    let mut sums = Array::<Vector<f32, N>>::new(count);
    #[unroll]
    for t in 0..count {
        sums[t] = Vector::new(0.0);
    }
    sums
}

/// Adds to `dq` the gradients of one tile of queries of a set, over all tokens.
#[cube]
pub fn gather_queries<F: Float, N: Size, H: Head<F, N>>(
    head: &H,
    extent: &Extent,
    rows: &Array<f32>,        // [rows, heads, 3]: maximum, ln Σ exp, Σ dy·y
    dy: &Array<Vector<F, N>>, // [rows, heads · head_dim]
    partial: &mut Array<F>,
    sums: &PartialSums,
    memory: &mut Memory<F, N>,
    kept: &mut Array<Vector<f32, N>>,
    dq: &Sequence<cmma::Matrix<f32>>,
    turn: u32,
    at: &GradientPlace,
    #[comptime] b: GradientTile,
) {
    let first_query = turn * comptime!((b.rows * EDGE) as u32);
    for t in 0..extent.tokens.div_ceil(comptime!((b.columns * EDGE) as u32)) {
        let first_token = t * comptime!((b.columns * EDGE) as u32);
        sync_cube();
        if t == 0 {
            fill_queries::<F, N, H>(head, extent, rows, dy, memory, first_query, at, b);
        }
        fill_tile_of_tokens::<F, N, H>(head, extent, memory, first_token, at, b);
        sync_cube();
        differentiate::<F, N, H>(head, extent, partial, sums, memory, kept, first_query, first_token, at, b, false);
        sync_cube();
        add_query_gradients::<F, N>(memory, dq, at, b);
    }
}

/// Writes the gradients of all keys and values of a set; where one tile holds all queries, it adds theirs to `dq` too.
#[cube]
pub fn gather_tokens<F: Float, N: Size, H: Head<F, N>>(
    head: &H,
    extent: &Extent,
    rows: &Array<f32>,        // [rows, heads, 3]: maximum, ln Σ exp, Σ dy·y
    dy: &Array<Vector<F, N>>, // [rows, heads · head_dim]
    dtokens: &mut Array<Vector<F, N>>,
    partial: &mut Array<F>,
    sums: &PartialSums,
    memory: &mut Memory<F, N>,
    kept: &mut Array<Vector<f32, N>>,
    dq: &Sequence<cmma::Matrix<f32>>,
    at: &GradientPlace,
    #[comptime] b: GradientTile,
) {
    let pitch = comptime!(b.pitch());
    let fragments = comptime!(b.row_fragments());
    let from_queries = at.task * comptime!(b.rows * EDGE * b.pitch());
    // The plane's strip of tokens: columns of the weights.
    let from_weights = at.task * comptime!(b.rows * EDGE * b.weight_pitch()) + at.plane * comptime!(EDGE / WIDTH);
    let mut turns = 1u32.runtime();
    if comptime!(!b.whole) {
        turns = extent.queries.div_ceil(comptime!((b.rows * EDGE) as u32));
    }
    for t in 0..extent.tokens.div_ceil(comptime!((b.columns * EDGE) as u32)) {
        let first_token = t * comptime!((b.columns * EDGE) as u32);
        let dk = zeros(fragments);
        let dv = zeros(fragments);
        for turn in 0..turns {
            let first_query = turn * comptime!((b.rows * EDGE) as u32);
            sync_cube();
            if turn == 0 {
                fill_tile_of_tokens::<F, N, H>(head, extent, memory, first_token, at, b);
            }
            // Where one tile holds all queries it stays.
            if comptime!(!b.whole) || t == 0 {
                fill_queries::<F, N, H>(head, extent, rows, dy, memory, first_query, at, b);
            }
            sync_cube();
            differentiate::<F, N, H>(head, extent, partial, sums, memory, kept, first_query, first_token, at, b, true);
            sync_cube();
            if at.plane < comptime!(b.columns) {
                add_product::<F, N>(
                    &memory.weights,
                    from_weights,
                    &memory.results,
                    from_queries,
                    &dv,
                    comptime!(b.rows),
                    true,
                    comptime!(b.weight_pitch()),
                    fragments,
                    pitch,
                );
                add_product::<F, N>(
                    &memory.slopes,
                    from_weights,
                    &memory.queries,
                    from_queries,
                    &dk,
                    comptime!(b.rows),
                    true,
                    comptime!(b.weight_pitch()),
                    fragments,
                    pitch,
                );
            }
            if comptime!(b.whole) {
                add_query_gradients::<F, N>(memory, dq, at, b);
            }
        }
        if at.plane < comptime!(b.columns) {
            let token = first_token + (at.plane * EDGE + at.row) as u32;
            write_gradients::<F, N, H>(
                head, extent, &dk, 0u32, sums.scale, token, dtokens, partial, sums, memory, at, b,
            );
            write_gradients::<F, N, H>(head, extent, &dv, 1u32, 1.0f32, token, dtokens, partial, sums, memory, at, b);
        }
    }
}

/// One fragment of a plane's gradients of queries: the vector of this unit's row and half.
#[cube]
pub fn query_gradient<F: Float, N: Size>(
    dq: &cmma::Matrix<f32>,
    memory: &mut Memory<F, N>,
    scale: f32,
    at: &GradientPlace,
    #[comptime] b: GradientTile,
) -> Vector<f32, N> {
    spread::<N>(dq, &mut memory.patches, at.patch, at.row, at.half, comptime!(b.patch_pitch())) * Vector::new(scale)
}

/// Writes the sums that were kept in registers over a run, if there are such.
#[cube]
pub fn write_kept<F: Float, N: Size>(
    partial: &mut Array<F>,
    sums: &PartialSums,
    kept: &Array<Vector<f32, N>>,
    extent: &Extent,
    at: &GradientPlace,
    #[comptime] b: GradientTile,
) {
    if comptime!(b.single) && sums.bias > 0 && extent.active {
        let query = (at.strip * EDGE + at.row) as u32;
        #[unroll]
        for t in 0..comptime!(b.plane_columns()) {
            let column = at.share + comptime!(t * b.shares);
            if column < comptime!(b.columns) {
                #[unroll]
                for e in 0..WIDTH {
                    let token = (column * EDGE + at.half * WIDTH + e) as u32;
                    if query < extent.queries && token < extent.tokens {
                        partial[(sums.bias_first + token * extent.queries + query) as usize] = F::cast_from(kept[t][e]);
                    }
                }
            }
        }
    }
}

/// A tile of queries, the gradients of their results, and what is known of their logits.
#[cube]
fn fill_queries<F: Float, N: Size, H: Head<F, N>>(
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
        // Results that are dropped have no gradient.
        let mut place = PADDING.runtime();
        if row != PADDING {
            place = head.query_place(query);
            let from = (row * extent.heads + extent.head) as usize * 3;
            #[unroll]
            for f in 0..3usize {
                memory.facts[3 * (first_row + i) + f] = rows[from + f];
            }
        }
        memory.query_places[first_row + i] = place;
        i += units;
    }
}

#[cube]
fn fill_tile_of_tokens<F: Float, N: Size, H: Head<F, N>>(
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
fn differentiate<F: Float, N: Size, H: Head<F, N>>(
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
    let from = strip * comptime!(EDGE * b.pitch());
    let queries = rows_of::<F, N>(&memory.queries, from, fragments, pitch);
    let results = rows_of::<F, N>(&memory.results, from, fragments, pitch);
    let row = strip * EDGE + at.row;
    let own = memory.query_places[row];
    let max = memory.facts[3 * row];
    let ln_sum = memory.facts[3 * row + 1];
    let delta = memory.facts[3 * row + 2];
    let query = first_query + (at.strip * EDGE + at.row) as u32;
    #[unroll]
    for t in 0..comptime!(b.plane_columns()) {
        let column = at.share + comptime!(t * b.shares);
        if column < comptime!(b.columns) {
            let strip = at.task * comptime!(b.columns) + column;
            let from = strip * comptime!(EDGE * b.pitch());
            let product = multiply_rows::<F, N>(&queries, &memory.keys, from, fragments, pitch);
            let products = spread::<N>(&product, &mut memory.patches, at.patch, at.row, at.half, patch_pitch);
            let product = multiply_rows::<F, N>(&results, &memory.values, from, fragments, pitch);
            let gains = spread::<N>(&product, &mut memory.patches, at.patch, at.row, at.half, patch_pitch);
            let mut p = Vector::<f32, N>::new(0.0);
            let mut ds = Vector::<f32, N>::new(0.0);
            #[unroll]
            for e in 0..WIDTH {
                let place = memory.token_places[strip * EDGE + at.half * WIDTH + e];
                if own != PADDING && place != PADDING {
                    let weight = (head.logit(products[e], own, place) - max - ln_sum).exp();
                    p[e] = weight;
                    ds[e] = weight * (gains[e] - delta);
                }
            }
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

/// dq += dS·k of a plane's strip of queries and the tile's tokens.
#[cube]
fn add_query_gradients<F: Float, N: Size>(
    memory: &Memory<F, N>,
    dq: &Sequence<cmma::Matrix<f32>>,
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
        );
    }
}

/// Writes a plane's gradients of keys or values (`part` 0, 1), and adds those of padded tokens to the sums of the run.
#[cube]
fn write_gradients<F: Float, N: Size, H: Head<F, N>>(
    head: &H,
    extent: &Extent,
    gradients: &Sequence<cmma::Matrix<f32>>,
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
        let v =
            spread::<N>(gradients.index(d), &mut memory.patches, at.patch, at.row, at.half, comptime!(b.patch_pitch()))
                * Vector::new(scale);
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
