#![doc = include_str!("../README.md")]

mod cube;
mod host;
mod launch;
mod pattern;
mod problem;
#[cfg(test)]
mod tests;
mod tune;

pub use problem::{Axis, Problem, Upfirdn2d};
pub use tune::{Blueprint, GatherTile, SlideTile};

use launch::{FilterGradient, Forward};
use swinstyle_tensor::{DType, Device, Result, Tensor, TensorError, launch};

/// Upsamples by zero insertion, pads, filters and decimates each channel of an image.
///
/// `y[oy, ox] = gain · Σ_{i,j} k[i, j] · u[oy·down_y + i − y0, ox·down_x + j − x0]`, where u is x with `up − 1` zeros after each sample
/// and zeros outside, and k is the filter turned by 180° (as it is with `flip`).
///
/// x `[N, H, W, C]`, filter `[fh, fw]` → `[N, OH, OW, C]` with `OH = ⌊(H·up_y + y0 + y1 − fh) / down_y⌋ + 1`.
/// A filter `[taps]` stands for its outer product with itself, see [`upfirdn2d_separable`].
/// Differentiable in x and in the filter, to any order.
///
/// Errors: other ranks, an empty axis, a zero factor, a gain that is not finite, pads that leave no output, mixed devices or types.
pub fn upfirdn2d(
    x: &Tensor,      // [N, H, W, C]
    filter: &Tensor, // [fh, fw] or [taps]
    params: &Upfirdn2d,
) -> Result<Tensor> {
    if filter.shape().len() == 1 {
        return upfirdn2d_separable(x, filter, filter, params);
    }
    let problem = Problem::new(x.shape(), filter.shape(), params)?;
    let y = launch(&Forward(problem), &[x, filter])?.remove(0);
    Ok(y.taped("upfirdn2d", &[x, filter], move |b| {
        let x = b.needs[0].then(|| upfirdn2d(b.grad, &b.inputs[1], &problem.adjoint())).transpose()?;
        let params = problem.params();
        let f = b.needs[1].then(|| upfirdn2d_filter_grad(&b.inputs[0], b.grad, problem.filter_shape(), &params));
        Ok(vec![x, f.transpose()?])
    }))
}

/// [`upfirdn2d`] by the outer product of a column and a row: `k[i, j] = column[i] · row[j]`.
///
/// x `[N, H, W, C]`, column `[fh]`, row `[fw]` → `[N, OH, OW, C]`. Filtering along one axis and then along the other takes `fh + fw`
/// instead of `fh·fw` multiply-adds an output, which GPUs cannot see in a whole filter without reading it back.
/// Differentiable in all three, to any order.
///
/// Errors: those of [`upfirdn2d`].
pub fn upfirdn2d_separable(
    x: &Tensor,      // [N, H, W, C]
    column: &Tensor, // [fh]
    row: &Tensor,    // [fw]
    params: &Upfirdn2d,
) -> Result<Tensor> {
    let problem = Problem::separable(x.shape(), column.shape(), row.shape(), params)?;
    let y = launch(&Forward(problem), &[x, column, row])?.remove(0);
    Ok(y.taped("upfirdn2d", &[x, column, row], move |b| {
        let (x, column, row) = (&b.inputs[0], &b.inputs[1], &b.inputs[2]);
        let dx = b.needs[0].then(|| upfirdn2d_separable(b.grad, column, row, &problem.adjoint())).transpose()?;
        if !b.needs[1] && !b.needs[2] {
            return Ok(vec![dx, None, None]);
        }
        let [fh, fw] = problem.filter_shape();
        let outer = upfirdn2d_filter_grad(x, b.grad, [fh, fw], &problem.params())?;
        let d_column = b.needs[1].then(|| outer.matmul(&row.reshape(&[fw, 1])?)?.reshape(&[fh]));
        let d_row = b.needs[2].then(|| column.reshape(&[1, fh])?.matmul(&outer)?.reshape(&[fw]));
        Ok(vec![dx, d_column.transpose()?, d_row.transpose()?])
    }))
}

