//! The mapping network z → w and the truncation trick.

use swinstyle_bias_act::Activation;
use swinstyle_tensor::{Device, Tensor, no_grad, rng::Philox};

use super::{EPSILON, GAIN, Generator, SLOPE};
use crate::{
    Init, Params, Result, Spec,
    layers::{equal_linear, pixel_norm},
};

impl Generator {
    pub(super) fn mapping_specs(&self) -> Vec<Spec> {
        let (d, lr) = (self.config.style_dim, self.config.mapping_lr_multiplier);
        (1..=self.config.mapping_layers)
            .flat_map(|i| {
                [
                    Spec::new(format!("style.{i}.weight"), &[d, d], Init::Normal { std: 1.0 / lr }),
                    Spec::new(format!("style.{i}.bias"), &[d], Init::Constant(0.0)),
                ]
            })
            .collect()
    }

    /// Maps latent codes to the intermediate space: pixel norm, then equalised linear layers with leaky ReLU(0.2)·√2.
    ///
    /// `z` `[N, D]`; returns `w` `[N, D]`.
    pub fn mapping(&self, p: &Params, z: &Tensor) -> Result<Tensor> {
        let lr = self.config.mapping_lr_multiplier;
        let mut w = pixel_norm(z, EPSILON)?;
        for i in 1..=self.config.mapping_layers {
            let weight = p.get(&format!("style.{i}.weight"))?;
            let bias = p.get(&format!("style.{i}.bias"))?;
            w = equal_linear(&w, weight, Some(bias), lr, Activation::LeakyRelu { slope: SLOPE }, GAIN)?;
        }
        Ok(w)
    }

    /// w `[count, D]` of random codes; with a history where `p` has one.
    pub fn random_w(&self, p: &Params, count: usize, rng: &mut Philox, device: Device) -> Result<Tensor> {
        self.mapping(p, &rng.normal(&[count, self.config.style_dim], device)?)
    }

    /// w `[count, D]` of fixed codes, the same ones each time: what w's mean, spread and principal components are measured on.
    pub fn sample_w(&self, p: &Params, count: usize, device: Device) -> Result<Tensor> {
        no_grad(|| self.random_w(p, count, &mut Philox::new(0, 0), device))
    }

    /// The truncation trick `w_avg + ψ (w − w_avg)` on `[N, D]`, repeated to W+ `[N, n_styles, D]`; styles from
    /// `cutoff` on keep w as it is.
    pub fn truncate(&self, w: &Tensor, w_avg: &Tensor, psi: f64, cutoff: Option<usize>) -> Result<Tensor> {
        let (n, d, styles) = (w.shape()[0], self.config.style_dim, self.config.n_styles());
        let avg = w_avg.reshape(&[1, d])?;
        let truncated = avg.add(&w.sub(&avg)?.scale(psi)?)?;
        let repeat = |w: &Tensor, count: usize| w.reshape(&[n, 1, d])?.broadcast_to(&[n, count, d]);
        match cutoff {
            Some(c) if c < styles => {
                let parts = [repeat(&truncated, c)?, repeat(w, styles - c)?];
                Ok(Tensor::concat(&[&parts[0], &parts[1]], 1)?)
            }
            _ => Ok(repeat(&truncated, styles)?),
        }
    }

    /// One w for all styles: W → W+. `w` `[N, D]`; returns `[N, n_styles, D]`.
    pub fn repeat_w(&self, w: &Tensor) -> Result<Tensor> {
        let (n, d) = (w.shape()[0], self.config.style_dim);
        Ok(w.reshape(&[n, 1, d])?.broadcast_to(&[n, self.config.n_styles(), d])?)
    }
}
