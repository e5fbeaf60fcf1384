//! Layer normalisation over the last axis, with its first derivative.

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
use swinstyle_kit::Problem as _;
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
    let problem = Problem { shape: x.shape().to_vec(), epsilon };
    problem.validate()?;
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
    let mut outputs = launch(&Forward(problem.clone()), &[x, weight, bias])?.into_iter();
    let (Some(y), Some(mean), Some(rstd)) = (outputs.next(), outputs.next(), outputs.next()) else {
        return Err(TensorError::shape(OP, "three outputs expected"));
    };
    Ok(y.taped(OP, &[x, weight, bias], move |b| {
        let grads = launch(&Gradient(problem.clone()), &[b.grad, &b.inputs[0], &b.inputs[1], &mean, &rstd])?;
        let parents = [b.grad, &b.inputs[0], &b.inputs[1]];
        Ok(grads.into_iter().map(|g| Some(g.taped("layer_norm_grad", &parents, second_derivative))).collect())
    }))
}

fn second_derivative(_: &Backward) -> Result<Vec<Option<Tensor>>> {
    Err(TensorError::NotDifferentiable { op: OP, order: "second" })
}
