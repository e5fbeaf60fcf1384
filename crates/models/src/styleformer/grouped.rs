//! Layers that run G networks of equal shape as one, their weights stacked on a leading axis.

use swinstyle_tensor::Tensor;

use crate::{Init, Result, Spec, swin::EPSILON, swin::gather_2x2};

/// Parameters of [`linear`], PyTorch's default initialisation, biases zero.
pub(super) fn linear_specs(at: &str, groups: usize, inputs: usize, outputs: usize, bias: bool) -> Vec<Spec> {
    let init = Init::Uniform { bound: 1.0 / (inputs as f64).sqrt() };
    let mut specs = vec![Spec::new(format!("{at}.weight"), &[groups, outputs, inputs], init).stacked()];
    if bias {
        specs.push(Spec::new(format!("{at}.bias"), &[groups, outputs], Init::Constant(0.0)).stacked());
    }
    specs
}

/// `y[g] = x[g] W[g]ᵀ + b[g]`; an `x` without groups is read by all of them. PyTorch: `torch.baddbmm`.
pub(super) fn linear(
    x: &Tensor,            // [M, I] or [G, M, I]
    weight: &Tensor,       // [G, O, I]
    bias: Option<&Tensor>, // [G, O]
) -> Result<Tensor> {
    let y = x.matmul_with(weight, false, true)?;
    match bias {
        Some(bias) => Ok(y.add(&bias.reshape(&[bias.shape()[0], 1, bias.shape()[1]])?)?),
        None => Ok(y),
    }
}

/// Layer norm over the last axis without scale and shift: `(x − mean)/√(var + ε)`.
///
/// Every norm in the heads feeds a linear layer alone, whose weights can hold any scale (and the bias downstream any
/// shift), so parameters here would only cost a pass over each group's tokens [ours].
pub(super) fn normalize(x: &Tensor) -> Result<Tensor> {
    Ok(swinstyle_layer_norm::normalize(x, EPSILON)?)
}

/// Parameters of [`merge`].
pub(super) fn merge_specs(at: &str, groups: usize, width: usize) -> Vec<Spec> {
    linear_specs(&format!("{at}.reduction"), groups, 4 * width, width, false)
}

/// Swin's patch merging with as many channels after as before: tokens ÷ 4.
pub(super) fn merge(
    x: &Tensor,      // [G, N·S·S, C]
    side: usize,     // S
    weight: &Tensor, // [G, C, 4C]
) -> Result<Tensor> {
    let (groups, tokens, width) = (x.shape()[0], x.shape()[1], x.shape()[2]);
    let maps = groups * tokens / (side * side);
    let x = gather_2x2(&x.reshape(&[maps, side, side, width])?)?.reshape(&[groups, tokens / 4, 4 * width])?;
    linear(&normalize(&x)?, weight, None)
}
