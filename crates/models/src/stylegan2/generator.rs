//! The generator: its configuration, parameters and the whole path from z to the image.

use swinstyle_tensor::Tensor;

use super::{GeneratorConfig, Noise};
use crate::{Params, Result, Spec};

/// A StyleGAN2 generator with skip connections to RGB.
#[derive(Debug, Clone, PartialEq)]
pub struct Generator {
    /// Its sizes.
    pub config: GeneratorConfig,
}

impl Generator {
    /// A generator of these sizes. Errors: sizes that make no network.
    pub fn new(config: GeneratorConfig) -> Result<Self> {
        config.validate()?;
        Ok(Self { config })
    }

    /// Parameters and buffers, mapping and synthesis.
    pub fn specs(&self) -> Vec<Spec> {
        let mut specs = self.mapping_specs();
        specs.extend(self.synthesis_specs());
        specs
    }

    /// Whether a parameter stays in f32 where the network computes in a half type: the mapping network is small and steers everything.
    pub fn keeps_f32(name: &str) -> bool {
        name.starts_with("style.")
    }

    /// z `[N, D]` to images `[N, H, W, 3]`, without truncation.
    pub fn generate(&self, p: &Params, z: &Tensor, noise: &mut Noise) -> Result<Tensor> {
        let w = self.mapping(p, z)?;
        self.synthesis(p, &self.repeat_w(&w)?, noise, None)
    }
}
