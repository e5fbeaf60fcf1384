//! The backward pass of the twin: probabilities again from the saved maxima and sums, then four products a head and window.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use swinstyle_kit::attention::tiles::{Left, Scattered, Start, Tile, product, softmax_gradient, write_column};
use swinstyle_tensor::{Scalar, simd};

use super::{Cells, Inputs};
use crate::problem::{Partials, Problem};

struct Scratch<T: Scalar> {
    cells: Cells,
    q: Tile<T>,
    q_across: Tile<T>,
    k: Tile<T>,
    v: Tile<T>,
    dy: Tile<T>,
    dy_across: Tile<T>,
    max: Tile<T>,
    ln_sum: Tile<T>,
    logits: Tile<T>,
    dlogits: Tile<T>,
    dq: Tile<T>,
    dk: Tile<T>,
    dv: Tile<T>,
}

impl<T: Scalar> Scratch<T> {
    fn new(n: usize, d: usize) -> Self {
        Self {
            cells: Cells::new(n),
            q: Tile::new(n, d),
            q_across: Tile::new(d, n),
            k: Tile::new(n, d),
            v: Tile::new(n, d),
            dy: Tile::new(n, d),
            dy_across: Tile::new(d, n),
            max: Tile::new(1, n),
            ln_sum: Tile::new(1, n),
            logits: Tile::new(n, n),
            dlogits: Tile::new(n, n),
            dq: Tile::new(n, d),
            dk: Tile::new(n, d),
            dv: Tile::new(n, d),
        }
    }
}

/// What the backward pass reads beside the forward's inputs.
struct Cotangent<'a, T> {
    /// `[B, H, W, heads, 2]`
    stats: &'a [T],
    /// `[B, H, W, C]`
    dy: &'a [T],
}

/// Writes the gradient of qkv, `[B, H, W, 3C]`, and the partial sums of [`Partials`].
pub fn backward<T: Scalar>(
    p: &Problem,
    parts: &Partials,
    qkv: &[T],
    pad: Option<&[T]>,
    table: &[T],
    stats: &[T],
    dy: &[T],
    dqkv: &mut [T],
    partial: &mut [T],
) {
    let inputs = Inputs::new(p, qkv, pad, table);
    let (cotangent, dqkv) = (Cotangent { stats, dy }, Scattered::new(dqkv));
    let scratch = || Scratch::new(inputs.n, p.head_dim);
    let arch = Arch::new();
    let run = |s: &mut Scratch<T>, task: usize, partial: &mut [T]| {
        partial.fill(T::ZERO);
        for set in parts.chunks.range(task / p.heads) {
            let head = task % p.heads;
            arch.dispatch(Head { inputs: &inputs, cotangent: &cotangent, parts, s, set, head, dqkv: &dqkv, partial });
        }
    };
    let row = parts.row(p);
    if row > 0 {
        partial.par_chunks_mut(row).enumerate().for_each_init(scratch, |s, (task, partial)| run(s, task, partial));
    } else {
        let tasks = parts.chunks.count * p.heads;
        (0..tasks).into_par_iter().for_each_init(scratch, |s, task| run(s, task, &mut []));
    }
}

/// One head of one window.
struct Head<'a, T: Scalar> {
    inputs: &'a Inputs<'a, T>,
    cotangent: &'a Cotangent<'a, T>,
    parts: &'a Partials,
    s: &'a mut Scratch<T>,
    set: usize,
    head: usize,
    dqkv: &'a Scattered<'a, T>,
    partial: &'a mut [T],
}

