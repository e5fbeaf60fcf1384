//! Configuration files of training runs: TOML, unknown keys are errors, command-line overrides by `key=value`.

use std::{path::Path, sync::Arc};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use swinstyle_data::{
    Dataset, ImageFolder,
    avatars::{PortraitSet, Renderer, Split, Style},
};
use swinstyle_models::{
    ModelError,
    stylegan2::{Channels, DiscriminatorConfig, GeneratorConfig},
};
use swinstyle_weights::DataSource;

use crate::{
    AdamOptions, Algorithm, Result, Schedule, TrainError, adversary::AdversaryConfig, schedule::Course, task::Task,
};

/// Where the images come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "source", rename_all = "kebab-case", deny_unknown_fields)]
pub enum DataConfig {
    /// Layered vector portraits, drawn as they are needed.
    Avatars {
        /// Name of the style.
        style: String,
        /// Seed of the picks.
        seed: u64,
        /// Number of different portraits.
        count: u64,
        /// Whether half of the images are mirrored.
        flip: bool,
    },
    /// A folder of PNG, JPEG or WebP files.
    Folder {
        /// The folder.
        path: std::path::PathBuf,
        /// Licence of the images, recorded in the checkpoints.
        licence: String,
        /// Whether half of the images are mirrored.
        flip: bool,
        /// MiB of decoded images that may be kept in memory.
        #[serde(default = "decoded_mib")]
        memory_mib: usize,
    },
}

fn one() -> usize {
    1
}

/// Enough for 40,000 images of 64 px or 2,700 of 256.
fn decoded_mib() -> usize {
    512
}

impl DataConfig {
    /// Whether half of the images are mirrored.
    pub fn flip(&self) -> bool {
        match self {
            Self::Avatars { flip, .. } | Self::Folder { flip, .. } => *flip,
        }
    }

    /// Opens the training images at `size` pixels.
    pub fn open(&self, size: usize) -> Result<Arc<Dataset>> {
        Ok(Arc::new(match self {
            Self::Avatars { style, seed, count, .. } => {
                let renderer = Renderer::new(&Style::named(style)?, size)?;
                Dataset::Portraits(PortraitSet::new(renderer, *seed, Split::Train, *count)?)
            }
            Self::Folder { path, memory_mib, .. } => {
                Dataset::Folder(ImageFolder::open(path, size, memory_mib.saturating_mul(1 << 20))?)
            }
        }))
    }

    /// What checkpoints say about the data.
    pub fn describe(&self) -> Result<DataSource> {
        Ok(match self {
            Self::Avatars { style, seed, count, .. } => {
                let s = Style::named(style)?;
                let (name, url) = s.license();
                DataSource {
                    description: format!("{count} portraits of style {style}, split train, seed {seed}"),
                    licence: format!("{name} ({url})"),
                    attribution: s.attribution().to_string(),
                }
            }
            Self::Folder { path, licence, .. } => DataSource {
                description: format!("images of the folder {}", path.file_name().unwrap_or_default().to_string_lossy()),
                licence: licence.clone(),
                attribution: String::new(),
            },
        })
    }
}

/// What every training run has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Seed of the initial weights, the order of the images and all noise.
    pub seed: u64,
    /// Training images to show in all.
    pub images: u64,
    /// Images a step.
    pub batch: usize,
    /// Parts in which a step's images are computed, their gradients added up: memory for time. Terms that compare the images of a
    /// batch (alignment, minibatch standard deviation) see one part at a time.
    #[serde(default = "one")]
    pub accumulate: usize,
    /// Steps between lines of `metrics.jsonl`.
    pub log_steps: u64,
    /// Images between sample grids.
    pub sample_images: u64,
    /// Minutes between checkpoints; there is one at the start and one at the end too.
    pub checkpoint_minutes: f64,
    /// Checkpoints that are kept.
    pub keep: usize,
}

/// Sizes of a generator and its discriminator, as configuration files give them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GanModel {
    /// Pixels of an edge.
    pub size: usize,
    /// Length of z and w.
    pub style_dim: usize,
    /// Layers of the mapping network.
    pub mapping_layers: usize,
    /// Learning-rate multiplier of the mapping network.
    pub mapping_lr_multiplier: f64,
    /// Channels are min(base / resolution, max).
    pub channel_base: usize,
    /// See `channel_base`.
    pub channel_max: usize,
    /// The discriminator's `channel_base`.
    pub discriminator_base: usize,
    /// The discriminator's `channel_max`.
    pub discriminator_max: usize,
    /// Group of the minibatch standard deviation.
    pub stddev_group: usize,
}

