//! Directions without labels: SeFa from the weights, GANSpace from samples.

use std::ops::Range;

use nalgebra::{DMatrix, SymmetricEigen};
use swinstyle_weights::Array;

use super::{Direction, direction::About, file::Owner};
use crate::{Model, ModelError, Result, stylegan2::GeneratorConfig};

/// Samples of w behind a covariance.
const SAMPLES: usize = 10_000;

/// The closed-form directions of SeFa: the unit eigenvectors of AᵀA, largest eigenvalue first, where A stacks the modulation weights `[I, D]`
/// of the convolutions that read the styles `layers`.
///
/// They are the directions of w that change those layers' styles most: the paper's formula. With `normalise` they are those of the code
/// that the authors published, which brings the rows of A to length 1 first, so that each channel of a style counts alike, and
/// reads the last style by the last layer to RGB. Strength 1 is a standard deviation of w along them.
///
/// Errors: layers of which none has a convolution.
pub fn sefa(model: &Model, layers: &Range<usize>, count: usize, normalise: bool) -> Result<Vec<Direction>> {
    let config = &model.generator.config;
    let layers = clamp(layers, config)?;
    let d = config.style_dim;
    let mut gram = DMatrix::<f64>::zeros(d, d);
    for style in layers.clone() {
        // The last style reaches the last toRGB only.
        let name = match style {
            0 => "conv1".to_string(),
            last if normalise && last + 1 == config.n_styles() => format!("to_rgbs.{}", (last.max(3) - 3) / 2),
            style => format!("convs.{}", style - 1),
        };
        if let Some(weight) = model.generator_params.find(&format!("{name}.conv.modulation.weight")) {
            let mut rows =
                DMatrix::from_row_iterator(weight.shape()[0], d, weight.to_vec()?.into_iter().map(f64::from));
            if normalise {
                rows.row_iter_mut().for_each(|mut row| row.unscale_mut(row.norm().max(f64::MIN_POSITIVE)));
            }
            gram += rows.transpose() * rows;
        }
    }
    if gram.iter().all(|v| *v == 0.0) {
        let detail = format!("{}-{}: no convolution reads these styles", layers.start, layers.end - 1);
        return Err(ModelError::config("layers", detail));
    }
    let covariance = covariance(model)?;
    let method = if normalise { "sefa-normalised" } else { "sefa" };
    principal(gram, count)
        .into_iter()
        .enumerate()
        .map(|(i, (value, vector))| {
            let v = nalgebra::DVector::from_column_slice(&vector);
            let deviation = (v.transpose() * &covariance * &v)[0].max(0.0).sqrt();
            direction(model, format!("{method}-{i}"), method, &layers, deviation, value, vector)
        })
        .collect()
}

/// GANSpace: the principal components of w, largest variance first, of 10,000 samples with fixed seeds.
///
/// Strength 1 is a standard deviation of w along them.
pub fn ganspace(model: &Model, layers: &Range<usize>, count: usize) -> Result<Vec<Direction>> {
    let layers = clamp(layers, &model.generator.config)?;
    principal(covariance(model)?, count)
        .into_iter()
        .enumerate()
        .map(|(i, (value, vector))| {
            let deviation = value.max(0.0).sqrt();
            direction(model, format!("ganspace-{i}"), "ganspace", &layers, deviation, value, vector)
        })
        .collect()
}

fn direction(
    model: &Model,
    name: String,
    method: &str,
    layers: &Range<usize>,
    step: f64,
    eigenvalue: f64,
    vector: Vec<f64>, // [D]
) -> Result<Direction> {
    let mut about = About { name, method: method.into(), layers: layers.clone(), step, ..About::default() };
    about.owner = Owner::of(model)?;
    about.measured.insert("eigenvalue".into(), eigenvalue.into());
    let data: Vec<f32> = vector.into_iter().map(|v| v as f32).collect();
    Ok(Direction { vector: Array::new(vec![data.len()], data)?, about })
}

/// The layers, cut to those that there are. Errors: none left.
fn clamp(layers: &Range<usize>, config: &GeneratorConfig) -> Result<Range<usize>> {
    let styles = config.n_styles();
    let cut = layers.start..layers.end.min(styles);
    if cut.start >= cut.end {
        return Err(ModelError::config("layers", format!("{} of the styles 0-{}", layers.start, styles - 1)));
    }
    Ok(cut)
}

/// Covariance of w, `[D, D]`.
fn covariance(model: &Model) -> Result<DMatrix<f64>> {
    let d = model.generator.config.style_dim;
    let w = model.sample_w(SAMPLES)?.to_vec()?;
    let rows = DMatrix::from_row_iterator(SAMPLES, d, w.into_iter().map(f64::from));
    let mean = rows.row_mean();
    Ok(rows.tr_mul(&rows) / SAMPLES as f64 - mean.transpose() * mean)
}

/// The eigenvalues and unit eigenvectors of a symmetric matrix, largest first; the largest entry of each vector is positive, so that
/// the sign is the same everywhere.
fn principal(matrix: DMatrix<f64>, count: usize) -> Vec<(f64, Vec<f64>)> {
    let eigen = SymmetricEigen::new(matrix);
    let mut order: Vec<usize> = (0..eigen.eigenvalues.len()).collect();
    order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
    order.truncate(count);
    let signed = |i: usize| {
        let v = eigen.eigenvectors.column(i);
        let largest = v.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap_or(1.0);
        (eigen.eigenvalues[i], v.iter().map(|x| x * largest.signum()).collect())
    };
    order.into_iter().map(signed).collect()
}
