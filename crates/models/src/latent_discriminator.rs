//! A discriminator of codes [ref e4e, arXiv 2102.02766]: tells an encoder's codes from mapped w.

use swinstyle_bias_act::Activation;
use swinstyle_tensor::Tensor;

use crate::{Init, Params, Result, Spec, layers::equal_linear, stylegan2::GAIN};

/// An MLP of equalised linear layers on a single w.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LatentDiscriminator {
    /// Length of w.
    pub style_dim: usize,
    /// Width of the hidden layers.
    pub width: usize,
    /// Hidden layers.
    pub layers: usize,
}

impl LatentDiscriminator {
    /// Parameters: `mlp.{i}.weight` and `.bias`.
    pub fn specs(&self) -> Vec<Spec> {
        let mut specs = Vec::new();
        for i in 0..=self.layers {
            let inputs = if i == 0 { self.style_dim } else { self.width };
            let outputs = if i == self.layers { 1 } else { self.width };
            specs.push(Spec::new(format!("mlp.{i}.weight"), &[outputs, inputs], Init::Normal { std: 1.0 }));
            specs.push(Spec::new(format!("mlp.{i}.bias"), &[outputs], Init::Constant(0.0)));
        }
        specs
    }

    /// Logits: positive for mapped w. Differentiable twice.
    ///
    /// `w` `[N, D]`; returns `[N, 1]`.
    pub fn forward(&self, p: &Params, w: &Tensor) -> Result<Tensor> {
        let mut x = w.clone();
        for i in 0..=self.layers {
            let (weight, bias) = (p.get(&format!("mlp.{i}.weight"))?, p.get(&format!("mlp.{i}.bias"))?);
            x = match i == self.layers {
                true => equal_linear(&x, weight, Some(bias), 1.0, Activation::Linear, 1.0)?,
                false => equal_linear(&x, weight, Some(bias), 1.0, Activation::LEAKY_RELU, GAIN)?,
            };
        }
        Ok(x)
    }
}
