//! Feature matching in a frozen discriminator [ours]: a perceptual loss that needs no foreign weights. It is not LPIPS.

use swinstyle_tensor::Tensor;

use crate::{Params, Result, stylegan2::Discriminator};

/// Guard against layers whose features are all zero.
const EPSILON: f64 = 1e-8;

/// A frozen StyleGAN2 discriminator as a feature extractor.
#[derive(Debug, Clone)]
pub struct DiscriminatorFeatures {
    /// The network.
    pub discriminator: Discriminator,
    /// Its weights, without history.
    pub params: Params,
}

impl DiscriminatorFeatures {
    /// `Σ_l mean((f_l(x) − f_l(y))²) / mean(f_l(y)²)` over the outputs of the residual blocks.
    ///
    /// x and y `[N, H, W, 3]`, N any number; returns a scalar, differentiable in x; y is taken as constant.
    pub fn distance(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        let of_x = self.discriminator.features(&self.params, x)?;
        let of_y = self.discriminator.features(&self.params, &y.detach())?;
        let mut total: Option<Tensor> = None;
        for (name, fx) in &of_x {
            let Some(fy) = of_y.get(name) else { continue };
            let wide = fx.dtype().wide();
            let (fx, fy) = (&fx.to_dtype(wide)?, &fy.to_dtype(wide)?);
            let norm = fy.square()?.mean_all()?.add_scalar(EPSILON)?;
            let term = fx.sub(fy)?.square()?.mean_all()?.div(&norm)?;
            total = Some(match total {
                Some(t) => t.add(&term)?,
                None => term,
            });
        }
        total.ok_or_else(|| crate::ModelError::config("perceptual", "the discriminator has no blocks"))
    }
}
