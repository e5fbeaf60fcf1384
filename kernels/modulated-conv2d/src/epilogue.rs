//! What follows the sum of a styled layer, `act(x + strength·noise + bias)`, with gradients read from the output.

use swinstyle_kit::glue::stored;
use swinstyle_tensor::{Result, Tensor, TensorError, launch};

use crate::{
    check,
    launch::{Channels, Epilogue, EpilogueGradient},
    over_pixels,
    problem::LeakyRelu,
};

/// `act(x + strength·noise + bias)` in one pass.
///
/// x `[N, H, W, C]`, noise `[N or 1, H, W, 1]` with strength `[1]`, bias `[C]`. Differentiable in every tensor, to any order.
/// PyTorch: `F.leaky_relu(x + strength * noise + bias, slope).mul(gain).clamp(-clamp, clamp)`.
///
/// Errors: shapes that do not fit each other, an activation that is not monotone, mixed devices or types.
pub fn noise_bias_act(
    x: &Tensor,                        // [N, H, W, C]
    noise: Option<(&Tensor, &Tensor)>, // [N or 1, H, W, 1], [1]
    bias: Option<&Tensor>,             // [C]
    activation: LeakyRelu,
) -> Result<Tensor> {
    const OP: &str = "noise_bias_act";
    let shape: [usize; 4] =
        x.shape().try_into().map_err(|_| TensorError::shape(OP, format!("x {:?} must be [N, H, W, C]", x.shape())))?;
    let operands = EpilogueOperands { noise, bias };
    let images = operands.validate(OP, &shape)?;
    activation.validate(OP)?;
    let kernel = Epilogue { extent: Channels::of(&shape), noise: images, bias: bias.is_some(), activation };
    let mut inputs = vec![x];
    inputs.extend(operands.tensors());
    let y = launch(&kernel, &inputs)?.remove(0).reshape(&shape)?;
    Ok(y.taped(OP, &inputs, move |b| {
        let mut rest = b.inputs[1..].iter().zip(&b.needs[1..]);
        let noise = kernel.noise.and_then(|_| Some((rest.next()?, rest.next()?)));
        let bias = rest.next();
        let operands = EpilogueOperands { noise: noise.map(|(n, s)| (n.0, s.0)), bias: bias.map(|b| b.0) };
        let needs = [noise.is_some_and(|n| *n.0.1), noise.is_some_and(|n| *n.1.1), bias.is_some_and(|b| *b.1)];
        let (dz, sums) = gradient(b.grad, b.output, operands.noise.map(|n| n.0), activation, needs[1] || needs[2])?;
        let rest = operands.gradients(&dz, sums.as_ref(), needs)?;
        Ok([vec![Some(dz)], rest].concat())
    }))
}

/// Noise with its strength, and bias.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EpilogueOperands<'a> {
    pub(crate) noise: Option<(&'a Tensor, &'a Tensor)>,
    pub(crate) bias: Option<&'a Tensor>,
}

/// Sums over the pixels, `[N, C]`, f32 for half types.
pub(crate) struct EpilogueSums {
    /// `Σ g·y` where y is not clamped; not on the tape.
    product: Tensor,
    /// `Σ dz`.
    grad: Tensor,
    /// `Σ dz·noise`.
    noise: Option<Tensor>,
}

