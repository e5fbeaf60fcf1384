//! A tour of every operation in every type of a device: the kernels that no bench case launches must compile too.

use anyhow::Result;
use swinstyle_bias_act::{Activation, bias_act};
use swinstyle_layer_norm::layer_norm;
use swinstyle_modulated_conv2d::{LeakyRelu, ModulatedConv, styled_conv2d, to_rgb};
use swinstyle_query_attention::{Bias, WindowQueryAttention, window_query_attention};
use swinstyle_tensor::{DType, Device, Tensor, grad, ops::Affine};
use swinstyle_upfirdn2d::{Upfirdn2d, upfirdn2d};
use swinstyle_window_attention::{WindowAttention, window_attention};

/// An operation with its gradients, on any device and type.
type Visit = fn(&Inputs) -> Result<()>;

/// The stations by name.
pub(super) const STATIONS: [(&str, Visit); 8] = [
    ("elementwise", elementwise),
    ("reductions", reductions),
    ("layout", layout),
    ("matmul", matmul),
    ("bias_act", activations),
    ("convolution", convolutions),
    ("attention", attention),
    ("resampling", resampling),
];

/// The types that tensors have on a GPU.
pub(super) const TYPES: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

/// Makes tensors; what is in them does not matter to a compiler.
pub(super) struct Inputs {
    pub(super) device: Device,
    pub(super) dtype: DType,
}

impl Inputs {
    fn leaf(&self, shape: &[usize]) -> Result<Tensor> {
        Ok(Tensor::full(0.0, shape, self.dtype, self.device)?.as_leaf())
    }
}

/// Runs the gradients of a result.
fn gradients(y: &Tensor, of: &[&Tensor]) -> Result<()> {
    grad(&[(y, None)], of, false)?;
    Ok(())
}

fn elementwise(inputs: &Inputs) -> Result<()> {
    let x = inputs.leaf(&[4, 6])?;
    let all = [
        x.exp()?,
        x.ln()?,
        x.sqrt()?,
        x.rsqrt()?,
        x.square()?,
        x.recip()?,
        x.tanh()?,
        x.sigmoid()?,
        x.softplus()?,
        x.abs()?,
        x.clamp(-1.0, 1.0)?,
    ];
    for y in &all {
        gradients(y, &[&x])?;
    }
    for shape in [&[4, 6][..], &[6], &[4, 1]] {
        let other = inputs.leaf(shape)?;
        for y in [x.add(&other)?, x.sub(&other)?, x.mul(&other)?, x.div(&other)?, x.maximum(&other)?] {
            gradients(&y, &[&x, &other])?;
        }
    }
    Ok(())
}

fn reductions(inputs: &Inputs) -> Result<()> {
    for shape in [[3, 5, 8], [2, 300, 7]] {
        let x = inputs.leaf(&shape)?;
        for axes in [&[0][..], &[1], &[2], &[0, 1, 2]] {
            gradients(&x.sum(axes)?, &[&x])?;
            x.max_detached(axes)?;
        }
        gradients(&x.softmax()?, &[&x])?;
        gradients(&x.log_softmax()?, &[&x])?;
        let channels = inputs.leaf(&shape[2..])?;
        gradients(&layer_norm(&x, &channels, &channels, 1e-5)?, &[&x, &channels])?;
    }
    Ok(())
}

fn layout(inputs: &Inputs) -> Result<()> {
    for channels in [8, 5] {
        let x = inputs.leaf(&[2, 6, 4, channels])?;
        let turn = Affine([0.6, -0.8, 1.0, 0.8, 0.6, 0.5]);
        let moved = [
            x.permute(&[0, 3, 1, 2])?,
            x.slice(3, 1, channels - 1)?,
            x.slice(1, 1, 3)?,
            x.pad(2, 1, 2)?,
            Tensor::concat(&[&x, &x], 3)?,
            x.resize_bilinear(9, 7, false)?,
            x.pool_area(3, 2)?,
            x.max_pool2d(3, 2)?,
            x.warp(&[turn; 2], 6, 5)?,
        ];
        for y in &moved {
            gradients(y, &[&x])?;
        }
    }
    Ok(())
}

fn matmul(inputs: &Inputs) -> Result<()> {
    for edge in [8, 5] {
        let (a, b) = (inputs.leaf(&[2, edge, edge])?, inputs.leaf(&[2, edge, edge])?);
        for (transpose_a, transpose_b) in [(false, false), (false, true), (true, false), (true, true)] {
            gradients(&a.matmul_with(&b, transpose_a, transpose_b)?, &[&a, &b])?;
        }
        let (weight, bias) = (inputs.leaf(&[edge, edge])?, inputs.leaf(&[edge])?);
        gradients(&a.linear(&weight, Some(&bias))?, &[&a, &weight, &bias])?;
    }
    Ok(())
}

