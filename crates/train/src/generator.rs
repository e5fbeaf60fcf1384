//! Training of a StyleGAN2 generator and its discriminator [ref].

use std::path::{Path, PathBuf};

use serde_json::Value;
use swinstyle_data::{Picture, picture::grid};
use swinstyle_models::{
    Params,
    stylegan2::{Discriminator, Generator, Noise},
};
use swinstyle_tensor::{Device, Tensor, grad, no_grad, rng::Philox};
use swinstyle_weights::{Archive, Array, CheckpointHeader, FloatDtype};

use crate::{
    Adam, AdamOptions, Result, TrainError, Trainer,
    config::{GeneratorTraining, OptimizerConfig, RunConfig, check_run},
    losses::{discriminator_logistic, generator_logistic, path_lengths, r1_penalty},
};

/// Codes whose mean w is the centre of truncation.
const AVERAGE_CODES: usize = 4096;
/// Images of a sample grid, in rows of eight.
const SAMPLES: usize = 32;

/// What a random stream is for; each step has its own stream of each kind, so no generator state needs saving.
#[derive(Clone, Copy)]
enum Draw {
    Discriminator,
    Generator,
    PathLength,
}

/// State of a generator training.
pub struct GeneratorTrainer {
    config: GeneratorTraining,
    device: Device,
    generator: Generator,
    discriminator: Discriminator,
    g: Params,
    d: Params,
    ema: Params,
    adam_g: Adam,
    adam_d: Adam,
    /// Running mean of the path lengths, a scalar.
    path_length_mean: Tensor,
}

impl GeneratorTrainer {
    /// Fresh networks for a configuration.
    pub fn new(config: GeneratorTraining, device: Device) -> Result<Self> {
        check_run(&config.run)?;
        let bad = |key: &str, detail: String| TrainError::Config { path: key.to_string(), detail };
        let (l, batch) = (&config.loss, config.run.batch);
        let group = config.model.stddev_group.min(batch).max(1);
        if batch % group != 0 {
            return Err(bad("run.batch", format!("{batch} is not a multiple of model.stddev_group {group}")));
        }
        if l.path_length_weight > 0.0 && (l.path_length_batch_shrink == 0 || batch < l.path_length_batch_shrink) {
            let detail = format!("{} for a batch of {batch}", l.path_length_batch_shrink);
            return Err(bad("loss.path_length_batch_shrink", detail));
        }
        if !(0.0..=1.0).contains(&l.style_mixing) {
            return Err(bad("loss.style_mixing", format!("{} is not a probability", l.style_mixing)));
        }
        let generator = Generator::new(config.model.generator())?;
        let discriminator = Discriminator::new(config.model.discriminator())?;
        let g = Params::init(&generator.specs(), config.run.seed, device)?;
        let d = Params::init(&discriminator.specs(), config.run.seed ^ 1, device)?;
        let adam_g = Adam::new(&g, trained)?;
        let adam_d = Adam::new(&d, trained)?;
        let path_length_mean = Tensor::from_vec(vec![0.0_f32], &[], device)?;
        let ema = g.clone();
        Ok(Self { config, device, generator, discriminator, g, d, ema, adam_g, adam_d, path_length_mean })
    }

    fn rng(&self, step: u64, draw: Draw) -> Philox {
        Philox::new(self.config.run.seed, step * 4 + draw as u64 + 1)
    }

    /// W+ codes of a batch; with the configured probability two codes share the layers.
    fn codes(&self, p: &Params, n: usize, rng: &mut Philox) -> Result<Tensor> {
        let (d, styles) = (self.config.model.style_dim, self.generator.config.n_styles());
        let z = rng.normal(&[n, d], self.device)?;
        let w = self.generator.repeat_w(&self.generator.mapping(p, &z)?)?;
        if f64::from(rng.uniform()) >= self.config.loss.style_mixing {
            return Ok(w);
        }
        let cut = 1 + rng.below(styles - 1);
        let z = rng.normal(&[n, d], self.device)?;
        let other = self.generator.repeat_w(&self.generator.mapping(p, &z)?)?;
        Ok(Tensor::concat(&[&w.slice(1, 0, cut)?, &other.slice(1, cut, styles - cut)?], 1)?)
    }

