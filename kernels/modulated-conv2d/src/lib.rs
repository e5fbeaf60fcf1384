#![doc = include_str!("../README.md")]

mod cube;
mod epilogue;
mod host;
mod launch;
mod modulated;
mod plan;
mod problem;
#[cfg(test)]
mod tests;
mod to_rgb;
mod tune;

pub use epilogue::noise_bias_act;
pub use modulated::{ModulatedConv, modulated_conv2d, styled_conv2d};
pub use problem::{ConvGeometry, Fusion, LeakyRelu, Problem};
pub use swinstyle_tensor::cube::fragments::MatrixTile;
pub use to_rgb::to_rgb;
pub use tune::{Blueprint, UnitTile, UpForm};

use epilogue::EpilogueOperands;
use launch::{ChannelDot, Channels, Conv, ConvInputs, WeightGradient};
use swinstyle_tensor::{Backward, Result, Tensor, TensorError, is_recording, launch};

/// What [`fused_conv2d`] applies around the convolution; each part is optional.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fused<'a> {
    /// Factor on the input, `[N, I]`: the style.
    pub pre: Option<&'a Tensor>,
    /// Factor on the sum, `[N, O]`: the demodulation. Where its first gradient is wanted it must not be 0:
    /// `∂/∂post = Σ g·y / post` spares keeping, or computing again, the unscaled sum.
    pub post: Option<&'a Tensor>,
    /// Noise `[N or 1, OH, OW, 1]` and its strength `[1]`.
    pub noise: Option<(&'a Tensor, &'a Tensor)>,
    /// Bias `[O]`.
    pub bias: Option<&'a Tensor>,
    /// Activation.
    pub activation: Option<LeakyRelu>,
}

/// `y = act(post ⊙ conv(pre ⊙ x, W) + strength·noise + bias)` in one pass over the output.
///
/// x `[N, H, W, I]`, weight `[kh, kw, I, O]` (`[kh, kw, O, I]` for a transposed geometry) → `[N, OH, OW, O]`. The geometry says which
/// pixels meet which taps. Differentiable in every tensor, to any order. The gradient reads the activation's side from the
/// output, so nothing but the output is kept.
///
/// Errors: shapes that do not fit each other, mixed devices or types.
pub fn fused_conv2d(
    x: &Tensor,      // [N, H, W, I]
    weight: &Tensor, // [kh, kw, I, O]
    fused: &Fused,
    geometry: &ConvGeometry,
) -> Result<Tensor> {
    const OP: &str = "conv2d";
    let problem = Problem::new(x.shape(), weight.shape(), geometry)?;
    check(OP, "pre", fused.pre, &[problem.batch, problem.in_channels])?;
    check(OP, "post", fused.post, &[problem.batch, problem.out_channels])?;
    let operands = EpilogueOperands { noise: fused.noise, bias: fused.bias };
    let noise = operands.validate(OP, &problem.output_shape())?;
    if let Some(activation) = &fused.activation {
        activation.validate(OP)?;
    }
    let fusion = Fusion {
        pre: fused.pre.is_some(),
        post: fused.post.is_some(),
        noise,
        bias: fused.bias.is_some(),
        activation: fused.activation,
    };
    let mut inputs = vec![x, weight];
    inputs.extend(fused.pre);
    inputs.extend(fused.post);
    inputs.extend(operands.tensors());
    let kernel = Conv { problem, fusion };
    let y = launch(&kernel, &inputs)?.remove(0);
    Ok(y.taped(OP, &inputs, move |b| gradients(&kernel, b)))
}

/// [`fused_conv2d`] with the scales only: `y = post ⊙ conv(pre ⊙ x, W)`.
///
/// pre `[N, I]`, post `[N, O]`. Errors: those of [`fused_conv2d`].
pub fn scaled_conv2d(
    x: &Tensor,            // [N, H, W, I]
    weight: &Tensor,       // [kh, kw, I, O]
    pre: Option<&Tensor>,  // [N, I]
    post: Option<&Tensor>, // [N, O]
    geometry: &ConvGeometry,
) -> Result<Tensor> {
    fused_conv2d(x, weight, &Fused { pre, post, ..Fused::default() }, geometry)
}

