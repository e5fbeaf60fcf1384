//! The objectives of both trainings.

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

/// Mean squared error. PyTorch: `F.mse_loss`.
pub fn l2(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    x.sub(y)?.square()?.mean_all()
}

/// Distance of codes from the mean [ref pSp]: mean over the batch of ‖w − w_avg‖ over styles and dimensions.
///
/// `offset` `[N, L, D]` is w − w_avg.
pub fn w_norm(offset: &Tensor) -> Result<Tensor> {
    // The root's slope at 0 is infinite; an offset of exactly zero is what training starts from.
    offset.square()?.sum(&[1, 2])?.add_scalar(1e-12)?.sqrt()?.mean_all()
}

/// Distribution alignment, `pairwise-kl` [sibling]: for the batch's features f_i, p_i = softmax over j ≠ i of cos(f_i, f_j);
/// returns the mean over i of KL(p_i of the generator ‖ p_i of the encoder).
///
/// Both `[N, D]`, D may differ; N ≥ 3 (with two samples every p_i is 1 and the loss 0). The generator's side is taken as constant.
pub fn pairwise_kl(encoder: &Tensor, generator: &Tensor) -> Result<Tensor> {
    let n = encoder.shape()[0];
    if encoder.shape().len() != 2 || generator.shape().len() != 2 || generator.shape()[0] != n || n < 2 {
        let detail =
            format!("features {:?} and {:?}: [N, D] with one N ≥ 2 expected", encoder.shape(), generator.shape());
        return Err(TensorError::shape("pairwise_kl", detail));
    }
    let log_q = log_neighbours(encoder)?;
    let log_p = log_neighbours(&generator.detach())?;
    log_p.exp()?.mul(&log_p.sub(&log_q)?)?.sum_all()?.scale(1.0 / n as f64)
}

/// Logarithm of the softmax over the other samples of the cosine similarities; the diagonal's probability is e^(−10⁴) = 0.
fn log_neighbours(f: &Tensor) -> Result<Tensor> {
    let n = f.shape()[0];
    let unit = f.mul(&f.square()?.sum(&[1])?.add_scalar(1e-12)?.rsqrt()?)?;
    let cosines = unit.matmul_with(&unit, false, true)?;
    let mut mask = vec![0.0_f32; n * n];
    mask.iter_mut().step_by(n + 1).for_each(|d| *d = -1e4);
    let mask = Tensor::from_vec(mask, &[n, n], f.device())?.to_dtype(f.dtype())?;
    cosines.add(&mask)?.log_softmax()
}

#[cfg(test)]
mod tests {
    use super::*;
    use swinstyle_tensor::{DType, Device, rng::Philox};

    fn normal(shape: &[usize], stream: u64) -> Tensor {
        Philox::new(3, stream).normal(shape, Device::Cpu).unwrap().to_dtype(DType::F64).unwrap()
    }

    #[test]
    fn pairwise_kl_is_zero_for_equal_features_and_positive_otherwise() {
        let f = normal(&[6, 5], 0);
        assert!(pairwise_kl(&f, &f.scale(3.0).unwrap()).unwrap().item().unwrap().abs() < 1e-12);
        assert!(pairwise_kl(&f, &normal(&[6, 7], 1)).unwrap().item().unwrap() > 1e-4);
        assert!(pairwise_kl(&f, &normal(&[5, 7], 1)).is_err());
    }

    #[test]
    fn pairwise_kl_matches_the_sum_written_out() {
        let (f, g) = (normal(&[4, 3], 2), normal(&[4, 3], 3));
        let rows = |t: &Tensor| -> Vec<Vec<f64>> {
            let v = t.to_vec_f64().unwrap();
            let unit: Vec<Vec<f64>> = v
                .chunks(3)
                .map(|r| {
                    let n = r.iter().map(|x| x * x).sum::<f64>().sqrt();
                    r.iter().map(|x| x / n).collect()
                })
                .collect();
            (0..4)
                .map(|i| {
                    let e: Vec<f64> = (0..4)
                        .map(|j| {
                            if i == j {
                                0.0
                            } else {
                                unit[i].iter().zip(&unit[j]).map(|(a, b)| a * b).sum::<f64>().exp()
                            }
                        })
                        .collect();
                    let z: f64 = e.iter().sum();
                    e.into_iter().map(|x| x / z).collect()
                })
                .collect()
        };
        let (q, p) = (rows(&f), rows(&g));
        let mut expected = 0.0;
        for i in 0..4 {
            for j in (0..4).filter(|&j| j != i) {
                expected += p[i][j] * (p[i][j] / q[i][j]).ln() / 4.0;
            }
        }
        let got = pairwise_kl(&f, &g).unwrap().item().unwrap();
        assert!((got - expected).abs() < 1e-10, "{got} {expected}");
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
