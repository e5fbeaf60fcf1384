//! The kernels on matrix units: what they must know of a head of a set for [`swinstyle_kit::attention::matrix`].

use cubecl::prelude::*;
use swinstyle_kit::attention::{
    cube::{Map, PADDING, table_middle, table_place},
    matrix::{
        EDGE, Extent, GradientPlace, GradientTile, Head, HeadExpand, MatrixTile, Memory, PLANE, PartialSums, Product,
        WIDTH, attend, gather_queries, gather_tokens, gradient_place, kept, query_gradient, write_kept, zeros,
    },
};

use super::{Sizes, backward::Runs, result_row, token_row};

/// One head of a set.
#[derive(CubeType)]
struct SetHead<F: Float, N: Size> {
    q: Slice<Vector<F, N>>,   // [owners, M, C]
    kv: Slice<Vector<F, N>>,  // [groups, token rows, 2C]
    bias: Slice<F>,           // [groups, bias_len], if s.bias
    pad: Slice<Vector<F, N>>, // [groups, 2C] from s.pad_first on, if s.pad
    m: Map,
    s: Sizes,
    /// Owner of the queries, group, set of the group, and head.
    owner: u32,
    group: u32,
    set: u32,
    head: u32,
    /// Vectors before the head in each of q, k and v.
    first_channel: u32,
    /// Whether there is such a set; else nothing has a result.
    active: bool,
}

#[cube]
impl<F: Float, N: Size> Head<F, N> for SetHead<F, N> {
    fn result_row(&self, query: u32) -> u32 {
        let row = result_row(self.set, query, &self.m, &self.s);
        select(self.active && row != PADDING, self.group * self.s.rows + row, PADDING)
    }

    fn token_row(&self, token: u32) -> u32 {
        let row = token_row(self.set, token, &self.m, &self.s);
        select(row != PADDING, self.group * self.s.token_rows + row, PADDING)
    }

    fn query(&self, query: u32, _row: u32, vector: usize) -> Vector<F, N> {
        let at = (self.owner * self.s.queries + query) * self.s.channels + self.first_channel;
        self.q[at as usize + vector]
    }

    fn token(&self, row: u32, part: u32, vector: usize) -> Vector<F, N> {
        let mut v = Vector::<F, N>::cast_from(Vector::<f32, N>::new(0.0));
        if row != PADDING {
            v = self.kv[self.token_gradient(row, part) + vector];
        } else if self.s.pad > 0 {
            let at = self.s.pad_first + (self.group * 2 + part) * self.s.channels + self.first_channel;
            v = self.pad[at as usize + vector];
        }
        v
    }

    fn token_gradient(&self, row: u32, part: u32) -> usize {
        ((row * 2 + part) * self.s.channels + self.first_channel) as usize
    }

    /// The query, or of a table of relative positions its place beyond the middle, so that a token's is never larger.
    fn query_place(&self, query: u32) -> u32 {
        let mut place = query;
        if self.s.bias == 2 {
            place = table_place(query, &self.m) + table_middle(&self.m);
        }
        place
    }

    fn token_place(&self, token: u32) -> u32 {
        let mut place = token;
        if self.s.bias == 2 {
            place = table_place(token, &self.m);
        }
        place
    }

    fn logit(&self, product: f32, query: u32, token: u32) -> f32 {
        let mut logit = product * self.s.scale;
        if self.s.bias == 1 {
            let at = ((self.group * self.s.heads + self.head) * self.s.queries + query) * self.s.tokens + token;
            logit += f32::cast_from(self.bias[at as usize]);
        } else if self.s.bias == 2 {
            let at = self.group * self.s.bias_len + (query - token) * self.s.heads + self.head;
            logit += f32::cast_from(self.bias[at as usize]);
        }
        logit
    }
}

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
    let of_cube = UNIT_POS as usize / comptime!(b.planes * PLANE);
    let task = (CUBE_POS * comptime!(b.tasks) + of_cube) as u32;
    // Planes without a task follow along with nothing to write, for every unit must reach the barriers.
    let active = task < s.groups * s.sets * s.heads;
    let task = select(active, task, 0);
    let group = task / s.heads / s.sets;
    let head = SetHead::<F, N> {
        q: q.to_slice(),
        kv: kv.to_slice(),
        bias: bias.to_slice(),
        pad: pad.to_slice(),
        m: *m,
        s: *s,
        owner: select(s.own > 0, task / s.heads, group),
        group,
        set: task / s.heads % s.sets,
        head: task % s.heads,
        first_channel: task % s.heads * comptime!(b.head_vectors as u32),
        active,
    };
    let extent = Extent { queries: s.queries, tokens: s.tokens, heads: s.heads, head: head.head, active };
    attend::<F, N, SetHead<F, N>>(&head, &extent, y, stats, b);
}

