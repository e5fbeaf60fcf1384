//! The backward pass of the twin: probabilities again from the saved maxima and sums, then three products a head and set.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use swinstyle_kit::attention::tiles::{Left, Scattered, Start, Tile, product, softmax_gradient, write_column};
use swinstyle_tensor::{Scalar, simd};

use super::{Inputs, Rows};
use crate::problem::{Partials, Problem};

struct Scratch<T: Scalar> {
    rows: Rows,
    q: Tile<T>,
    dy: Tile<T>,
    dy_across: Tile<T>,
    max: Tile<T>,
    ln_sum: Tile<T>,
    dq: Tile<T>,
    logits: Tile<T>,
    dlogits: Tile<T>,
    // Of a block of tokens:
    k: Tile<T>,
    v: Tile<T>,
    dk: Tile<T>,
    dv: Tile<T>,
}

impl<T: Scalar> Scratch<T> {
    fn new(p: &Problem, block: usize) -> Self {
        let (m, d, block) = (p.queries(), p.head_dim, block.min(p.tokens()));
        Self {
            rows: Rows::new(p),
            q: Tile::new(m, d),
            dy: Tile::new(m, d),
            dy_across: Tile::new(d, m),
            max: Tile::new(1, m),
            ln_sum: Tile::new(1, m),
            dq: Tile::new(m, d),
            logits: Tile::new(p.tokens(), m),
            dlogits: Tile::new(p.tokens(), m),
            k: Tile::new(block, d),
            v: Tile::new(block, d),
            dk: Tile::new(block, d),
            dv: Tile::new(block, d),
        }
    }
}

/// What the backward pass reads beside the forward's inputs.
struct Cotangent<'a, T> {
    q: &'a [T],
    /// `[groups · rows, heads, 2]`
    stats: &'a [T],
    /// `[groups · rows, C]`
    dy: &'a [T],
}

/// Writes the gradient of keys and values, `[groups · token rows, 2C]`, and the partial sums of [`Partials`].
pub fn backward<T: Scalar>(
    p: &Problem,
    parts: &Partials,
    q: &[T],
    kv: &[T],
    bias: Option<&[T]>,
    pad: Option<&[T]>,
    stats: &[T],
    dy: &[T],
    dkv: &mut [T],
    partial: &mut [T],
) {
    let inputs = Inputs::new(p, q, kv, bias, pad);
    let (cotangent, dkv) = (Cotangent { q, stats, dy }, Scattered::new(dkv));
    let (sets, heads, row) = (p.sets(), p.heads, parts.row(p));
    let arch = Arch::new();
    let run = |s: &mut Scratch<T>, task: usize, partial: &mut [T]| {
        let (owner, chunk, head) = (task / heads / parts.chunks.count, task / heads % parts.chunks.count, task % heads);
        partial.fill(T::ZERO);
        s.dq.fill(T::ZERO);
        simd::dispatch(
            #[inline(always)]
            || load_queries(&inputs, &cotangent, s, owner, head),
        );
        for set in parts.chunks.range(chunk) {
            let (group, set) = if p.own_queries { (owner / sets, owner % sets) } else { (owner, set) };
            let place = [owner, group, set, head];
            arch.dispatch(Head { inputs: &inputs, cotangent: &cotangent, parts, s, place, dkv: &dkv, partial });
        }
        if parts.q {
            let rows = partial.chunks_exact_mut(p.head_dim).zip(s.dq.chunks_exact(inputs.wide));
            for (to, dq) in rows.take(p.queries()) {
                to.iter_mut().zip(dq).for_each(|(to, &g)| *to = g * inputs.scale);
            }
        }
    };
    let tasks = p.owners() * parts.chunks.count * heads;
    if row > 0 {
        let rows = partial.par_chunks_mut(row).enumerate();
        rows.for_each_init(|| Scratch::new(p, inputs.block), |s, (task, partial)| run(s, task, partial));
    } else {
        (0..tasks).into_par_iter().for_each_init(|| Scratch::new(p, inputs.block), |s, task| run(s, task, &mut []));
    }
}

/// Scaled queries of one head in rows.
fn load_queries<T: Scalar>(
    inputs: &Inputs<T>,
    cotangent: &Cotangent<T>,
    s: &mut Scratch<T>,
    owner: usize,
    head: usize,
) {
    let p = inputs.problem;
    let (c, d) = (p.channels(), p.head_dim);
    for (query, row) in s.q.chunks_exact_mut(inputs.wide).enumerate() {
        let q = &cotangent.q[(owner * p.queries() + query) * c + head * d..][..d];
        row.iter_mut().zip(q).for_each(|(to, &q)| *to = q * inputs.scale);
    }
}

/// A tile with rows of `row` as left factor.
#[inline(always)]
fn down<T>(data: &[T], row: usize) -> Left<'_, T> {
    Left { data, row, column: 1 }
}

/// One head of one set; adds to `s.dq`.
struct Head<'a, T: Scalar> {
    inputs: &'a Inputs<'a, T>,
    cotangent: &'a Cotangent<'a, T>,
    parts: &'a Partials,
    s: &'a mut Scratch<T>,
    /// Owner, group, set, head.
    place: [usize; 4],
    dkv: &'a Scattered<'a, T>,
    partial: &'a mut [T],
}