/// Gradient of `⟨upfirdn2d(x, filter), grad⟩` with respect to the filter.
///
/// `gain · Σ_{n,oy,ox,c} grad[n, oy, ox, c] · u[n, oy·down_y + i − y0, ox·down_x + j − x0, c]` for each tap of the kernel. The sum is
/// ordered: it does not depend on the threads. Bilinear in x and grad, and differentiable in both to any order.
///
/// Errors: those of [`upfirdn2d`], and a gradient of another shape than its output.
pub fn upfirdn2d_filter_grad(
    x: &Tensor,    // [N, H, W, C]
    grad: &Tensor, // [N, OH, OW, C]
    filter_shape: [usize; 2],
    params: &Upfirdn2d,
) -> Result<Tensor> {
    let problem = Problem::new(x.shape(), &filter_shape, params)?;
    if grad.shape() != problem.output_shape() {
        let detail = format!("gradient {:?} for an output {:?}", grad.shape(), problem.output_shape());
        return Err(TensorError::shape("upfirdn2d_filter_grad", detail));
    }
    let y = launch(&FilterGradient(problem), &[x, grad])?.remove(0);
    Ok(y.taped("upfirdn2d_filter_grad", &[x, grad], move |b| {
        let x = b.needs[0].then(|| upfirdn2d(&b.inputs[1], b.grad, &problem.adjoint())).transpose()?;
        let grad = b.needs[1].then(|| upfirdn2d(&b.inputs[0], b.grad, &problem.params())).transpose()?;
        Ok(vec![x, grad])
    }))
}

/// The square filter of StyleGAN2 from one-dimensional taps: their outer product, divided by its sum.
///
/// `[1, 3, 3, 1]` gives the usual one. Errors: no taps, a sum that is zero or not finite, a type other than f32 and f64.
pub fn setup_filter(taps: &[f64], dtype: DType, device: Device) -> Result<Tensor> {
    let taps = of_sum_one("setup_filter", taps)?;
    let outer: Vec<f64> = taps.iter().flat_map(|a| taps.iter().map(move |b| a * b)).collect();
    stored(&outer, &[taps.len(), taps.len()], dtype, device)
}

/// The factor `[taps]` of [`setup_filter`]'s outer product: the taps divided by their sum.
///
/// Given to [`upfirdn2d`] in the filter's place it gives the same result by the faster separable form. Errors: those of [`setup_filter`].
pub fn separable_filter(taps: &[f64], dtype: DType, device: Device) -> Result<Tensor> {
    let taps = of_sum_one("separable_filter", taps)?;
    stored(&taps, &[taps.len()], dtype, device)
}

fn of_sum_one(op: &'static str, taps: &[f64]) -> Result<Vec<f64>> {
    let sum: f64 = taps.iter().sum();
    if taps.is_empty() || sum == 0.0 || !sum.is_finite() {
        return Err(TensorError::shape(op, format!("taps {taps:?} have no finite sum other than 0")));
    }
    Ok(taps.iter().map(|tap| tap / sum).collect())
}

fn stored(values: &[f64], shape: &[usize], dtype: DType, device: Device) -> Result<Tensor> {
    match dtype {
        DType::F64 => Tensor::from_vec(values.to_vec(), shape, device),
        _ => Tensor::from_vec(values.iter().map(|&v| v as f32).collect(), shape, device)?.to_dtype(dtype),
    }
}

