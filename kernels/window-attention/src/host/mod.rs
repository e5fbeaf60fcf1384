//! The CPU twin: one head of one window at a time from cache-resident tiles, windows over the threads.
//!
//! Logits are kept transposed, keys down and queries across: maxima, sums and exponentials of all queries then run in
//! vector lanes, and the bias of a head is the starting value of its products.

mod backward;
mod forward;

pub use backward::{backward, sum_partials};
pub use forward::forward;

use pulp::Simd;
use rayon::prelude::*;
use swinstyle_kit::attention::{
    MASK, Windows,
    tiles::{Left, Start, Tile, padded, product},
};
use swinstyle_tensor::Scalar;

use crate::problem::Problem;

/// What all tasks read.
struct Inputs<'a, T: Scalar> {
    problem: &'a Problem,
    qkv: &'a [T],
    /// The row of padded tokens.
    pad: Vec<T>,
    /// Bias of each head, keys down and queries across.
    bias: Tile<T>,
    /// Cells of a window.
    n: usize,
    /// Row length of tiles with queries across.
    across: usize,
    /// Row length of tiles with channels across.
    wide: usize,
    scale: T,
}

impl<'a, T: Scalar> Inputs<'a, T> {
    fn new(problem: &'a Problem, qkv: &'a [T], pad: Option<&[T]>, table: &[T]) -> Self {
        let Problem { windows, heads, head_dim, scale } = *problem;
        let n = windows.cells();
        let across = padded(n);
        let mut bias = Tile::new(heads * n, n);
        bias.par_chunks_mut(across).with_min_len(64).enumerate().for_each(|(row, bias)| {
            let (head, key) = (row / n, row % n);
            for (query, b) in bias[..n].iter_mut().enumerate() {
                *b = table[windows.table_index(query, key) * heads + head];
            }
        });
        let pad = pad.map_or_else(|| vec![T::ZERO; 3 * problem.channels()], <[T]>::to_vec);
        Self { problem, qkv, pad, bias, n, across, wide: padded(head_dim), scale: T::from_f64(scale) }
    }

    /// q, k or v (0, 1, 2) of one head of a token.
    #[inline(always)]
    fn part(&self, token: usize, which: usize, head: usize) -> &[T] {
        let (c, d) = (self.problem.channels(), self.problem.head_dim);
        let row = if token == usize::MAX { &self.pad } else { &self.qkv[token * 3 * c..(token + 1) * 3 * c] };
        &row[which * c + head * d..][..d]
    }

    /// Logits of one head of a window: bias + K·(scale·q)ᵀ, masked.
    #[inline(always)]
    fn logits<S: Simd>(&self, simd: S, cells: &Cells, head: usize, k: &[T], q_across: &[T], logits: &mut [T]) {
        let bias = &self.bias[head * self.n * self.across..];
        let left = Left { data: k, row: self.wide, column: 1 };
        product(simd, self.n, self.across, self.problem.head_dim, left, q_across, Start::Tile(bias), logits);
        if cells.masked {
            let mask = T::from_f64(MASK);
            for (row, &key) in logits.chunks_exact_mut(self.across).zip(&cells.regions) {
                for (s, &query) in row.iter_mut().zip(&cells.regions) {
                    *s += if query == key { T::ZERO } else { mask };
                }
            }
        }
    }
}

/// The cells of the window that a thread works on, found once for all heads.
struct Cells {
    set: usize,
    /// `usize::MAX` for padding.
    tokens: Vec<usize>,
    regions: Vec<u32>,
    /// There is more than one region.
    masked: bool,
}

impl Cells {
    fn new(cells: usize) -> Self {
        Self { set: usize::MAX, tokens: vec![0; cells], regions: vec![0; cells], masked: false }
    }

    fn find(&mut self, windows: &Windows, set: usize) {
        if self.set == set {
            return;
        }
        self.set = set;
        windows.write_tokens(set, &mut self.tokens);
        self.masked = windows.is_masked(set);
        if self.masked {
            self.regions.iter_mut().enumerate().for_each(|(cell, r)| *r = windows.region(set, cell));
        }
    }
}
