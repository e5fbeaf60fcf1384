//! The networks and one step of adversarial training.

use anyhow::Result;
use swinstyle_models::{
    Params,
    stylegan2::{Channels, Discriminator, DiscriminatorConfig, Generator, GeneratorConfig, Noise},
    swin::{Swin, SwinConfig, Window},
};
use swinstyle_tensor::{Device, Tensor, grad, no_grad, rng::Philox};
use swinstyle_train::{
    Adam, AdamOptions,
    losses::{discriminator_logistic, generator_logistic},
};

use super::{Case, Work, operations::normal};

pub(super) fn cases(device: Device) -> Vec<Case> {
    let on_cpu = device == Device::Cpu;
    let mut cases = Vec::new();
    for size in if on_cpu { &[256][..] } else { &[256, 1024] } {
        cases.push(Case::new(format!("stylegan2_{size}/b1/fwd"), |device| synthesis(device, *size)));
    }
    for (name, dim, depths, heads) in
        [("tiny", 96, [2, 2, 6, 2], [3, 6, 12, 24]), ("base", 128, [2, 2, 18, 2], [4, 8, 16, 32])]
    {
        let build = move |device| swin(device, dim, &depths, &heads);
        cases.push(Case::new(format!("swin_{name}_256_w8/b1/fwd"), build));
    }
    let batch = if on_cpu { 16 } else { 64 };
    for (base, max) in [(1024, 64), (2048, 128)] {
        let build = move |device| gan_step(device, base, max, batch);
        cases.push(Case::new(format!("gan_step/64px_base{base}_max{max}_b{batch}"), build));
    }
    cases
}

/// W+ to the image, without the mapping network.
fn synthesis(device: Device, size: usize) -> Result<Work> {
    let channels = Channels::from_base(size, 32768, 512);
    let generator = generator(size, 512, channels)?;
    let params = Params::init(&generator.specs(), 0, device)?;
    let w_plus = normal(device, 1, &[1, generator.config.n_styles(), 512], 1.0)?;
    let run = move || no_grad(|| generator.synthesis(&params, &w_plus, &mut Noise::Fixed, None).map(drop));
    Ok(Work { run: Box::new(move || Ok(run()?)), least_bytes: None })
}

fn generator(size: usize, style_dim: usize, channels: Channels) -> Result<Generator> {
    let config = GeneratorConfig { size, style_dim, mapping_layers: 0, mapping_lr_multiplier: 0.01, channels };
    Ok(Generator::new(config)?)
}

/// An image of 256 px to pooled features.
fn swin(device: Device, dim: usize, depths: &[usize], heads: &[usize]) -> Result<Work> {
    let stages = depths.len();
    let swin = Swin::new(SwinConfig {
        in_channels: 3,
        patch: 4,
        dims: (0..stages).map(|stage| dim << stage).collect(),
        depths: depths.to_vec(),
        heads: heads.to_vec(),
        windows: vec![Window::Square(8); stages],
        mlp_ratio: 4.0,
        classes: None,
        stochastic_depth: 0.0,
    })?;
    let params = Params::init(&swin.specs(), 0, device)?;
    let image = normal(device, 1, &[1, 256, 256, 3], 1.0)?;
    let run = move || no_grad(|| swin.forward(&params, &image, None).map(drop));
    Ok(Work { run: Box::new(move || Ok(run()?)), least_bytes: None })
}

/// One discriminator and one generator step of the logistic loss with Adam, no regularisation, w drawn directly.
///
/// As in the peer, whose `backward()` reaches every weight, the generator's step also computes the gradients of the
/// discriminator's weights. The discriminator is the product's: its minibatch standard deviation and last 3×3
/// convolution, a few percent of its work, are not in the peer's.
fn gan_step(device: Device, base: usize, max: usize, batch: usize) -> Result<Work> {
    const SIZE: usize = 64;
    let channels = Channels::from_base(SIZE, base, max);
    let generator = generator(SIZE, max, channels.clone())?;
    let discriminator = Discriminator::new(DiscriminatorConfig { size: SIZE, channels, stddev_group: 4, outputs: 1 })?;
    let trainable: Vec<String> = generator.specs().into_iter().filter(|s| s.trainable).map(|s| s.name).collect();
    let is_trainable = move |name: &str| trainable.iter().any(|t| t == name);
    let mut g = Params::init(&generator.specs(), 0, device)?;
    let mut d = Params::init(&discriminator.specs(), 1, device)?;
    let mut adam_g = Adam::new(&g, &is_trainable)?;
    let mut adam_d = Adam::new(&d, |_| true)?;
    let options = AdamOptions::new(2e-3, 0.0, 0.99);
    let real = normal(device, 2, &[batch, SIZE, SIZE, 3], 1.0)?;
    let mut rng = Philox::new(0, 3);
    let run = move || {
        let w = rng.normal(&[batch, 1, max], device)?.broadcast_to(&[batch, generator.config.n_styles(), max])?;
        let fake = no_grad(|| generator.synthesis(&g, &w, &mut Noise::Fixed, None))?;

        let leaves = d.leaves(|_| true);
        let of_fake = discriminator.forward(&leaves, &fake, None)?;
        let loss = discriminator_logistic(&discriminator.forward(&leaves, &real, None)?, &of_fake)?;
        let gradients = grad(&[(&loss, None)], &named(&leaves, &adam_d.names())?, false)?;
        adam_d.update(&mut d, &gradients, &options)?;

        let (leaves, judge) = (g.leaves(&is_trainable), d.leaves(|_| true));
        let image = generator.synthesis(&leaves, &w, &mut Noise::Fixed, None)?;
        let loss = generator_logistic(&discriminator.forward(&judge, &image, None)?)?;
        let names = adam_g.names();
        let mut wrt = named(&leaves, &names)?;
        wrt.extend(judge.iter().map(|(_, t)| t));
        let mut gradients = grad(&[(&loss, None)], &wrt, false)?;
        gradients.truncate(names.len());
        Ok(adam_g.update(&mut g, &gradients, &options)?)
    };
    Ok(Work { run: Box::new(run), least_bytes: None })
}

fn named<'a>(params: &'a Params, names: &[String]) -> Result<Vec<&'a Tensor>> {
    names.iter().map(|name| Ok(params.get(name)?)).collect()
}