impl<T: Scalar> WithSimd for Head<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { inputs, cotangent, parts, s, set, head, dqkv, partial } = self;
        let p = inputs.problem;
        let (c, d, scale) = (p.channels(), p.head_dim, inputs.scale);
        let (n, wide, across) = (inputs.n, inputs.wide, inputs.across);
        s.cells.find(&p.windows, set);
        for (cell, &token) in s.cells.tokens.iter().enumerate() {
            let q = inputs.part(token, 0, head);
            write_column(&mut s.q_across, across, cell, q, scale);
            for (to, &q) in s.q[cell * wide..][..d].iter_mut().zip(q) {
                *to = q * scale;
            }
            s.k[cell * wide..][..d].copy_from_slice(inputs.part(token, 1, head));
            s.v[cell * wide..][..d].copy_from_slice(inputs.part(token, 2, head));
            let row = &mut s.dy[cell * wide..][..d];
            if token == usize::MAX {
                // Padded queries are dropped from the output: a maximum beyond every logit makes their probabilities 0.
                row.fill(T::ZERO);
                s.max[cell] = T::from_f64(1e30);
            } else {
                row.copy_from_slice(&cotangent.dy[token * c + head * d..][..d]);
                let at = 2 * (token * p.heads + head);
                (s.max[cell], s.ln_sum[cell]) = (cotangent.stats[at], cotangent.stats[at + 1]);
            }
            write_column(&mut s.dy_across, across, cell, row, T::ONE);
        }
        inputs.logits(simd, &s.cells, head, &s.k, &s.q_across, &mut s.logits);
        product(
            simd,
            n,
            across,
            d,
            Left { data: &s.v, row: wide, column: 1 },
            &s.dy_across,
            Start::Zero,
            &mut s.dlogits,
        );
        softmax_gradient(&mut s.logits, &mut s.dlogits, across, &s.max, &s.ln_sum);
        let down = |data| Left { data, row: across, column: 1 };
        product(simd, n, wide, n, down(&s.logits), &s.dy, Start::Zero, &mut s.dv);
        product(simd, n, wide, n, down(&s.dlogits), &s.q, Start::Zero, &mut s.dk);
        product(simd, n, wide, n, Left { data: &s.dlogits, row: 1, column: across }, &s.k, Start::Zero, &mut s.dq);
        if parts.table {
            for (sum, row) in partial.chunks_exact_mut(n).zip(s.dlogits.chunks_exact(across)) {
                for (sum, &g) in sum.iter_mut().zip(row) {
                    *sum += g;
                }
            }
        }
        for (cell, &token) in s.cells.tokens.iter().enumerate() {
            let (dq, dk, dv) = (&s.dq[cell * wide..][..d], &s.dk[cell * wide..][..d], &s.dv[cell * wide..][..d]);
            if token != usize::MAX {
                let at = token * 3 * c + head * d;
                // SAFETY: a token belongs to one cell of one window, and each head writes its own ranges.
                unsafe {
                    for (to, &g) in dqkv.range(at..at + d).iter_mut().zip(dq) {
                        *to = g * scale;
                    }
                    dqkv.range(at + c..at + c + d).copy_from_slice(dk);
                    dqkv.range(at + 2 * c..at + 2 * c + d).copy_from_slice(dv);
                }
            } else if parts.pad {
                let sums = &mut partial[parts.pad_offset(p) + cell * 2 * d..][..2 * d];
                for (to, &g) in sums.iter_mut().zip(dk.iter().chain(dv)) {
                    *to += g;
                }
            }
        }
    }
}

/// Sums the runs' rows in order into the gradients of the bias table, `[(2wh−1)(2ww−1), heads]`, and of the padded token, `[3C]`.
pub fn sum_partials<T: Scalar>(
    p: &Problem,
    parts: &Partials,
    partial: &[T],
    table: Option<&mut [T]>,
    pad: Option<&mut [T]>,
) {
    let Problem { windows, heads, head_dim: d, .. } = *p;
    let (n, row) = (windows.cells(), parts.row(p));
    let mut total = vec![T::ZERO; heads * row];
    total.par_chunks_mut(row.max(1)).enumerate().for_each(|(head, total)| {
        for chunk in 0..parts.chunks.count {
            let row = &partial[(chunk * heads + head) * row..][..row];
            simd::dispatch(
                #[inline(always)]
                || total.iter_mut().zip(row).for_each(|(t, &v)| *t += v),
            );
        }
    });
    if let Some(table) = table {
        table.fill(T::ZERO);
        for (key, query) in (0..n).flat_map(|key| (0..n).map(move |query| (key, query))) {
            let at = windows.table_index(query, key) * heads;
            for head in 0..heads {
                table[at + head] += total[head * row + key * n + query];
            }
        }
    }
    if let Some(pad) = pad {
        let (c, offset) = (p.channels(), parts.pad_offset(p));
        // Padded queries have no influence: the q part of the gradient stays zero.
        pad.fill(T::ZERO);
        for (head, cell, which) in (0..heads).flat_map(|h| (0..n).flat_map(move |i| [(h, i, 0), (h, i, 1)])) {
            let from = &total[head * row + offset + (cell * 2 + which) * d..][..d];
            for (to, &g) in pad[(1 + which) * c + head * d..].iter_mut().zip(from) {
                *to += g;
            }
        }
    }
}
