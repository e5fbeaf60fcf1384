//! Attention of queries to tokens that are not projected yet.

use swinstyle_tensor::{DType, Result, Tensor, TensorError};

use crate::{QueryAttention, check_heads, problem::OP, query_attention_kv};

/// Multi-head attention of M queries to N tokens, whose keys and values are projections `[k, v] = x Wᵀ + b`.
///
/// Per image and head: `y = softmax(scale · q kᵀ + bias) v`, y `[B, M, C]`. Both products can be associated in two ways:
///
/// - *projected*: `q · (x W_kᵀ)ᵀ` and `p · (x W_vᵀ)`, the fused operation on keys and values;
/// - *absorbed*: `(q W_k) · xᵀ` and `(p x) · W_vᵀ`: few queries meet the tokens themselves. The key bias adds the same to all logits of a
///   query, which changes no probability; probabilities add up to one, so the value bias is added to the result.
///
/// What takes fewer multiplications is computed: for 18 queries, 8 heads, 1,024 tokens and 512 channels the absorbed form, with a
/// quarter of them. Gradients of it exist to any order; of the projected form, as [`query_attention_kv`] has them. The absorbed form
/// stores its logits, so half types, which would round them, take the projected one.
///
/// Errors: shapes that do not fit, heads that do not divide C, no tokens.
/// PyTorch: `F.scaled_dot_product_attention(q, *F.linear(x, w, b).chunk(2, -1), attn_mask=bias, scale=scale)` on split heads.
pub fn token_query_attention(
    q: &Tensor,            // [M, C] or [B, M, C], projected
    x: &Tensor,            // [B, N, I]
    w_kv: &Tensor,         // [2C, I], of k before v
    b_kv: Option<&Tensor>, // [2C]
    bias: Option<&Tensor>, // [heads, M, N]
    attention: &QueryAttention,
) -> Result<Tensor> {
    let sizes = Sizes::of(q, x, w_kv, b_kv, bias, attention)?;
    let whole = matches!(x.dtype(), DType::F32 | DType::F64);
    match whole && sizes.absorb() {
        true => absorbed(&sizes, q, x, w_kv, b_kv, bias, attention.scale),
        false => projected(q, x, w_kv, b_kv, bias, attention),
    }
}

/// Checked sizes.
#[derive(Debug)]
pub(crate) struct Sizes {
    images: usize,
    queries: usize,
    tokens: usize,
    heads: usize,
    channels: usize,
    /// Channels of the tokens.
    inputs: usize,
}

impl Sizes {
    pub(crate) fn of(
        q: &Tensor,
        x: &Tensor,
        w_kv: &Tensor,
        b_kv: Option<&Tensor>,
        bias: Option<&Tensor>,
        attention: &QueryAttention,
    ) -> Result<Self> {
        let fail = |detail: String| Err(TensorError::shape(OP, detail));
        let (&[images, tokens, inputs], &[channels2, i]) = (x.shape(), w_kv.shape()) else {
            return fail(format!("tokens {:?} are not [B, N, I], or weight {:?} not [2C, I]", x.shape(), w_kv.shape()));
        };
        let (queries, channels) = match q.shape() {
            &[m, c] => (m, c),
            &[b, m, c] if b == images => (m, c),
            shape => return fail(format!("queries {shape:?} for tokens {:?}", x.shape())),
        };
        let heads = attention.heads;
        check_heads(heads, channels, channels2)?;
        if i != inputs || tokens == 0 || b_kv.is_some_and(|b| b.shape() != [channels2]) {
            let b = b_kv.map(|b| b.shape().to_vec());
            return fail(format!("tokens {:?}, weight {:?}, bias of the projection {b:?}", x.shape(), w_kv.shape()));
        }
        if bias.is_some_and(|b| b.shape() != [heads, queries, tokens]) {
            let shape = bias.map(|b| b.shape().to_vec());
            return fail(format!("bias {shape:?} is not [{heads}, {queries}, {tokens}]"));
        }
        Ok(Self { images, queries, tokens, heads, channels, inputs })
    }

    /// Whether the absorbed form takes fewer multiplications.
    pub(crate) fn absorb(&self) -> bool {
        self.absorbed() < self.projected()
    }

    /// Multiplications of the projected form.
    fn projected(&self) -> usize {
        let Self { images, queries, tokens, channels, inputs, .. } = *self;
        images * tokens * 2 * channels * (inputs + queries)
    }

    /// Multiplications of the absorbed form.
    fn absorbed(&self) -> usize {
        let Self { images, queries, tokens, heads, channels, inputs } = *self;
        2 * images * queries * inputs * (heads * tokens + channels)
    }
}

pub(crate) fn projected(
    q: &Tensor,
    x: &Tensor,
    w_kv: &Tensor,
    b_kv: Option<&Tensor>,
    bias: Option<&Tensor>,
    attention: &QueryAttention,
) -> Result<Tensor> {
    Ok(query_attention_kv(q, &x.linear(w_kv, b_kv)?, bias, attention)?.0)
}

pub(crate) fn absorbed(
    sizes: &Sizes,
    q: &Tensor,
    x: &Tensor,
    w_kv: &Tensor,
    b_kv: Option<&Tensor>,
    bias: Option<&Tensor>,
    scale: f64,
) -> Result<Tensor> {
    let Sizes { images: b, queries: m, tokens: n, heads: h, channels: c, inputs: i } = *sizes;
    let d = c / h;
    // Images of queries: one where all share them.
    let own = q.len() / (m * c).max(1);
    let part = |which: usize| w_kv.slice(0, which * c, c)?.reshape(&[h, d, i]);
    let by_head = q.scale(scale)?.reshape(&[own * m, h, d])?.permute(&[1, 0, 2])?;
    let absorbed = by_head.matmul(&part(0)?)?.reshape(&[h, own, m, i])?;
    let logits = match own {
        1 => absorbed.reshape(&[h * m, i])?,
        _ => absorbed.permute(&[1, 0, 2, 3])?.reshape(&[own, h * m, i])?,
    }
    .matmul_with(x, false, true)?
    .reshape(&[b, h * m, n])?;
    let logits = match bias {
        Some(bias) => logits.add(&bias.reshape(&[h * m, n])?)?,
        None => logits,
    };
    let p = logits.sub(&logits.max_detached(&[2])?)?.exp()?;
    // Divided by their sum after the product, which has fewer elements.
    let seen = p.matmul(x)?.div(&p.sum(&[2])?)?;
    let seen = seen.reshape(&[b, h, m, i])?.permute(&[1, 0, 2, 3])?.reshape(&[h, b * m, i])?;
    let y = seen.matmul_with(&part(1)?, false, true)?;
    let y = y.permute(&[1, 0, 2])?.reshape(&[b, m, c])?;
    match b_kv {
        Some(b_kv) => y.add(&b_kv.slice(0, c, c)?),
        None => Ok(y),
    }
}