/// A convolution with zero padding. PyTorch: `F.conv2d(x, w, stride=stride, padding=padding)`.
///
/// x `[N, H, W, I]`, weight `[kh, kw, I, O]` → `[N, OH, OW, O]`, `OH = ⌊(H + 2·padding − kh) / stride⌋ + 1`.
/// Errors: those of [`fused_conv2d`], a stride of 0, a kernel that is larger than the padded image.
pub fn conv2d(
    x: &Tensor,      // [N, H, W, I]
    weight: &Tensor, // [kh, kw, I, O]
    stride: usize,
    padding: usize,
) -> Result<Tensor> {
    let (kernel, input) = extents("conv2d", x, weight)?;
    scaled_conv2d(x, weight, None, None, &ConvGeometry::convolution(kernel, input, stride, padding)?)
}

/// [`conv2d`] with bias and activation in its epilogue: a layer of the discriminator.
///
/// bias `[O]`. Errors: those of [`conv2d`].
pub fn conv2d_bias_act(
    x: &Tensor,      // [N, H, W, I]
    weight: &Tensor, // [kh, kw, I, O]
    bias: Option<&Tensor>,
    activation: Option<LeakyRelu>,
    stride: usize,
    padding: usize,
) -> Result<Tensor> {
    let (kernel, input) = extents("conv2d", x, weight)?;
    let geometry = ConvGeometry::convolution(kernel, input, stride, padding)?;
    fused_conv2d(x, weight, &Fused { bias, activation, ..Fused::default() }, &geometry)
}

/// A transposed convolution. PyTorch: `F.conv_transpose2d(x, w, stride=stride)`.
///
/// Each pixel is spread over the kernel as it is stored. x `[N, H, W, I]`, weight `[kh, kw, I, O]` →
/// `[N, (H − 1)·stride + kh, (W − 1)·stride + kw, O]`. Errors: those of [`fused_conv2d`], a stride of 0.
pub fn conv_transpose2d(
    x: &Tensor,      // [N, H, W, I]
    weight: &Tensor, // [kh, kw, I, O]
    stride: usize,
) -> Result<Tensor> {
    let (kernel, input) = extents("conv_transpose2d", x, weight)?;
    scaled_conv2d(x, weight, None, None, &ConvGeometry::transposed(kernel, input, stride)?)
}

/// Gradient of `⟨scaled_conv2d(x, W, pre, post), g⟩` with respect to W: `dW[ky, kx, i, o] = Σ (pre ⊙ x)·(post ⊙ g)` over images and pixels.
///
/// The sum is ordered: it does not depend on the threads. Differentiable in every tensor, to any order.
/// Errors: shapes that do not fit each other, mixed devices or types.
pub fn conv2d_weight_grad(
    x: &Tensor,            // [N, H, W, I]
    grad: &Tensor,         // [N, OH, OW, O]
    pre: Option<&Tensor>,  // [N, I]
    post: Option<&Tensor>, // [N, O]
    geometry: &ConvGeometry,
) -> Result<Tensor> {
    const OP: &str = "conv2d_weight_grad";
    let (Some(&i), Some(&o)) = (x.shape().last(), grad.shape().last()) else {
        return Err(TensorError::shape(OP, format!("x {:?} and gradient {:?}", x.shape(), grad.shape())));
    };
    let [kh, kw] = geometry.kernel;
    let weight = if geometry.transpose { [kh, kw, o, i] } else { [kh, kw, i, o] };
    let problem = Problem::new(x.shape(), &weight, geometry)?;
    check(OP, "gradient", Some(grad), &problem.output_shape())?;
    check(OP, "pre", pre, &[problem.batch, problem.in_channels])?;
    check(OP, "post", post, &[problem.batch, problem.out_channels])?;
    if geometry.transpose {
        // Read from the other side, the same pairs of pixels meet under a weight that is stored as the kernel writes it.
        return conv2d_weight_grad(grad, x, post, pre, &problem.adjoint().geometry);
    }
    let kernel = WeightGradient { problem, pre: pre.is_some(), post: post.is_some() };
    let mut inputs = vec![x, grad];
    inputs.extend(pre);
    inputs.extend(post);
    let dw = launch(&kernel, &inputs)?.remove(0);
    Ok(dw.taped(OP, &inputs, move |b| {
        let (x, g) = (&b.inputs[0], &b.inputs[1]);
        let (pre, post) = kernel.scales(&b.inputs.iter().collect::<Vec<_>>());
        let (need_pre, need_post) = kernel.scales(&b.needs.iter().collect::<Vec<_>>());
        let [forward, backward] = [kernel.problem.geometry, kernel.problem.adjoint().geometry];
        let to_x = |scale: Option<&Tensor>| scaled_conv2d(g, b.grad, post, scale, &backward);
        let (dx, dpre) = scaled_operand(to_x, x, pre, [b.needs[0], need_pre == Some(&true)])?;
        let to_g = |scale: Option<&Tensor>| scaled_conv2d(x, b.grad, pre, scale, &forward);
        let (dg, dpost) = scaled_operand(to_g, g, post, [b.needs[1], need_post == Some(&true)])?;
        let mut grads = vec![dx, dg];
        grads.extend(pre.map(|_| dpre));
        grads.extend(post.map(|_| dpost));
        Ok(grads)
    }))
}