fn activations(inputs: &Inputs) -> Result<()> {
    let all = [
        Activation::Linear,
        Activation::LeakyRelu { slope: 0.2 },
        Activation::Relu,
        Activation::Gelu,
        Activation::Silu,
        Activation::Tanh,
        Activation::Sigmoid,
    ];
    let (x, bias) = (inputs.leaf(&[3, 8])?, inputs.leaf(&[8])?);
    for activation in all {
        for clamp in [None, Some(2.0)] {
            gradients(&bias_act(&x, Some(&bias), activation, 1.5, clamp)?, &[&x, &bias])?;
            gradients(&bias_act(&x, None, activation, 1.5, clamp)?, &[&x])?;
        }
    }
    Ok(())
}

fn convolutions(inputs: &Inputs) -> Result<()> {
    let fir = inputs.leaf(&[4, 4])?.detach();
    for (channels, out) in [(16, 16), (6, 3)] {
        for (up, down, kernel) in [(1, 1, 3), (2, 1, 3), (1, 2, 3), (1, 1, 1)] {
            let x = inputs.leaf(&[2, 8, 8, channels])?;
            let (weight, style) = (inputs.leaf(&[kernel, kernel, channels, out])?, inputs.leaf(&[2, channels])?);
            let (noise, strength) = (inputs.leaf(&[1, 8 * up / down, 8 * up / down, 1])?, inputs.leaf(&[1])?);
            let bias = inputs.leaf(&[out])?;
            let conv = ModulatedConv { up, down, demodulate: true, eps: 1e-8, weight_gain: 1.0, fir: Some(&fir) };
            let activation = LeakyRelu { slope: 0.2, gain: 1.5, clamp: Some(256.0) };
            let around = (Some((&noise, &strength)), Some(&bias), Some(activation));
            let y = styled_conv2d(&x, &weight, &style, &conv, around.0, around.1, around.2)?;
            gradients(&y, &[&x, &weight, &style, &strength, &bias])?;
        }
        // What is added to the image has the image's type.
        let image = Inputs { device: inputs.device, dtype: inputs.dtype.wide() };
        let (x, weight, style) =
            (inputs.leaf(&[2, 8, 8, channels])?, inputs.leaf(&[1, 1, channels, 3])?, inputs.leaf(&[2, channels])?);
        let (bias, below, fir) = (image.leaf(&[3])?, image.leaf(&[2, 4, 4, 3])?, image.leaf(&[4, 4])?.detach());
        let y = to_rgb(&x, &weight, &style, 1.0, &bias, Some((&below, &fir)))?;
        gradients(&y, &[&x, &weight, &style, &bias, &below])?;
    }
    Ok(())
}

fn attention(inputs: &Inputs) -> Result<()> {
    for (head_dim, window) in [(16, 4), (32, 8), (64, 4), (5, 3)] {
        let (heads, cells) = (2, window * window);
        let c = heads * head_dim;
        // Not a whole number of windows: the map is padded.
        let map = inputs.leaf(&[1, 10, 7, 3 * c])?;
        let table = inputs.leaf(&[(2 * window - 1) * (2 * window - 1), heads])?;
        let pad = inputs.leaf(&[3 * c])?;
        let p = WindowAttention::new([window; 2], [window / 2; 2], heads, c);
        gradients(&window_attention(&map, Some(&pad), &table, &p)?, &[&map, &pad, &table])?;
        let (q, kv, pad) = (inputs.leaf(&[cells, c])?, inputs.leaf(&[1, 10, 7, 2 * c])?, inputs.leaf(&[2 * c])?);
        let p = WindowQueryAttention::new([window; 2], heads, c);
        let y = window_query_attention(&q, &kv, Some(&pad), Bias::Table(&table), &p)?;
        gradients(&y, &[&q, &kv, &pad, &table])?;
    }
    Ok(())
}

fn resampling(inputs: &Inputs) -> Result<()> {
    let filters = [inputs.leaf(&[4, 4])?.detach(), inputs.leaf(&[4])?.detach()];
    for channels in [8, 3] {
        let x = inputs.leaf(&[1, 8, 8, channels])?;
        for (up, down) in [(1, 1), (2, 1), (1, 2), (3, 2)] {
            let params = Upfirdn2d { up: [up; 2], down: [down; 2], pad: [2, 1, 2, 1], flip: false, gain: 1.0 };
            for filter in &filters {
                gradients(&upfirdn2d(&x, filter, &params)?, &[&x])?;
            }
        }
    }
    Ok(())
}
