//! Training of a StyleGAN2 generator and its discriminator [ref].

mod check;

use std::path::{Path, PathBuf};

use serde_json::Value;
use swinstyle_data::{Picture, picture::Sheet};
use swinstyle_models::{
    LINEAGE, Lineage, Model, Params, mean_w,
    stylegan2::{Discriminator, Generator, Noise},
};
use swinstyle_tensor::{Device, Tensor, no_grad, rng::Philox};
use swinstyle_weights::{Archive, Array, CheckpointHeader, FloatDtype};

use crate::{
    Adam, Position, Result, StepData, Trainer,
    augment::{Adaptive, Augment},
    config::{GeneratorTraining, RunConfig},
    gradients::{Gradients, descend},
    init::{self, Init},
    loss_scale::LossScale,
    losses::{discriminator_logistic, generator_logistic, path_lengths, r1_penalty, share_positive},
    memory::values,
    record::{state_header, to_json, training_record},
    run::{Losses, parts},
    state::save_tensor,
};

/// Images of a sample sheet.
const SAMPLES: usize = 32;

/// What a random stream is for; each step has its own stream of each kind, so no generator state needs saving.
#[derive(Clone, Copy)]
enum Draw {
    Discriminator,
    Generator,
    PathLength,
    Augment,
}

/// Images that a step augments, each with random numbers of its own.
#[derive(Clone, Copy)]
enum Seen {
    Real,
    Fake,
    RealForR1,
    FakeForGenerator,
    Preview,
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
    /// What the discriminator sees, where the configuration augments it.
    augment: Option<(Augment, Adaptive)>,
    init: Option<Init>,
    /// Scales of the two losses, in f16.
    scale_g: Option<LossScale>,
    scale_d: Option<LossScale>,
}

impl GeneratorTrainer {
    /// Fresh networks for a configuration. Errors: those of [`GeneratorTrainer::check`].
    pub fn new(config: GeneratorTraining, device: Device) -> Result<Self> {
        Self::check(&config, device)?;
        let generator = Generator::new(config.model.generator())?;
        let discriminator = Discriminator::new(config.model.discriminator())?;
        let augment = match &config.augment {
            Some(a) => Some((Augment::new(&a.kind, device)?, Adaptive::new(a.clone()))),
            None => None,
        };
        let g = Params::init(&generator.specs(), config.run.seed, device)?;
        let d = Params::init(&discriminator.specs(), config.run.seed ^ 1, device)?;
        let adam_g = Adam::new(&g, trained)?.laid_out("", &generator.specs());
        let adam_d = Adam::new(&d, trained)?.laid_out("", &discriminator.specs());
        let path_length_mean = Tensor::from_vec(vec![0.0_f32], &[], device)?;
        let ema = g.clone();
        let precision = config.run.precision;
        let scale_g = LossScale::new(precision, ["g_loss_scale", "g_skipped"]);
        let scale_d = LossScale::new(precision, ["d_loss_scale", "d_skipped"]);
        Ok(Self {
            config,
            device,
            generator,
            discriminator,
            g,
            d,
            ema,
            adam_g,
            adam_d,
            path_length_mean,
            augment,
            init: None,
            scale_g,
            scale_d,
        })
    }

    /// Begins with the weights of another model, and its discriminator's where it has one. Returns what was taken.
    ///
    /// Errors: the first tensor of `file` that does not fit.
    pub fn start_from(&mut self, model: &Model, file: &Path) -> Result<&Init> {
        self.g = init::matching(&self.generator.specs(), &model.generator_params, "generator", file)?;
        self.ema = self.g.clone();
        let mut taken = vec!["generator"];
        if let Some((_, params)) = &model.discriminator {
            self.d = init::matching(&self.discriminator.specs(), params, "discriminator", file)?;
            taken.push("discriminator");
        }
        Ok(self.init.insert(Init::new(file, model, &taken)?))
    }

