//! The fused operations: `/fwd` without a tape, `/fwd+bwd` with the gradients that the peer asks for.

use anyhow::Result;
use swinstyle_modulated_conv2d::{ModulatedConv, modulated_conv2d};
use swinstyle_query_attention::{
    Bias, QueryAttention, WindowQueryAttention, token_query_attention, window_query_attention,
};
use swinstyle_tensor::{DType, Device, Tensor, grad, no_grad, rng::Philox};
use swinstyle_upfirdn2d::{Upfirdn2d, separable_filter, upfirdn2d};
use swinstyle_window_attention::{WindowAttention, shifted_window_attention};

use super::{Case, Work};

/// Taps of StyleGAN2's filter.
const FIR: [f64; 4] = [1.0, 3.0, 3.0, 1.0];

/// An operation on its inputs.
type Forward = Box<dyn Fn(&[Tensor]) -> Result<Tensor>>;

/// An operation on tensors that are made once.
struct Operation {
    /// The first of `tensors` get gradients.
    leaves: usize,
    tensors: Vec<Tensor>,
    forward: Forward,
}

/// The cases in a type; where it is not f32 its name is behind the operation's.
pub(super) fn cases(device: Device, dtype: DType) -> Vec<Case> {
    let on_cpu = device == Device::Cpu;
    let mut cases = Vec::new();
    let batch = if on_cpu { 1 } else { 16 };
    for (edge, channels, heads, window, shift) in [(64, 96, 3, 4, 2), (32, 192, 6, 8, 4)] {
        pair(
            &mut cases,
            dtype,
            format!("window_attention/{edge}x{edge}x{channels}_w{window}_s{shift}"),
            move |device| window_attention(device, batch, edge, channels, heads, window, shift),
        );
    }
    pair(&mut cases, dtype, "query_attention/m18_n1024_c512".to_string(), move |device| query_attention(device, batch));
    pair(&mut cases, dtype, "query_attention/32x32x192_w8".to_string(), move |device| window_query(device, batch));
    let batch = if on_cpu { 1 } else { 8 };
    for (channels, edge, up) in [(512, 32, 1), (128, 128, 1), (256, 64, 2), (64, 128, 2)] {
        pair(&mut cases, dtype, format!("modconv/{channels}to{}_{edge}_up{up}", channels / up), move |device| {
            modulated(device, batch, channels, edge, up)
        });
    }
    for (channels, edge, up, down, pad) in
        [(64, 256, 2, 1, [2, 1, 2, 1]), (64, 256, 1, 2, [1, 1, 1, 1]), (64, 256, 1, 1, [2, 1, 2, 1])]
    {
        let gain = (up * up) as f64;
        let params = Upfirdn2d { up: [up; 2], down: [down; 2], pad, flip: false, gain };
        pair(&mut cases, dtype, format!("upfirdn2d/{channels}x{edge}_u{up}d{down}"), move |device| {
            let x = normal(device, 0, &[batch, edge, edge, channels], 1.0)?;
            let filter = separable_filter(&FIR, DType::F32, device)?;
            let forward = move |t: &[Tensor]| Ok(upfirdn2d(&t[0], &t[1], &params)?);
            Ok(Operation { leaves: 1, tensors: vec![x, filter], forward: Box::new(forward) })
        });
    }
    cases
}

fn window_attention(
    device: Device,
    batch: usize,
    edge: usize,
    channels: usize,
    heads: usize,
    window: usize,
    shift: usize,
) -> Result<Operation> {
    let table = (2 * window - 1) * (2 * window - 1);
    let tensors = vec![
        normal(device, 0, &[batch, edge, edge, channels], 1.0)?,
        normal(device, 1, &[3 * channels, channels], 0.02)?,
        normal(device, 2, &[channels, channels], 0.02)?,
        normal(device, 3, &[table, heads], 1.0)?,
        normal(device, 4, &[3 * channels], 1.0)?,
        normal(device, 5, &[channels], 1.0)?,
    ];
    let attention = WindowAttention::new([window; 2], [shift; 2], heads, channels);
    let forward = move |t: &[Tensor]| {
        Ok(shifted_window_attention(&t[0], &t[1], Some(&t[4]), &t[2], Some(&t[5]), &t[3], &attention)?)
    };
    Ok(Operation { leaves: 4, tensors, forward: Box::new(forward) })
}

