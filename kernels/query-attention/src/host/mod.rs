//! The CPU twin: one head of one set of tokens at a time from cache-resident tiles, sets and heads over the threads.
//!
//! Logits are kept transposed, tokens down and queries across: maxima, sums and exponentials of all queries then run in vector
//! lanes. Tokens pass in blocks, so that a long run of them streams through the cache once a pass.

mod backward;
mod forward;

pub use backward::{backward, sum_partials};
pub use forward::forward;

use pulp::Simd;
use rayon::prelude::*;
use swinstyle_kit::{
    Blueprint as _, Limits,
    attention::tiles::{Left, Start, Tile, padded, product},
    tuning::{Place, choose},
};
use swinstyle_tensor::Scalar;

use crate::{
    problem::{BiasKind, Layout, OP, Problem},
    tune::HostBlueprint,
};

/// What all tasks read.
struct Inputs<'a, T: Scalar> {
    problem: &'a Problem,
    /// Tokens of a block.
    block: usize,
    kv: &'a [T],
    /// The row of padded tokens of each group.
    pad: Vec<T>,
    /// Scaled queries of each owner and head, channels down and queries across.
    q_across: Tile<T>,
    /// Bias of each group and head, tokens down and queries across; empty without one.
    bias: Tile<T>,
    /// Row length of tiles with queries across.
    across: usize,
    /// Row length of tiles with channels across.
    wide: usize,
    scale: T,
}

impl<'a, T: Scalar> Inputs<'a, T> {
    fn new(problem: &'a Problem, q: &[T], kv: &'a [T], bias: Option<&[T]>, pad: Option<&[T]>) -> Self {
        let Problem { groups, heads, head_dim: d, .. } = *problem;
        let (m, n, c) = (problem.queries(), problem.tokens(), problem.channels());
        let across = padded(m);
        let scale = T::from_f64(problem.scale);
        let mut q_across = Tile::new(problem.owners() * heads * d, m);
        q_across.par_chunks_mut(across.max(1)).with_min_len(64).enumerate().for_each(|(row, tile)| {
            let (owner, channel) = (row / c, row % c);
            for (query, t) in tile[..m].iter_mut().enumerate() {
                *t = q[(owner * m + query) * c + channel] * scale;
            }
        });
        let mut tile = Tile::new(if problem.bias == BiasKind::None { 0 } else { groups * heads * n }, m);
        if let Some(bias) = bias {
            tile.par_chunks_mut(across.max(1)).with_min_len(64).enumerate().for_each(|(row, tile)| {
                let (group, head, token) = (row / n / heads, row / n % heads, row % n);
                let bias = &bias[group * problem.bias_len()..];
                for (query, t) in tile[..m].iter_mut().enumerate() {
                    *t = bias[problem.bias_index(head, query, token)];
                }
            });
        }
        let pad = pad.map_or_else(|| vec![T::ZERO; groups * 2 * c], <[T]>::to_vec);
        let tiles = choose(Place::Host, OP, problem, &Limits::WEBGPU, HostBlueprint::default_for(problem));
        Self { problem, block: tiles.block, kv, pad, q_across, bias: tile, across, wide: padded(d), scale }
    }

    /// k or v (0, 1) of one head of a token of a group.
    #[inline(always)]
    fn part(&self, group: usize, token: usize, which: usize, head: usize) -> &[T] {
        let (c, d) = (self.problem.channels(), self.problem.head_dim);
        let row = if token == usize::MAX {
            &self.pad[group * 2 * c..]
        } else {
            &self.kv[(group * self.problem.token_rows() + token) * 2 * c..]
        };
        &row[which * c + head * d..][..d]
    }

    /// Copies k or v of some tokens into rows of a tile.
    #[inline(always)]
    fn gather(&self, group: usize, tokens: &[usize], which: usize, head: usize, tile: &mut [T]) {
        let d = self.problem.head_dim;
        for (row, &token) in tile.chunks_exact_mut(self.wide).zip(tokens) {
            row[..d].copy_from_slice(self.part(group, token, which, head));
        }
    }

    /// Logits of a block of a set's tokens, the first of which is `first`: bias + K·(scale·q)ᵀ.
    #[inline(always)]
    fn logits<S: Simd>(
        &self,
        simd: S,
        owner: usize,
        group: usize,
        head: usize,
        first: usize,
        count: usize,
        k: &[T],
        logits: &mut [T],
    ) {
        let Problem { heads, head_dim: d, bias, .. } = *self.problem;
        let start = match bias {
            BiasKind::None => Start::Zero,
            _ => Start::Tile(&self.bias[((group * heads + head) * self.problem.tokens() + first) * self.across..]),
        };
        let q = &self.q_across[(owner * heads + head) * d * self.across..];
        product(simd, count, self.across, d, Left { data: k, row: self.wide, column: 1 }, q, start, logits);
    }
}

/// The rows of a set that a thread works on, found once for all heads.
struct Rows {
    set: usize,
    /// Rows of keys and values in their group; `usize::MAX` for padding.
    tokens: Vec<usize>,
    /// Rows of results in their group; `usize::MAX` for those that are dropped.
    results: Vec<usize>,
}

impl Rows {
    fn new(problem: &Problem) -> Self {
        Self { set: usize::MAX, tokens: vec![0; problem.tokens()], results: vec![0; problem.queries()] }
    }

    fn find(&mut self, problem: &Problem, set: usize) {
        if self.set == set {
            return;
        }
        self.set = set;
        match problem.layout {
            Layout::Run { queries, tokens, .. } => {
                self.tokens.iter_mut().enumerate().for_each(|(i, t)| *t = set * tokens + i);
                self.results.iter_mut().enumerate().for_each(|(i, r)| *r = set * queries + i);
            }
            Layout::Windows(windows) => {
                windows.write_tokens(set, &mut self.tokens);
                self.results.copy_from_slice(&self.tokens);
            }
        }
    }
}