    /// A generator's weights in the type that it computes in.
    fn computing_g(&self, g: &Params) -> Result<Params> {
        Ok(g.to_dtype(self.config.run.precision, Generator::keeps_f32)?)
    }

    /// A discriminator's weights in the type that it computes in.
    fn computing_d(&self, d: &Params) -> Result<Params> {
        Ok(d.to_dtype(self.config.run.precision, |_| false)?)
    }

    fn rng(&self, step: u64, draw: Draw) -> Philox {
        Philox::new(self.config.run.seed, step * 4 + draw as u64 + 1)
    }

    /// Random numbers of the augmentation: a stretch of the step's stream for each use.
    fn augment_rng(&self, step: u64, seen: Seen) -> Philox {
        Philox { position: (seen as u64) << 40, ..self.rng(step, Draw::Augment) }
    }

    /// Images as the discriminator sees them.
    fn seen(&self, images: &Tensor, rng: &mut Philox) -> Result<Tensor> {
        match &self.augment {
            Some((augment, adaptive)) => augment.apply(images, adaptive.p(), rng),
            None => Ok(images.clone()),
        }
    }

    /// W+ codes of a batch; with the configured probability two codes share the layers.
    fn codes(&self, p: &Params, n: usize, rng: &mut Philox) -> Result<Tensor> {
        let styles = self.generator.config.n_styles();
        let w = self.generator.repeat_w(&self.generator.random_w(p, n, rng, self.device)?)?;
        if f64::from(rng.uniform()) >= self.config.loss.style_mixing {
            return Ok(w);
        }
        let cut = 1 + rng.below(styles - 1);
        let other = self.generator.repeat_w(&self.generator.random_w(p, n, rng, self.device)?)?;
        Ok(Tensor::concat(&[&w.slice(1, 0, cut)?, &other.slice(1, cut, styles - cut)?], 1)?)
    }

    fn discriminator_step(&mut self, at: Position, real: &Tensor) -> Result<Losses> {
        let step = at.step;
        let mut rng = self.rng(step, Draw::Discriminator);
        let [mut of_real, mut of_fake] = [Seen::Real, Seen::Fake].map(|s| self.augment_rng(step, s));
        let options =
            self.config.optimizer.options(at.images, self.config.run.images).lazy(self.config.loss.r1_interval);
        let d = self.d.leaves(|_| true);
        let mut gradients = Gradients::default();
        let mut losses = Vec::new();
        let reals = parts(real, self.config.run.accumulate)?;
        let share = 1.0 / reals.len() as f64;
        let scale = LossScale::factor(&self.scale_d);
        let (computing, maker) = (self.computing_d(&d)?, self.computing_g(&self.g)?);
        for real in &reals {
            let n = real.shape()[0];
            let fake = no_grad(|| -> Result<Tensor> {
                let w = self.codes(&self.g, n, &mut rng)?;
                Ok(self.generator.synthesis(&maker, &w, &mut Noise::Random(&mut rng), None)?)
            })?;
            let on_real = self.discriminator.forward(&computing, &self.seen(real, &mut of_real)?, None)?;
            let on_fake = self.discriminator.forward(&computing, &self.seen(&fake, &mut of_fake)?, None)?;
            let loss = discriminator_logistic(&on_real, &on_fake)?;
            gradients.add(&loss, share * scale, &d, &self.adam_d)?;
            losses.extend([
                ("d_loss", loss.detach()),
                ("logits_real", on_real.detach().mean_all()?),
                ("logits_fake", on_fake.detach().mean_all()?),
                ("d_accuracy", accuracy(&on_real, &on_fake)?),
            ]);
            if let Some((_, adaptive)) = &mut self.augment {
                adaptive.observe(&on_real);
            }
        }
        if LossScale::settle(&mut self.scale_d, &mut gradients, &mut losses)? {
            gradients.clip(self.config.optimizer.clip_norm, "d_grad_norm", &mut losses)?;
            gradients.apply(&mut self.d, &mut self.adam_d, &options)?;
        }
        let interval = self.config.loss.r1_interval;
        if interval > 0 && step.is_multiple_of(interval) {
            let d = self.d.leaves(|_| true);
            // Biases that R1 does not hang on have no gradient here and keep their moments, though the common count of steps rises; the port of
            // rosinality gives them a gradient of 0. With β₁ = 0 that is a few percent of these biases' rate.
            let mut gradients = Gradients::default();
            let mut of_real = self.augment_rng(step, Seen::RealForR1);
            for real in &reals {
                let real = real.as_leaf();
                let seen = self.seen(&real, &mut of_real)?;
                let r1 = r1_penalty(&self.discriminator.forward(&d, &seen, None)?, &real)?;
                let weight = 0.5 * self.config.loss.r1_gamma * interval as f64;
                gradients.add(&r1.scale(weight)?, share, &d, &self.adam_d)?;
                losses.push(("r1", r1.detach()));
            }
            gradients.apply(&mut self.d, &mut self.adam_d, &options)?;
        }
        if let Some((_, adaptive)) = &mut self.augment {
            let rt = adaptive.adjust(step)?.map(|rt| ("ada_rt", rt));
            for (name, value) in [("ada_p", adaptive.p())].into_iter().chain(rt) {
                losses.push((name, Tensor::from_vec(vec![value as f32], &[], self.device)?));
            }
        }
        Ok(losses)
    }

