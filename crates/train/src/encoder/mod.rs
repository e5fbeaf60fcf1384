//! Training of a SwinStyleformer encoder against a generator.

mod check;
mod need;
mod objective;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use swinstyle_data::{
    Picture,
    picture::{Sheet, difference},
};
use swinstyle_models::{
    Lineage, Model, Params,
    perceptual::DiscriminatorFeatures,
    styleformer::{Styleformer, Training},
    stylegan2::Generator,
};
use swinstyle_tensor::{Device, Tensor, no_grad, rng::Philox};
use swinstyle_weights::{Archive, CheckpointHeader, FloatDtype};

use crate::{
    Adam, Gradients, Position, Result, StepData, TrainError, Trainer,
    adversary::{Adversary, Inverted},
    config::{EncoderTraining, RunConfig},
    foreign::ForeignLosses,
    init::{self, Init},
    loss_scale::LossScale,
    memory::values,
    record::{state_header, to_json, training_record},
    run::{Losses, parts, whole},
    task::{self, Samples, Task},
};

/// Share of the running statistics that a step renews, as in PyTorch's batch norm.
const STATISTICS_RATE: f64 = 0.1;
/// Amplification of the difference pictures.
const DIFFERENCE_GAIN: f32 = 2.0;

/// State of an encoder training.
pub struct EncoderTrainer {
    config: EncoderTraining,
    device: Device,
    model: Model,
    encoder: Styleformer,
    features: Option<DiscriminatorFeatures>,
    foreign: ForeignLosses,
    /// Encoder's weights under their names and, when the decoder is trained too, the generator's under `generator.`.
    params: Params,
    ema: Params,
    adam: Adam,
    adversary: Option<Adversary>,
    /// The frozen generator's weights in the type that it computes in; those that are trained are converted in every step.
    frozen: Params,
    /// Scale of the loss, in f16.
    scale: Option<LossScale>,
    /// Whether the discriminator's last accuracy was worth a remark.
    remarked: bool,
    task: Task,
    /// Held images for the sample sheet.
    samples: Samples,
    init: Option<Init>,
}

/// Prefix of the generator's weights among those that are trained.
const DECODER: &str = "generator.";
/// The one parameter whose shape hangs on the channels of the input.
const EMBEDDING: &str = "backbone.features.0.0.weight";
/// Metadata key of the generator's fingerprint: a run must go on against the generator that it began with.
const GENERATOR: &str = "generator_fingerprint";

impl EncoderTrainer {
    /// A fresh encoder against the generator of `model`; `samples` are shown on the sample sheets.
    ///
    /// Errors: those of [`EncoderTrainer::check`], a task that the data do not fit, what files of other networks lack.
    pub fn new(config: EncoderTraining, model: Model, samples: Samples, device: Device) -> Result<Self> {
        let encoder = Self::check(&config, &model, device)?;
        let task = config.task.clone().settled(&samples.labels, &config.model)?;
        let size = config.model.image_size;
        let adversary = match &config.discriminator {
            Some(c) if config.loss.adversarial > 0.0 => {
                Some(Adversary::new(c.clone(), &model, size, config.run.seed, device)?)
            }
            _ => None,
        };
        let precision = config.run.precision;
        let features = match &model.discriminator {
            Some((discriminator, params)) if config.loss.perceptual > 0.0 => {
                let params = params.to_dtype(precision, |_| false)?;
                Some(DiscriminatorFeatures { discriminator: discriminator.clone(), params })
            }
            _ => None,
        };
        let foreign = ForeignLosses::load(&config.loss, size, device)?;
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
        let adam = adam.laid_out("", &encoder.specs()).laid_out(DECODER, &model.generator.specs());
        let ema = params.clone();
        let frozen = model.generator_params.to_dtype(precision, Generator::keeps_f32)?;
        let scale = LossScale::new(precision, ["loss_scale", "skipped"]);
        Ok(Self {
            config,
            device,
            model,
            encoder,
            features,
            foreign,
            params,
            ema,
            adam,
            adversary,
            frozen,
            scale,
            remarked: false,
            task,
            samples,
            init: None,
        })
    }