    fn discriminator_step(&mut self, step: u64, real: &Tensor) -> Result<Vec<(&'static str, Tensor)>> {
        let mut rng = self.rng(step, Draw::Discriminator);
        let n = real.shape()[0];
        let fake = no_grad(|| -> Result<Tensor> {
            let w = self.codes(&self.g, n, &mut rng)?;
            Ok(self.generator.synthesis(&self.g, &w, &mut Noise::Random(&mut rng), None)?)
        })?;
        let d = self.d.leaves(|_| true);
        let on_real = self.discriminator.forward(&d, real, None)?;
        let on_fake = self.discriminator.forward(&d, &fake, None)?;
        let loss = discriminator_logistic(&on_real, &on_fake)?;
        let options = options(&self.config.optimizer, self.images(step), self.config.run.images)
            .lazy(self.config.loss.r1_interval);
        descend(&loss, &d, &mut self.d, &mut self.adam_d, &options)?;
        let mut losses = vec![
            ("d_loss", loss.detach()),
            ("logits_real", on_real.detach().mean_all()?),
            ("logits_fake", on_fake.detach().mean_all()?),
        ];
        let interval = self.config.loss.r1_interval;
        if interval > 0 && step.is_multiple_of(interval) {
            let d = self.d.leaves(|_| true);
            let real = real.as_leaf();
            let r1 = r1_penalty(&self.discriminator.forward(&d, &real, None)?, &real)?;
            let weighted = r1.scale(0.5 * self.config.loss.r1_gamma * interval as f64)?;
            descend(&weighted, &d, &mut self.d, &mut self.adam_d, &options)?;
            losses.push(("r1", r1.detach()));
        }
        Ok(losses)
    }

    fn generator_step(&mut self, step: u64, n: usize) -> Result<Vec<(&'static str, Tensor)>> {
        let mut rng = self.rng(step, Draw::Generator);
        let l = self.config.loss.clone();
        let interval = if l.path_length_weight > 0.0 { l.path_length_interval } else { 0 };
        let options = options(&self.config.optimizer, self.images(step), self.config.run.images).lazy(interval);
        let g = self.g.leaves(trained);
        let w = self.codes(&g, n, &mut rng)?;
        let fake = self.generator.synthesis(&g, &w, &mut Noise::Random(&mut rng), None)?;
        let loss = generator_logistic(&self.discriminator.forward(&self.d, &fake, None)?)?;
        descend(&loss, &g, &mut self.g, &mut self.adam_g, &options)?;
        let mut losses = vec![("g_loss", loss.detach())];
        if interval > 0 && step.is_multiple_of(interval) {
            let mut rng = self.rng(step, Draw::PathLength);
            let g = self.g.leaves(trained);
            let n = n / l.path_length_batch_shrink;
            let w = self.codes(&g, n, &mut rng)?;
            let images = self.generator.synthesis(&g, &w, &mut Noise::Random(&mut rng), None)?;
            let noise = rng.normal(images.shape(), self.device)?;
            let lengths = path_lengths(&images, &w, &noise)?;
            let mean = lengths.detach().mean_all()?;
            let old = &self.path_length_mean;
            self.path_length_mean = old.add(&mean.sub(old)?.scale(l.path_length_decay)?)?;
            let penalty = lengths.sub(&self.path_length_mean)?.square()?.mean_all()?;
            let weighted = penalty.scale(l.path_length_weight * interval as f64)?;
            descend(&weighted, &g, &mut self.g, &mut self.adam_g, &options)?;
            losses.push(("path_length", mean));
            losses.push(("path_length_penalty", penalty.detach()));
        }
        let decay = 0.5_f64.powf(n as f64 / l.ema_half_life.max(1e-9));
        no_grad(|| self.ema.ema_update(&self.g, decay))?;
        Ok(losses)
    }