    fn generator_step(&mut self, at: Position, n: usize) -> Result<Losses> {
        let step = at.step;
        let mut rng = self.rng(step, Draw::Generator);
        let mut of_fake = self.augment_rng(step, Seen::FakeForGenerator);
        let l = self.config.loss.clone();
        let interval = if l.path_length_weight > 0.0 { l.path_length_interval } else { 0 };
        let options = self.config.optimizer.options(at.images, self.config.run.images).lazy(interval);
        let g = self.g.leaves(trained);
        let mut gradients = Gradients::default();
        let mut losses = Vec::new();
        let count = self.config.run.accumulate;
        let weight = LossScale::factor(&self.scale_g) / count as f64;
        let (computing, judge) = (self.computing_g(&g)?, self.computing_d(&self.d)?);
        for _ in 0..count {
            let w = self.codes(&g, n / count, &mut rng)?;
            let fake = self.generator.synthesis(&computing, &w, &mut Noise::Random(&mut rng), None)?;
            let seen = self.seen(&fake, &mut of_fake)?;
            let loss = generator_logistic(&self.discriminator.forward(&judge, &seen, None)?)?;
            gradients.add(&loss, weight, &g, &self.adam_g)?;
            losses.push(("g_loss", loss.detach()));
        }
        if LossScale::settle(&mut self.scale_g, &mut gradients, &mut losses)? {
            gradients.clip(self.config.optimizer.clip_norm, "g_grad_norm", &mut losses)?;
            gradients.apply(&mut self.g, &mut self.adam_g, &options)?;
        }
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
        // The same half-life from the first image on, as in the common port; stylegan2-ada lets it grow with the images.
        let decay = 0.5_f64.powf(n as f64 / l.ema_half_life.max(1e-9));
        no_grad(|| self.ema.ema_update(&self.g, decay))?;
        Ok(losses)
    }

    /// Mean w of the averaged mapping network.
    fn w_avg(&self) -> Result<Tensor> {
        Ok(mean_w(&self.generator, &self.ema, self.device)?)
    }
}

/// Share of right answers of a discriminator, a scalar.
pub(crate) fn accuracy(on_real: &Tensor, on_fake: &Tensor) -> Result<Tensor> {
    Ok(share_positive(on_real)?.sub(&share_positive(on_fake)?)?.affine(0.5, 0.5)?)
}

