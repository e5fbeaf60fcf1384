//! A linear boundary between codes that have an attribute and codes that have not.

mod fisher;
mod svm;

use std::ops::Range;

use swinstyle_weights::Array;

use super::{Direction, direction::About, file::Owner};
use crate::{Model, ModelError, Result};

/// Codes with a yes or no each.
struct Samples<'a> {
    codes: &'a [f32], // [N, F]
    labels: &'a [bool],
    /// How many have the attribute.
    yes: usize,
    /// F.
    features: usize,
}

impl<'a> Samples<'a> {
    /// Errors: one class only, lengths that do not fit.
    fn new(codes: &'a [f32], labels: &'a [bool]) -> Result<Self> {
        let bad = |detail: String| Err(ModelError::config("boundary", detail));
        let (n, yes) = (labels.len(), labels.iter().filter(|l| **l).count());
        if yes == 0 || yes == n {
            return bad(format!("{yes} of {n} samples have the attribute: both kinds are needed"));
        }
        let features = codes.len() / n;
        if features * n != codes.len() {
            return bad(format!("{} numbers for {n} samples", codes.len()));
        }
        Ok(Self { codes, labels, yes, features })
    }

    fn row(&self, i: usize) -> &[f32] {
        &self.codes[i * self.features..][..self.features]
    }

    /// Each class weighs a half.
    fn weight(&self, i: usize) -> f64 {
        0.5 / if self.labels[i] { self.yes } else { self.labels.len() - self.yes } as f64
    }
}

/// The plane `normal · x = offset` between two classes of codes.
#[derive(Debug, Clone, PartialEq)]
pub struct Boundary {
    /// In the code's own units `[F]`.
    pub normal: Vec<f64>,
    /// Where the plane lies along the normal.
    pub offset: f64,
    /// What found it, as the files of directions say it.
    method: &'static str,
    /// The way to go, in the code's own units.
    way: Vec<f64>,
    /// Mean score of the class less that of the other.
    gap: f64,
}

impl Boundary {
    fn new(samples: &Samples, method: &'static str, normal: Vec<f64>, offset: f64, way: Vec<f64>) -> Self {
        let mut boundary = Self { normal, offset, method, way, gap: 0.0 };
        let signed = |i: usize| if samples.labels[i] { 2.0 } else { -2.0 } * samples.weight(i);
        boundary.gap = (0..samples.labels.len()).map(|i| boundary.score(samples.row(i)) * signed(i)).sum();
        boundary
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

    /// The boundary's way as a direction in W+; strength 1 is from one class's mean score to the other's.
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
            method: self.method.into(),
            layers: layers.clone(),
            step: self.gap / (dot(&self.way, &self.normal) / length).max(f64::MIN_POSITIVE),
            owner: Owner::of(model)?,
            ..About::default()
        };
        Ok(Direction { vector: Array::new(vec![styles, d], data)?, about })
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