impl GanModel {
    /// The generator's sizes.
    pub fn generator(&self) -> GeneratorConfig {
        GeneratorConfig {
            size: self.size,
            style_dim: self.style_dim,
            mapping_layers: self.mapping_layers,
            mapping_lr_multiplier: self.mapping_lr_multiplier,
            channels: Channels::from_base(self.size, self.channel_base, self.channel_max),
        }
    }

    /// The discriminator's sizes.
    pub fn discriminator(&self) -> DiscriminatorConfig {
        DiscriminatorConfig {
            size: self.size,
            channels: Channels::from_base(self.size, self.discriminator_base, self.discriminator_max),
            stddev_group: self.stddev_group,
            outputs: 1,
        }
    }
}

/// Optimiser of one network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerConfig {
    /// Which one; `adamw` where nothing is said.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// Learning rate.
    pub learning_rate: f64,
    /// Adam's β₁.
    pub beta1: f64,
    /// Adam's β₂.
    pub beta2: f64,
    /// Adam's ε.
    pub epsilon: f64,
    /// Weight decay: decoupled, but for `adam`.
    pub weight_decay: f64,
    /// Schedule of the learning rate.
    pub schedule: Schedule,
    /// Images over which the learning rate rises.
    pub warmup_images: u64,
    /// Where the schedule `step` falls, in images.
    #[serde(default)]
    pub decay_images: Vec<u64>,
    /// By what it falls there.
    #[serde(default = "tenth")]
    pub decay_factor: f64,
    /// Limit of the common norm of all gradients; 0 for none.
    #[serde(default)]
    pub clip_norm: f64,
    /// `ranger`: fast steps between slow ones.
    #[serde(default = "six")]
    pub lookahead_steps: u64,
    /// `ranger`: how far the slow weights follow.
    #[serde(default = "half")]
    pub lookahead_alpha: f64,
}

fn tenth() -> f64 {
    0.1
}

fn six() -> u64 {
    6
}

fn half() -> f64 {
    0.5
}

impl OptimizerConfig {
    /// The constants of the step after `images` of a run of `total`.
    pub fn options(&self, images: u64, total: u64) -> AdamOptions {
        let course = Course {
            schedule: self.schedule,
            warmup: self.warmup_images,
            total,
            decay_images: &self.decay_images,
            decay_factor: self.decay_factor,
        };
        AdamOptions {
            algorithm: self.algorithm,
            learning_rate: self.learning_rate * course.factor(images),
            beta1: self.beta1,
            beta2: self.beta2,
            epsilon: self.epsilon,
            weight_decay: self.weight_decay,
            lookahead_steps: self.lookahead_steps,
            lookahead_alpha: self.lookahead_alpha,
        }
    }

    /// Checks what types do not say; `section` begins the key in errors.
    pub(crate) fn check(&self, section: &str) -> Result<()> {
        let bad = |key: &str, detail: String| Err(bad_key(&format!("{section}.{key}"), detail));
        for (key, value) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&value) {
                return bad(key, format!("{value} is not from 0 to below 1"));
            }
        }
        for (key, value) in [
            ("learning_rate", self.learning_rate),
            ("weight_decay", self.weight_decay),
            ("clip_norm", self.clip_norm),
            ("decay_factor", self.decay_factor),
        ] {
            if !(value >= 0.0 && value.is_finite()) {
                return bad(key, format!("{value} is not a number from 0 on"));
            }
        }
        if self.schedule == Schedule::Step && self.decay_images.is_empty() {
            return bad("decay_images", "the schedule `step` needs the images after which the rate falls".to_string());
        }
        if self.lookahead_steps == 0 || !(0.0..=1.0).contains(&self.lookahead_alpha) {
            return bad("lookahead_alpha", "lookahead_steps from 1 on and lookahead_alpha from 0 to 1".to_string());
        }
        Ok(())
    }
}

/// StyleGAN2's objective and regularisation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GanLoss {
    /// Weight γ of R1 (its loss is γ/2 · R1).
    pub r1_gamma: f64,
    /// Steps between R1 steps.
    pub r1_interval: u64,
    /// Weight of the path-length penalty; 0 leaves it out.
    pub path_length_weight: f64,
    /// Rate of the running mean of path lengths.
    pub path_length_decay: f64,
    /// Steps between path-length steps.
    pub path_length_interval: u64,
    /// The path-length batch is the batch divided by this.
    pub path_length_batch_shrink: usize,
    /// Probability that a batch mixes the styles of two codes.
    pub style_mixing: f64,
    /// Images over which the averaged weights forget half.
    pub ema_half_life: f64,
}

