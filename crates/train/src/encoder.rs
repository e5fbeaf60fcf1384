//! Training of a SwinStyleformer encoder against a generator.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use swinstyle_data::{
    Picture,
    picture::{difference, sheet},
};
use swinstyle_models::{
    Model, Params,
    perceptual::DiscriminatorFeatures,
    styleformer::Styleformer,
    stylegan2::{Features, Noise},
};
use swinstyle_tensor::{Device, Tensor, no_grad, rng::Philox};
use swinstyle_weights::{Archive, CheckpointHeader, FloatDtype};

use crate::{
    Adam, Result, TrainError, Trainer,
    config::{EncoderTraining, RunConfig, check_run},
    generator::{descend, load_adam, options, save_adam, to_json, training_record},
    losses::{l2, pairwise_kl, w_norm},
};

/// Rows of a sample sheet.
const SAMPLES: u64 = 8;
/// Amplification of the difference pictures.
const DIFFERENCE_GAIN: f32 = 2.0;

/// State of an encoder training.
pub struct EncoderTrainer {
    config: EncoderTraining,
    device: Device,
    model: Model,
    encoder: Styleformer,
    features: Option<DiscriminatorFeatures>,
    /// Encoder's weights under their names and, when the decoder is trained too, the generator's under `generator.`.
    params: Params,
    ema: Params,
    adam: Adam,
    /// Held images for the sample sheet.
    samples: Vec<Picture>,
}

/// Prefix of the generator's weights among those that are trained.
const DECODER: &str = "generator.";
/// Metadata key of the generator's fingerprint: a run must go on against the generator that it began with.
const GENERATOR: &str = "generator_fingerprint";

impl EncoderTrainer {
    /// A fresh encoder against the generator of `model`; `samples` are shown on the sample sheets.
    ///
    /// Errors: sizes that do not fit the generator, a perceptual loss without a discriminator in the model.
    pub fn new(config: EncoderTraining, model: Model, samples: Vec<Picture>, device: Device) -> Result<Self> {
        check_run(&config.run)?;
        let bad = |key: &str, detail: String| TrainError::Config { path: key.to_string(), detail };
        let encoder = Styleformer::new(config.model.clone())?;
        let g = &model.generator.config;
        if (config.model.generator_size, config.model.style_dim) != (g.size, g.style_dim) {
            let detail = format!(
                "generator_size {} and style_dim {} for a generator of {} px and style_dim {}",
                config.model.generator_size, config.model.style_dim, g.size, g.style_dim
            );
            return Err(bad("model", detail));
        }
        if config.loss.alignment > 0.0 && config.run.batch < 3 {
            return Err(bad(
                "run.batch",
                format!("{}: the alignment loss compares three images at least", config.run.batch),
            ));
        }
        let features = match (&model.discriminator, config.loss.perceptual > 0.0) {
            (Some((discriminator, params)), true) => {
                Some(DiscriminatorFeatures { discriminator: discriminator.clone(), params: params.clone() })
            }
            (None, true) => {
                return Err(bad(
                    "loss.perceptual",
                    "the generator's file holds no discriminator to take features from".into(),
                ));
            }
            _ => None,
        };
        let mut params = Params::init(&encoder.specs(), config.run.seed, device)?;
        if config.train_decoder {
            for (name, value) in model.generator_params.iter() {
                params.insert(format!("{DECODER}{name}"), value.clone());
            }
        }
        let trained: Vec<String> = encoder.specs().iter().filter(|s| s.trainable).map(|s| s.name.clone()).collect();
        let adam = Adam::new(&params, |n| {
            // Mapping and noise maps do not see this loss.
            let decoder =
                n.strip_prefix(DECODER).is_some_and(|n| !n.starts_with("noises.") && !n.starts_with("style."));
            decoder || trained.iter().any(|t| t == n)
        })?;
        let ema = params.clone();
        Ok(Self { config, device, model, encoder, features, params, ema, adam, samples })
    }

