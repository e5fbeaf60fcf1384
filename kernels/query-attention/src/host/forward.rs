//! The forward pass of the twin.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use swinstyle_kit::attention::tiles::{Left, Scattered, Start, Tile, product, softmax_columns};
use swinstyle_tensor::Scalar;

use super::{Inputs, Rows};
use crate::problem::Problem;

struct Scratch<T: Scalar> {
    rows: Rows,
    /// Keys, then values of a block.
    block: Tile<T>,
    logits: Tile<T>,
    y: Tile<T>,
    max: Tile<T>,
    sum: Tile<T>,
}

impl<T: Scalar> Scratch<T> {
    fn new(p: &Problem, block: usize) -> Self {
        let (m, n, d) = (p.queries(), p.tokens(), p.head_dim);
        Self {
            rows: Rows::new(p),
            block: Tile::new(block.min(n), d),
            logits: Tile::new(n, m),
            y: Tile::new(m, d),
            max: Tile::new(1, m),
            sum: Tile::new(1, m),
        }
    }
}

/// Writes y, `[groups · rows, C]`, and of every query's logits the maximum and the logarithm of Σ exp(logit − maximum), `[groups · rows, heads, 2]`.
pub fn forward<T: Scalar>(
    p: &Problem,
    q: &[T],
    kv: &[T],
    bias: Option<&[T]>,
    pad: Option<&[T]>,
    y: &mut [T],
    stats: &mut [T],
) {
    let inputs = Inputs::new(p, q, kv, bias, pad);
    let (y, stats) = (Scattered::new(y), Scattered::new(stats));
    let (sets, heads, arch) = (p.sets(), p.heads, Arch::new());
    (0..p.groups * sets * heads).into_par_iter().for_each_init(
        || Scratch::new(p, inputs.block),
        |s, task| {
            let (group, set, head) = (task / heads / sets, task / heads % sets, task % heads);
            arch.dispatch(Head { inputs: &inputs, s, group, set, head, y: &y, stats: &stats });
        },
    );
}

/// One head of one set.
struct Head<'a, T: Scalar> {
    inputs: &'a Inputs<'a, T>,
    s: &'a mut Scratch<T>,
    group: usize,
    set: usize,
    head: usize,
    y: &'a Scattered<'a, T>,
    stats: &'a Scattered<'a, T>,
}

impl<T: Scalar> WithSimd for Head<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { inputs, s, group, set, head, y, stats } = self;
        let p = inputs.problem;
        let (d, wide, across) = (p.head_dim, inputs.wide, inputs.across);
        let owner = if p.own_queries { group * p.sets() + set } else { group };
        s.rows.find(p, set);
        for (i, tokens) in s.rows.tokens.chunks(inputs.block).enumerate() {
            inputs.gather(group, tokens, 0, head, &mut s.block);
            let logits = &mut s.logits[i * inputs.block * across..];
            inputs.logits(simd, owner, group, head, i * inputs.block, tokens.len(), &s.block, logits);
        }
        softmax_columns(&mut s.logits, across, &mut s.max, &mut s.sum);
        for (i, tokens) in s.rows.tokens.chunks(inputs.block).enumerate() {
            inputs.gather(group, tokens, 1, head, &mut s.block);
            let probabilities = Left { data: &s.logits[i * inputs.block * across..], row: 1, column: across };
            let start = if i == 0 { Start::Zero } else { Start::Output };
            product(simd, p.queries(), wide, tokens.len(), probabilities, &s.block, start, &mut s.y);
        }
        for (query, &row) in s.rows.results.iter().enumerate().filter(|(_, row)| **row != usize::MAX) {
            let at = (group * p.rows() + row) * p.heads + head;
            // SAFETY: a row belongs to one query of one set, and each head writes its own range.
            let (y, stats) = unsafe { (y.range(at * d..at * d + d), stats.range(2 * at..2 * at + 2)) };
            let rest = T::ONE / s.sum[query];
            for (y, &v) in y.iter_mut().zip(&s.y[query * wide..]) {
                *y = v * rest;
            }
            (stats[0], stats[1]) = (s.max[query], s.sum[query].ln());
        }
    }
}