impl<'a> EpilogueOperands<'a> {
    /// The present ones in the order in which kernels take them.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = &'a Tensor> {
        self.noise.into_iter().flat_map(|(n, s)| [n, s]).chain(self.bias)
    }

    /// Checks shapes for an image `[N, H, W, C]`; returns the number of noise images.
    pub(crate) fn validate(&self, op: &'static str, image: &[usize; 4]) -> Result<Option<usize>> {
        let &[n, h, w, c] = image;
        check(op, "bias", self.bias, &[c])?;
        let Some((noise, strength)) = self.noise else { return Ok(None) };
        check(op, "noise strength", Some(strength), &[1])?;
        match *noise.shape() {
            [images, nh, nw, 1] if (images == n || images == 1) && (nh, nw) == (h, w) => Ok(Some(images)),
            _ => Err(TensorError::shape(op, format!("noise {:?} must be [{n} or 1, {h}, {w}, 1]", noise.shape()))),
        }
    }

    /// `Σ dz·z` less the parts that noise and bias had in z; not on the tape.
    pub(crate) fn without(&self, sums: &EpilogueSums) -> Result<Tensor> {
        let mut rest = sums.product.clone();
        if let (Some((_, strength)), Some(noise)) = (self.noise, &sums.noise) {
            rest = rest.sub(&noise.mul(&strength.to_dtype(noise.dtype())?)?)?;
        }
        if let Some(bias) = self.bias {
            rest = rest.sub(&sums.grad.mul(&bias.to_dtype(sums.grad.dtype())?)?)?;
        }
        Ok(rest)
    }

    /// Gradients of the present operands, in order, from dz and its sums; `needs` is for noise, strength and bias.
    pub(crate) fn gradients(
        &self,
        dz: &Tensor,
        sums: Option<&EpilogueSums>,
        needs: [bool; 3],
    ) -> Result<Vec<Option<Tensor>>> {
        let mut grads = Vec::new();
        if let Some((noise, strength)) = self.noise {
            let to_noise = || dz.sum(&[3])?.sum_to(noise.shape())?.mul(strength);
            grads.push(needs[0].then(to_noise).transpose()?);
            let sum = sums.and_then(|s| s.noise.as_ref()).filter(|_| needs[1]);
            grads.push(sum.map(|s| s.sum_all()?.reshape(&[1])?.to_dtype(strength.dtype())).transpose()?);
        }
        if let Some(bias) = self.bias {
            let sum = sums.filter(|_| needs[2]);
            grads.push(sum.map(|s| s.grad.sum_to(bias.shape())?.to_dtype(bias.dtype())).transpose()?);
        }
        Ok(grads)
    }
}

/// dz, and with `sums` its sums over the pixels, from the gradient of the output and the output.
pub(crate) fn gradient(
    g: &Tensor,             // [N, H, W, C]
    y: &Tensor,             // [N, H, W, C]
    noise: Option<&Tensor>, // [N or 1, H, W, 1]
    activation: LeakyRelu,
    sums: bool,
) -> Result<(Tensor, Option<EpilogueSums>)> {
    // Clamped results are told by their size.
    let clamp = activation.clamp.map(|c| stored(c, y.dtype())).transpose()?;
    let activation = LeakyRelu { clamp, ..activation };
    let fixed = y.detach();
    let mask = move |c: &Tensor, activation| gradient(c, &fixed, None, activation, false).map(|(dz, _)| dz);
    let noise = noise.filter(|_| sums);
    let images = noise.map(|n| n.shape()[0]);
    let kernel = EpilogueGradient { extent: Channels::of(g.shape()), activation, sums, noise: images };
    let mut inputs = vec![g, y];
    inputs.extend(noise);
    let mut outputs = launch(&kernel, &inputs)?.into_iter();
    let mut next = || outputs.next().ok_or_else(|| TensorError::shape("noise_bias_act_grad", "an output is missing"));
    let dz = next()?.reshape(g.shape())?.taped("noise_bias_act_grad", &[g], {
        let mask = mask.clone();
        move |b| Ok(vec![Some(mask(b.grad, activation)?)])
    });
    if !sums {
        return Ok((dz, None));
    }
    let grad = next()?.taped("noise_bias_act_grad", &[g], {
        let mask = mask.clone();
        move |b| {
            let (g, c) = (&b.inputs[0], over_pixels(b.grad)?);
            Ok(vec![Some(mask(&c.to_dtype(g.dtype())?.broadcast_to(g.shape())?, activation)?)])
        }
    });
    let product = next()?;
    let noise = match noise {
        None => None,
        Some(noise) => Some(next()?.taped("noise_bias_act_grad", &[g, noise], move |b| {
            let (g, noise) = (&b.inputs[0], &b.inputs[1]);
            let c = over_pixels(b.grad)?.to_dtype(g.dtype())?;
            let dg = b.needs[0].then(|| mask(&c.mul(noise)?.broadcast_to(g.shape())?, activation)).transpose()?;
            let to_noise = || mask(g, activation)?.mul(&c)?.sum(&[3])?.sum_to(noise.shape());
            Ok(vec![dg, b.needs[1].then(to_noise).transpose()?])
        })),
    };
    Ok((dz, Some(EpilogueSums { product, grad, noise })))
}
