//! The objectives of both trainings.

mod alignment;
mod gan;

use swinstyle_tensor::{Result, Tensor, TensorError};

pub use alignment::{latent_kl, pairwise_kl};
pub use gan::{discriminator_logistic, generator_logistic, least_squares, path_lengths, r1_penalty, share_positive};

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

/// Differences of a code's styles from its first one [ref e4e, arXiv 2102.02766]: mean over the batch of Σ_{i ≥ 1} ‖w_i − w_0‖.
///
/// `codes` `[N, L, D]`: codes or offsets, the difference is the same.
pub fn delta_norm(codes: &Tensor) -> Result<Tensor> {
    let &[_, styles, _] = codes.shape() else {
        return Err(TensorError::shape("delta_norm", format!("{:?}: [N, L, D] expected", codes.shape())));
    };
    let first = codes.slice(1, 0, 1)?;
    let others = codes.slice(1, 1, styles.saturating_sub(1))?;
    // The root's slope at 0 is infinite; equal styles are what e4e starts from.
    others.sub(&first)?.square()?.sum(&[2])?.add_scalar(1e-12)?.sqrt()?.sum(&[1])?.mean_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use swinstyle_tensor::Device;

    #[test]
    fn delta_norm_adds_the_distances_to_the_first_style() {
        // One image; styles (0, 0), (3, 4), (0, 2).
        let codes = Tensor::from_vec(vec![0.0_f64, 0.0, 3.0, 4.0, 0.0, 2.0], &[1, 3, 2], Device::Cpu).unwrap();
        assert!((delta_norm(&codes).unwrap().item().unwrap() - 7.0).abs() < 1e-9);
        assert!(delta_norm(&codes.reshape(&[6]).unwrap()).is_err());
    }
}
