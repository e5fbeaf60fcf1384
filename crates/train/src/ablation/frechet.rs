//! The Fréchet distance between two sets of features.

use nalgebra::{DMatrix, SymmetricEigen};

/// `‖μ₁ − μ₂‖² + tr(C₁ + C₂ − 2 (C₁ C₂)^½)` of Gaussians fitted to two sets of features: the form of FID (arXiv 1706.08500), on whatever
/// features are given. `a` and `b` `[N, D]` row by row with N ≥ 2 each; covariances with N − 1.
pub fn frechet_distance(a: &[f32], b: &[f32], dimensions: usize) -> f64 {
    let ((mean_a, cov_a), (mean_b, cov_b)) = (moments(a, dimensions), moments(b, dimensions));
    // (C₁ C₂)^½ has the trace of (C₁^½ C₂ C₁^½)^½, which is symmetric.
    let root = square_root(&cov_a);
    let product = &root * &cov_b * &root;
    let symmetric = (&product + product.transpose()) * 0.5;
    let trace: f64 = SymmetricEigen::new(symmetric).eigenvalues.iter().map(|v| v.max(0.0).sqrt()).sum();
    ((mean_a - mean_b).norm_squared() + cov_a.trace() + cov_b.trace() - 2.0 * trace).max(0.0)
}

/// Mean `[1, D]` and covariance `[D, D]`.
fn moments(features: &[f32], dimensions: usize) -> (DMatrix<f64>, DMatrix<f64>) {
    let n = features.len() / dimensions.max(1);
    let mut x = DMatrix::from_row_iterator(n, dimensions, features.iter().map(|&v| f64::from(v)));
    let mean = DMatrix::from_row_iterator(1, dimensions, x.column_iter().map(|c| c.mean()));
    for mut row in x.row_iter_mut() {
        row -= &mean;
    }
    (mean, x.transpose() * &x / (n.max(2) - 1) as f64)
}

fn square_root(matrix: &DMatrix<f64>) -> DMatrix<f64> {
    let eigen = SymmetricEigen::new(matrix.clone());
    let roots = eigen.eigenvalues.map(|v| v.max(0.0).sqrt());
    &eigen.eigenvectors * DMatrix::from_diagonal(&roots) * eigen.eigenvectors.transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_axis_aligned_gaussians_it_is_the_closed_form() {
        // Points at ±s on each axis about the mean: a diagonal covariance of 2 s²/3 (four points, two of them off the mean on each axis).
        let set = |mean: [f32; 2], s: [f32; 2]| -> Vec<f32> {
            [[s[0], 0.0], [-s[0], 0.0], [0.0, s[1]], [0.0, -s[1]]]
                .iter()
                .flat_map(|p| [mean[0] + p[0], mean[1] + p[1]])
                .collect()
        };
        let (a, b) = (set([0.0, 1.0], [1.0, 2.0]), set([3.0, 0.0], [2.0, 0.5]));
        let deviation = |s: f64| (2.0 * s * s / 3.0).sqrt();
        let expected = 10.0 + (deviation(1.0) - deviation(2.0)).powi(2) + (deviation(2.0) - deviation(0.5)).powi(2);
        assert!((frechet_distance(&a, &b, 2) - expected).abs() < 1e-9);
        assert!(frechet_distance(&a, &a, 2) < 1e-9);
    }

    #[test]
    fn it_does_not_change_under_a_rotation_of_both() {
        let set = |k: usize| -> Vec<f32> { (0..30).map(|i| ((i * k + i * i) % 17) as f32 * 0.1).collect() };
        let rotate = |v: &[f32]| -> Vec<f32> {
            v.chunks(2).flat_map(|p| [0.6 * p[0] - 0.8 * p[1], 0.8 * p[0] + 0.6 * p[1]]).collect()
        };
        let (a, b) = (set(3), set(5));
        let (plain, turned) = (frechet_distance(&a, &b, 2), frechet_distance(&rotate(&a), &rotate(&b), 2));
        assert!((plain - turned).abs() < 1e-5 && plain > 0.0, "{plain} {turned}");
    }
}