    fn images(&self, step: u64) -> u64 {
        step * self.config.run.batch as u64
    }

    /// Mean w of the averaged mapping network over [`AVERAGE_CODES`] codes, the same ones each time.
    fn w_avg(&self) -> Result<Tensor> {
        let d = self.config.model.style_dim;
        no_grad(|| {
            let z = Philox::new(self.config.run.seed, 0).normal(&[AVERAGE_CODES, d], self.device)?;
            Ok(self.generator.mapping(&self.ema, &z)?.mean(&[0])?.reshape(&[d])?)
        })
    }
}

/// Everything is trained but the fixed noise maps.
fn trained(name: &str) -> bool {
    !name.starts_with("noises.")
}

pub(crate) fn options(o: &OptimizerConfig, images: u64, total: u64) -> AdamOptions {
    AdamOptions {
        learning_rate: o.learning_rate * o.schedule.factor(images, o.warmup_images, total),
        beta1: o.beta1,
        beta2: o.beta2,
        epsilon: o.epsilon,
        weight_decay: o.weight_decay,
    }
}

/// One optimiser step down the gradient of `loss` with respect to the leaves that `adam` updates.
pub(crate) fn descend(
    loss: &Tensor,
    leaves: &Params,
    params: &mut Params,
    adam: &mut Adam,
    options: &AdamOptions,
) -> Result<()> {
    let names = adam.names();
    let inputs = names.iter().map(|n| leaves.get(n)).collect::<std::result::Result<Vec<_>, _>>()?;
    let gradients = grad(&[(loss, None)], &inputs, false)?;
    adam.update(params, &gradients, options)
}

impl Trainer for GeneratorTrainer {
    fn kind(&self) -> &'static str {
        "generator"
    }

    fn run_config(&self) -> &RunConfig {
        &self.config.run
    }

    fn flip(&self) -> bool {
        self.config.data.flip()
    }

    fn config_json(&self) -> Result<Value> {
        to_json(&self.config)
    }

    fn step(&mut self, step: u64, images: &Tensor) -> Result<Vec<(&'static str, Tensor)>> {
        let mut losses = self.discriminator_step(step, images)?;
        losses.extend(self.generator_step(step, images.shape()[0])?);
        Ok(losses)
    }

    fn sample(&mut self) -> Result<Picture> {
        let size = self.config.model.size;
        let images = no_grad(|| -> Result<Tensor> {
            let z = Philox::new(self.config.run.seed, u64::MAX)
                .normal(&[SAMPLES, self.config.model.style_dim], self.device)?;
            let w = self.generator.mapping(&self.ema, &z)?;
            let w_plus = self.generator.truncate(&w, &self.w_avg()?, 0.8, None)?;
            Ok(self.generator.synthesis(&self.ema, &w_plus, &mut Noise::Fixed, None)?)
        })?;
        Ok(grid(&Picture::from_batch(&images.to_vec()?, size, size)?, 8)?)
    }

    fn save(&self, archive: &mut Archive) -> Result<()> {
        let (g, d) = (self.generator.specs(), self.discriminator.specs());
        self.g.to_archive("g.", &g, archive)?;
        self.ema.to_archive("g_ema.", &g, archive)?;
        self.d.to_archive("d.", &d, archive)?;
        save_adam("g_optim.", &self.adam_g, archive)?;
        save_adam("d_optim.", &self.adam_d, archive)?;
        save_scalar("path_length_mean", &self.path_length_mean, archive)
    }

    fn load(&mut self, archive: &Archive) -> Result<()> {
        let (g, d) = (self.generator.specs(), self.discriminator.specs());
        self.g = Params::from_archive(archive, "g.", &g, self.device)?;
        self.ema = Params::from_archive(archive, "g_ema.", &g, self.device)?;
        self.d = Params::from_archive(archive, "d.", &d, self.device)?;
        load_adam("g_optim.", &mut self.adam_g, archive, self.device)?;
        load_adam("d_optim.", &mut self.adam_d, archive, self.device)?;
        let mean = archive.get("path_length_mean")?.data.clone();
        self.path_length_mean = Tensor::from_vec(mean, &[], self.device)?;
        Ok(())
    }

    fn export(&self, folder: &Path, header: &CheckpointHeader) -> Result<PathBuf> {
        let mut archive = Archive::new();
        self.ema.to_archive("generator.", &self.generator.specs(), &mut archive)?;
        self.d.to_archive("discriminator.", &self.discriminator.specs(), &mut archive)?;
        let w_avg = self.w_avg()?;
        archive.arrays.insert("w_avg".into(), Array::new(w_avg.shape().to_vec(), w_avg.to_vec()?)?);
        archive.set_header(&CheckpointHeader {
            architecture: "stylegan2".into(),
            config: serde_json::json!({
                "generator": to_json(&self.generator.config)?,
                "discriminator": to_json(&self.discriminator.config)?,
                "training": { "generator": training_record(&header.config, header.images_seen) },
            }),
            ..header.clone()
        });
        let path = folder.join("generator.safetensors");
        archive.write(&path, FloatDtype::F32)?;
        Ok(path)
    }

    fn header(&self, step: u64) -> Result<CheckpointHeader> {
        Ok(CheckpointHeader {
            architecture: "stylegan2-training".into(),
            preset: String::new(),
            config: self.config_json()?,
            step,
            images_seen: self.images(step),
            data: self.config.data.describe()?,
            seed: self.config.run.seed,
            created_by: concat!("swinstyle ", env!("CARGO_PKG_VERSION")).into(),
        })
    }
}