/// `swinstyle train generator`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GeneratorTraining {
    /// Length, batch and outputs of the run.
    pub run: RunConfig,
    /// Training images.
    pub data: DataConfig,
    /// Sizes.
    pub model: GanModel,
    /// Adam for both networks.
    pub optimizer: OptimizerConfig,
    /// Objective.
    pub loss: GanLoss,
    /// Adaptive augmentation of what the discriminator sees; without the section there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub augment: Option<crate::augment::AugmentConfig>,
}

/// Form of the distribution alignment loss [paper names it].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Alignment {
    /// Neighbourhoods of features of the encoder's backbone against those of the generator [sibling]: [`pairwise_kl`](crate::losses::pairwise_kl).
    #[default]
    PairwiseKl,
    /// Codes against mapped w, as Gaussians [ours]: [`latent_kl`](crate::losses::latent_kl).
    LatentKl,
}

/// Weights of the encoder's loss terms; a term of weight 0 is not computed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderLoss {
    /// λ of the mean squared error.
    pub l2: f64,
    /// λ of the discriminator-feature distance.
    pub perceptual: f64,
    /// λ of ‖w − w_avg‖.
    pub w_norm: f64,
    /// λ of the distribution alignment.
    pub alignment: f64,
    /// Form of the alignment.
    #[serde(default)]
    pub alignment_form: Alignment,
    /// λ of the inversion discriminator's term; it needs `[discriminator]`.
    #[serde(default)]
    pub adversarial: f64,
    /// λ of e4e's Σ ‖w_i − w_0‖.
    #[serde(default)]
    pub delta: f64,
    /// λ of LPIPS.
    #[serde(default)]
    pub lpips: f64,
    /// The file or files with LPIPS' trunk and linear heads, as the process finds them from where it runs.
    #[serde(default, deserialize_with = "crate::foreign::files")]
    pub lpips_weights: Vec<std::path::PathBuf>,
    /// λ of the identity loss.
    #[serde(default)]
    pub identity: f64,
    /// The file with ArcFace's IR-SE50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_weights: Option<std::path::PathBuf>,
}

/// e4e's progressive stages [ref, arXiv 2102.02766, §4.2]: at first all styles are style 0; from `start_images` on another one is let go every
/// `every_images`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progressive {
    /// Images with one style.
    pub start_images: u64,
    /// Images of each stage after that.
    pub every_images: u64,
}

impl Progressive {
    /// Styles that have a value of their own after `images`, of `styles`.
    pub fn free_styles(&self, images: u64, styles: usize) -> usize {
        let Some(past) = images.checked_sub(self.start_images) else { return 1.min(styles) };
        (2 + (past / self.every_images.max(1)) as usize).min(styles)
    }
}

/// `swinstyle train encoder`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderTraining {
    /// Length, batch and outputs of the run.
    pub run: RunConfig,
    /// Training images.
    pub data: DataConfig,
    /// What the encoder reads.
    #[serde(default, skip_serializing_if = "Task::is_inversion")]
    pub task: Task,
    /// Sizes and switches of the encoder.
    pub model: swinstyle_models::styleformer::StyleformerConfig,
    /// Optimiser of the encoder.
    pub optimizer: OptimizerConfig,
    /// Objective.
    pub loss: EncoderLoss,
    /// The inversion discriminator, for `loss.adversarial`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discriminator: Option<AdversaryConfig>,
    /// Styles let go one after another; without it all are free from the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progressive: Option<Progressive>,
    /// Images over which the averaged weights forget half; 0 keeps no average.
    pub ema_half_life: f64,
    /// Whether the generator is trained along (pSp's option); recorded in the checkpoint.
    pub train_decoder: bool,
}

/// Reads a configuration and applies overrides such as `run.batch=8`.
///
/// Errors name the file and the line, or the override: syntax, unknown or missing keys, wrong types.
pub fn load<C: DeserializeOwned>(path: &Path, overrides: &[String]) -> Result<C> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|e| TrainError::Config { path: shown.clone(), detail: format!("cannot be read: {e}") })?;
    parse(&text, &shown, overrides)
}

