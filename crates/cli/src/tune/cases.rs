//! The work whose launches are tuned.

use anyhow::Result;
use swinstyle_bias_act::{Activation, bias_act};
use swinstyle_layer_norm::layer_norm;
use swinstyle_modulated_conv2d::{ModulatedConv, modulated_conv2d};
use swinstyle_query_attention::{QueryAttention, query_attention_kv};
use swinstyle_tensor::{DType, Device, Tensor, grad, rng::Philox};
use swinstyle_upfirdn2d::{separable_filter, upsample2d};
use swinstyle_window_attention::{WindowAttention, window_attention};

use crate::bench;

/// Named work; its launches make the choices.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) run: Box<dyn Fn(Device) -> Result<()>>,
}

/// Names of the kernels that have choices, with their rooms.
pub(super) const KERNELS: [(&str, &str); 9] = [
    ("bias_act", "bias-act"),
    ("bias_act_grad", "bias-act"),
    ("layer_norm", "layer-norm"),
    ("layer_norm_grad", "layer-norm"),
    ("conv2d", "modulated-conv2d"),
    ("query_attention", "query-attention"),
    ("query_attention_backward", "query-attention"),
    ("upfirdn2d", "upfirdn2d"),
    ("window_attention", "window-attention"),
];

/// The room of a kernel.
pub(super) fn room(kernel: &str) -> &'static str {
    let longest = KERNELS.iter().filter(|(name, _)| kernel.starts_with(name)).max_by_key(|(name, _)| name.len());
    longest.map_or("unknown", |(_, room)| room)
}

/// The bench cases with their gradients and two networks; small images of the operations where a GPU is only played.
pub(super) fn cases(device: Device, software: bool, quick: bool) -> Vec<Case> {
    let mut all = small(if software { 1 } else { 32 });
    if software {
        return all;
    }
    // The operations have cases of their own; the small ones are for the two that have none.
    all.retain(|c| ["layer_norm", "bias_act"].contains(&c.name.as_str()));
    let networks = ["stylegan2_256", "swin_tiny"];
    let wanted = |name: &str| name.ends_with("/fwd+bwd") || (!quick && networks.iter().any(|n| name.contains(n)));
    let benches = bench::cases(device).into_iter().filter(|c| wanted(&c.name));
    all.extend(benches.map(|case| {
        let name = case.name.clone();
        Case { name, run: Box::new(move |device| case.prepare(device)?()) }
    }));
    all
}

/// Each operation with its gradients on small images, `scale` times as many rows as the smallest.
fn small(scale: usize) -> Vec<Case> {
    let case = |name: &str, run: fn(Device, usize) -> Result<()>| Case {
        name: name.to_string(),
        run: Box::new(move |device| run(device, scale)),
    };
    vec![
        case("layer_norm", norm),
        case("bias_act", act),
        case("upfirdn2d", resample),
        case("conv2d", convolve),
        case("window_attention", windows),
        case("query_attention", queries),
    ]
}

fn normal(device: Device, stream: u64, shape: &[usize]) -> Result<Tensor> {
    Ok(Philox::new(7, stream).normal(shape, device)?.as_leaf())
}

fn with_gradients(y: &Tensor, leaves: &[&Tensor]) -> Result<()> {
    Ok(grad(&[(y, None)], leaves, false).map(drop)?)
}

fn norm(device: Device, scale: usize) -> Result<()> {
    let x = normal(device, 0, &[128 * scale, 96])?;
    let (weight, bias) = (normal(device, 1, &[96])?, normal(device, 2, &[96])?);
    with_gradients(&layer_norm(&x, &weight, &bias, 1e-5)?, &[&x, &weight, &bias])
}

fn act(device: Device, scale: usize) -> Result<()> {
    let (x, bias) = (normal(device, 0, &[256 * scale, 64])?, normal(device, 1, &[64])?);
    for activation in [Activation::LEAKY_RELU, Activation::Gelu] {
        with_gradients(&bias_act(&x, Some(&bias), activation, 1.0, None)?, &[&x, &bias])?;
    }
    Ok(())
}

fn resample(device: Device, _: usize) -> Result<()> {
    let x = normal(device, 0, &[1, 16, 16, 16])?;
    let filter = separable_filter(&[1.0, 3.0, 3.0, 1.0], DType::F32, device)?;
    with_gradients(&upsample2d(&x, &filter, 2)?, &[&x])
}

fn convolve(device: Device, _: usize) -> Result<()> {
    let (x, weight, style) =
        (normal(device, 0, &[1, 16, 16, 32])?, normal(device, 1, &[3, 3, 32, 32])?, normal(device, 2, &[1, 32])?);
    let conv = ModulatedConv { up: 1, down: 1, demodulate: true, eps: 1e-8, weight_gain: 0.06, fir: None };
    with_gradients(&modulated_conv2d(&x, &weight, &style, &conv)?, &[&x, &weight, &style])
}

fn windows(device: Device, _: usize) -> Result<()> {
    let qkv = normal(device, 0, &[1, 8, 8, 3 * 64])?;
    let table = normal(device, 1, &[49, 2])?;
    with_gradients(
        &window_attention(&qkv, None, &table, &WindowAttention::new([4; 2], [2; 2], 2, 64))?,
        &[&qkv, &table],
    )
}

fn queries(device: Device, _: usize) -> Result<()> {
    let (q, kv) = (normal(device, 0, &[14, 64])?, normal(device, 1, &[1, 64, 128])?);
    let (y, _) = query_attention_kv(&q, &kv, None, &QueryAttention::new(2, 64))?;
    with_gradients(&y, &[&q, &kv])
}
