#![doc = include_str!("../README.md")]

mod cube;
mod host;
mod launch;
mod problem;
#[cfg(test)]
mod tests;
mod tune;

pub use problem::{Problem, WindowAttention};
pub use tune::{BackwardBlueprint, Blueprint, UnitTile};

use launch::{Backward, Forward, SumPartials};
use problem::Partials;
use swinstyle_tensor::{Result, Tensor, TensorError, launch};

/// Multi-head attention inside each (cyclically shifted) window of a map.
///
/// Per window and head: `y = softmax(scale · q kᵀ + bias + mask) v`, where `bias[i, j]` is the table's entry for the cells' relative
/// position and `mask` is −100 between tokens that only the cyclic shift made neighbours. Maps that no window divides are padded
/// right and bottom; padded tokens attend and are attended with `pad_qkv`, which is the bias of the qkv projection
/// (a zero token projected), or zero without it. Nothing is copied or materialised: shift, padding and mask are index arithmetic.
///
/// `qkv` holds q, k and v in this order, heads outermost inside each. Gradients exist to first order with respect to all three tensors.
///
/// Errors: shapes that do not fit, heads that do not divide C, a shift that is not below its window; second derivatives are
/// [`TensorError::NotDifferentiable`]. PyTorch: the middle of `torchvision.models.swin_transformer.shifted_window_attention`.
pub fn window_attention(
    qkv: &Tensor,             // [B, H, W, 3C]
    pad_qkv: Option<&Tensor>, // [3C]
    bias_table: &Tensor,      // [(2wh − 1)(2ww − 1), heads]
    attention: &WindowAttention,
) -> Result<Tensor> {
    let problem = Problem::new(qkv.shape(), pad_qkv.map(Tensor::shape), bias_table.shape(), attention)?;
    let mut inputs = vec![qkv, bias_table];
    // Without padding the padded token has no influence, hence no gradient.
    inputs.extend(pad_qkv.filter(|_| problem.windows.is_padded()));
    let mut outputs = launch(&Forward(problem), &inputs)?.into_iter();
    let (Some(y), Some(stats)) = (outputs.next(), outputs.next()) else {
        return Err(TensorError::shape(problem::OP, "the kernel gave no output"));
    };
    Ok(y.taped("window_attention", &inputs, move |b| {
        let partials = Partials::new(&problem, b.needs[1], b.needs.get(2) == Some(&true), b.grad.device());
        let mut given = vec![&b.inputs[0], &b.inputs[1], b.output, &stats, b.grad];
        given.extend(b.inputs.get(2));
        let mut results = launch(&Backward { problem, partials }, &given)?.into_iter();
        let (dqkv, partial) = (results.next(), results.next());
        let mut sums = match partial {
            Some(partial) if partials.table || partials.pad => launch(&SumPartials { problem, partials }, &[&partial])?,
            _ => Vec::new(),
        }
        .into_iter();
        let dtable = if partials.table { sums.next() } else { None };
        let mut grads = vec![dqkv, dtable];
        if let Some(&need) = b.needs.get(2) {
            grads.push(if need { sums.next() } else { None });
        }
        // The results depend on the cotangent and on every input, but that derivative is not written.
        let sources: Vec<&Tensor> = b.inputs.iter().chain([b.grad]).collect();
        let last = |g: Tensor| {
            g.taped("window_attention_backward", &sources, |_| {
                Err(TensorError::NotDifferentiable { op: problem::OP, order: "second" })
            })
        };
        Ok(grads.into_iter().map(|g| g.map(last)).collect())
    }))
}

/// A whole (shifted) window attention layer: qkv projection, [`window_attention`], output projection.
///
/// Errors: those of [`Tensor::linear`] and [`window_attention`].
/// PyTorch: `torchvision.models.swin_transformer.shifted_window_attention`.
pub fn shifted_window_attention(
    x: &Tensor,              // [B, H, W, C]
    qkv_w: &Tensor,          // [3C, C]
    qkv_b: Option<&Tensor>,  // [3C]
    proj_w: &Tensor,         // [C, C]
    proj_b: Option<&Tensor>, // [C]
    bias_table: &Tensor,     // [(2wh − 1)(2ww − 1), heads]
    attention: &WindowAttention,
) -> Result<Tensor> {
    let qkv = x.linear(qkv_w, qkv_b)?;
    window_attention(&qkv, qkv_b, bias_table, attention)?.linear(proj_w, proj_b)
}
