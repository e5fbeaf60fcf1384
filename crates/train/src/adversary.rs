//! The inversion discriminator [paper names it], in two forms, with its own optimiser.
//!
//! - `image-pair` [sibling]: an image's embedding q(x) and its slowly moving copy k(x), q a StyleGAN2-style convolutional trunk. The score of an image
//!   against the source x is cos(q(·), k(x)). The discriminator draws the score of the source itself to 1 and that of the inversion x̂ to −1, the encoder
//!   that of x̂ to 1, all by least squares; its gradient goes through q and the generator into the encoder.
//! - `latent` [ref e4e, arXiv 2102.02766]: an MLP that tells the encoder's codes, style by style and from a pool of earlier ones, from mapped w; logistic.
//!
//! Both are regularised by R1 on the real side, lazily.

use serde::{Deserialize, Serialize};
use swinstyle_models::{
    LatentDiscriminator, Model, Params,
    layers::unit_length,
    stylegan2::{Channels, Discriminator, DiscriminatorConfig},
};
use swinstyle_tensor::{Device, Tensor, no_grad, rng::Philox};
use swinstyle_weights::Archive;

use crate::{
    Adam, AdamOptions, Result,
    config::bad_key,
    generator::accuracy,
    gradients::descend,
    losses::{discriminator_logistic, generator_logistic, least_squares, r1_penalty},
    memory::{self, Need},
    run::Losses,
    state::{load_tensors, save_tensor, save_tensors},
};

/// Guard of an embedding of length 0.
const LENGTH_EPSILON: f64 = 1e-12;
/// Steps before anything is said about its accuracy.
const YOUNG: u64 = 300;

/// Which discriminator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdversaryKind {
    /// Embeddings of inversion and source [sibling].
    ImagePair,
    /// Codes and mapped w [ref e4e].
    Latent,
}

/// The section `[discriminator]` of an encoder's configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdversaryConfig {
    /// Which form.
    pub kind: AdversaryKind,
    /// Learning rate of its Adam, β (0, 0.99).
    pub learning_rate: f64,
    /// Weight γ of R1 (its loss is γ/2 · R1).
    #[serde(default = "ten")]
    pub r1_gamma: f64,
    /// Steps between R1 steps; 0 for none.
    #[serde(default = "sixteen")]
    pub r1_interval: u64,
    /// `latent`: hidden layers.
    #[serde(default = "four")]
    pub layers: usize,
    /// `latent`: their width.
    #[serde(default = "five_hundred_twelve")]
    pub width: usize,
    /// `latent`: codes of earlier steps that the fake side is drawn from; 0 for the batch's own.
    #[serde(default = "fifty")]
    pub pool: usize,
    /// `image-pair`: channels are min(base / resolution, max).
    #[serde(default = "base")]
    pub channel_base: usize,
    /// See `channel_base`.
    #[serde(default = "five_hundred_twelve")]
    pub channel_max: usize,
    /// `image-pair`: length of the embedding.
    #[serde(default = "one_hundred_twenty_eight")]
    pub embedding: usize,
    /// `image-pair`: share of k that stays in a step.
    #[serde(default = "slow")]
    pub momentum: f64,
}

fn ten() -> f64 {
    10.0
}

fn sixteen() -> u64 {
    16
}

fn four() -> usize {
    4
}

fn fifty() -> usize {
    50
}

fn one_hundred_twenty_eight() -> usize {
    128
}

fn five_hundred_twelve() -> usize {
    512
}

fn base() -> usize {
    16_384
}

fn slow() -> f64 {
    0.999
}

#[derive(Debug)]
enum Network {
    ImagePair(Discriminator),
    Latent(LatentDiscriminator),
}

/// An inversion as the discriminator sees it.
#[derive(Debug, Clone, Copy)]
pub struct Inverted<'a> {
    /// What was to be inverted, `[N, H, W, 3]`.
    pub source: &'a Tensor,
    /// k of the source, [`Adversary::key`]; nothing where no discriminator compares images.
    pub key: Option<&'a Tensor>,
    /// What the generator made, `[N, H, W, 3]`.
    pub made: &'a Tensor,
    /// The codes, `[N, L, D]`.
    pub w_plus: &'a Tensor,
}

/// An inversion discriminator in training.
#[derive(Debug)]
pub struct Adversary {
    config: AdversaryConfig,
    network: Network,
    seed: u64,
    device: Device,
    params: Params,
    /// k's weights; empty for `latent`.
    slow: Params,
    adam: Adam,
    /// Earlier codes, `[1, L, D]` each.
    pool: Vec<Tensor>,
}

