//! The adversarial objective and its regularisation.

use swinstyle_tensor::{Result, Tensor, TensorError, grad};

/// Non-saturating logistic loss of the discriminator [ref]: mean softplus(−real) + mean softplus(fake).
pub fn discriminator_logistic(real: &Tensor, fake: &Tensor) -> Result<Tensor> {
    real.neg()?.softplus()?.mean_all()?.add(&fake.softplus()?.mean_all()?)
}

/// Non-saturating logistic loss of the generator [ref]: mean softplus(−fake).
pub fn generator_logistic(fake: &Tensor) -> Result<Tensor> {
    fake.neg()?.softplus()?.mean_all()
}

/// R1 penalty [ref]: mean over the batch of ‖∂ Σ logits / ∂ image‖², without γ/2.
///
/// `images` must be a leaf from which `logits` `[N, 1]` were computed. Differentiable (second order).
pub fn r1_penalty(logits: &Tensor, images: &Tensor) -> Result<Tensor> {
    let g = grad(&[(&logits.sum_all()?, None)], &[images], true)?.remove(0);
    let Some(g) = g else {
        return Err(TensorError::shape("r1_penalty", "the logits do not depend on the images"));
    };
    g.square()?.sum_all()?.scale(1.0 / images.shape()[0].max(1) as f64)
}

/// Path lengths [ref]: for each sample √(mean over styles of Σ over dimensions of (Jᵀ y)²), with y normal noise over √(H·W).
///
/// `w_plus` `[N, L, D]` must be on the tape and `images` `[N, H, W, 3]` computed from it; `noise` has the images' shape.
/// Returns `[N]`; differentiable (second order).
pub fn path_lengths(images: &Tensor, w_plus: &Tensor, noise: &Tensor) -> Result<Tensor> {
    let (n, pixels) = (images.shape()[0], images.shape()[1] * images.shape()[2]);
    let projected = images.mul(&noise.scale(1.0 / (pixels as f64).sqrt())?)?.sum_all()?;
    let j = grad(&[(&projected, None)], &[w_plus], true)?.remove(0);
    let Some(j) = j else {
        return Err(TensorError::shape("path_lengths", "the images do not depend on the codes"));
    };
    j.square()?.sum(&[2])?.mean(&[1])?.sqrt()?.reshape(&[n])
}

/// Least-squares loss (arXiv 1611.04076): ½ mean (score − target)².
pub fn least_squares(scores: &Tensor, target: f64) -> Result<Tensor> {
    scores.add_scalar(-target)?.square()?.mean_all()?.scale(0.5)
}

/// Share of scores above 0, a scalar.
pub fn share_positive(scores: &Tensor) -> Result<Tensor> {
    // Far from 0 the sigmoid is a step.
    scores.detach().scale(1e20)?.clamp(-100.0, 100.0)?.sigmoid()?.mean_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use swinstyle_tensor::{DType, Device, rng::Philox};

    fn normal(shape: &[usize], stream: u64) -> Tensor {
        Philox::new(3, stream).normal(shape, Device::Cpu).unwrap().to_dtype(DType::F64).unwrap()
    }

    #[test]
    fn path_lengths_of_a_linear_map_are_its_row_norms() {
        // images = w·a (one style, one dimension a pixel): Jᵀy = a·y/√(HW).
        let w = normal(&[2, 1, 12], 4).as_leaf();
        let images = w.scale(2.0).unwrap().reshape(&[2, 2, 2, 3]).unwrap();
        let y = normal(&[2, 2, 2, 3], 5);
        let lengths = path_lengths(&images, &w, &y).unwrap().to_vec_f64().unwrap();
        for (i, l) in lengths.iter().enumerate() {
            let y = &y.to_vec_f64().unwrap()[i * 12..(i + 1) * 12];
            let expected = (y.iter().map(|v| (2.0 * v / 2.0).powi(2)).sum::<f64>()).sqrt();
            assert!((l - expected).abs() < 1e-10, "{l} {expected}");
        }
    }
}
