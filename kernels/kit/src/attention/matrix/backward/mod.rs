//! The gradients: from tiles of queries and tokens, probabilities are made again, and from them the factors of three products.
//!
//! With P the probabilities, g the gradient of the result and δ = Σ g·y: dS = P ∘ (g·vᵀ − δ), dv = Pᵀg, dk = scale·dSᵀq, dq = scale·dS·k.
//! Planes share the logits of a tile; then each gathers the gradients of a strip of tokens, and of a strip of queries. Nothing that belongs
//! to a pair of query and token leaves the cube but the sums of dS over sets, where they are asked for.

mod steps;

use cubecl::prelude::*;
use swinstyle_tensor::cube::fragments::Product;

use super::{
    EDGE, Extent, GradientTile, Head, PLANE, WIDTH,
    fragments::{spread, task_and_plane, zeros},
};
use steps::{
    add_key_gradients, add_query_gradients, add_value_gradients, differentiate, fill_queries, fill_tile_of_tokens,
    write_gradients,
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
    /// Two statistics a query: ln Σ exp of its logits, and Σ dy·y.
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
            facts: SharedMemory::new(comptime!(2 * queries)),
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
    let (task, plane) = task_and_plane(b.tasks, comptime!(b.planes()));
    let mut strip = plane;
    let mut share = 0usize.runtime();
    if comptime!(b.shares > 1) {
        strip = plane % comptime!(b.rows);
        share = plane / comptime!(b.rows);
    }
    GradientPlace {
        task,
        plane,
        unit: UNIT_POS as usize % comptime!(b.planes() * PLANE),
        strip,
        share,
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
    dq: &mut Sequence<Product>,
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
    dq: &mut Sequence<Product>,
    at: &GradientPlace,
    #[comptime] b: GradientTile,
) {
    let mut turns = 1u32.runtime();
    if comptime!(!b.whole) {
        turns = extent.queries.div_ceil(comptime!((b.rows * EDGE) as u32));
    }
    for t in 0..extent.tokens.div_ceil(comptime!((b.columns * EDGE) as u32)) {
        let first_token = t * comptime!((b.columns * EDGE) as u32);
        let token = first_token + (at.plane * EDGE + at.row) as u32;
        let mut dk = zeros(comptime!(if b.whole { 0 } else { b.row_fragments() }), b.ldmatrix);
        let mut dv = zeros(comptime!(if b.whole { 0 } else { b.row_fragments() }), b.ldmatrix);
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
            if comptime!(b.whole) {
                // One after the other, so that the sums of one at a time take registers.
                if at.plane < comptime!(b.columns) {
                    let mut dv = zeros(comptime!(b.row_fragments()), b.ldmatrix);
                    add_value_gradients::<F, N>(memory, &mut dv, at, b);
                    write_gradients::<F, N, H>(
                        head, extent, &dv, 1u32, 1.0f32, token, dtokens, partial, sums, memory, at, b,
                    );
                    let mut dk = zeros(comptime!(b.row_fragments()), b.ldmatrix);
                    add_key_gradients::<F, N>(memory, &mut dk, at, b);
                    write_gradients::<F, N, H>(
                        head, extent, &dk, 0u32, sums.scale, token, dtokens, partial, sums, memory, at, b,
                    );
                }
                add_query_gradients::<F, N>(memory, dq, at, b);
            } else {
                if at.plane < comptime!(b.columns) {
                    add_value_gradients::<F, N>(memory, &mut dv, at, b);
                    add_key_gradients::<F, N>(memory, &mut dk, at, b);
                }
            }
        }
        // Nested, for only a condition of constants alone drops what it guards.
        #[allow(clippy::collapsible_if)]
        if comptime!(!b.whole) {
            if at.plane < comptime!(b.columns) {
                write_gradients::<F, N, H>(
                    head, extent, &dk, 0u32, sums.scale, token, dtokens, partial, sums, memory, at, b,
                );
                write_gradients::<F, N, H>(
                    head, extent, &dv, 1u32, 1.0f32, token, dtokens, partial, sums, memory, at, b,
                );
            }
        }
    }
}

/// One fragment of a plane's gradients of queries: the vector of this unit's row and half.
#[cube]
pub fn query_gradient<F: Float, N: Size>(
    dq: &Product,
    memory: &mut Memory<F, N>,
    scale: f32,
    at: &GradientPlace,
    #[comptime] b: GradientTile,
) -> Vector<f32, N> {
    spread::<N>(dq, &mut memory.patches, at.patch, at.row, at.half, comptime!(b.patch_pitch()), b.ldmatrix)
        * Vector::new(scale)
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
