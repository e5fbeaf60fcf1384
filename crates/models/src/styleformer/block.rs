//! The block of a map2style step: tokens + attention(LN tokens), then + MLP(LN tokens), for all heads of a level at once.
//!
//! The learnable-query block [paper: "W-MSA based on learnable queries"]: the queries are parameters `[M², C]`, one for each cell of
//! the M×M window, shared by all windows and images; keys and values come from the window's tokens [sibling: one
//! external query for every window, a linear layer that emits k and v alone], so that what is looked for is not tied to the image. Relative-position bias, residual, LN, MLP as in Swin. The self-attention
//! block differs in its queries only, which come from the tokens too.
//!
//! The k and v of learned queries have no bias: softmax ignores the one, and the output layer's bias holds the other [ours].

use swinstyle_bias_act::{Activation, bias_act};
use swinstyle_query_attention::{Bias, WindowQueryAttention, window_query_attention};
use swinstyle_tensor::Tensor;
use swinstyle_window_attention::{WindowAttention, window_attention};

use super::{Head, MapToStyleConfig, grouped};
use crate::{Init, Params, Result, Spec, swin::mlp_hidden};

/// Window on a map: the whole map where it is smaller.
pub(super) fn window(config: &MapToStyleConfig, side: usize) -> usize {
    config.window.min(side)
}

/// Parameters of a block for `groups` heads on maps of `side`² tokens.
pub(super) fn specs(config: &MapToStyleConfig, at: &str, groups: usize, side: usize) -> Vec<Spec> {
    let (c, heads, window) = (config.width, config.heads, window(config, side));
    let hidden = mlp_hidden(c, config.mlp_ratio);
    let linear =
        |key: &str, inputs, outputs, bias| grouped::linear_specs(&format!("{at}.{key}"), groups, inputs, outputs, bias);
    let spec =
        |key: &str, shape: &[usize], std| Spec::new(format!("{at}.{key}"), shape, Init::Normal { std }).stacked();
    let table = (2 * window - 1) * (2 * window - 1);
    let mut specs = vec![spec("attn.relative_position_bias_table", &[groups, table, heads], 0.02)];
    if config.head == Head::LearnableQuery {
        specs.push(spec("attn.queries", &[groups, window * window, c], 1.0));
        specs.extend(linear("attn.kv", c, 2 * c, false));
    } else {
        specs.extend(linear("attn.qkv", c, 3 * c, true));
    }
    specs.extend(linear("attn.proj", c, c, true));
    specs.extend(linear("mlp.0", c, hidden, true));
    specs.extend(linear("mlp.3", hidden, c, true));
    specs
}

/// Applies the block to maps of `side`² tokens; returns `[G, N·S·S, C]`.
pub(super) fn forward(
    config: &MapToStyleConfig,
    p: &Params,
    at: &str,
    images: usize,
    side: usize,
    x: &Tensor, // [G, N·S·S, C], or [N·S·S, C] where all heads read the same tokens
) -> Result<Tensor> {
    let get = |key: &str| p.get(&format!("{at}.{key}"));
    let h = grouped::normalize(x)?;
    let table = get("attn.relative_position_bias_table")?;
    let h = match config.head {
        Head::LearnableQuery => {
            let kv = grouped::linear(&h, get("attn.kv.weight")?, None)?;
            let (groups, tokens, c) = (kv.shape()[0], kv.shape()[1], config.width);
            let kv = kv.reshape(&[groups, images, side, side, 2 * c])?;
            let attention = WindowQueryAttention::new([window(config, side); 2], config.heads, c);
            let y = window_query_attention(get("attn.queries")?, &kv, None, Bias::Table(table), &attention)?;
            y.reshape(&[groups, tokens, c])?
        }
        _ => {
            let qkv = grouped::linear(&h, get("attn.qkv.weight")?, Some(get("attn.qkv.bias")?))?;
            self_attention(config, images, side, &qkv, table)?
        }
    };
    let h = grouped::linear(&h, get("attn.proj.weight")?, Some(get("attn.proj.bias")?))?;
    let x = h.add(x)?;
    let h = grouped::linear(&grouped::normalize(&x)?, get("mlp.0.weight")?, Some(get("mlp.0.bias")?))?;
    let h = bias_act(&h, None, Activation::Gelu, 1.0, None)?;
    let h = grouped::linear(&h, get("mlp.3.weight")?, Some(get("mlp.3.bias")?))?;
    Ok(h.add(&x)?)
}

/// Self-attention in the windows of every group: groups are heads to the kernel, which needs them beside each other.
fn self_attention(
    config: &MapToStyleConfig,
    images: usize,
    side: usize,
    qkv: &Tensor,   // [G, N·S·S, 3C]
    table: &Tensor, // [G, (2M − 1)², heads]
) -> Result<Tensor> {
    let (groups, tokens, c) = (qkv.shape()[0], qkv.shape()[1], config.width);
    let qkv = qkv.reshape(&[groups, tokens, 3, c])?.permute(&[1, 2, 0, 3])?;
    let qkv = qkv.reshape(&[images, side, side, 3 * groups * c])?;
    let heads = groups * config.heads;
    let table = table.permute(&[1, 0, 2])?.reshape(&[table.shape()[1], heads])?;
    let attention = WindowAttention::new([window(config, side); 2], [0, 0], heads, groups * c);
    let y = window_attention(&qkv, None, &table, &attention)?;
    Ok(y.reshape(&[tokens, groups, c])?.permute(&[1, 0, 2])?)
}