/// Gradients of a [`Conv`]'s inputs.
fn gradients(kernel: &Conv, b: &Backward) -> Result<Vec<Option<Tensor>>> {
    let Conv { problem, fusion } = kernel;
    let (Some(t), Some(need)) = (ConvInputs::new(fusion, b.inputs), ConvInputs::new(fusion, b.needs)) else {
        return Err(TensorError::shape("conv2d", "its tape lost an input"));
    };
    let yes = |n: Option<&bool>| n == Some(&true);
    let noise = need.noise.unzip();
    // Off the tape the scale's gradient comes from the output; on it, from the unscaled sum, which alone has the right derivatives.
    let from_output = yes(need.post) && !is_recording();
    let (dz, sums) = match fusion.has_epilogue() {
        true => {
            let activation = fusion.activation.unwrap_or(LeakyRelu::LINEAR);
            let wants_sums = from_output || yes(need.bias) || yes(noise.1);
            epilogue::gradient(b.grad, b.output, t.noise.map(|n| n.0), activation, wants_sums)?
        }
        false => (b.grad.clone(), None),
    };
    let operands = EpilogueOperands { noise: t.noise, bias: t.bias };
    let dpost = match t.post.filter(|_| yes(need.post)) {
        None => None,
        Some(post) if from_output => {
            // act is homogeneous, so Σ g·y is Σ dz·z; less what noise and bias had in z it is Σ dz·(post ⊙ sum).
            let product = sums.as_ref().map_or_else(|| channel_dot(&dz, b.output), |s| operands.without(s))?;
            Some(product.div(&post.to_dtype(product.dtype())?)?.to_dtype(post.dtype())?)
        }
        Some(post) => {
            let sum = scaled_conv2d(t.x, t.weight, t.pre, None, &problem.geometry)?;
            Some(channel_dot(&dz, &sum)?.to_dtype(post.dtype())?)
        }
    };
    let data = |scale: Option<&Tensor>| scaled_conv2d(&dz, t.weight, t.post, scale, &problem.adjoint().geometry);
    let (dx, dpre) = scaled_operand(data, t.x, t.pre, [*need.x, yes(need.pre)])?;
    let dw = need.weight.then(|| conv2d_weight_grad(t.x, &dz, t.pre, t.post, &problem.geometry)).transpose()?;
    let mut grads = vec![dx, dw];
    grads.extend(t.pre.map(|_| dpre));
    grads.extend(t.post.map(|_| dpost));
    grads.extend(operands.gradients(&dz, sums.as_ref(), [yes(noise.0), yes(noise.1), yes(need.bias)])?);
    Ok(grads)
}

