//! A linear boundary between codes that have an attribute and codes that have not.

use std::ops::Range;

use swinstyle_weights::Array;

use super::{Direction, direction::About};
use crate::{Model, ModelError, Result};

/// Rounds of conjugate gradients at most; it stops when the residual is small.
const ROUNDS: usize = 200;
/// Residual, relative to the right side, at which it stops.
const RESIDUAL: f64 = 1e-8;
/// Variance below which a number of the code is a constant.
const CONSTANT: f64 = 1e-12;

/// The plane `normal · x = offset` between two classes of codes.
///
/// Fisher's discriminant: least squares on class-balanced targets ±1 over standardised features with a ridge,
/// `(XᵀWX + ridge·I) β = XᵀWy`, solved by conjugate gradients in f64. A large ridge turns it into the difference of the classes' means.
#[derive(Debug, Clone, PartialEq)]
pub struct Boundary {
    /// In the code's own units `[F]`.
    pub normal: Vec<f64>,
    /// Where the plane lies along the normal.
    pub offset: f64,
    /// The normal of standardised codes, as a way to go in the code's own units: a number that varies much moves much.
    way: Vec<f64>,
    /// Mean score of the class less that of the other.
    gap: f64,
}

impl Boundary {
    /// Fits it to `codes` `[N, F]` with a label each.
    ///
    /// Errors: one class only, lengths that do not fit.
    pub fn fit(
        codes: &[f32], // [N, F]
        labels: &[bool],
        ridge: f64,
    ) -> Result<Self> {
        let bad = |detail: String| Err(ModelError::config("boundary", detail));
        let n = labels.len();
        let yes = labels.iter().filter(|l| **l).count();
        if yes == 0 || yes == n {
            return bad(format!("{yes} of {n} samples have the attribute: both kinds are needed"));
        }
        let f = codes.len() / n;
        if f * n != codes.len() {
            return bad(format!("{} numbers for {n} samples", codes.len()));
        }
        // Each class weighs a half.
        let weight = |i: usize| 0.5 / if labels[i] { yes as f64 } else { (n - yes) as f64 };
        let row = |i: usize| &codes[i * f..][..f];
        let (mut mean, mut square) = (vec![0.0; f], vec![0.0; f]);
        for i in 0..n {
            for (k, &x) in row(i).iter().enumerate() {
                mean[k] += weight(i) * f64::from(x);
                square[k] += weight(i) * f64::from(x) * f64::from(x);
            }
        }
        let scale: Vec<f64> = (0..f)
            .map(|k| square[k] - mean[k] * mean[k])
            .map(|variance| if variance > CONSTANT { variance.sqrt().recip() } else { 0.0 })
            .collect();
        let standard = |i: usize, k: usize| (f64::from(row(i)[k]) - mean[k]) * scale[k];
        let times_gram = |v: &[f64]| {
            let mut out: Vec<f64> = v.iter().map(|v| ridge * v).collect();
            for i in 0..n {
                let score: f64 = (0..f).map(|k| standard(i, k) * v[k]).sum();
                for k in 0..f {
                    out[k] += weight(i) * score * standard(i, k);
                }
            }
            out
        };
        let mut target = vec![0.0; f];
        for i in 0..n {
            let y = if labels[i] { weight(i) } else { -weight(i) };
            for k in 0..f {
                target[k] += y * standard(i, k);
            }
        }
        let beta = conjugate_gradients(times_gram, &target);
        let normal: Vec<f64> = beta.iter().zip(&scale).map(|(b, s)| b * s).collect();
        let offset = dot(&normal, &mean);
        let way = beta.iter().zip(&scale).map(|(b, s)| if *s > 0.0 { b / s } else { 0.0 }).collect();
        let mut boundary = Self { normal, offset, way, gap: 0.0 };
        boundary.gap =
            (0..n).map(|i| boundary.score(row(i)) * 2.0 * weight(i) * if labels[i] { 1.0 } else { -1.0 }).sum();
        Ok(boundary)
    }

    /// Signed distance of a code `[F]` from the plane, in units of the normal; positive on the attribute's side.
    pub fn score(&self, code: &[f32]) -> f64 {
        code.iter().zip(&self.normal).map(|(x, n)| f64::from(*x) * n).sum::<f64>() - self.offset
    }

    /// Balanced accuracy on `codes` `[N, F]`: the mean of the two classes' shares that fall on their side.
    pub fn accuracy(&self, codes: &[f32], labels: &[bool]) -> f64 {
        let f = self.normal.len();
        let share = |class: bool| {
            let of_class = labels.iter().zip(codes.chunks_exact(f)).filter(|(l, _)| **l == class);
            let (right, all) =
                of_class.fold((0, 0), |(r, n), (_, x)| (r + usize::from((self.score(x) > 0.0) == class), n + 1));
            right as f64 / f64::from(all.max(1))
        };
        (share(true) + share(false)) / 2.0
    }

    /// The boundary's normal, taken in the metric of standardised codes, as a direction in W+; strength 1 is the way from one class's mean to
    /// the other's. In the codes' own metric the normal would leave the space that the generator knows: it favours numbers that hardly vary.
    pub fn direction(&self, model: &Model, name: &str, layers: &Range<usize>) -> Result<Direction> {
        let config = &model.generator.config;
        let (styles, d) = (config.n_styles(), config.style_dim);
        if self.normal.len() != styles * d {
            let detail = format!("{} numbers for codes of {styles} x {d}", self.normal.len());
            return Err(ModelError::config("boundary", detail));
        }
        let length = dot(&self.way, &self.way).sqrt().max(f64::MIN_POSITIVE);
        let data = self.way.iter().map(|v| (v / length) as f32).collect();
        let about = About {
            name: name.into(),
            method: "boundary".into(),
            layers: layers.clone(),
            step: self.gap / (dot(&self.way, &self.normal) / length).max(f64::MIN_POSITIVE),
            generator: model.generator_params.fingerprint()?,
            ..About::default()
        };
        Ok(Direction { vector: Array::new(vec![styles, d], data)?, about })
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
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
