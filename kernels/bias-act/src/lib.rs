#![doc = include_str!("../README.md")]

mod cube;
mod host;
mod launch;
mod problem;
#[cfg(test)]
mod tests;
mod tune;

pub use problem::{Activation, Problem};
pub use tune::Blueprint;

use launch::{Forward, Gradient};
use swinstyle_kit::{Problem as _, glue::stored};
use swinstyle_tensor::{Result, Tensor, TensorError, launch};

/// `clamp(gain · activation(x + bias), −clamp, clamp)`, the bias along the last axis.
///
/// x `[.., C]`, bias `[C]` → `[.., C]`. Differentiable in x and bias to any order; the gradient is 0 where the result was clamped.
/// PyTorch: `F.leaky_relu(x + bias, slope) * gain`, and so on; `F.gelu(x + bias)` is the exact form.
///
/// Errors: a bias of another shape, a gain that is 0 or not finite, a clamp that is not positive, a negative slope.
pub fn bias_act(
    x: &Tensor,            // [.., C]
    bias: Option<&Tensor>, // [C]
    activation: Activation,
    gain: f64,
    clamp: Option<f64>,
) -> Result<Tensor> {
    let problem = Problem { shape: x.shape().to_vec(), bias: bias.is_some(), activation, gain, clamp };
    problem.validate()?;
    if let Some(b) = bias
        && b.shape() != [problem.channels()]
    {
        let detail = format!("bias {:?} for x {:?}: it must be [{}]", b.shape(), x.shape(), problem.channels());
        return Err(TensorError::shape("bias_act", detail));
    }
    let inputs: Vec<&Tensor> = std::iter::once(x).chain(bias).collect();
    let y = launch(&Forward(problem.clone()), &inputs)?.remove(0);
    Ok(y.taped("bias_act", &inputs, move |b| {
        let bias = b.inputs.get(1);
        let dx = if problem.activation.needs_input() {
            gradient(&problem, b.grad, &b.inputs[0], bias)?
        } else {
            gradient(&problem, b.grad, b.output, None)?
        };
        let db = match bias {
            Some(bias) if b.needs[1] => Some(dx.sum_to(bias.shape())?),
            _ => None,
        };
        Ok(std::iter::once(Some(dx)).chain(bias.map(|_| db)).collect())
    }))
}

/// `grad · gain · activation′(z)`, 0 where the result was clamped; `reference` is the output y, or x (with its bias)
/// for activations whose derivative needs the input.
///
/// Linear in `grad`, so its derivative there is itself; the derivative in `reference` is written in taped operations.
fn gradient(
    problem: &Problem,
    grad: &Tensor,         // [.., C]
    reference: &Tensor,    // [.., C]
    bias: Option<&Tensor>, // [C]
) -> Result<Tensor> {
    // Clamped results are told by their size.
    let clamp = problem.clamp.map(|c| stored(c, reference.dtype())).transpose()?;
    let problem = Problem { bias: bias.is_some(), clamp, ..problem.clone() };
    let inputs: Vec<&Tensor> = [grad, reference].into_iter().chain(bias).collect();
    let dx = launch(&Gradient(problem.clone()), &inputs)?.remove(0);
    Ok(dx.taped("bias_act_grad", &inputs, move |b| {
        let (grad, reference, bias) = (&b.inputs[0], &b.inputs[1], b.inputs.get(2));
        let dg = b.needs[0].then(|| gradient(&problem, b.grad, reference, bias)).transpose()?;
        let curved = b.needs[1..].contains(&true) && !problem.activation.is_piecewise_linear();
        let dr = curved.then(|| curvature(&problem, &b.grad.mul(grad)?, reference, bias)).transpose()?;
        let mut grads = vec![dg, dr.clone()];
        if let Some(bias) = bias {
            let db = if b.needs[2] { dr.map(|d| d.sum_to(bias.shape())).transpose()? } else { None };
            grads.push(db);
        }
        Ok(grads)
    }))
}

/// Derivative of `Σ product · gain · activation′` in the reference: in y for tanh and σ, in z = x + bias for the others.
fn curvature(problem: &Problem, product: &Tensor, reference: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let gain = problem.gain;
    let slope = match problem.activation {
        // gain·(1 − (y/gain)²)
        Activation::Tanh => reference.scale(-2.0 / gain)?,
        // gain·(y/gain − (y/gain)²)
        Activation::Sigmoid => reference.affine(-2.0 / gain, 1.0)?,
        Activation::Gelu => {
            // (zΦ)″ = φ(z)·(2 − z²)
            let square = add_bias(reference, bias)?.square()?;
            let pdf = square.scale(-0.5)?.exp()?.scale(gain / (2.0 * std::f64::consts::PI).sqrt())?;
            pdf.mul(&square.affine(-1.0, 2.0)?)?
        }
        Activation::Silu => {
            // (zσ)″ = σ(1 − σ)·(2 + z(1 − 2σ))
            let z = add_bias(reference, bias)?;
            let s = z.sigmoid()?;
            let bend = z.mul(&s.affine(-2.0, 1.0)?)?.add_scalar(2.0)?;
            s.sub(&s.square()?)?.mul(&bend)?.scale(gain)?
        }
        Activation::Linear | Activation::LeakyRelu { .. } | Activation::Relu => reference.scale(0.0)?,
    };
    let unclamped = product.mul(&slope)?;
    if problem.clamp.is_none() {
        return Ok(unclamped);
    }
    // The clamp's mask is the gradient of a clamped identity; it is constant almost everywhere, hence the detached output.
    let y = match problem.activation.needs_input() {
        true => {
            launch(&Forward(problem.clone()), &std::iter::once(reference).chain(bias).collect::<Vec<_>>())?.remove(0)
        }
        false => reference.detach(),
    };
    let mask = Problem { activation: Activation::Linear, gain: 1.0, ..problem.clone() };
    gradient(&mask, &unclamped, &y, None)
}

fn add_bias(x: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    match bias {
        Some(b) => x.add(b),
        None => Ok(x.clone()),
    }
}
