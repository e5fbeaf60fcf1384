//! What can be said against a generator's training before anything is allocated or written.

use swinstyle_models::stylegan2::{Channels, Discriminator, Generator};
use swinstyle_tensor::Device;

use super::GeneratorTrainer;
use crate::{
    Result,
    config::{GeneratorTraining, bad_key, check_run, check_values},
    memory::{self, Need, loaded, values},
};

impl GeneratorTrainer {
    /// What can be said against a configuration before anything is allocated. Returns the number of values of generator and discriminator.
    ///
    /// Errors name the key: values out of range, a batch that does not split, sizes that make no network or do not fit the machine.
    pub fn check(config: &GeneratorTraining, device: Device) -> Result<(u64, u64)> {
        check_values(config)?;
        check_run(&config.run)?;
        config.optimizer.check("optimizer")?;
        let (l, batch) = (&config.loss, config.run.batch);
        let part = batch / config.run.accumulate;
        let group = config.model.stddev_group.min(part).max(1);
        if !part.is_multiple_of(group) {
            let detail = match config.run.accumulate {
                1 => format!("{batch} is not a multiple of model.stddev_group {group}"),
                n => format!("{batch} in {n} parts: {part} is not a multiple of model.stddev_group {group}"),
            };
            return Err(bad_key("run.batch", detail));
        }
        if l.path_length_weight > 0.0 && batch < l.path_length_batch_shrink {
            let detail = format!("{} for a batch of {batch}", l.path_length_batch_shrink);
            return Err(bad_key("loss.path_length_batch_shrink", detail));
        }
        let generator = Generator::new(config.model.generator())?;
        let discriminator = Discriminator::new(config.model.discriminator())?;
        needs(config, &generator, &discriminator, device).check(memory::available(), "model")?;
        device.check_dtype(config.run.precision)?;
        Ok((values(&generator.specs()), values(&discriminator.specs())))
    }
}

/// What a training takes of memory at least: both networks with two moments and gradients, the generator's average, and what a step keeps of the
/// maps of a part of the batch.
fn needs(config: &GeneratorTraining, g: &Generator, d: &Discriminator, device: Device) -> Need {
    let (of_g, of_d) = (values(&g.specs()), values(&d.specs()));
    // The map of each of the two convolutions of a block, of one image.
    let maps = |channels: &Channels| memory::maps(channels) as u64;
    let part = (config.run.batch / config.run.accumulate) as u64;
    // The discriminator's step keeps its maps of real and generated images, the generator's those of both networks.
    let kept = maps(&d.config.channels) + maps(&g.config.channels).max(maps(&d.config.channels));
    Need {
        networks: 4 * (5 * of_g + 4 * of_d),
        activations: if device == Device::Cpu { 4 * part * kept } else { 0 },
        images: loaded(config.run.batch, config.model.size),
    }
}