    /// The generator's weights: those being trained, or the frozen ones.
    fn decoder(&self, p: &Params) -> Params {
        if self.config.train_decoder { p.under(DECODER) } else { self.model.generator_params.clone() }
    }

    fn averaged(&self) -> &Params {
        if self.config.ema_half_life > 0.0 { &self.ema } else { &self.params }
    }

    /// The whole model with the averaged weights.
    pub fn model(&self, header: &CheckpointHeader) -> Model {
        let p = self.averaged();
        Model {
            generator_params: self.decoder(p),
            encoder: Some((self.encoder.clone(), p.clone())),
            discriminator: None,
            header: header.clone(),
            ..self.model.clone()
        }
    }

    /// Features of the frozen generator on random codes, for the alignment loss: the mean over pixels of its last map
    /// with the most channels `[N, C]` [ours].
    fn generator_features(&self, n: usize, step: u64) -> Result<Tensor> {
        no_grad(|| {
            let g = &self.model.generator;
            let mut rng = Philox::new(self.config.run.seed, step * 2 + 2);
            let z = rng.normal(&[n, g.config.style_dim], self.device)?;
            let w = g.repeat_w(&g.mapping(&self.model.generator_params, &z)?)?;
            let mut maps = Features::new();
            g.synthesis(&self.model.generator_params, &w, &mut Noise::Random(&mut rng), Some(&mut maps))?;
            let widest = g.config.channels.0.iter().enumerate().max_by_key(|(_, c)| **c).map_or(0, |(i, _)| i);
            let map = maps.get(&format!("x{}", 4_usize << widest)).ok_or_else(|| TrainError::Config {
                path: "model".into(),
                detail: "the generator gave no features".into(),
            })?;
            let c = map.shape()[3];
            Ok(map.mean(&[1, 2])?.reshape(&[n, c])?)
        })
    }
}