pub(crate) fn to_json(value: &impl serde::Serialize) -> Result<Value> {
    serde_json::to_value(value)
        .map_err(|e| TrainError::Config { path: "configuration".into(), detail: format!("cannot be written: {e}") })
}

/// What a model's file says about the training of one of its networks.
pub(crate) fn training_record(config: &Value, images_seen: u64) -> Value {
    serde_json::json!({ "config": config, "images_seen": images_seen })
}

pub(crate) fn save_scalar(name: &str, value: &Tensor, archive: &mut Archive) -> Result<()> {
    archive.arrays.insert(name.into(), Array::new(value.shape().to_vec(), value.to_vec()?)?);
    Ok(())
}

/// Moments in the memory layout: nobody but this program reads them.
pub(crate) fn save_adam(prefix: &str, adam: &Adam, archive: &mut Archive) -> Result<()> {
    for (kind, moments) in [("m.", &adam.m), ("v.", &adam.v)] {
        for (name, value) in moments.iter() {
            save_scalar(&format!("{prefix}{kind}{name}"), value, archive)?;
        }
    }
    archive.metadata.insert(format!("{prefix}step"), adam.step.to_string());
    Ok(())
}

pub(crate) fn load_adam(prefix: &str, adam: &mut Adam, archive: &Archive, device: Device) -> Result<()> {
    for (kind, moments) in [("m.", &mut adam.m), ("v.", &mut adam.v)] {
        let part = archive.subset(&format!("{prefix}{kind}"));
        let expected: Vec<(String, Vec<usize>)> =
            moments.iter().map(|(n, t)| (n.clone(), t.shape().to_vec())).collect();
        part.match_names(&expected)?;
        for (name, shape) in expected {
            let data = part.get(&name)?.data.clone();
            moments.insert(name, Tensor::from_vec(data, &shape, device)?);
        }
    }
    let key = format!("{prefix}step");
    adam.step = archive.metadata.get(&key).and_then(|s| s.parse().ok()).ok_or_else(|| {
        TrainError::run(archive.origin(), format!("has no `{key}`: not a training state of this program"))
    })?;
    Ok(())
}
