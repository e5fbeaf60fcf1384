#![doc = include_str!("../README.md")]

mod cube;
mod host;
mod launch;
mod problem;
#[cfg(test)]
mod tests;
mod tune;

pub use problem::Problem;
pub use tune::Blueprint;

use launch::{Forward, Gradient};
use swinstyle_tensor::{Backward, Result, Tensor, TensorError, launch};

const OP: &str = "layer_norm";

/// `(x − mean) / √(variance + ε) · weight + bias`, mean and (biased) variance over the last axis.
///
/// x `[.., C]`, weight and bias `[C]` → `[.., C]`. The variance is computed from the deviations, so a large mean costs no digits.
/// Differentiable once in x, weight and bias; the second derivative is [`TensorError::NotDifferentiable`].
/// PyTorch: `F.layer_norm(x, [C], weight, bias, epsilon)`.
///
/// Errors: a weight or bias of another shape, an empty last axis, an ε that is negative or not finite.
pub fn layer_norm(
    x: &Tensor,      // [.., C]
    weight: &Tensor, // [C]
    bias: &Tensor,   // [C]
    epsilon: f64,
) -> Result<Tensor> {
    let problem = Problem::new(x.shape(), epsilon)?;
    let c = [problem.channels()];
    if weight.shape() != c || bias.shape() != c {
        let detail = format!(
            "weight {:?} and bias {:?} for x {:?}: both must be {c:?}",
            weight.shape(),
            bias.shape(),
            x.shape()
        );
        return Err(TensorError::shape(OP, detail));
    }
    run(problem, &[x, weight, bias])
}

/// `(x − mean) / √(variance + ε)`: [`layer_norm`] without weight and bias. PyTorch: `F.layer_norm(x, [C], eps=epsilon)`.
///
/// Errors: an empty last axis, an ε that is negative or not finite.
pub fn normalize(x: &Tensor, epsilon: f64) -> Result<Tensor> {
    run(Problem::new(x.shape(), epsilon)?, &[x])
}

/// Of x, or of x, weight and bias.
fn run(problem: Problem, inputs: &[&Tensor]) -> Result<Tensor> {
    let mut outputs = launch(&Forward(problem.clone()), inputs)?.into_iter();
    let (Some(y), Some(mean), Some(rstd)) = (outputs.next(), outputs.next(), outputs.next()) else {
        return Err(TensorError::shape(OP, "three outputs expected"));
    };
    Ok(y.taped(OP, inputs, move |b| {
        // What no input wants is not summed.
        let sums = b.needs[1..].contains(&true);
        let mut given = vec![b.grad, &b.inputs[0], &mean, &rstd];
        given.extend(b.inputs.get(1));
        let mut grads = launch(&Gradient { problem: problem.clone(), sums }, &given)?.into_iter();
        let parents: Vec<&Tensor> = std::iter::once(b.grad).chain(b.inputs.iter().take(2)).collect();
        let mut next = || grads.next().map(|g| g.taped("layer_norm_grad", &parents, second_derivative));
        Ok(b.inputs.iter().map(|_| next()).collect())
    }))
}

fn second_derivative(_: &Backward) -> Result<Vec<Option<Tensor>>> {
    Err(TensorError::NotDifferentiable { op: OP, order: "second" })
}