impl Trainer for EncoderTrainer {
    fn kind(&self) -> &'static str {
        "encoder"
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
        let n = images.shape()[0];
        let names = self.adam.names();
        let p = self.params.leaves(|name| names.binary_search_by(|n| n.as_str().cmp(name)).is_ok());
        let size = self.config.model.image_size;
        let input = images.pool_area(size, size)?;
        let mut rng = Philox::new(self.config.run.seed, step * 2 + 1);
        let output = self.encoder.forward(&p, &input, Some(&mut rng))?;
        let w_plus = self.encoder.add_average(&output.offsets, &self.model.w_avg)?;
        let made = self.model.generator.synthesis(&self.decoder(&p), &w_plus, &mut Noise::Fixed, None)?;
        // Losses at the encoder's size, by area pooling where the generator's is larger [ref pSp].
        let made = made.pool_area(size, size)?;
        let l = self.config.loss.clone();
        let mse = l2(&made, &input)?;
        let mut losses = vec![("l2", mse.detach())];
        let mut total = mse.scale(l.l2)?;
        let mut add = |name: &'static str, weight: f64, term: Tensor| -> Result<()> {
            total = total.add(&term.scale(weight)?)?;
            losses.push((name, term.detach()));
            Ok(())
        };
        if let Some(features) = &self.features {
            add("perceptual", l.perceptual, features.distance(&made, &input)?)?;
        }
        if l.w_norm > 0.0 {
            add("w_norm", l.w_norm, w_norm(&output.offsets)?)?;
        }
        if l.alignment > 0.0 {
            let generator = self.generator_features(n, step)?;
            add("alignment", l.alignment, pairwise_kl(&output.backbone.pooled, &generator)?)?;
        }
        losses.push(("loss", total.detach()));
        let images_seen = step * self.config.run.batch as u64;
        let options = options(&self.config.optimizer, images_seen, self.config.run.images);
        descend(&total, &p, &mut self.params, &mut self.adam, &options)?;
        if self.config.ema_half_life > 0.0 {
            // The average forgets faster while there is little to remember.
            let half_life = self.config.ema_half_life.min(images_seen as f64 * 0.05 + n as f64);
            let decay = 0.5_f64.powf(n as f64 / half_life);
            no_grad(|| self.ema.ema_update(&self.params, decay))?;
        }
        Ok(losses)
    }

    fn sample(&mut self) -> Result<Picture> {
        let size = self.config.model.image_size;
        let pixels: Vec<f32> = self.samples.iter().flat_map(Picture::to_f32).collect();
        let input = Tensor::from_vec(pixels, &[self.samples.len(), size, size, 3], self.device)?;
        let made = self.model(&CheckpointHeader::default()).invert(&input)?.images.pool_area(size, size)?;
        let made = Picture::from_batch(&made.to_vec()?, size, size)?;
        // Two triples (source, reconstruction, difference) a row.
        let triples =
            self.samples.iter().zip(&made).map(|(source, made)| {
                Ok(vec![source.clone(), made.clone(), difference(source, made, DIFFERENCE_GAIN)?])
            });
        let triples = triples.collect::<Result<Vec<_>>>()?;
        let rows: Vec<Vec<Picture>> = triples.chunks(2).map(|pair| pair.concat()).collect();
        Ok(sheet(&rows)?)
    }

    fn save(&self, archive: &mut Archive) -> Result<()> {
        let (e, g) = (self.encoder.specs(), self.model.generator.specs());
        for (prefix, params) in [("", &self.params), ("ema.", &self.ema)] {
            params.to_archive(&format!("{prefix}encoder."), &e, archive)?;
            if self.config.train_decoder {
                params.under(DECODER).to_archive(&format!("{prefix}generator."), &g, archive)?;
            }
        }
        archive.metadata.insert(GENERATOR.into(), self.model.generator_params.fingerprint()?);
        save_adam("optim.", &self.adam, archive)
    }

    fn load(&mut self, archive: &Archive) -> Result<()> {
        if archive.metadata.get(GENERATOR) != Some(&self.model.generator_params.fingerprint()?) {
            let detail = "was trained against another generator; give the one that the run began with";
            return Err(TrainError::run(archive.origin(), detail));
        }
        let (e, g) = (self.encoder.specs(), self.model.generator.specs());
        for (prefix, params) in [("", &mut self.params), ("ema.", &mut self.ema)] {
            *params = Params::from_archive(archive, &format!("{prefix}encoder."), &e, self.device)?;
            if self.config.train_decoder {
                let decoder = Params::from_archive(archive, &format!("{prefix}generator."), &g, self.device)?;
                for (name, value) in decoder.iter() {
                    params.insert(format!("{DECODER}{name}"), value.clone());
                }
            }
        }
        load_adam("optim.", &mut self.adam, archive, self.device)
    }

    fn export(&self, folder: &Path, header: &CheckpointHeader) -> Result<PathBuf> {
        let path = folder.join("model.safetensors");
        let mut training = self.model.header.config.get("training").cloned().unwrap_or_else(|| json!({}));
        training["encoder"] = training_record(&header.config, header.images_seen);
        let header = CheckpointHeader {
            architecture: "swinstyleformer".into(),
            config: json!({ "training": training }),
            ..header.clone()
        };
        self.model(&header).save(&path, FloatDtype::F32)?;
        Ok(path)
    }

    fn header(&self, step: u64) -> Result<CheckpointHeader> {
        Ok(CheckpointHeader {
            architecture: "swinstyleformer-training".into(),
            preset: self.config.model.preset_name().unwrap_or_default().into(),
            config: self.config_json()?,
            step,
            images_seen: step * self.config.run.batch as u64,
            data: self.config.data.describe()?,
            seed: self.config.run.seed,
            created_by: concat!("swinstyle ", env!("CARGO_PKG_VERSION")).into(),
        })
    }
}

/// Held-out pictures for the sample sheets of a data set.
pub fn sample_pictures(dataset: &swinstyle_data::Dataset) -> Result<Vec<Picture>> {
    (0..SAMPLES.min(dataset.count())).map(|i| Ok(dataset.picture(i)?)).collect()
}