/// [`load`] from text; `shown` stands for the file in errors.
pub fn parse<C: DeserializeOwned>(text: &str, shown: &str, overrides: &[String]) -> Result<C> {
    let located = |e: toml::de::Error| {
        let line = e.span().map(|s| text[..s.start.min(text.len())].lines().count().max(1));
        let path = line.map_or_else(|| shown.to_string(), |l| format!("{shown}:{l}"));
        TrainError::Config { path, detail: e.message().replace('\n', " ") }
    };
    // The file alone first: its errors have lines.
    let config: C = toml::from_str(text).map_err(located)?;
    if overrides.is_empty() {
        return Ok(config);
    }
    let mut table: toml::Table = toml::from_str(text).map_err(located)?;
    for o in overrides {
        let bad = |detail: String| TrainError::Config { path: format!("override `{o}`"), detail };
        let Some((key, value)) = o.split_once('=') else {
            return Err(bad("key=value expected, such as run.batch=8".to_string()));
        };
        // A bare word is a string, so that `data.style=adventurer` needs no quotes.
        let value = value.trim();
        let value = format!("v = {value}")
            .parse::<toml::Table>()
            .ok()
            .and_then(|mut t| t.remove("v"))
            .unwrap_or_else(|| toml::Value::String(value.to_string()));
        let mut place = &mut table;
        let mut parts = key.trim().split('.').peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                place.insert(part.to_string(), value.clone());
                break;
            }
            // A section may be left out of the file; what no configuration knows is refused below.
            place = match place.entry(part).or_insert_with(|| toml::Table::new().into()) {
                toml::Value::Table(t) => t,
                _ => return Err(bad(format!("`{part}` is no section"))),
            };
        }
        // Checked one by one, so that the error names the override at fault.
        let checked: std::result::Result<C, _> = table.clone().try_into();
        if let Err(e) = checked {
            return Err(bad(e.message().replace('\n', " ")));
        }
    }
    table.try_into().map_err(located)
}

/// An error of a network's or a trainer's sizes with the place that it comes from: the override, or the file and the line of the key.
///
/// Errors that are not about the configuration come back as they are.
pub fn located(path: &Path, overrides: &[String], error: TrainError) -> TrainError {
    let (key, detail) = match &error {
        TrainError::Config { path: key, detail } if !key.contains([' ', ':', '/', '`']) => {
            (key.clone(), detail.clone())
        }
        TrainError::Model(e @ ModelError::Config { .. }) => ("model".to_string(), e.to_string()),
        _ => return error,
    };
    let names = |o: &&String| o.split_once('=').is_some_and(|(k, _)| k.trim() == key);
    if let Some(o) = overrides.iter().rev().find(names) {
        return TrainError::Config { path: format!("override `{o}`"), detail };
    }
    let line = std::fs::read_to_string(path).ok().and_then(|text| line_of(&text, &key));
    let line = line.map(|l| format!(":{l}")).unwrap_or_default();
    TrainError::Config { path: format!("{}{line}: {key}", path.display()), detail }
}

/// The line, from 1, of a key such as `run.batch`, or of the section that it would stand in.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let document = toml::de::DeTable::parse(text).ok()?;
    let mut table = document.get_ref();
    let mut place = None;
    for part in key.split('.') {
        let Some((name, value)) = table.iter().find(|(name, _)| name.get_ref() == part) else { break };
        place = Some(name.span().start);
        let Some(inner) = value.get_ref().as_table() else { break };
        table = inner;
    }
    place.map(|at| text[..at.min(text.len())].matches('\n').count() + 1)
}

/// A configuration error at a key.
pub(crate) fn bad_key(key: &str, detail: impl Into<String>) -> TrainError {
    TrainError::Config { path: key.to_string(), detail: detail.into() }
}

/// Checks what every run must satisfy.
pub(crate) fn check_run(run: &RunConfig) -> Result<()> {
    let fields = [
        ("run.batch", run.batch as u64),
        ("run.accumulate", run.accumulate as u64),
        ("run.images", run.images),
        ("run.log_steps", run.log_steps),
        ("run.sample_images", run.sample_images),
        ("run.keep", run.keep as u64),
    ];
    let bad = |key: &str, detail: &str| Err(bad_key(key, detail));
    match fields.iter().find(|(_, v)| *v == 0) {
        Some((key, _)) => bad(key, "must be at least 1"),
        None if run.checkpoint_minutes.is_nan() || run.checkpoint_minutes < 0.0 => {
            bad("run.checkpoint_minutes", "must be a number from 0 on")
        }
        None if !run.batch.is_multiple_of(run.accumulate) => {
            bad("run.accumulate", &format!("{} does not divide run.batch {}", run.accumulate, run.batch))
        }
        None => Ok(()),
    }
}