impl Adversary {
    /// A fresh discriminator for inversions of `size` pixels by the generator of `model`.
    ///
    /// Errors: sizes that make no network. The ranges of single numbers are those of the table of keys.
    pub fn new(config: AdversaryConfig, model: &Model, size: usize, seed: u64, device: Device) -> Result<Self> {
        let network = match config.kind {
            AdversaryKind::ImagePair => Network::ImagePair(Discriminator::new(DiscriminatorConfig {
                size,
                channels: Channels::from_base(size, config.channel_base, config.channel_max),
                // An embedding is of one image alone.
                stddev_group: 1,
                outputs: config.embedding,
            })?),
            AdversaryKind::Latent => {
                let style_dim = model.generator.config.style_dim;
                Network::Latent(LatentDiscriminator { style_dim, width: config.width, layers: config.layers })
            }
        };
        let specs = match &network {
            Network::ImagePair(d) => d.specs(),
            Network::Latent(d) => d.specs(),
        };
        // Weights, their slow copy, moments and gradients.
        let need = Need { networks: 4 * 5 * memory::values(&specs), ..Need::default() };
        need.check(memory::available(), "discriminator")?;
        let seed = seed ^ 0x00AD_5EED;
        let params = Params::init(&specs, seed, device)?;
        let adam = Adam::new(&params, |_| true)?.laid_out("", &specs);
        let slow = match network {
            Network::ImagePair(_) => params.clone(),
            Network::Latent(_) => Params::default(),
        };
        Ok(Self { config, network, seed, device, params, slow, adam, pool: Vec::new() })
    }

    /// Values of its network.
    pub(crate) fn parameters(&self) -> u64 {
        self.params.iter().map(|(_, value)| value.len() as u64).sum()
    }

    /// k(x) of sources `[N, H, W, 3]`, for the encoder's terms and the discriminator's step alike: `[N, embedding]`; nothing for `latent`.
    pub fn key(&self, source: &Tensor) -> Result<Option<Tensor>> {
        Ok(match &self.network {
            Network::ImagePair(d) => Some(no_grad(|| d.forward(&self.slow, &source.detach(), None))?),
            Network::Latent(_) => None,
        })
    }

    /// The encoder's term, a scalar: how far the discriminator is from taking the inversion for the source, or the codes for mapped w.
    pub fn encoder_term(&self, inverted: Inverted) -> Result<Tensor> {
        Ok(match &self.network {
            Network::ImagePair(d) => {
                least_squares(&cosines(&d.forward(&self.params, inverted.made, None)?, key(inverted)?)?, 1.0)?
            }
            Network::Latent(d) => generator_logistic(&d.forward(&self.params, &rows(inverted.w_plus)?)?)?,
        })
    }

    /// Trains the discriminator on a batch of inversions; returns its metrics.
    pub fn step(&mut self, step: u64, inverted: Inverted, model: &Model) -> Result<Losses> {
        let mut rng = Philox::new(self.seed, step);
        let interval = if self.config.r1_gamma > 0.0 { self.config.r1_interval } else { 0 };
        let options = AdamOptions::new(self.config.learning_rate, 0.0, 0.99).lazy(interval);
        let (source, made) = (inverted.source.detach(), inverted.made.detach());
        let regularise = interval > 0 && step.is_multiple_of(interval);
        let p = self.params.leaves(|_| true);
        let (loss, on_real, on_fake, r1) = match &self.network {
            Network::ImagePair(d) => {
                let key = key(inverted)?;
                let score = |x: &Tensor| -> Result<Tensor> { cosines(&d.forward(&p, x, None)?, key) };
                let (on_real, on_fake) = (score(&source)?, score(&made)?);
                let loss = least_squares(&on_real, 1.0)?.add(&least_squares(&on_fake, -1.0)?)?;
                let leaf = source.as_leaf();
                let r1 = match regularise {
                    true => Some(r1_penalty(&score(&leaf)?, &leaf)?),
                    false => None,
                };
                (loss, on_real, on_fake, r1)
            }
            Network::Latent(d) => {
                let n = source.shape()[0];
                let real = no_grad(|| model.generator.random_w(&model.generator_params, n, &mut rng, self.device))?;
                let fake = drawn(&mut self.pool, self.config.pool, &inverted.w_plus.detach(), &mut rng)?;
                let (on_real, on_fake) = (d.forward(&p, &real)?, d.forward(&p, &rows(&fake)?)?);
                let loss = discriminator_logistic(&on_real, &on_fake)?;
                let leaf = real.as_leaf();
                let r1 = match regularise {
                    true => Some(r1_penalty(&d.forward(&p, &leaf)?, &leaf)?),
                    false => None,
                };
                (loss, on_real, on_fake, r1)
            }
        };
        let mut losses = vec![("adv_d_loss", loss.detach()), ("adv_accuracy", accuracy(&on_real, &on_fake)?)];
        let total = match r1 {
            Some(r1) => {
                losses.push(("adv_r1", r1.detach()));
                loss.add(&r1.scale(0.5 * self.config.r1_gamma * interval as f64)?)?
            }
            None => loss,
        };
        descend(&total, &p, &mut self.params, &mut self.adam, &options)?;
        if !self.slow.is_empty() {
            no_grad(|| self.slow.ema_update(&self.params, self.config.momentum))?;
        }
        Ok(losses)
    }