/// Queries that are parameters themselves to tokens that are projected to keys and values, and a projection of the result; gradient in the
/// tokens alone.
fn query_attention(device: Device, batch: usize) -> Result<Operation> {
    const C: usize = 512;
    let std = 1.0 / (C as f64).sqrt();
    let tensors = vec![
        normal(device, 0, &[batch, 1024, C], 1.0)?,
        normal(device, 1, &[18, C], 0.02)?,
        normal(device, 2, &[2 * C, C], std)?,
        normal(device, 3, &[2 * C], std)?,
        normal(device, 4, &[C, C], std)?,
        normal(device, 5, &[C], std)?,
    ];
    let attention = QueryAttention::new(8, C);
    let forward = move |t: &[Tensor]| {
        let y = token_query_attention(&t[1], &t[0], &t[2], Some(&t[3]), None, &attention)?;
        Ok(y.linear(&t[4], Some(&t[5]))?)
    };
    Ok(Operation { leaves: 1, tensors, forward: Box::new(forward) })
}

/// The learnable-query block's attention: one learned query a cell, shared by all windows, the projections around it, gradients of all
/// but their biases.
fn window_query(device: Device, batch: usize) -> Result<Operation> {
    const C: usize = 192;
    const HEADS: usize = 6;
    let tensors = vec![
        normal(device, 0, &[batch, 32, 32, C], 1.0)?,
        normal(device, 1, &[64, C], 0.02)?,
        normal(device, 2, &[2 * C, C], 0.02)?,
        normal(device, 3, &[C, C], 0.02)?,
        normal(device, 4, &[225, HEADS], 1.0)?,
        normal(device, 5, &[2 * C], 1.0)?,
        normal(device, 6, &[C], 1.0)?,
    ];
    let attention = WindowQueryAttention::new([8; 2], HEADS, C);
    let forward = move |t: &[Tensor]| {
        let kv = t[0].linear(&t[2], Some(&t[5]))?;
        let y = window_query_attention(&t[1], &kv, Some(&t[5]), Bias::Table(&t[4]), &attention)?;
        Ok(y.linear(&t[3], Some(&t[6]))?)
    };
    Ok(Operation { leaves: 5, tensors, forward: Box::new(forward) })
}

fn modulated(device: Device, batch: usize, channels: usize, edge: usize, up: usize) -> Result<Operation> {
    let std = 1.0 / (9.0 * channels as f64).sqrt();
    let tensors = vec![
        normal(device, 0, &[batch, edge, edge, channels], 1.0)?,
        normal(device, 1, &[3, 3, channels, channels / up], std)?,
        normal(device, 2, &[batch, channels], 1.0)?,
        separable_filter(&FIR, DType::F32, device)?,
    ];
    let forward = move |t: &[Tensor]| {
        let conv = ModulatedConv { up, down: 1, demodulate: true, eps: 1e-8, weight_gain: 1.0, fir: Some(&t[3]) };
        Ok(modulated_conv2d(&t[0], &t[1], &t[2], &conv)?)
    };
    Ok(Operation { leaves: 3, tensors, forward: Box::new(forward) })
}

/// Both cases of an operation, its tensors converted.
fn pair(
    cases: &mut Vec<Case>,
    dtype: DType,
    name: String,
    build: impl Fn(Device) -> Result<Operation> + Clone + 'static,
) {
    let name = if dtype == DType::F32 { name } else { format!("{name}/{dtype}") };
    let build = move |device| {
        let mut operation = build(device)?;
        for t in &mut operation.tensors {
            *t = t.to_dtype(dtype)?;
        }
        Ok::<_, anyhow::Error>(operation)
    };
    let forward = build.clone();
    cases.push(Case::new(format!("{name}/fwd"), move |device| {
        let operation = forward(device)?;
        let output = no_grad(|| (operation.forward)(&operation.tensors))?;
        let least = bytes(&operation.tensors) + bytes([&output]);
        let run = move || no_grad(|| (operation.forward)(&operation.tensors)).map(drop);
        Ok(Work { run: Box::new(run), least_bytes: Some(least) })
    }));
    cases.push(Case::new(format!("{name}/fwd+bwd"), move |device| {
        let mut operation = build(device)?;
        for leaf in &mut operation.tensors[..operation.leaves] {
            *leaf = leaf.as_leaf();
        }
        let output = no_grad(|| (operation.forward)(&operation.tensors))?;
        let gradients = &operation.tensors[..operation.leaves];
        let least = bytes(&operation.tensors) + 2 * bytes([&output]) + bytes(gradients);
        let run = move || {
            let y = (operation.forward)(&operation.tensors)?;
            let leaves: Vec<&Tensor> = operation.tensors[..operation.leaves].iter().collect();
            Ok(grad(&[(&y, None)], &leaves, false).map(drop)?)
        };
        Ok(Work { run: Box::new(run), least_bytes: Some(least) })
    }));
}

fn bytes<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> u64 {
    tensors.into_iter().map(|t| (t.len() * t.dtype().size()) as u64).sum()
}

/// Normal numbers from a stream of their own.
pub(super) fn normal(device: Device, stream: u64, shape: &[usize], std: f64) -> Result<Tensor> {
    Ok(Philox::new(0, stream).normal(shape, device)?.scale(std)?)
}
