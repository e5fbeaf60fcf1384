#![doc = include_str!("../README.md")]

mod cube;
mod host;
mod launch;
mod problem;
#[cfg(test)]
mod tests;
mod tokens;
mod tune;

pub use problem::{Bias, BiasKind, Layout, Problem, QueryAttention, WindowQueryAttention};
pub use tokens::token_query_attention;
pub use tune::{BackwardBlueprint, Blueprint, UnitTile};

use launch::{Backward, Forward, SumPartials};
use problem::{OP, Partials};
use swinstyle_kit::{Problem as _, attention::Windows};
use swinstyle_tensor::{Result, Tensor, TensorError, launch};

/// Multi-head attention of M queries to N tokens.
///
/// Per image and head: `y = softmax(scale · q kᵀ + bias) v`. Returns `(y, lse)`, y `[B, M, C]` and the logits' log-sum-exp
/// `[B, heads, M]`, which carries no gradient. Queries without a batch axis are shared by all images.
///
/// Keys and values that come from one projection are better given as one tensor to [`query_attention_kv`], which copies nothing.
///
/// Errors: shapes that do not fit, heads that do not divide C, no tokens; second derivatives are [`TensorError::NotDifferentiable`].
/// PyTorch: `F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)` on split heads.
pub fn query_attention(
    q: &Tensor,            // [M, C] or [B, M, C], projected
    k: &Tensor,            // [B, N, C]
    v: &Tensor,            // [B, N, C]
    bias: Option<&Tensor>, // [heads, M, N]
    attention: &QueryAttention,
) -> Result<(Tensor, Tensor)> {
    if k.shape().len() != 3 || k.shape() != v.shape() {
        return Err(TensorError::shape(OP, format!("k {:?} and v {:?} are not both [B, N, C]", k.shape(), v.shape())));
    }
    query_attention_kv(q, &Tensor::concat(&[k, v], 2)?, bias, attention)
}

/// [`query_attention`] for keys and values in one tensor, k before v.
pub fn query_attention_kv(
    q: &Tensor,            // [M, C] or [B, M, C], projected
    kv: &Tensor,           // [B, N, 2C]
    bias: Option<&Tensor>, // [heads, M, N]
    attention: &QueryAttention,
) -> Result<(Tensor, Tensor)> {
    let fail = |detail: String| Err(TensorError::shape(OP, detail));
    let (&[sets, tokens, channels2], QueryAttention { heads, scale }) = (kv.shape(), *attention) else {
        return fail(format!("keys and values {:?} are not [B, N, 2C]", kv.shape()));
    };
    let own_queries = q.shape().len() == 3;
    let (queries, channels) = match q.shape() {
        &[m, c] => (m, c),
        &[b, m, c] if b == sets => (m, c),
        shape => return fail(format!("queries {shape:?} for keys and values {:?}", kv.shape())),
    };
    check_heads(heads, channels, channels2)?;
    if bias.is_some_and(|b| b.shape() != [heads, queries, tokens]) {
        let shape = bias.map(|b| b.shape().to_vec());
        return fail(format!("bias {shape:?} is not [{heads}, {queries}, {tokens}]"));
    }
    let problem = Problem {
        groups: 1,
        layout: Layout::Run { sets, queries, tokens },
        heads,
        head_dim: channels / heads,
        scale,
        bias: if bias.is_some() { BiasKind::Dense } else { BiasKind::None },
        own_queries,
    };
    problem.validate()?;
    let (y, stats) = attend(problem, q, kv, bias, None)?;
    let lse = stats.sum(&[2])?.reshape(&[sets, queries, heads])?.permute(&[0, 2, 1])?;
    Ok((y.reshape(&[sets, queries, channels])?, lse))
}

