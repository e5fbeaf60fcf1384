//! Inversion by optimisation: StyleGAN2's projector (arXiv 1912.04958, appendix D) into W or W+, and pivotal tuning of the generator
//! (PTI, arXiv 2106.05744). Slow beside an encoder, and the reference for what one could reach.
//!
//! As in the appendix: σ_w, the noise on w and its schedule, the ramps of the learning rate, Adam's constants, the regularisation of the
//! noise maps and their normalisation. Otherwise than there: the loss is L2 and discriminator features in place of LPIPS; the start is
//! the model's own w_avg or, without noise on w, the encoder's code; the code may have a w for each layer; noise maps begin as
//! the model's own; the first step already has a learning rate. The tuning has L2 and the same features, and no locality regularisation.

mod noise_maps;
#[cfg(test)]
mod tests;

use swinstyle_models::{Model, Params, perceptual::DiscriminatorFeatures, stylegan2::Noise};
use swinstyle_tensor::{Tensor, no_grad, rng::Philox};

use self::noise_maps::{correlation, normalise};
use crate::{Adam, AdamOptions, Result, TrainError, gradients::descend, losses::l2};

/// Name of the code among the parameters; the noise maps keep the generator's names.
const CODE: &str = "code";
/// Share of the steps over which the learning rate rises, and over which it falls at the end.
const RAMP_UP: f64 = 0.05;
const RAMP_DOWN: f64 = 0.25;
/// Noise that is added to the code, in σ_w, and the share of the steps over which it fades.
const CODE_NOISE: f64 = 0.05;
const CODE_NOISE_SHARE: f64 = 0.75;
/// Codes behind σ_w.
const SAMPLES: usize = 10_000;
/// Step between two reports of the loss.
const REPORT: usize = 10;

/// What a projection optimises, and how long.
#[derive(Debug, Clone, PartialEq)]
pub struct ProjectOptions {
    /// Steps on the code.
    pub steps: usize,
    /// Highest learning rate of the code. The projector of the paper: 0.1; from an encoder's code a tenth of that is enough.
    pub learning_rate: f64,
    /// One w for all layers (W) instead of one for each (W+).
    pub single_w: bool,
    /// Begin at w_avg, with noise added to the code while it is far, instead of at the encoder's code.
    pub from_average: bool,
    /// Optimise the noise maps too, with this weight of their regularisation; 0 leaves them as they are.
    pub noise_weight: f64,
    /// Weight of the discriminator-feature distance, where the model holds a discriminator.
    pub perceptual: f64,
    /// Steps on the generator's weights after those on the code.
    pub tune: usize,
    /// Learning rate of the generator's weights.
    pub tune_learning_rate: f64,
    /// Seed of the noise on the code.
    pub seed: u64,
}

