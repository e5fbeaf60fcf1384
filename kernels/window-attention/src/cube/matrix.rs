//! The kernels on matrix units: what they must know of a head of a window for [`swinstyle_kit::attention::matrix`].

use cubecl::prelude::*;
use swinstyle_kit::attention::{
    MASK,
    cube::{Map, PADDING, region, table_middle, table_place},
    matrix::{
        EDGE, Extent, GradientPlace, GradientTile, Head, HeadExpand, MatrixTile, Memory, PLANE, PartialSums, Product,
        attend, gather_queries, gather_tokens, gradient_place, kept, query_gradient, write_kept, zeros,
    },
};

use super::{Sizes, backward::Runs, token_or_none};

/// What regions are counted in: beyond every place in a table, for windows have at most 2¹⁵ cells.
const REGION: u32 = 1 << 20;

/// One head of a window.
#[derive(CubeType)]
struct WindowHead<F: Float, N: Size> {
    qkv: Slice<Vector<F, N>>, // [B, H, W, 3C]
    table: Slice<F>,          // [(2wh − 1)(2ww − 1), heads]
    pad: Slice<Vector<F, N>>, // [3C], if s.pad
    m: Map,
    s: Sizes,
    set: u32,
    head: u32,
    /// Vectors before the head in each of q, k and v.
    first_channel: u32,
    /// Whether there is such a window; else nothing has a result.
    active: bool,
}

#[cube]
impl<F: Float, N: Size> Head<F, N> for WindowHead<F, N> {
    fn result_row(&self, query: u32) -> u32 {
        select(self.active, token_or_none(self.set, query, &self.m, &self.s), PADDING)
    }

    fn token_row(&self, token: u32) -> u32 {
        token_or_none(self.set, token, &self.m, &self.s)
    }

    fn query(&self, _query: u32, row: u32, vector: usize) -> Vector<F, N> {
        self.qkv[(row * 3 * self.s.channels + self.first_channel) as usize + vector]
    }

    fn token(&self, row: u32, part: u32, vector: usize) -> Vector<F, N> {
        let at = ((part + 1) * self.s.channels + self.first_channel) as usize + vector;
        let mut v = Vector::<F, N>::cast_from(Vector::<f32, N>::new(0.0));
        if row != PADDING {
            v = self.qkv[(row * 3 * self.s.channels) as usize + at];
        } else if self.s.pad > 0 {
            v = self.pad[at];
        }
        v
    }

    fn token_gradient(&self, row: u32, part: u32) -> usize {
        ((row * 3 + part + 1) * self.s.channels + self.first_channel) as usize
    }

    /// Beyond the table's middle, so that a token's place is never larger.
    fn query_place(&self, query: u32) -> u32 {
        self.token_place(query) + table_middle(&self.m)
    }

    /// The cell's place in the table, with its region in the upper bits.
    fn token_place(&self, token: u32) -> u32 {
        table_place(token, &self.m) + region(self.set, token, &self.m) * comptime!(REGION)
    }

    fn logit(&self, product: f32, query: u32, token: u32) -> f32 {
        let entry = query % comptime!(REGION) - token % comptime!(REGION);
        let logit = product * self.s.scale + f32::cast_from(self.table[(entry * self.s.heads + self.head) as usize]);
        let same = query / comptime!(REGION) == token / comptime!(REGION);
        select(same, logit, logit + comptime!(MASK as f32))
    }
}

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
    let of_cube = UNIT_POS as usize / comptime!(b.planes * PLANE);
    let task = (CUBE_POS * comptime!(b.tasks) + of_cube) as u32;
    // Planes without a task follow along with nothing to write, for every unit must reach the barriers.
    let active = task < s.sets * s.heads;
    let task = select(active, task, 0);
    let head = WindowHead::<F, N> {
        qkv: qkv.to_slice(),
        table: table.to_slice(),
        pad: pad.to_slice(),
        m: *m,
        s: *s,
        set: task / s.heads,
        head: task % s.heads,
        first_channel: task % s.heads * comptime!(b.head_vectors as u32),
        active,
    };
    let extent = Extent { queries: s.cells, tokens: s.cells, heads: s.heads, head: head.head, active };
    attend::<F, N, WindowHead<F, N>>(&head, &extent, y, stats, b);
}