/// Attention of M² learned queries to the tokens of each window of a map: one query a cell, the result where the cell is.
///
/// Per image, window and head: `y = softmax(scale · q kᵀ + bias) v`. The queries are shared by all windows and images. Maps that no
/// window divides are padded right and bottom; padded tokens are attended with `pad_kv` (the bias of the kv projection), or
/// zeros without it. Windows are not shifted and nothing is copied: windows and padding are index arithmetic.
///
/// With a leading axis G on queries, tokens, padding and bias, G independent attentions of one shape run as one
/// launch: the map2style heads of a level.
///
/// Errors: shapes that do not fit, heads that do not divide C; second derivatives are [`TensorError::NotDifferentiable`].
pub fn window_query_attention(
    q: &Tensor,              // [M², C] or [G, M², C], projected
    kv: &Tensor,             // [B, H, W, 2C] or [G, B, H, W, 2C], k before v
    pad_kv: Option<&Tensor>, // [2C] or [G, 2C]
    bias: Bias,
    attention: &WindowQueryAttention,
) -> Result<Tensor> {
    let fail = |detail: String| Err(TensorError::shape(OP, detail));
    let WindowQueryAttention { window, heads, scale } = *attention;
    let (lead, map) = match kv.shape() {
        s @ [_, _, _, _] => (&s[..0], s),
        s @ [_, _, _, _, _] => (&s[..1], &s[1..]),
        s => return fail(format!("keys and values {s:?} are neither [B, H, W, 2C] nor [G, B, H, W, 2C]")),
    };
    let cells = window[0].checked_mul(window[1]).filter(|&n| n > 0 && n <= 1 << 15);
    let (Some(cells), true) = (cells, q.shape().len() == lead.len() + 2) else {
        let detail = format!("window {window:?}, queries {:?}, keys and values {:?}", q.shape(), kv.shape());
        return fail(detail);
    };
    let channels = q.shape()[lead.len() + 1];
    check_heads(heads, channels, map[3])?;
    let windows = Windows::new([map[0], map[1], map[2]], window, [0, 0]);
    let expect = |what: &str, shape: &[usize], own: &[usize]| {
        if shape == [lead, own].concat() {
            return Ok(());
        }
        let wanted = [lead, own].concat();
        Err(TensorError::shape(OP, format!("{what} {shape:?} where {wanted:?} is expected for window {window:?}")))
    };
    expect("queries", q.shape(), &[cells, channels])?;
    match bias {
        Bias::None => {}
        Bias::Dense(b) => expect("bias", b.shape(), &[heads, cells, cells])?,
        Bias::Table(b) => expect("bias table", b.shape(), &[windows.table_len(), heads])?,
    }
    if let Some(pad) = pad_kv {
        expect("pad_kv", pad.shape(), &[2 * channels])?;
    }
    let problem = Problem {
        groups: lead.iter().product(),
        layout: Layout::Windows(windows),
        heads,
        head_dim: channels / heads,
        scale,
        bias: bias.kind(),
        own_queries: false,
    };
    problem.validate()?;
    // Without padding the padded token has no influence, hence no gradient.
    let (y, _) = attend(problem, q, kv, bias.tensor(), pad_kv.filter(|_| problem.is_padded()))?;
    y.reshape(&[lead, &map[..3], &[channels]].concat())
}

fn check_heads(heads: usize, channels: usize, channels2: usize) -> Result<()> {
    if heads == 0 || channels == 0 || !channels.is_multiple_of(heads) || channels2 != 2 * channels {
        let detail = format!("{channels} channels of queries, {channels2} of keys and values, {heads} heads");
        return Err(TensorError::shape(OP, detail));
    }
    Ok(())
}

/// The operation on a checked problem: y `[groups · rows, C]` and the logits' statistics `[groups · rows, heads, 2]`.
fn attend(
    problem: Problem,
    q: &Tensor,
    kv: &Tensor,
    bias: Option<&Tensor>,
    pad: Option<&Tensor>,
) -> Result<(Tensor, Tensor)> {
    let mut inputs = vec![q, kv];
    inputs.extend(bias);
    inputs.extend(pad);
    let forward = Forward { problem, pad: pad.is_some() };
    let mut outputs = launch(&forward, &inputs)?.into_iter();
    let (Some(y), Some(stats)) = (outputs.next(), outputs.next()) else {
        return Err(TensorError::shape(OP, "the kernel gave no output"));
    };
    let (has_bias, has_pad, saved) = (bias.is_some(), pad.is_some(), stats.clone());
    let y = y.taped("query_attention", &inputs, move |b| {
        let needs_bias = has_bias && b.needs[2];
        let needs_pad = has_pad && b.needs[2 + usize::from(has_bias)];
        let partials = Partials::new(&problem, [b.needs[0], needs_bias, needs_pad], b.grad.device());
        let mut given = vec![&b.inputs[0], &b.inputs[1], b.output, &saved, b.grad];
        given.extend(&b.inputs[2..]);
        let mut results = launch(&Backward { forward, partials }, &given)?.into_iter();
        let (dkv, partial) = (results.next(), results.next());
        let dkv = dkv.map(|g| g.reshape(b.inputs[1].shape())).transpose()?;
        let mut sums = match partial {
            Some(partial) if !partials.is_empty() => launch(&SumPartials { problem, partials }, &[&partial])?,
            _ => Vec::new(),
        }
        .into_iter();
        let mut wanted = |input: usize, wanted: bool| match (wanted, b.inputs.get(input)) {
            (true, Some(x)) => sums.next().map(|g| g.reshape(x.shape())).transpose(),
            _ => Ok(None),
        };
        let mut grads = vec![wanted(0, partials.q)?, dkv];
        if has_bias {
            grads.push(wanted(2, needs_bias)?);
        }
        if has_pad {
            grads.push(wanted(2 + usize::from(has_bias), needs_pad)?);
        }
        // The results depend on the cotangent and on every input, but that derivative is not written.
        let sources: Vec<&Tensor> = b.inputs.iter().chain([b.grad]).collect();
        let last = |g: Tensor| {
            g.taped("query_attention_backward", &sources, |_| {
                Err(TensorError::NotDifferentiable { op: OP, order: "second" })
            })
        };
        Ok(grads.into_iter().map(|g| g.map(last)).collect())
    });
    Ok((y, stats))
}
