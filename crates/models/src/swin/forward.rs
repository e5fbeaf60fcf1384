//! The whole network: parameters and forward pass.

use swinstyle_layer_norm::layer_norm;
use swinstyle_tensor::{Tensor, rng::Philox};

use super::{EPSILON, SwinConfig, block, patches, stochastic_depth::StochasticDepth};
use crate::{Init, Params, Result, Spec};

/// A Swin Transformer. torchvision: `torchvision.models.SwinTransformer`.
#[derive(Debug, Clone, PartialEq)]
pub struct Swin {
    /// Its sizes.
    pub config: SwinConfig,
}

/// What a forward pass computes on its way.
#[derive(Debug, Clone)]
pub struct SwinOutput {
    /// Embedded patches `[N, H/p, W/p, C₀]`.
    pub embed: Tensor,
    /// Output of every block, in order.
    pub blocks: Vec<Tensor>,
    /// Output of every stage, before the merging that follows it.
    pub stages: Vec<Tensor>,
    /// The last stage after the final layer norm.
    pub norm: Tensor,
    /// Mean of [`SwinOutput::norm`] over the map: `[N, C]`.
    pub pooled: Tensor,
    /// `[N, classes]`, if there is a classifier.
    pub logits: Option<Tensor>,
}

impl Swin {
    /// A network of these sizes. Errors: sizes that make no network.
    pub fn new(config: SwinConfig) -> Result<Self> {
        config.validate()?;
        Ok(Self { config })
    }

    /// Its parameters.
    pub fn specs(&self) -> Vec<Spec> {
        let c = &self.config;
        let last = c.dims.len() - 1;
        let mut specs = patches::embedding_specs(c);
        for stage in 0..=last {
            specs.extend((0..c.depths[stage]).flat_map(|b| block::specs(c, stage, b)));
            if stage < last {
                specs.extend(patches::merging_specs(c, stage));
            }
        }
        specs.push(Spec::new("norm.weight", &[c.dims[last]], Init::Constant(1.0)));
        specs.push(Spec::new("norm.bias", &[c.dims[last]], Init::Constant(0.0)));
        if let Some(classes) = c.classes {
            specs.push(Spec::new("head.weight", &[classes, c.dims[last]], Init::Normal { std: 0.02 }));
            specs.push(Spec::new("head.bias", &[classes], Init::Constant(0.0)));
        }
        specs
    }

    /// Runs the network.
    ///
    /// `stochastic_depth` gives the random numbers of a training pass; without them no branch is dropped.
    /// Errors: images of another number of channels or smaller than a patch, missing parameters.
    pub fn forward(
        &self,
        p: &Params,
        images: &Tensor, // [N, H, W, I]
        stochastic_depth: Option<&mut Philox>,
    ) -> Result<SwinOutput> {
        let c = &self.config;
        let mut depth = StochasticDepth::new(c.stochastic_depth, c.depths.iter().sum(), stochastic_depth);
        let embed = patches::embed(c, p, images)?;
        let (mut blocks, mut stages) = (Vec::new(), Vec::new());
        let mut x = embed.clone();
        for stage in 0..c.dims.len() {
            if stage > 0 {
                x = patches::merge(p, stage - 1, &x)?;
            }
            for b in 0..c.depths[stage] {
                let number = blocks.len();
                x = block::forward(c, p, stage, b, &x, |branch| depth.apply(branch, number))?;
                blocks.push(x.clone());
            }
            stages.push(x.clone());
        }
        let norm = layer_norm(&x, p.get("norm.weight")?, p.get("norm.bias")?, EPSILON)?;
        let pooled = norm.mean(&[1, 2])?.reshape(&[norm.shape()[0], norm.shape()[3]])?;
        let logits = match c.classes {
            Some(_) => Some(pooled.linear(p.get("head.weight")?, Some(p.get("head.bias")?))?),
            None => None,
        };
        Ok(SwinOutput { embed, blocks, stages, norm, pooled, logits })
    }
}

/// The input of a block, `[N, H, W, C]`, from what a forward pass kept.
pub(crate) fn block_input(
    config: &SwinConfig,
    p: &Params,
    stage: usize,
    block: usize,
    output: &SwinOutput,
) -> Result<Tensor> {
    let before: usize = config.depths[..stage].iter().sum();
    match (stage, block) {
        (0, 0) => Ok(output.embed.clone()),
        (_, 0) => patches::merge(p, stage - 1, &output.stages[stage - 1]),
        _ => Ok(output.blocks[before + block - 1].clone()),
    }
}