impl Default for ProjectOptions {
    fn default() -> Self {
        Self {
            steps: 300,
            learning_rate: 0.02,
            single_w: false,
            from_average: false,
            noise_weight: 0.0,
            perceptual: 0.2,
            tune: 0,
            tune_learning_rate: 1e-3,
            seed: 0,
        }
    }
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Projection {
    /// The code `[1, n_styles, D]`.
    pub w_plus: Tensor,
    /// What the code gave before the first step and what it gives after the last one: `[1, H, W, 3]`.
    pub before: Tensor,
    /// The image of the code, with the weights and noise maps below.
    pub image: Tensor,
    /// The model with its noise maps and, after pivotal tuning, its weights changed.
    pub model: Model,
}

/// Learning-rate factor of step `i` of `n`: a linear rise, a plateau, half a cosine down.
fn ramp(i: usize, n: usize) -> f64 {
    let t = i as f64 / n.max(1) as f64;
    let down = ((1.0 - t) / RAMP_DOWN).min(1.0);
    let up = ((t + 1.0 / n.max(1) as f64) / RAMP_UP).min(1.0);
    up * (0.5 - 0.5 * (down * std::f64::consts::PI).cos())
}

/// Standard deviation of the noise on the code at step `i` of `n`, in σ_w: `0.05 · max(0, 1 − t / 0.75)²` with t = i/n.
fn code_noise(i: usize, n: usize) -> f64 {
    let t = i as f64 / n.max(1) as f64;
    CODE_NOISE * (1.0 - t / CODE_NOISE_SHARE).max(0.0).powi(2)
}

/// Projects one image `[1, S, S, 3]`, S the encoder's size or the generator's, and reports `(step, steps, loss)` as it goes.
///
/// Errors: an image of another size, a start at the encoder's code without an encoder, a loss that is not finite.
pub fn project(
    model: &Model,
    image: &Tensor, // [1, S, S, 3]
    options: &ProjectOptions,
    report: &mut dyn FnMut(usize, usize, f64),
) -> Result<Projection> {
    let config = &model.generator.config;
    let (styles, d) = (config.n_styles(), config.style_dim);
    let size = image.shape().get(1).copied().unwrap_or(0);
    if image.shape() != [1, size, size, 3] || size == 0 || size > config.size {
        let detail = format!("an image {:?} for a generator of {} px", image.shape(), config.size);
        return Err(TrainError::Config { path: "projection".into(), detail });
    }
    let start = match options.from_average {
        true => model.w_avg.reshape(&[1, 1, d])?.broadcast_to(&[1, styles, d])?,
        false => model.codes(image)?,
    };
    let start = if options.single_w { start.mean(&[1])? } else { start };
    let before = no_grad(|| -> Result<Tensor> { Ok(model.images(&start.broadcast_to(&[1, styles, d])?)?) })?;
    let features = match (&model.discriminator, options.perceptual > 0.0) {
        (Some((d, p)), true) => Some(DiscriminatorFeatures { discriminator: d.clone(), params: p.clone() }),
        _ => None,
    };
    let target = image.detach();
    let loss_of = |made: &Tensor| -> Result<Tensor> {
        let made = made.pool_area(size, size)?;
        let mut loss = l2(&made, &target)?;
        if let Some(features) = features.as_ref().filter(|_| size == config.size) {
            loss = loss.add(&features.distance(&made, &target)?.scale(options.perceptual)?)?;
        }
        Ok(loss)
    };
    let adam = |learning_rate: f64| AdamOptions::new(learning_rate, 0.9, 0.999);
    let total = options.steps + options.tune;
    let mut say = |step: usize, loss: &Tensor| -> Result<()> {
        if step.is_multiple_of(REPORT) || step + 1 == total {
            let value = loss.item()?;
            if !value.is_finite() {
                let detail = format!("the loss is {value} at step {step}");
                return Err(TrainError::Config { path: "projection".into(), detail });
            }
            report(step + 1, total, value);
        }
        Ok(())
    };

    // The code and, where they are optimised, the noise maps.
    let mut weights = model.generator_params.clone();
    let noisy = options.noise_weight > 0.0;
    let mut free: Params = [(CODE.to_string(), start)].into_iter().collect();
    if noisy {
        for (name, value) in model.generator_params.iter().filter(|(n, _)| n.starts_with("noises.")) {
            free.insert(name.clone(), value.clone());
        }
    }
    let mut optimiser = Adam::new(&free, |_| true)?;
    let sigma = if options.from_average { sigma_w(&model.sample_w(SAMPLES)?, &model.w_avg)? } else { 0.0 };
    let mut rng = Philox::new(options.seed, 1);
    for step in 0..options.steps {
        let p = free.leaves(|_| true);
        let mut code = p.get(CODE)?.clone();
        let deviation = sigma * code_noise(step, options.steps);
        if deviation > 0.0 {
            let noise = rng.normal(code.shape(), code.device())?;
            code = code.add(&noise.scale(deviation)?)?;
        }
        for (name, value) in p.iter().filter(|(n, _)| *n != CODE) {
            weights.insert(name.clone(), value.clone());
        }
        let w_plus = code.broadcast_to(&[1, styles, d])?;
        let mut loss = loss_of(&model.generator.synthesis(&weights, &w_plus, &mut Noise::Fixed, None)?)?;
        say(step, &loss.detach())?;
        if noisy {
            for (_, map) in p.iter().filter(|(n, _)| *n != CODE) {
                loss = loss.add(&correlation(map)?.scale(options.noise_weight)?)?;
            }
        }
        descend(&loss, &p, &mut free, &mut optimiser, &adam(options.learning_rate * ramp(step, options.steps)))?;
        if noisy {
            normalise(&mut free)?;
        }
    }
    for (name, value) in free.iter().filter(|(n, _)| *n != CODE) {
        weights.insert(name.clone(), value.detach());
    }
    let w_plus = free.get(CODE)?.detach().broadcast_to(&[1, styles, d])?;

    // Pivotal tuning: the code stands, the weights of the synthesis move.
    let mut optimiser = Adam::new(&weights, |n| !n.starts_with("noises.") && !n.starts_with("style."))?;
    let names = optimiser.names();
    for step in 0..options.tune {
        let p = weights.leaves(|n| names.binary_search_by(|m| m.as_str().cmp(n)).is_ok());
        let loss = loss_of(&model.generator.synthesis(&p, &w_plus, &mut Noise::Fixed, None)?)?;
        say(options.steps + step, &loss.detach())?;
        descend(&loss, &p, &mut weights, &mut optimiser, &adam(options.tune_learning_rate))?;
    }
    // Other weights are another generator, which remembers the one that it was made from.
    let model = match noisy || options.tune > 0 {
        true => model.with_generator(weights)?,
        false => model.clone(),
    };
    let image = model.images(&w_plus)?;
    Ok(Projection { w_plus, before, image, model })
}

/// `σ_w = √(E ‖w − μ_w‖²)`: the scale of W as the mean squared distance from its centre, summed over the components.
fn sigma_w(
    w: &Tensor,    // [N, D]
    mean: &Tensor, // [D]
) -> Result<f64> {
    let distance = w.sub(&mean.reshape(&[1, mean.len()])?)?.square()?.sum(&[1])?;
    Ok(distance.mean_all()?.item()?.sqrt())
}
