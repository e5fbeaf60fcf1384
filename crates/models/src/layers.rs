//! Small layers that several networks share, written in taped operations: every order of gradient exists.

use swinstyle_tensor::{Result, Tensor, TensorError};

/// Normalises each row to unit mean square: `x / √(mean(x²) + ε)` over the last axis [ref StyleGAN2].
///
/// x `[N, C]`. PyTorch: `x * (x.square().mean(1, keepdim=True) + eps).rsqrt()`.
pub fn pixel_norm(x: &Tensor, epsilon: f64) -> Result<Tensor> {
    let Some(last) = x.shape().len().checked_sub(1) else {
        return Err(TensorError::shape("pixel_norm", "a tensor without axes"));
    };
    x.mul(&x.square()?.mean(&[last])?.add_scalar(epsilon)?.rsqrt()?)
}

/// Minibatch standard deviation [ref StyleGAN2]: appends a channel that holds, for each sample, the mean over pixels and
/// channels of the standard deviation (biased, ε under the root) over its sub-batch.
///
/// x `[N, H, W, C]` → `[N, H, W, C+1]`. Sub-batches have `g = min(group, N)` samples; sample n belongs to sub-batch
/// `n mod (N/g)`. Errors: another rank, N that g does not divide.
pub fn minibatch_stddev(x: &Tensor, group: usize, epsilon: f64) -> Result<Tensor> {
    let &[n, h, w, c] = x.shape() else {
        return Err(TensorError::shape("minibatch_stddev", format!("{:?}: [N, H, W, C] expected", x.shape())));
    };
    let g = group.min(n).max(1);
    if n % g != 0 {
        let detail = format!("a batch of {n} does not split into groups of {g}");
        return Err(TensorError::shape("minibatch_stddev", detail));
    }
    let sets = n / g;
    let y = x.reshape(&[g, sets, h * w * c])?;
    let centred = y.sub(&y.mean(&[0])?)?;
    let deviation = centred.square()?.mean(&[0])?.add_scalar(epsilon)?.sqrt()?.mean(&[2])?;
    let map = deviation.reshape(&[1, sets, 1, 1, 1])?.broadcast_to(&[g, sets, h, w, 1])?.reshape(&[n, h, w, 1])?;
    Tensor::concat(&[x, &map], 3)
}