impl<T: Scalar> WithSimd for Head<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { inputs, cotangent, parts, s, place: [owner, group, set, head], dkv, partial } = self;
        let p = inputs.problem;
        let (c, d, m) = (p.channels(), p.head_dim, p.queries());
        let (wide, across) = (inputs.wide, inputs.across);
        s.rows.find(p, set);
        for (query, &row) in s.rows.results.iter().enumerate() {
            let dy = &mut s.dy[query * wide..][..d];
            if row == usize::MAX {
                // This result was dropped: a maximum beyond every logit makes its probabilities 0.
                dy.fill(T::ZERO);
                s.max[query] = T::from_f64(1e30);
            } else {
                let at = (group * p.rows() + row) * p.heads + head;
                dy.copy_from_slice(&cotangent.dy[at * d..][..d]);
                (s.max[query], s.ln_sum[query]) = (cotangent.stats[2 * at], cotangent.stats[2 * at + 1]);
            }
            write_column(&mut s.dy_across, across, query, dy, T::ONE);
        }
        for (i, tokens) in s.rows.tokens.chunks(inputs.block).enumerate() {
            let (first, count) = (i * inputs.block, tokens.len());
            inputs.gather(group, tokens, 0, head, &mut s.k);
            inputs.logits(simd, owner, group, head, first, count, &s.k, &mut s.logits[first * across..]);
            inputs.gather(group, tokens, 1, head, &mut s.v);
            let dlogits = &mut s.dlogits[first * across..];
            product(simd, count, across, d, down(&s.v, wide), &s.dy_across, Start::Zero, dlogits);
        }
        softmax_gradient(&mut s.logits, &mut s.dlogits, across, &s.max, &s.ln_sum);
        for (i, tokens) in s.rows.tokens.chunks(inputs.block).enumerate() {
            let (first, count) = (i * inputs.block, tokens.len());
            let (probabilities, dlogits) = (&s.logits[first * across..], &s.dlogits[first * across..]);
            if first > 0 || count < s.rows.tokens.len() {
                inputs.gather(group, tokens, 0, head, &mut s.k);
            }
            product(simd, count, wide, m, down(probabilities, across), &s.dy, Start::Zero, &mut s.dv);
            product(simd, count, wide, m, down(dlogits, across), &s.q, Start::Zero, &mut s.dk);
            product(
                simd,
                m,
                wide,
                count,
                Left { data: dlogits, row: 1, column: across },
                &s.k,
                Start::Output,
                &mut s.dq,
            );
            if parts.bias {
                let sums = &mut partial[parts.bias_offset(p) + first * m..][..count * m];
                for (sum, row) in sums.chunks_exact_mut(m).zip(dlogits.chunks_exact(across)) {
                    sum.iter_mut().zip(row).for_each(|(sum, &g)| *sum += g);
                }
            }
            for (j, &token) in tokens.iter().enumerate() {
                let (dk, dv) = (&s.dk[j * wide..][..d], &s.dv[j * wide..][..d]);
                if token != usize::MAX {
                    let at = (group * p.token_rows() + token) * 2 * c + head * d;
                    // SAFETY: a token belongs to one set, and each head writes its own ranges.
                    unsafe {
                        dkv.range(at..at + d).copy_from_slice(dk);
                        dkv.range(at + c..at + c + d).copy_from_slice(dv);
                    }
                } else if parts.pad {
                    let sums = &mut partial[parts.pad_offset(p) + (first + j) * 2 * d..][..2 * d];
                    sums.iter_mut().zip(dk.iter().chain(dv)).for_each(|(to, &g)| *to += g);
                }
            }
        }
    }
}

/// Sums the runs' rows in order into the gradients of the queries `[owners, M, C]`, of the bias, and of the padded tokens `[groups, 2C]`.
pub fn sum_partials<T: Scalar>(
    p: &Problem,
    parts: &Partials,
    partial: &[T],
    q: Option<&mut [T]>,
    bias: Option<&mut [T]>,
    pad: Option<&mut [T]>,
) {
    let Problem { heads, head_dim: d, .. } = *p;
    let (c, m, n, row, chunks) = (p.channels(), p.queries(), p.tokens(), parts.row(p), parts.chunks.count);
    // Without queries there is nothing to sum.
    let row_or_one = row.max(1);
    let mut total = vec![T::ZERO; p.owners() * heads * row];
    total.par_chunks_mut(row_or_one).enumerate().for_each(|(at, total)| {
        let (owner, head) = (at / heads, at % heads);
        for chunk in 0..chunks {
            let row = &partial[((owner * chunks + chunk) * heads + head) * row..][..row];
            simd::dispatch(
                #[inline(always)]
                || total.iter_mut().zip(row).for_each(|(t, &v)| *t += v),
            );
        }
    });
    let rows = || total.chunks_exact(row_or_one).enumerate().map(|(at, row)| (at / heads, at % heads, row));
    if let Some(q) = q {
        for (owner, head, row) in rows() {
            for (query, from) in row.chunks_exact(d).take(m).enumerate() {
                q[(owner * m + query) * c + head * d..][..d].copy_from_slice(from);
            }
        }
    }
    let owners_a_group = p.owners() / p.groups.max(1);
    if let Some(bias) = bias {
        bias.fill(T::ZERO);
        for (owner, head, row) in rows() {
            let bias = &mut bias[owner / owners_a_group * p.bias_len()..][..p.bias_len()];
            let logits = &row[parts.bias_offset(p)..];
            for (token, query) in (0..n).flat_map(|token| (0..m).map(move |query| (token, query))) {
                bias[p.bias_index(head, query, token)] += logits[token * m + query];
            }
        }
    }
    if let Some(pad) = pad {
        pad.fill(T::ZERO);
        for (owner, head, row) in rows() {
            for (i, from) in row[parts.pad_offset(p)..].chunks_exact(d).enumerate() {
                let to = &mut pad[owner / owners_a_group * 2 * c + i % 2 * c + head * d..][..d];
                to.iter_mut().zip(from).for_each(|(to, &g)| *to += g);
            }
        }
    }
}
