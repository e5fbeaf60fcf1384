//! Distribution alignment [paper names it], in two forms.

use swinstyle_models::layers::unit_length;
use swinstyle_tensor::{Result, Tensor, TensorError};

/// Guard of variances and norms against 0.
const EPSILON: f64 = 1e-12;

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
    let unit = unit_length(f, 1, EPSILON)?;
    let cosines = unit.matmul_with(&unit, false, true)?;
    let mut mask = vec![0.0_f32; n * n];
    mask.iter_mut().step_by(n + 1).for_each(|d| *d = -1e4);
    let mask = Tensor::from_vec(mask, &[n, n], f.device())?.to_dtype(f.dtype())?;
    cosines.add(&mask)?.log_softmax()
}

/// Distribution alignment, `latent-kl` [ours]: KL(encoder ‖ generator) between Gaussians with diagonal covariance, one a style,
/// fitted to the batch's codes and to mapped w: mean over styles and dimensions of
/// `½ (σ_e²/σ_g² + (μ_e − μ_g)²/σ_g² − 1 − ln σ_e²/σ_g²)`.
///
/// Codes `[N, L, D]`, N ≥ 2; mapped `[M, D]`, M ≥ 2. Variances are over the batch, without Bessel's correction; the codes' variance
/// is scaled up by N/(N − 1), or a batch of the very distribution would be told to spread. The generator's side is taken as constant.
pub fn latent_kl(codes: &Tensor, mapped: &Tensor) -> Result<Tensor> {
    let (&[n, _, d], &[m, e]) = (codes.shape(), mapped.shape()) else {
        let detail = format!("codes {:?} and {:?}: [N, L, D] and [M, D] expected", codes.shape(), mapped.shape());
        return Err(TensorError::shape("latent_kl", detail));
    };
    if n < 2 || m < 2 || d != e {
        let detail = format!("codes {:?} and {:?}: N, M ≥ 2 and one D expected", codes.shape(), mapped.shape());
        return Err(TensorError::shape("latent_kl", detail));
    }
    let moments = |x: &Tensor| -> Result<(Tensor, Tensor)> {
        let count = x.shape()[0] as f64;
        let mean = x.mean(&[0])?;
        let variance = x.sub(&mean)?.square()?.mean(&[0])?.scale(count / (count - 1.0))?.add_scalar(EPSILON)?;
        Ok((mean, variance))
    };
    let (mean, variance) = moments(codes)?; // [1, L, D]
    let (target, spread) = moments(&mapped.detach())?; // [1, D]
    let ratio = variance.div(&spread)?;
    let shift = mean.sub(&target)?.square()?.div(&spread)?;
    ratio.add(&shift)?.sub(&ratio.ln()?)?.add_scalar(-1.0)?.mean_all()?.scale(0.5)
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
    fn latent_kl_is_the_closed_form_of_two_gaussians() {
        // Two points at μ ± s have mean μ and, with Bessel's correction, variance 2 s².
        let pair = |mean: &[f64], s: &[f64]| -> Vec<f64> {
            let side = |sign: f64| mean.iter().zip(s).map(move |(m, s)| m + sign * s);
            side(-1.0).chain(side(1.0)).collect()
        };
        let tensor = |v: Vec<f64>, shape: &[usize]| Tensor::from_vec(v, shape, Device::Cpu).unwrap();
        let (mu_e, s_e) = ([0.5, -1.0, 2.0, 0.0], [1.0, 0.5, 2.0, 1.5]);
        let (mu_g, s_g) = ([0.0, -0.5], [1.0, 0.25]);
        let codes = tensor(pair(&mu_e, &s_e), &[2, 2, 2]);
        let mapped = tensor(pair(&mu_g, &s_g), &[2, 2]);
        let expected: f64 = (0..4)
            .map(|i| {
                let (ve, vg) = (2.0 * s_e[i] * s_e[i], 2.0 * s_g[i % 2] * s_g[i % 2]);
                0.5 * (ve / vg + (mu_e[i] - mu_g[i % 2]).powi(2) / vg - 1.0 - (ve / vg).ln()) / 4.0
            })
            .sum();
        let got = latent_kl(&codes, &mapped).unwrap().item().unwrap();
        assert!((got - expected).abs() < 1e-10, "{got} {expected}");
        assert!(latent_kl(&codes, &tensor(vec![0.0; 6], &[2, 3])).is_err());
    }

    #[test]
    fn latent_kl_of_one_distribution_is_nearly_zero_and_its_gradient_leads_there() {
        let mapped = normal(&[512, 3], 6);
        let same = normal(&[512, 1, 3], 7);
        assert!(latent_kl(&same, &mapped).unwrap().item().unwrap() < 0.01);
        let mut codes = same.affine(0.3, 1.0).unwrap();
        let first = latent_kl(&codes, &mapped).unwrap().item().unwrap();
        for _ in 0..60 {
            let leaf = codes.as_leaf();
            let g = swinstyle_tensor::grad(&[(&latent_kl(&leaf, &mapped).unwrap(), None)], &[&leaf], false).unwrap();
            codes = codes.sub(&g[0].as_ref().unwrap().scale(100.0).unwrap()).unwrap();
        }
        let last = latent_kl(&codes, &mapped).unwrap().item().unwrap();
        assert!(last < 0.02 * first, "{first} {last}");
    }
}
