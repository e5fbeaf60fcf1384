//! Memory that an encoder's training needs at least.

use swinstyle_models::{
    Model,
    styleformer::{Styleformer, Trunk},
};
use swinstyle_tensor::Device;

use crate::{
    config::EncoderTraining,
    memory::{Need, loaded, maps, values},
};

/// Tokens' channels that a transformer block keeps for its backward pass, beside the MLP's: input, norm, queries, keys and values.
const KEPT: f64 = 5.0;

/// The trained networks with moments, average and gradients, the frozen one, and what a step keeps of the maps of a part of the batch.
pub(super) fn of(config: &EncoderTraining, encoder: &Styleformer, model: &Model, device: Device) -> Need {
    let (of_e, of_g) = (values(&encoder.specs()), values(&model.generator.specs()));
    let networks = 4 * (5 * of_e + if config.train_decoder { 5 } else { 1 } * of_g);
    let (b, g) = (&config.model.backbone, &model.generator.config);
    let side = config.model.image_size / b.patch.max(1);
    let kept = match config.model.trunk {
        Trunk::Swin => KEPT + b.mlp_ratio,
        Trunk::IrSe => 2.0,
    };
    let stage = |(i, (dim, depth)): (usize, (&usize, &usize))| {
        let tokens = ((side >> i) * (side >> i)) as f64;
        tokens * (*dim as f64) * (*depth as f64) * kept
    };
    let tokens: f64 = b.dims.iter().zip(&b.depths).enumerate().map(stage).sum();
    let part = (config.run.batch / config.run.accumulate) as f64;
    let activations = if device == Device::Cpu { (4.0 * part * (tokens + maps(&g.channels))) as u64 } else { 0 };
    Need { networks, activations, images: loaded(config.run.batch, config.model.image_size) }
}
