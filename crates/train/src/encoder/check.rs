//! What can be said against an encoder's training before anything is allocated or written.

use swinstyle_models::{Model, styleformer::Styleformer};
use swinstyle_tensor::Device;

use super::{EncoderTrainer, need};
use crate::{
    Result,
    config::{EncoderLoss, EncoderTraining, bad_key, check_run, check_values},
    memory::{self, values},
};

impl EncoderTrainer {
    /// What can be said against a configuration alone. Returns the number of the encoder's values.
    ///
    /// Errors name the key: values out of range, parts that do not go together, sizes that make no network.
    pub fn check_alone(config: &EncoderTraining) -> Result<u64> {
        check_values(config)?;
        check_run(&config.run)?;
        config.optimizer.check("optimizer")?;
        let encoder = Styleformer::new(config.model.clone())?;
        let part = config.run.batch / config.run.accumulate;
        if config.loss.alignment > 0.0 && part < 3 {
            let detail = format!("{part} at a time: the alignment loss compares three images at least");
            return Err(bad_key("run.batch", detail));
        }
        if let Some(p) = config.progressive {
            let stages = config.model.n_styles().saturating_sub(2) as u64;
            let last = p.start_images.saturating_add(p.every_images.saturating_mul(stages));
            if last >= config.run.images {
                let detail = format!("the last style is let go at image {last} of {}", config.run.images);
                return Err(bad_key("progressive", detail));
            }
        }
        if nothing_to_learn(&config.loss) {
            return Err(bad_key("loss", "every weight is 0: there is nothing to learn from"));
        }
        if config.loss.adversarial > 0.0 && config.discriminator.is_none() {
            return Err(bad_key("loss.adversarial", "it needs a section [discriminator] with a kind"));
        }
        Ok(values(&encoder.specs()))
    }

    /// What can be said against a training without its data, before anything is allocated. Returns the encoder's network.
    ///
    /// Errors: values out of range, sizes that do not fit the generator or the machine, a perceptual loss without a discriminator in the model.
    pub fn check(config: &EncoderTraining, model: &Model, device: Device) -> Result<Styleformer> {
        Self::check_alone(config)?;
        let encoder = Styleformer::new(config.model.clone())?;
        let g = &model.generator.config;
        if (config.model.generator_size, config.model.style_dim) != (g.size, g.style_dim) {
            let detail = format!(
                "generator_size {} and style_dim {} for a generator of {} px and style_dim {}",
                config.model.generator_size, config.model.style_dim, g.size, g.style_dim
            );
            return Err(bad_key("model", detail));
        }
        if config.loss.perceptual > 0.0 && model.discriminator.is_none() {
            let detail = "the generator's file holds no discriminator to take features from; \
                          --set loss.perceptual=0 leaves the term out, and loss.lpips with loss.lpips_weights can take its place";
            return Err(bad_key("loss.perceptual", detail));
        }
        need::of(config, &encoder, model, device).check(memory::available(), "model")?;
        device.check_dtype(config.run.precision)?;
        Ok(encoder)
    }
}

/// Whether no term of the loss has a weight.
fn nothing_to_learn(loss: &EncoderLoss) -> bool {
    let EncoderLoss { l2, perceptual, w_norm, alignment, adversarial, delta, lpips, identity, .. } = *loss;
    [l2, perceptual, w_norm, alignment, adversarial, delta, lpips, identity].iter().all(|weight| *weight == 0.0)
}