    /// What the user should know when the discriminator has won or has given up; `accuracy` is a mean over steps. Nothing while it is young.
    pub(crate) fn verdict(&self, accuracy: f64) -> Option<&'static str> {
        match accuracy {
            _ if self.adam.step < YOUNG => None,
            a if a >= 0.99 => Some(
                "tells every inversion apart: its term leads the encoder nowhere; lower discriminator.learning_rate or raise discriminator.r1_gamma",
            ),
            a if a <= 0.505 => Some(
                "tells nothing apart: it has collapsed or has lost; raise discriminator.learning_rate or lower loss.adversarial",
            ),
            _ => None,
        }
    }

    /// Puts the whole state into an archive.
    pub(crate) fn save(&self, archive: &mut Archive) -> Result<()> {
        save_tensors("adversary.", &self.params, archive)?;
        save_tensors("adversary_slow.", &self.slow, archive)?;
        self.adam.save("adversary_optim.", archive)?;
        if !self.pool.is_empty() {
            save_tensor("adversary_pool", &Tensor::concat(&self.pool.iter().collect::<Vec<_>>(), 0)?, archive)?;
        }
        Ok(())
    }

    /// Takes it back.
    pub(crate) fn load(&mut self, archive: &Archive) -> Result<()> {
        load_tensors("adversary.", &mut self.params, archive)?;
        load_tensors("adversary_slow.", &mut self.slow, archive)?;
        self.adam.load("adversary_optim.", archive)?;
        self.pool.clear();
        if let Some(pool) = archive.arrays.get("adversary_pool") {
            let pool = Tensor::from_vec(pool.data.clone(), &pool.shape, self.device)?;
            for i in 0..pool.shape()[0] {
                self.pool.push(pool.slice(0, i, 1)?);
            }
        }
        Ok(())
    }
}

fn key<'a>(inverted: Inverted<'a>) -> Result<&'a Tensor> {
    inverted.key.ok_or_else(|| bad_key("discriminator", "image pairs are compared by the source's key"))
}

/// Cosine of each row with its partner, `[N, 1]`.
fn cosines(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    Ok(unit_length(a, 1, LENGTH_EPSILON)?.mul(&unit_length(b, 1, LENGTH_EPSILON)?)?.sum(&[1])?)
}

/// Every style of every code as a row: `[N, L, D]` to `[N·L, D]`.
fn rows(w_plus: &Tensor) -> Result<Tensor> {
    let (n, l, d) = (w_plus.shape()[0], w_plus.shape()[1], w_plus.shape()[2]);
    Ok(w_plus.reshape(&[n * l, d])?)
}

/// Codes from a pool that the batch's own go into [ref, arXiv 1612.07828]: while it fills, the batch's; then each with probability ½ an
/// earlier one, whose place it takes.
fn drawn(pool: &mut Vec<Tensor>, size: usize, codes: &Tensor, rng: &mut Philox) -> Result<Tensor> {
    if size == 0 {
        return Ok(codes.clone());
    }
    let mut out = Vec::new();
    for i in 0..codes.shape()[0] {
        let own = codes.slice(0, i, 1)?;
        if pool.len() < size {
            pool.push(own.clone());
            out.push(own);
        } else if rng.uniform() < 0.5 {
            let place = rng.below(size);
            out.push(std::mem::replace(&mut pool[place], own));
        } else {
            out.push(own);
        }
    }
    Ok(Tensor::concat(&out.iter().collect::<Vec<_>>(), 0)?)
}
