//! A Swin block: x + attention(LN x), then x + MLP(LN x).

use swinstyle_bias_act::{Activation, bias_act};
use swinstyle_layer_norm::layer_norm;
use swinstyle_tensor::Tensor;
use swinstyle_window_attention::{WindowAttention, shifted_window_attention};

use super::{EPSILON, SwinConfig};
use crate::{Init, Params, Result, Spec};

/// Hidden width of an MLP.
pub(crate) fn mlp_hidden(dim: usize, ratio: f64) -> usize {
    ((dim as f64 * ratio) as usize).max(1)
}

fn name(stage: usize, block: usize) -> String {
    format!("features.{}.{block}", 2 * stage + 1)
}

/// Parameters of a block.
pub(super) fn specs(config: &SwinConfig, stage: usize, block: usize) -> Vec<Spec> {
    let (c, at) = (config.dims[stage], name(stage, block));
    let hidden = mlp_hidden(c, config.mlp_ratio);
    let [rows, columns] = config.windows[stage].size();
    let table = [(2 * rows - 1) * (2 * columns - 1), config.heads[stage]];
    let weight = Init::Normal { std: 0.02 };
    let (one, zero) = (Init::Constant(1.0), Init::Constant(0.0));
    let spec = |key: &str, shape: &[usize], init| Spec::new(format!("{at}.{key}"), shape, init);
    vec![
        spec("norm1.weight", &[c], one),
        spec("norm1.bias", &[c], zero),
        spec("attn.relative_position_bias_table", &table, weight),
        spec("attn.qkv.weight", &[3 * c, c], weight),
        spec("attn.qkv.bias", &[3 * c], zero),
        spec("attn.proj.weight", &[c, c], weight),
        spec("attn.proj.bias", &[c], zero),
        spec("norm2.weight", &[c], one),
        spec("norm2.bias", &[c], zero),
        spec("mlp.0.weight", &[hidden, c], weight),
        spec("mlp.0.bias", &[hidden], zero),
        spec("mlp.3.weight", &[c, hidden], weight),
        spec("mlp.3.bias", &[c], zero),
    ]
}

/// Window, shift and heads of a block's attention.
fn attention(config: &SwinConfig, stage: usize, block: usize) -> WindowAttention {
    let window = config.windows[stage].size();
    let shift = if block % 2 == 1 { window.map(|w| w / 2) } else { [0, 0] };
    WindowAttention::new(window, shift, config.heads[stage], config.dims[stage])
}

/// What a block's attention is computed from: qkv `[N, H, W, 3C]`, its bias `[3C]`, the bias table, and the windows.
pub(crate) fn block_qkv<'a>(
    config: &SwinConfig,
    p: &'a Params,
    stage: usize,
    block: usize,
    x: &Tensor, // [N, H, W, C]
) -> Result<(Tensor, &'a Tensor, &'a Tensor, WindowAttention)> {
    let at = name(stage, block);
    let get = |key: &str| p.get(&format!("{at}.{key}"));
    let (bias, table) = (get("attn.qkv.bias")?, get("attn.relative_position_bias_table")?);
    let h = layer_norm(x, get("norm1.weight")?, get("norm1.bias")?, EPSILON)?;
    let qkv = h.linear(get("attn.qkv.weight")?, Some(bias))?;
    Ok((qkv, bias, table, attention(config, stage, block)))
}

/// Applies a block; `drop` is what happens to a branch before it is added.
pub(super) fn forward(
    config: &SwinConfig,
    p: &Params,
    stage: usize,
    block: usize,
    x: &Tensor, // [N, H, W, C]
    mut drop: impl FnMut(Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let at = name(stage, block);
    let get = |key: &str| p.get(&format!("{at}.{key}"));
    let attention = attention(config, stage, block);
    let h = layer_norm(x, get("norm1.weight")?, get("norm1.bias")?, EPSILON)?;
    let h = shifted_window_attention(
        &h,
        get("attn.qkv.weight")?,
        Some(get("attn.qkv.bias")?),
        get("attn.proj.weight")?,
        Some(get("attn.proj.bias")?),
        get("attn.relative_position_bias_table")?,
        &attention,
    )?;
    let x = x.add(&drop(h)?)?;

    let h = layer_norm(&x, get("norm2.weight")?, get("norm2.bias")?, EPSILON)?;
    let h = h.linear(get("mlp.0.weight")?, None)?;
    let h = bias_act(&h, Some(get("mlp.0.bias")?), Activation::Gelu, 1.0, None)?;
    Ok(x.add(&drop(h.linear(get("mlp.3.weight")?, Some(get("mlp.3.bias")?))?)?)?)
}