/// Column `[fh]` and row `[fw]` whose outer product the filter is up to rounding, for [`upfirdn2d_separable`]; nothing where its rank is not 1.
///
/// It reads the filter back from its device: call it where a filter is made, not where it is used. Errors: a filter of another rank than 2.
pub fn separate(filter: &Tensor, // [fh, fw]
) -> Result<Option<[Tensor; 2]>> {
    let &[fh, fw] = filter.shape() else {
        return Err(TensorError::shape("separate", format!("the filter {:?} must be [fh, fw]", filter.shape())));
    };
    let (dtype, device) = (filter.dtype(), filter.device());
    let values = filter.to_vec_f64()?;
    let factors = match dtype {
        DType::F64 => host::separate(&values, [fh, fw]),
        _ => {
            let narrow: Vec<f32> = values.iter().map(|&v| v as f32).collect();
            let wide = |v: Vec<f32>| v.into_iter().map(f64::from).collect();
            host::separate(&narrow, [fh, fw]).map(|(column, row)| (wide(column), wide(row)))
        }
    };
    let stored = |(column, row): (Vec<f64>, Vec<f64>)| {
        Ok([stored(&column, &[fh], dtype, device)?, stored(&row, &[fw], dtype, device)?])
    };
    factors.map(stored).transpose()
}

/// Taps of a filter on y and x. Errors: neither `[fh, fw]` nor `[taps]`.
pub fn filter_taps(filter: &Tensor) -> Result<[usize; 2]> {
    match *filter.shape() {
        [fh, fw] => Ok([fh, fw]),
        [taps] => Ok([taps; 2]),
        _ => {
            Err(TensorError::shape("upfirdn2d", format!("the filter {:?} must be [fh, fw] or [taps]", filter.shape())))
        }
    }
}

/// Enlarges an image by `factor` on both axes: `[N, H, W, C]` → `[N, factor·H, factor·W, C]`, the mean kept.
///
/// Errors: those of [`upfirdn2d`].
pub fn upsample2d(
    x: &Tensor,      // [N, H, W, C]
    filter: &Tensor, // [fh, fw] or [taps]
    factor: usize,
) -> Result<Tensor> {
    upfirdn2d(x, filter, &upsampling(filter, factor)?)
}

/// Parameters with which [`upfirdn2d`] enlarges an image as [`upsample2d`] does. Errors: a filter that is none.
pub fn upsampling(filter: &Tensor, factor: usize) -> Result<Upfirdn2d> {
    let pad = |taps: usize| {
        let (taps, factor) = (taps as isize, factor as isize);
        // Split like the shrinking pads, and the zeros after the last sample are taken off the end.
        [(taps - factor + 1).div_euclid(2) + factor - 1, (taps - factor).div_euclid(2)]
    };
    let [y, x] = filter_taps(filter)?.map(pad);
    let gain = (factor * factor) as f64;
    Ok(Upfirdn2d { up: [factor; 2], pad: [y[0], y[1], x[0], x[1]], gain, ..Default::default() })
}

/// Shrinks an image by `factor` on both axes: `[N, H, W, C]` → `[N, H/factor, W/factor, C]`.
///
/// Errors: those of [`upfirdn2d`].
pub fn downsample2d(
    x: &Tensor,      // [N, H, W, C]
    filter: &Tensor, // [fh, fw] or [taps]
    factor: usize,
) -> Result<Tensor> {
    let pad = |taps: usize| {
        let spare = taps as isize - factor as isize;
        [(spare + 1).div_euclid(2), spare.div_euclid(2)]
    };
    let [y, x_pad] = filter_taps(filter)?.map(pad);
    let params = Upfirdn2d { down: [factor; 2], pad: [y[0], y[1], x_pad[0], x_pad[1]], ..Default::default() };
    upfirdn2d(x, filter, &params)
}

/// Filters an image with `pad = [before, after]` on both axes, without resampling.
///
/// With [1, 3, 3, 1], StyleGAN2 calls it with `[1, 1]` and gain 4 after a transposed convolution and with `[2, 2]` before a strided one.
/// Errors: those of [`upfirdn2d`].
pub fn blur(
    x: &Tensor,      // [N, H, W, C]
    filter: &Tensor, // [fh, fw] or [taps]
    pad: [isize; 2],
    gain: f64,
) -> Result<Tensor> {
    upfirdn2d(x, filter, &Upfirdn2d { pad: [pad[0], pad[1], pad[0], pad[1]], gain, ..Default::default() })
}