    /// Begins with the weights of another model's encoder, and of its generator where the decoder is trained. Returns what was taken.
    ///
    /// An encoder of another input (images for label maps) gives all but the embedding of its patches, which begins fresh.
    /// Errors: a model without an encoder, the first tensor of `file` that does not fit.
    pub fn start_from(&mut self, model: &Model, file: &Path) -> Result<&Init> {
        let Some((other, encoder)) = &model.encoder else {
            return Err(TrainError::run(file, "has no encoder to start from"));
        };
        let (ours, theirs) = (&self.config.model.backbone, &other.config.backbone);
        let same_input = ours.in_channels == theirs.in_channels;
        let (mut specs, mut encoder) = (self.encoder.specs(), encoder.clone());
        if !same_input {
            specs.retain(|s| s.name != EMBEDDING);
            encoder = encoder.iter().filter(|(n, _)| *n != EMBEDDING).map(|(n, v)| (n.clone(), v.clone())).collect();
        }
        for (name, value) in init::matching(&specs, &encoder, "encoder", file)?.iter() {
            self.params.insert(name.clone(), value.clone());
        }
        let mut taken = vec![if same_input { "encoder" } else { "encoder without its patch embedding" }];
        if self.config.train_decoder {
            let specs = self.model.generator.specs();
            let decoder = init::matching(&specs, &model.generator_params, "generator", file)?;
            for (name, value) in decoder.iter() {
                self.params.insert(format!("{DECODER}{name}"), value.clone());
            }
            taken.push("generator");
        }
        self.ema = self.params.clone();
        Ok(self.init.insert(Init::new(file, model, &taken)?))
    }

    /// The generator's weights: those being trained, or the frozen ones.
    fn decoder(&self, p: &Params) -> Params {
        if self.config.train_decoder { p.under(DECODER) } else { self.model.generator_params.clone() }
    }

    fn averaged(&self) -> &Params {
        if self.config.ema_half_life > 0.0 { &self.ema } else { &self.params }
    }

