//! The forward pass of the twin.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use swinstyle_kit::attention::tiles::{Left, Scattered, Start, Tile, product, softmax_columns, write_column};
use swinstyle_tensor::Scalar;

use super::{Cells, Inputs};
use crate::problem::Problem;

struct Scratch<T: Scalar> {
    cells: Cells,
    q_across: Tile<T>,
    k: Tile<T>,
    v: Tile<T>,
    logits: Tile<T>,
    y: Tile<T>,
    max: Tile<T>,
    sum: Tile<T>,
}

impl<T: Scalar> Scratch<T> {
    fn new(n: usize, d: usize) -> Self {
        Self {
            cells: Cells::new(n),
            q_across: Tile::new(d, n),
            k: Tile::new(n, d),
            v: Tile::new(n, d),
            logits: Tile::new(n, n),
            y: Tile::new(n, d),
            max: Tile::new(1, n),
            sum: Tile::new(1, n),
        }
    }
}

/// Writes `y` `[B, H, W, C]` and of every query's logits the maximum and the logarithm of Σ exp(logit − maximum), `[B, H, W, heads, 2]`.
pub fn forward<T: Scalar>(p: &Problem, qkv: &[T], pad: Option<&[T]>, table: &[T], y: &mut [T], stats: &mut [T]) {
    let inputs = Inputs::new(p, qkv, pad, table);
    let (y, stats) = (Scattered::new(y), Scattered::new(stats));
    let arch = Arch::new();
    let tasks = p.windows.count() * p.heads;
    (0..tasks).into_par_iter().for_each_init(
        || Scratch::new(inputs.n, p.head_dim),
        |s, task| {
            let (set, head) = (task / p.heads, task % p.heads);
            arch.dispatch(Head { inputs: &inputs, s, set, head, y: &y, stats: &stats });
        },
    );
}

/// One head of one window.
struct Head<'a, T: Scalar> {
    inputs: &'a Inputs<'a, T>,
    s: &'a mut Scratch<T>,
    set: usize,
    head: usize,
    y: &'a Scattered<'a, T>,
    stats: &'a Scattered<'a, T>,
}

impl<T: Scalar> WithSimd for Head<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { inputs, s, set, head, y, stats } = self;
        let Problem { heads, head_dim: d, .. } = *inputs.problem;
        let (n, wide, across) = (inputs.n, inputs.wide, inputs.across);
        s.cells.find(&inputs.problem.windows, set);
        for (cell, &token) in s.cells.tokens.iter().enumerate() {
            write_column(&mut s.q_across, across, cell, inputs.part(token, 0, head), inputs.scale);
            s.k[cell * wide..][..d].copy_from_slice(inputs.part(token, 1, head));
            s.v[cell * wide..][..d].copy_from_slice(inputs.part(token, 2, head));
        }
        inputs.logits(simd, &s.cells, head, &s.k, &s.q_across, &mut s.logits);
        softmax_columns(&mut s.logits, across, &mut s.max, &mut s.sum);
        product(simd, n, wide, n, Left { data: &s.logits, row: 1, column: across }, &s.v, Start::Zero, &mut s.y);
        for (cell, &token) in s.cells.tokens.iter().enumerate().filter(|(_, token)| **token != usize::MAX) {
            let at = token * heads + head;
            // SAFETY: a token belongs to one cell of one window, and each head writes its own range.
            let (y, stats) = unsafe { (y.range(at * d..at * d + d), stats.range(2 * at..2 * at + 2)) };
            let rest = T::ONE / s.sum[cell];
            for (y, &v) in y.iter_mut().zip(&s.y[cell * wide..]) {
                *y = v * rest;
            }
            (stats[0], stats[1]) = (s.max[cell], s.sum[cell].ln());
        }
    }
}
