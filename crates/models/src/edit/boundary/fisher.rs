//! A boundary by Fisher's discriminant.

use super::{Boundary, Samples, dot};
use crate::Result;

/// Rounds of conjugate gradients at most; it stops when the residual is small.
const ROUNDS: usize = 200;
/// Residual, relative to the right side, at which it stops.
const RESIDUAL: f64 = 1e-8;
/// Variance below which a number of the code is a constant.
const CONSTANT: f64 = 1e-12;

impl Boundary {
    /// Fisher's discriminant of `codes` `[N, F]` with a label each, with a ridge.
    ///
    /// Least squares on class-balanced targets ±1 over standardised features, `(XᵀWX + ridge·I) β = XᵀWy`, solved by conjugate gradients
    /// in f64. A large ridge turns it into the difference of the classes' means.
    ///
    /// Its way is the normal in the metric of standardised codes: a number that varies much moves much. In the codes' own metric the
    /// normal favours numbers that hardly vary, and leaves the space that the generator knows.
    ///
    /// Errors: one class only, lengths that do not fit.
    pub fn fisher(
        codes: &[f32], // [N, F]
        labels: &[bool],
        ridge: f64,
    ) -> Result<Self> {
        let samples = Samples::new(codes, labels)?;
        let (n, f) = (labels.len(), samples.features);
        let (mut mean, mut square) = (vec![0.0; f], vec![0.0; f]);
        for i in 0..n {
            for (k, &x) in samples.row(i).iter().enumerate() {
                mean[k] += samples.weight(i) * f64::from(x);
                square[k] += samples.weight(i) * f64::from(x) * f64::from(x);
            }
        }
        let scale: Vec<f64> = (0..f)
            .map(|k| square[k] - mean[k] * mean[k])
            .map(|variance| if variance > CONSTANT { variance.sqrt().recip() } else { 0.0 })
            .collect();
        let standard = |i: usize, k: usize| (f64::from(samples.row(i)[k]) - mean[k]) * scale[k];
        let times_gram = |v: &[f64]| {
            let mut out: Vec<f64> = v.iter().map(|v| ridge * v).collect();
            for i in 0..n {
                let score: f64 = (0..f).map(|k| standard(i, k) * v[k]).sum();
                for k in 0..f {
                    out[k] += samples.weight(i) * score * standard(i, k);
                }
            }
            out
        };
        let mut target = vec![0.0; f];
        for i in 0..n {
            let y = if labels[i] { samples.weight(i) } else { -samples.weight(i) };
            for k in 0..f {
                target[k] += y * standard(i, k);
            }
        }
        let beta = conjugate_gradients(times_gram, &target);
        let normal: Vec<f64> = beta.iter().zip(&scale).map(|(b, s)| b * s).collect();
        let offset = dot(&normal, &mean);
        let way = beta.iter().zip(&scale).map(|(b, s)| if *s > 0.0 { b / s } else { 0.0 }).collect();
        Ok(Self::new(&samples, "fisher", normal, offset, way))
    }
}

/// Solves `A x = b` for a symmetric positive definite A.
fn conjugate_gradients(times: impl Fn(&[f64]) -> Vec<f64>, b: &[f64]) -> Vec<f64> {
    let mut x = vec![0.0; b.len()];
    let (mut r, mut p) = (b.to_vec(), b.to_vec());
    let mut rr = dot(&r, &r);
    let enough = rr * RESIDUAL * RESIDUAL;
    for _ in 0..ROUNDS {
        if rr <= enough {
            break;
        }
        let ap = times(&p);
        let alpha = rr / dot(&p, &ap);
        for k in 0..b.len() {
            x[k] += alpha * p[k];
            r[k] -= alpha * ap[k];
        }
        let next = dot(&r, &r);
        for k in 0..b.len() {
            p[k] = r[k] + next / rr * p[k];
        }
        rr = next;
    }
    x
}