    /// A trained generator remembers the one that it was made from: that of `--init`, where it began with one.
    fn with_lineage(&self, mut model: Model) -> Result<Model> {
        if self.config.train_decoder {
            let parents = match &self.init {
                Some(init) if !init.lineage.is_empty() => init.lineage.clone(),
                _ => self.model.lineage()?,
            };
            model.lineage = Lineage::made_from(&model.generator_params, &parents)?;
        }
        Ok(model)
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

    fn parameters(&self) -> Vec<(&'static str, u64)> {
        let mut parameters = vec![("encoder", values(&self.encoder.specs()))];
        if self.config.train_decoder {
            parameters.push(("generator", values(&self.model.generator.specs())));
        }
        parameters.extend(self.adversary.as_ref().map(|a| ("inversion discriminator", a.parameters())));
        parameters
    }

    fn label_maps(&self) -> bool {
        matches!(self.task, Task::Segmentation { .. })
    }

    fn step(&mut self, at: Position, data: &StepData) -> Result<Losses> {
        let n = data.images.shape()[0];
        let Position { step, images: images_seen } = at;
        let p = self.params.leaves(|name| self.adam.updates(name));
        let styles = self.config.model.n_styles();
        let mut training = Training {
            rng: Philox::new(self.config.run.seed, step * 2 + 1),
            free_styles: self.config.progressive.map_or(styles, |s| s.free_styles(images_seen, styles)),
            statistics: Vec::new(),
        };
        let mut draws = Philox::new(self.config.run.seed, step * 2 + 2);
        let (mut gradients, mut losses, mut seen) = (Gradients::default(), Losses::new(), Vec::new());
        let size = self.config.model.image_size;
        let mut inputs = self.task.inputs(data, self.config.run.seed, step);
        for part in parts(&data.images, self.config.run.accumulate)? {
            let source = part.pool_area(size, size)?;
            let input = inputs.next(&source)?;
            seen.push(self.passes(&p, &input, source, &mut training, &mut draws, &mut gradients, &mut losses)?);
        }
        let options = self.config.optimizer.options(images_seen, self.config.run.images);
        if LossScale::settle(&mut self.scale, &mut gradients, &mut losses)? {
            gradients.clip(self.config.optimizer.clip_norm, "grad_norm", &mut losses)?;
            gradients.apply(&mut self.params, &mut self.adam, &options)?;
        }
        for (name, value) in training.statistics {
            let old = self.params.get(&name)?;
            let value = value.to_dtype(old.dtype())?;
            let new = no_grad(|| old.add(&value.sub(old)?.scale(STATISTICS_RATE)?))?;
            self.params.insert(name, new);
        }
        if let Some(adversary) = &mut self.adversary {
            let keys: Vec<&Tensor> = seen.iter().filter_map(|s| s.key.as_ref()).collect();
            let inverted = Inverted {
                source: &whole(seen.iter().map(|s| &s.source))?,
                key: if keys.is_empty() { None } else { Some(&whole(keys.into_iter())?) },
                made: &whole(seen.iter().map(|s| &s.made))?,
                w_plus: &whole(seen.iter().map(|s| &s.w_plus))?,
            };
            losses.extend(adversary.step(step, inverted, &self.model)?);
        }
        if self.config.ema_half_life > 0.0 {
            // The average forgets faster while there is little to remember.
            let half_life = self.config.ema_half_life.min(images_seen as f64 * 0.05 + n as f64);
            let decay = 0.5_f64.powf(n as f64 / half_life);
            no_grad(|| self.ema.ema_update(&self.params, decay))?;
        }
        Ok(losses)
    }

    fn remark(&mut self, losses: &[(String, f64)]) -> Option<String> {
        let accuracy = losses.iter().find(|(name, _)| name == "adv_accuracy")?.1;
        let verdict = self.adversary.as_ref()?.verdict(accuracy);
        // Said once, and again when it comes back.
        let first = verdict.is_some() && !self.remarked;
        self.remarked = verdict.is_some();
        verdict.filter(|_| first).map(|v| format!("the inversion discriminator (accuracy {accuracy:.3}) {v}"))
    }

    fn sample(&mut self) -> Result<Picture> {
        let size = self.config.model.image_size;
        let (input, shown) = self.samples.inputs(&self.task, self.device)?;
        let made = self.model(&CheckpointHeader::default()).invert(&input)?.images.pool_area(size, size)?;
        let made = Picture::from_batch(&made.to_vec()?, size, size)?;
        // What was read, what was made of it, and how far that is from the source, or the source itself.
        let (read, last) = match self.task {
            Task::Inversion {} => ("source", format!("difference x{DIFFERENCE_GAIN}")),
            Task::Segmentation { .. } => ("label map", "source".to_string()),
            Task::SuperResolution { .. } => ("small", "source".to_string()),
        };
        let mut sheet = Sheet::new([read, "made of it", &last]);
        for ((source, shown), made) in self.samples.pictures.iter().zip(shown).zip(made) {
            let last = match self.task {
                Task::Inversion {} => difference(source, &made, DIFFERENCE_GAIN)?,
                _ => source.clone(),
            };
            sheet.row("", [shown, made, last]);
        }
        Ok(sheet.render()?)
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
        if let Some(adversary) = &self.adversary {
            adversary.save(archive)?;
        }
        Init::save(self.init.as_ref(), archive)?;
        self.scale.iter().for_each(|s| s.save(archive));
        self.adam.save("optim.", archive)
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
        if let Some(adversary) = &mut self.adversary {
            adversary.load(archive)?;
        }
        self.init = Init::load(archive)?;
        self.scale.iter_mut().try_for_each(|s| s.load(archive))?;
        self.adam.load("optim.", archive)
    }

    fn export(&self, folder: &Path, header: &CheckpointHeader) -> Result<PathBuf> {
        let path = folder.join("model.safetensors");
        let mut training = self.model.header.config.get("training").cloned().unwrap_or_else(|| json!({}));
        training["encoder"] = training_record(header, self.init.as_ref())?;
        let header = CheckpointHeader {
            architecture: "swinstyleformer".into(),
            config: json!({ "training": training, task::KEY: self.task.record()? }),
            ..header.clone()
        };
        self.with_lineage(self.model(&header))?.save(&path, FloatDtype::F32)?;
        Ok(path)
    }

    fn header(&self, at: Position) -> Result<CheckpointHeader> {
        let preset = self.config.model.preset_name().unwrap_or_default();
        let parts = (&self.config.run, &self.config.data);
        state_header("swinstyleformer-training", preset, &self.config, parts, at)
    }
}