/// Everything is trained but the fixed noise maps.
fn trained(name: &str) -> bool {
    !name.starts_with("noises.")
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

    fn parameters(&self) -> Vec<(&'static str, u64)> {
        let (of_g, of_d) = (values(&self.generator.specs()), values(&self.discriminator.specs()));
        vec![("generator", of_g), ("discriminator", of_d)]
    }

    fn step(&mut self, at: Position, data: &StepData) -> Result<Losses> {
        let images = &data.images;
        let mut losses = self.discriminator_step(at, images)?;
        losses.extend(self.generator_step(at, images.shape()[0])?);
        Ok(losses)
    }

    fn preview(&self, images: &Tensor) -> Result<Option<Picture>> {
        let Some((augment, _)) = &self.augment else { return Ok(None) };
        augment.preview(images, &mut self.augment_rng(0, Seen::Preview)).map(Some)
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
        let mut sheet = Sheet::default();
        for picture in Picture::from_batch(&images.to_vec()?, size, size)? {
            sheet.row("", [picture]);
        }
        Ok(sheet.render()?)
    }

    fn save(&self, archive: &mut Archive) -> Result<()> {
        let (g, d) = (self.generator.specs(), self.discriminator.specs());
        self.g.to_archive("g.", &g, archive)?;
        self.ema.to_archive("g_ema.", &g, archive)?;
        self.d.to_archive("d.", &d, archive)?;
        self.adam_g.save("g_optim.", archive)?;
        self.adam_d.save("d_optim.", archive)?;
        if let Some((_, adaptive)) = &self.augment {
            adaptive.save(archive)?;
        }
        Init::save(self.init.as_ref(), archive)?;
        self.scale_g.iter().chain(&self.scale_d).for_each(|s| s.save(archive));
        save_tensor("path_length_mean", &self.path_length_mean, archive)
    }

    fn load(&mut self, archive: &Archive) -> Result<()> {
        let (g, d) = (self.generator.specs(), self.discriminator.specs());
        self.g = Params::from_archive(archive, "g.", &g, self.device)?;
        self.ema = Params::from_archive(archive, "g_ema.", &g, self.device)?;
        self.d = Params::from_archive(archive, "d.", &d, self.device)?;
        self.adam_g.load("g_optim.", archive)?;
        self.adam_d.load("d_optim.", archive)?;
        self.init = Init::load(archive)?;
        self.scale_g.iter_mut().chain(&mut self.scale_d).try_for_each(|s| s.load(archive))?;
        let mean = archive.get("path_length_mean")?.data.clone();
        self.path_length_mean = Tensor::from_vec(mean, &[], self.device)?;
        if let Some((_, adaptive)) = &mut self.augment {
            adaptive.load(archive)?;
        }
        Ok(())
    }

    fn export(&self, folder: &Path, header: &CheckpointHeader) -> Result<PathBuf> {
        let mut archive = Archive::new();
        self.ema.to_archive("generator.", &self.generator.specs(), &mut archive)?;
        self.d.to_archive("discriminator.", &self.discriminator.specs(), &mut archive)?;
        let parents = self.init.as_ref().map(|init| init.lineage.clone()).unwrap_or_default();
        let lineage = Lineage::made_from(&self.ema, &parents)?;
        let w_avg = self.w_avg()?;
        archive.arrays.insert("w_avg".into(), Array::new(w_avg.shape().to_vec(), w_avg.to_vec()?)?);
        archive.set_header(&CheckpointHeader {
            architecture: "stylegan2".into(),
            config: serde_json::json!({
                "generator": to_json(&self.generator.config)?,
                "discriminator": to_json(&self.discriminator.config)?,
                (LINEAGE): to_json(&lineage)?,
                "training": { "generator": training_record(header, self.init.as_ref())? },
            }),
            ..header.clone()
        });
        let path = folder.join("generator.safetensors");
        archive.write(&path, FloatDtype::F32)?;
        Ok(path)
    }

    fn header(&self, at: Position) -> Result<CheckpointHeader> {
        state_header("stylegan2-training", "", &self.config, (&self.config.run, &self.config.data), at)
    }
}
