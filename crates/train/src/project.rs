//! Inversion by optimisation: StyleGAN2's projector (arXiv 1912.04958, appendix D) into W or W+, and pivotal tuning of the generator
//! (PTI, arXiv 2106.05744). Slow beside an encoder, and the reference for what one could reach.

use swinstyle_models::{Model, Params, perceptual::DiscriminatorFeatures, stylegan2::Noise};
use swinstyle_tensor::{Tensor, no_grad, rng::Philox};

use crate::{Adam, AdamOptions, Result, TrainError, gradients::descend, losses::l2};

/// Name of the code among the parameters; the noise maps keep the generator's names.
const CODE: &str = "code";
/// Share of the steps over which the learning rate rises, and over which it falls at the end.
const RAMP_UP: f64 = 0.05;
const RAMP_DOWN: f64 = 0.25;
/// Noise that is added to the code, in standard deviations of w, and the share of the steps over which it fades.
const CODE_NOISE: f64 = 0.05;
const CODE_NOISE_SHARE: f64 = 0.75;
/// Codes behind the standard deviation of w.
const SAMPLES: usize = 2000;
/// Sides of noise maps up to which their correlation is looked at.
const SMALLEST_NOISE: usize = 8;
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
    let deviation = if options.from_average { deviation_of_w(model)? } else { 0.0 };
    let mut rng = Philox::new(options.seed, 1);
    for step in 0..options.steps {
        let p = free.leaves(|_| true);
        let mut code = p.get(CODE)?.clone();
        let t = step as f64 / options.steps as f64 / CODE_NOISE_SHARE;
        if deviation > 0.0 && t < 1.0 {
            let noise = rng.normal(code.shape(), code.device())?;
            code = code.add(&noise.scale(deviation * CODE_NOISE * (1.0 - t).powi(2))?)?;
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
    let model = Model { generator_params: weights, ..model.clone() };
    let image = model.images(&w_plus)?;
    Ok(Projection { w_plus, before, image, model })
}

/// Root of the mean squared distance of w from its mean, per component.
fn deviation_of_w(model: &Model) -> Result<f64> {
    let d = model.generator.config.style_dim;
    let w = model.sample_w(SAMPLES)?;
    Ok(w.sub(&model.w_avg.reshape(&[1, d])?)?.square()?.mean_all()?.item()?.sqrt())
}

/// `Σ mean(n · shifted n)²` over both axes and the map's halvings: 0 for white noise, so that no picture hides in it.
fn correlation(map: &Tensor) -> Result<Tensor> {
    let mut map = map.clone();
    let mut total: Option<Tensor> = None;
    loop {
        let side = map.shape()[1];
        for axis in [1, 2] {
            let shifted = Tensor::concat(&[&map.slice(axis, side - 1, 1)?, &map.slice(axis, 0, side - 1)?], axis)?;
            let term = map.mul(&shifted)?.mean_all()?.square()?;
            total = Some(match total {
                Some(t) => t.add(&term)?,
                None => term,
            });
        }
        if side <= SMALLEST_NOISE {
            break;
        }
        map = map.pool_area(side / 2, side / 2)?;
    }
    total.ok_or_else(|| TrainError::Config { path: "noise".into(), detail: "an empty map".into() })
}

/// Noise maps of mean 0 and variance 1.
fn normalise(free: &mut Params) -> Result<()> {
    let maps: Vec<(String, Tensor)> =
        free.iter().filter(|(n, _)| *n != CODE).map(|(n, t)| (n.clone(), t.clone())).collect();
    no_grad(|| {
        for (name, map) in maps {
            let centred = map.sub(&map.mean_all()?)?;
            let variance = centred.square()?.mean_all()?.add_scalar(1e-12)?;
            free.insert(name, centred.mul(&variance.rsqrt()?)?);
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use swinstyle_models::{
        mean_w,
        stylegan2::{Channels, Generator, GeneratorConfig},
    };
    use swinstyle_tensor::Device;
    use swinstyle_weights::CheckpointHeader;

    fn model() -> Model {
        let config = GeneratorConfig {
            size: 16,
            style_dim: 8,
            mapping_layers: 2,
            mapping_lr_multiplier: 0.01,
            channels: Channels(vec![8, 8, 8]),
        };
        let generator = Generator::new(config).unwrap();
        let generator_params = Params::init(&generator.specs(), 1, Device::Cpu).unwrap();
        let w_avg = mean_w(&generator, &generator_params, Device::Cpu).unwrap();
        let header = CheckpointHeader::default();
        Model { generator, generator_params, w_avg, encoder: None, discriminator: None, header }
    }

    fn distance(a: &Tensor, b: &Tensor) -> f64 {
        l2(a, b).unwrap().item().unwrap()
    }

    fn from_average() -> ProjectOptions {
        ProjectOptions { from_average: true, learning_rate: 0.1, steps: 120, ..ProjectOptions::default() }
    }

    #[test]
    fn the_projector_finds_its_way_back_to_an_image_of_the_generator() {
        let m = model();
        let z = Philox::new(5, 0).normal(&[1, 8], Device::Cpu).unwrap();
        let target = m.generate(&z, 1.0).unwrap();
        let mut said = Vec::new();
        let found =
            project(&m, &target, &from_average(), &mut |step, total, loss| said.push((step, total, loss))).unwrap();
        assert_eq!(found.w_plus.shape(), [1, 6, 8]);
        let (before, after) = (distance(&found.before, &target), distance(&found.image, &target));
        assert!(after < 0.05 * before, "{before} {after}");
        assert_eq!(said.last().map(|s| (s.0, s.1)), Some((120, 120)));
        // In W all layers have one code; W+ has more freedom and ends no farther.
        let single = ProjectOptions { single_w: true, ..from_average() };
        let single = project(&m, &target, &single, &mut |_, _, _| {}).unwrap();
        let codes = single.w_plus.to_vec().unwrap();
        assert!(codes.chunks(8).all(|c| c == &codes[..8]));
        assert!(distance(&single.image, &target) < 0.2 * before);
    }

    #[test]
    fn tuning_changes_the_weights_and_brings_any_image_nearer() {
        let m = model();
        let target = Philox::new(9, 0).normal(&[1, 16, 16, 3], Device::Cpu).unwrap().scale(0.3).unwrap();
        let plain = project(&m, &target, &from_average(), &mut |_, _, _| {}).unwrap();
        let options = ProjectOptions { tune: 60, ..from_average() };
        let tuned = project(&m, &target, &options, &mut |_, _, _| {}).unwrap();
        assert_eq!(plain.w_plus.to_vec().unwrap(), tuned.w_plus.to_vec().unwrap());
        assert!(distance(&tuned.image, &target) < 0.95 * distance(&plain.image, &target));
        let weights = |m: &Model| m.generator_params.fingerprint().unwrap();
        assert!(weights(&plain.model) == weights(&m) && weights(&tuned.model) != weights(&m));
    }

    #[test]
    fn optimised_noise_stays_white() {
        let m = model();
        let target = Philox::new(9, 0).normal(&[1, 16, 16, 3], Device::Cpu).unwrap().scale(0.3).unwrap();
        let options = ProjectOptions { noise_weight: 1e3, steps: 40, ..from_average() };
        let found = project(&m, &target, &options, &mut |_, _, _| {}).unwrap();
        let mut changed = 0;
        for (name, map) in found.model.generator_params.iter().filter(|(n, _)| n.starts_with("noises.")) {
            let mean = map.mean_all().unwrap().item().unwrap();
            let square = map.square().unwrap().mean_all().unwrap().item().unwrap();
            assert!(mean.abs() < 1e-4 && (square - 1.0).abs() < 1e-3, "{name}: {mean} {square}");
            changed += usize::from(map.to_vec().unwrap() != m.generator_params.get(name).unwrap().to_vec().unwrap());
        }
        assert!(changed > 0);
        // A map that repeats along a line is not white, one that alternates neither.
        let stripes: Vec<f32> = (0..64).map(|i| if i / 8 % 2 == 0 { 1.0 } else { -1.0 }).collect();
        let stripes = Tensor::from_vec(stripes, &[1, 8, 8, 1], Device::Cpu).unwrap();
        assert!((correlation(&stripes).unwrap().item().unwrap() - 2.0).abs() < 1e-6);
    }

    #[test]
    fn the_learning_rate_rises_stands_and_falls() {
        assert!(ramp(0, 100) < 0.25 && (ramp(50, 100) - 1.0).abs() < 1e-12 && ramp(99, 100) < 0.01);
    }

    #[test]
    fn what_cannot_be_projected_is_an_error() {
        let m = model();
        let image = |s: usize| Tensor::from_vec(vec![0.0_f32; s * s * 3], &[1, s, s, 3], Device::Cpu).unwrap();
        let go = |image: &Tensor, options: &ProjectOptions| {
            project(&m, image, options, &mut |_, _, _| {}).map(drop).unwrap_err().to_string()
        };
        assert!(go(&image(32), &from_average()).contains("16 px"));
        assert!(go(&image(16), &ProjectOptions::default()).contains("encoder"));
    }
}
