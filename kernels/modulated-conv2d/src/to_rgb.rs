//! StyleGAN2's layer to RGB: a modulated 1×1 convolution to few channels and the upsampled image of the level below, in one pass.

use swinstyle_tensor::{Backward, Result, Tensor, TensorError, launch};
use swinstyle_upfirdn2d::{Problem as Resampling, upfirdn2d, upsample2d, upsampling};

use crate::{
    ConvGeometry, Problem, check, gradients,
    launch::{Conv, to_rgb::ToRgb},
    problem::Fusion,
    scaled_conv2d,
};

const OP: &str = "to_rgb";
/// Output channels at most that the kernel sums at once; more go through a convolution.
pub(crate) const MOST: usize = 4;

/// `y = conv1×1(x ⊙ s, g·W) + bias + upsample(skip)` (arXiv 1912.04958, §4.1: output skips), x read once and y written once.
///
/// x `[N, H, W, I]`, weight `[1, 1, I, O]`, style `[N, I]`, bias `[O]`; skip is the image of half the size `[N, H/2, W/2, O]` with the
/// filter `[fh, fw]` or `[taps]` that doubles it as [`upsample2d`] does. Where x is of a half type, the result is f32 and so are bias, skip and
/// filter: the image is a sum over all levels. Differentiable in all of them, to any order.
///
/// Errors: shapes that do not fit each other, a kernel of more than one tap, mixed devices or types.
pub fn to_rgb(
    x: &Tensor,                       // [N, H, W, I]
    weight: &Tensor,                  // [1, 1, I, O]
    style: &Tensor,                   // [N, I]
    weight_gain: f64,                 // g
    bias: &Tensor,                    // [O]
    skip: Option<(&Tensor, &Tensor)>, // [N, H/2, W/2, O], [fh, fw] or [taps]
) -> Result<Tensor> {
    let (&[n, h, w, i], &[1, 1, _, o]) = (x.shape(), weight.shape()) else {
        let detail = format!("x {:?} must be [N, H, W, I] and the weight {:?} [1, 1, I, O]", x.shape(), weight.shape());
        return Err(TensorError::shape(OP, detail));
    };
    let problem = Problem::new(x.shape(), weight.shape(), &ConvGeometry::same([1, 1], [h, w]))?;
    check(OP, "style", Some(style), &[n, i])?;
    check(OP, "bias", Some(bias), &[o])?;
    if let Some((skip, _)) = skip {
        let fits = matches!(*skip.shape(), [sn, sh, sw, so] if [sn, 2 * sh, 2 * sw, so] == [n, h, w, o]);
        if !fits {
            let detail = format!("skip {:?} for an image of {:?}", skip.shape(), problem.output_shape());
            return Err(TensorError::shape(OP, detail));
        }
    }
    let pre = style.scale(weight_gain)?;
    // The filter has a gradient of its own only in the operation that it belongs to.
    if o > MOST || skip.is_some_and(|(_, filter)| filter.is_tracked()) {
        let y = scaled_conv2d(x, weight, Some(&pre), None, &problem.geometry)?;
        let y = y.to_dtype(y.dtype().wide())?.add(bias)?;
        return match skip {
            Some((skip, filter)) => y.add(&upsample2d(skip, filter, 2)?),
            None => Ok(y),
        };
    }
    let skip_problem =
        |(skip, filter): (&Tensor, &Tensor)| Resampling::of(skip.shape(), filter.shape(), &upsampling(filter, 2)?);
    let kernel = ToRgb { problem, skip: skip.map(skip_problem).transpose()? };
    let mut inputs = vec![x, weight, &pre, bias];
    inputs.extend(skip.iter().flat_map(|(skip, filter)| [*skip, *filter]));
    let y = launch(&kernel, &inputs)?.remove(0);
    Ok(y.taped(OP, &inputs, move |b| {
        let conv = Conv { problem, fusion: Fusion { pre: true, ..Fusion::default() } };
        let grad = b.grad.to_dtype(b.inputs[0].dtype())?;
        let mut grads = gradients(
            &conv,
            &Backward { grad: &grad, output: b.output, inputs: &b.inputs[..3], needs: &b.needs[..3] },
        )?;
        grads.push(b.needs[3].then(|| b.grad.sum(&[0, 1, 2])?.reshape(&[o])).transpose()?);
        if let Some(skip) = &kernel.skip {
            let filter = &b.inputs[5];
            grads.push(b.needs[4].then(|| upfirdn2d(b.grad, filter, &skip.adjoint())).transpose()?);
            grads.push(None);
        }
        Ok(grads)
    }))
}