/// The gradients of qkv and the partial sums of the others. A head of a cube walks through one run of windows.
#[cube(launch_unchecked)]
pub(crate) fn backward_matrix<F: Float, N: Size>(
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
    #[comptime] b: GradientTile,
    #[define(F)] _dtype: StorageType,
) {
    let at = gradient_place(b);
    let mut memory = Memory::<F, N>::new(b);
    let mut logit_sums = kept::<N>(b);
    let task = (CUBE_POS * comptime!(b.tasks) + at.task) as u32;
    let has_task = task < r.count * s.heads;
    let task = select(has_task, task, 0);
    let run = task / s.heads;
    let head = task % s.heads;
    let extent = Extent { queries: s.cells, tokens: s.cells, heads: s.heads, head, active: has_task };
    for i in 0..r.length {
        let set = run * r.length + i;
        // Every unit must reach the barriers: those without a window follow along on the first one and write nothing.
        let active = has_task && set < s.sets;
        let of_set = WindowHead::<F, N> {
            qkv: qkv.to_slice(),
            table: table.to_slice(),
            pad: pad.to_slice(),
            m: *m,
            s: *s,
            set: select(active, set, 0),
            head,
            first_channel: head * comptime!(b.head_vectors as u32),
            active,
        };
        let here = Extent { queries: s.cells, tokens: s.cells, heads: s.heads, head, active };
        let sums = partial_sums(task, i, s, r);
        if comptime!(!b.whole) {
            for turn in 0..s.cells.div_ceil(comptime!((b.rows * EDGE) as u32)) {
                let mut dq = zeros(comptime!(b.row_fragments()), b.ldmatrix);
                gather_queries::<F, N, WindowHead<F, N>>(
                    &of_set,
                    &here,
                    rows,
                    dy,
                    partial,
                    &sums,
                    &mut memory,
                    &mut logit_sums,
                    &mut dq,
                    turn,
                    &at,
                    b,
                );
                write_queries::<F, N>(&of_set, &dq, turn, dqkv, &mut memory, &at, b);
            }
        }
        // Where one tile holds all queries, their gradients come with the tokens'.
        let mut dq = zeros(comptime!(if b.whole { b.row_fragments() } else { 0 }), b.ldmatrix);
        gather_tokens::<F, N, WindowHead<F, N>>(
            &of_set,
            &here,
            rows,
            dy,
            dqkv,
            partial,
            &sums,
            &mut memory,
            &mut logit_sums,
            &mut dq,
            &at,
            b,
        );
        if comptime!(b.whole) {
            write_queries::<F, N>(&of_set, &dq, 0u32, dqkv, &mut memory, &at, b);
        }
    }
    write_kept::<F, N>(partial, &partial_sums(task, 0u32, s, r), &logit_sums, &extent, &at, b);
}

#[cube]
fn partial_sums(task: u32, before: u32, s: &Sizes, r: &Runs) -> PartialSums {
    PartialSums {
        bias: r.table,
        bias_first: task * r.row,
        padding: r.padding,
        padding_first: task * r.row + r.padding_offset,
        before,
        scale: s.scale,
    }
}

/// Writes the gradients of a plane's queries of a tile.
#[cube]
fn write_queries<F: Float, N: Size>(
    head: &WindowHead<F, N>,
    dq: &Sequence<Product>,
    turn: u32,
    dqkv: &mut Array<Vector<F, N>>,
    memory: &mut Memory<F, N>,
    at: &GradientPlace,
    #[comptime] b: GradientTile,
) {
    if at.plane < comptime!(b.rows) {
        let query = turn * comptime!((b.rows * EDGE) as u32) + (at.plane * EDGE + at.row) as u32;
        let row = head.result_row(query);
        #[unroll]
        for d in 0..comptime!(b.row_fragments()) {
            let v = query_gradient::<F, N>(dq.index(d), memory, head.s.scale, at, b);
            let c = at.half + comptime!(2 * d);
            if row != PADDING && c < comptime!(b.head_vectors) {
                dqkv[(row * 3 * head.s.channels + head.first_channel) as usize + c] = Vector::cast_from(v);
            }
        }
    }
}