/// Gradients of an operand and of its scale where the primitive takes `scale ⊙ operand`.
///
/// `data(s)` is `s ⊙ u` with u the gradient of the product: the operand's is `scale ⊙ u` and the scale's `Σ_pixels operand·u`,
/// which is right where the scale is 0, too.
fn scaled_operand(
    data: impl Fn(Option<&Tensor>) -> Result<Tensor>,
    operand: &Tensor,
    scale: Option<&Tensor>,
    needs: [bool; 2],
) -> Result<(Option<Tensor>, Option<Tensor>)> {
    match (needs, scale) {
        ([false, false], _) => Ok((None, None)),
        // The gradient of a fused factor divides by it; a style may be 0, so a tracked one is multiplied apart.
        (_, None) => Ok((Some(data(None)?), None)),
        ([true, false], Some(s)) if !s.is_tracked() => Ok((Some(data(Some(s))?), None)),
        ([true, false], Some(s)) => Ok((Some(data(None)?.mul(&over_pixels(s)?)?), None)),
        ([false, true], Some(s)) => Ok((None, Some(channel_dot(&data(None)?, operand)?.to_dtype(s.dtype())?))),
        ([true, true], Some(s)) => {
            let (dot, scaled) = channel_dot_and_scale(&data(None)?, operand, s)?;
            Ok((Some(scaled), Some(dot)))
        }
    }
}

/// `Σ_pixels a·b`: `[N, H, W, C]` twice → `[N, C]`, f32 for half types.
fn channel_dot(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let kernel = ChannelDot { extent: Channels::of(a.shape()), scale: false };
    let dot = launch(&kernel, &[a, b])?.remove(0);
    Ok(taped_dot(dot, a, b))
}

/// `Σ_pixels a·b` and `a ⊙ s` in one pass over a, both in the type of a.
fn channel_dot_and_scale(a: &Tensor, b: &Tensor, s: &Tensor) -> Result<(Tensor, Tensor)> {
    let kernel = ChannelDot { extent: Channels::of(a.shape()), scale: true };
    let mut outputs = launch(&kernel, &[a, b, s])?;
    let scaled = outputs.remove(1).reshape(a.shape())?;
    let scaled = scaled.taped("channel_scale", &[a, s], |b| {
        let (a, s) = (&b.inputs[0], &b.inputs[1]);
        match b.needs {
            [true, true] => channel_dot_and_scale(b.grad, a, s).map(|(ds, da)| vec![Some(da), Some(ds)]),
            [_, true] => Ok(vec![None, Some(channel_dot(b.grad, a)?.to_dtype(s.dtype())?)]),
            _ => Ok(vec![Some(b.grad.mul(&over_pixels(s)?)?), None]),
        }
    });
    Ok((taped_dot(outputs.remove(0), a, b).to_dtype(a.dtype())?, scaled))
}

fn taped_dot(dot: Tensor, a: &Tensor, b: &Tensor) -> Tensor {
    dot.taped("channel_dot", &[a, b], |b| {
        let c = over_pixels(b.grad)?.to_dtype(b.inputs[0].dtype())?;
        let to = |i: usize| b.needs[i].then(|| b.inputs[1 - i].mul(&c)).transpose();
        Ok(vec![to(0)?, to(1)?])
    })
}

/// `[N, C]` as an image of one pixel, which broadcasts.
pub(crate) fn over_pixels(s: &Tensor) -> Result<Tensor> {
    s.reshape(&[s.shape()[0], 1, 1, s.shape()[1]])
}

fn extents(op: &'static str, x: &Tensor, weight: &Tensor) -> Result<([usize; 2], [usize; 2])> {
    match (x.shape(), weight.shape()) {
        (&[_, h, w, _], &[kh, kw, _, _]) => Ok(([kh, kw], [h, w])),
        (x, w) => {
            Err(TensorError::shape(op, format!("x {x:?} must be [N, H, W, I] and the weight {w:?} [kh, kw, I, O]")))
        }
    }
}

pub(crate) fn check(op: &'static str, what: &str, t: Option<&Tensor>, shape: &[usize]) -> Result<()> {
    match t {
        Some(t) if t.shape() != shape => {
            Err(TensorError::shape(op, format!("{what} {:?} must be {shape:?}", t.shape())))
        }
        _ => Ok(()),
    }
}