/// The gradients of keys and values and the partial sums of the others. A head of a cube walks through one run of sets.
#[cube(launch_unchecked)]
pub(crate) fn backward_matrix<F: Float, N: Size>(
    q: &Array<Vector<F, N>>,       // [owners, M, C]
    kv: &Array<Vector<F, N>>,      // [groups, token rows, 2C]
    rows: &Array<f32>,             // [groups, rows, heads, 3]: maximum, ln Σ exp, Σ dy·y
    dy: &Array<Vector<F, N>>,      // [groups, rows, C]
    bias: &Array<F>,               // [groups, bias_len], if s.bias
    pad: &Array<Vector<F, N>>,     // [groups, 2C], if s.pad
    dkv: &mut Array<Vector<F, N>>, // [groups, token rows, 2C]
    partial: &mut Array<F>,        // [owners, runs, heads, row]
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
    let has_task = task < r.owners * r.count * s.heads;
    let task = select(has_task, task, 0);
    let head = task % s.heads;
    let extent = Extent { queries: s.queries, tokens: s.tokens, heads: s.heads, head, active: has_task };
    let mut dq = zeros(comptime!(b.row_fragments()), b.ldmatrix);
    if comptime!(!b.whole) && r.q > 0 {
        for turn in 0..s.queries.div_ceil(comptime!((b.rows * EDGE) as u32)) {
            let mut dq = zeros(comptime!(b.row_fragments()), b.ldmatrix);
            for i in 0..r.length {
                let of_set = set_of_run::<F, N>(q, kv, bias, pad, m, s, r, task, has_task, i, b);
                let here = Extent { queries: s.queries, tokens: s.tokens, heads: s.heads, head, active: of_set.active };
                let sums = partial_sums(task, i, s, r);
                gather_queries::<F, N, SetHead<F, N>>(
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
            }
            write_queries::<F, N>(&dq, turn, task * r.row, &extent, partial, s.scale, &mut memory, &at, b);
        }
    }
    for i in 0..r.length {
        let of_set = set_of_run::<F, N>(q, kv, bias, pad, m, s, r, task, has_task, i, b);
        let here = Extent { queries: s.queries, tokens: s.tokens, heads: s.heads, head, active: of_set.active };
        let sums = partial_sums(task, i, s, r);
        gather_tokens::<F, N, SetHead<F, N>>(
            &of_set,
            &here,
            rows,
            dy,
            dkv,
            partial,
            &sums,
            &mut memory,
            &mut logit_sums,
            &mut dq,
            &at,
            b,
        );
    }
    if comptime!(b.whole) && r.q > 0 {
        write_queries::<F, N>(&dq, 0u32, task * r.row, &extent, partial, s.scale, &mut memory, &at, b);
    }
    write_kept::<F, N>(partial, &partial_sums(task, 0u32, s, r), &logit_sums, &extent, &at, b);
}

/// The `i`-th set of a task's run. Every unit must reach the barriers: those without a set follow along on the first one and add nothing.
#[cube]
fn set_of_run<F: Float, N: Size>(
    q: &Array<Vector<F, N>>,
    kv: &Array<Vector<F, N>>,
    bias: &Array<F>,
    pad: &Array<Vector<F, N>>,
    m: &Map,
    s: &Sizes,
    r: &Runs,
    task: u32,
    has_task: bool,
    i: u32,
    #[comptime] b: GradientTile,
) -> SetHead<F, N> {
    let head = task % s.heads;
    let index = task / s.heads % r.count * r.length + i;
    let owner = task / s.heads / r.count;
    let active = has_task && index < r.sets;
    SetHead::<F, N> {
        q: q.to_slice(),
        kv: kv.to_slice(),
        bias: bias.to_slice(),
        pad: pad.to_slice(),
        m: *m,
        s: *s,
        owner,
        group: select(s.own > 0, owner / s.sets, owner),
        set: select(s.own > 0, owner % s.sets, select(active, index, 0)),
        head,
        first_channel: head * comptime!(b.head_vectors as u32),
        active,
    }
}

#[cube]
fn partial_sums(task: u32, before: u32, s: &Sizes, r: &Runs) -> PartialSums {
    PartialSums {
        bias: r.bias,
        bias_first: task * r.row + r.bias_offset,
        padding: r.padding,
        padding_first: task * r.row + r.padding_offset,
        before,
        scale: s.scale,
    }
}

/// Writes the gradients of a plane's queries of a tile over a run: `[M, head_dim]` from `first` on.
#[cube]
fn write_queries<F: Float, N: Size>(
    dq: &Sequence<Product>,
    turn: u32,
    first: u32,
    extent: &Extent,
    partial: &mut Array<F>,
    scale: f32,
    memory: &mut Memory<F, N>,
    at: &GradientPlace,
    #[comptime] b: GradientTile,
) {
    if at.plane < comptime!(b.rows) {
        let query = turn * comptime!((b.rows * EDGE) as u32) + (at.plane * EDGE + at.row) as u32;
        let to = first as usize + query as usize * comptime!(b.head_vectors * WIDTH);
        #[unroll]
        for d in 0..comptime!(b.row_fragments()) {
            let v = query_gradient::<F, N>(dq.index(d), memory, scale, at, b);
            let c = at.half + comptime!(2 * d);
            if extent.active && query < extent.queries && c < comptime!(b.head_vectors) {
                #[unroll]
                for e in 0..WIDTH {
                    partial[to + c * WIDTH + e] = F::cast_from(v[e]);
                }
            }
        }
    }
}
