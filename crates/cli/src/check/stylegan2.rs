//! StyleGAN2: the generator with all features and gradients, path lengths, and the discriminator with R1.

use anyhow::{Result, anyhow, bail};
use swinstyle_models::{
    Layout, Spec,
    stylegan2::{Channels, Discriminator, DiscriminatorConfig, Features, Generator, GeneratorConfig, Noise},
};
use swinstyle_tensor::{Tensor, grad};
use swinstyle_train::losses::{discriminator_logistic, generator_logistic, path_lengths, r1_penalty};
use swinstyle_weights::Archive;

use super::{
    Fixture, Results,
    case::{self, Inputs, Named, or_zero},
};

pub(super) fn run(f: &Fixture) -> Result<Results> {
    if f.has("in.z") {
        generator(f)
    } else if f.has("in.wp") {
        path_length(f)
    } else if f.has("in.real") {
        discriminator(f)
    } else {
        bail!("the file holds none of in.z (generator), in.wp (path length) and in.real (discriminator)")
    }
}

/// The sizes of the generator whose weights are in an archive under `prefix`.
pub(super) fn generator_config(archive: &Archive, prefix: &str) -> Result<GeneratorConfig> {
    let part = archive.subset(prefix);
    let dim = |name: &str, axis: usize| -> Result<usize> {
        let shape = part.arrays.get(name).map(|a| &a.shape);
        shape
            .and_then(|s| s.get(axis).copied())
            .ok_or_else(|| anyhow!("no weights of a generator: `{name}` is missing"))
    };
    let count = |named: &dyn Fn(usize) -> String| (0..).take_while(|&i| part.arrays.contains_key(&named(i))).count();
    let levels = count(&|i| format!("to_rgbs.{i}.conv.weight"));
    let mut channels = vec![dim("conv1.conv.weight", 1)?];
    for level in 0..levels {
        channels.push(dim(&format!("convs.{}.conv.weight", 2 * level), 1)?);
    }
    Ok(GeneratorConfig {
        size: 4 << levels.min(16),
        style_dim: dim("conv1.conv.modulation.weight", 1)?,
        mapping_layers: count(&|i| format!("style.{}.weight", i + 1)),
        mapping_lr_multiplier: 0.01,
        channels: Channels(channels),
    })
}

/// The sizes of the discriminator whose weights are in an archive under `prefix`.
pub(super) fn discriminator_config(archive: &Archive, prefix: &str) -> Result<DiscriminatorConfig> {
    let part = archive.subset(prefix);
    let outputs = |name: String| part.arrays.get(&name).and_then(|a| a.shape.first().copied());
    let missing = || anyhow!("no weights of a discriminator: `convs.0.0.weight` is missing");
    let mut channels = vec![outputs("convs.0.0.weight".to_string()).ok_or_else(missing)?];
    channels.extend((1..).map_while(|i| outputs(format!("convs.{i}.conv2.1.weight"))));
    let size = 4 << (channels.len() - 1).min(16);
    channels.reverse();
    Ok(DiscriminatorConfig { size, channels: Channels(channels), stddev_group: 4, outputs: 1 })
}

fn generator(f: &Fixture) -> Result<Results> {
    let mut config = generator_config(&f.archive, "in.p.")?;
    config.mapping_lr_multiplier = f.find("mapping_lr_mul")?.unwrap_or(config.mapping_lr_multiplier);
    let psi = f.find("truncation_psi")?.unwrap_or(1.0);
    let generator = Generator::new(config)?;
    let others = [("z", Layout::Plain), ("w_avg", Layout::Plain), ("dwp", Layout::Plain)];
    let inputs = Inputs::of_network(f, &generator.specs(), &others)?;
    case::run(f, &inputs, |x| {
        let p = x.params();
        let w = generator.mapping(&p, x.get("z")?)?;
        let truncated = generator.truncate(&w, x.get("w_avg")?, psi, None)?;
        let mut features = Features::new();
        let w_plus = truncated.add(x.get("dwp")?)?;
        let image = generator.synthesis(&p, &w_plus, &mut Noise::Fixed, Some(&mut features))?;
        let once = truncated.slice(1, 0, 1)?.reshape(w.shape())?;
        let mut outputs = vec![
            Named::new("w", w, Layout::Plain),
            Named::new("w_truncated", once, Layout::Plain),
            Named::new("image", image, Layout::Nchw),
        ];
        outputs.extend(features.into_iter().map(|(name, map)| Named::new(name, map, Layout::Nchw)));
        Ok(outputs)
    })
}

/// `jt_y = d ⟨image, y⟩/size / d wp`, the lengths, and the gradients of `mean((lengths − ½)²)`.
fn path_length(f: &Fixture) -> Result<Results> {
    let generator = Generator::new(generator_config(&f.archive, "in.p.")?)?;
    let inputs = Inputs::of_network(f, &generator.specs(), &[("wp", Layout::Plain), ("y", Layout::Nchw)])?;
    let (p, wp, y) = (inputs.params(), inputs.get("wp")?, inputs.get("y")?);
    let image = generator.synthesis(&p, wp, &mut Noise::Fixed, None)?;
    let cotangent = y.scale(1.0 / generator.config.size as f64)?;
    let jt_y = grad(&[(&image, Some(&cotangent))], &[wp], false)?.remove(0);
    let lengths = path_lengths(&image, wp, y)?;
    let penalty = lengths.add_scalar(-0.5)?.square()?.mean_all()?;
    let mut results = Results::default();
    results.put("out.jt_y".to_string(), &or_zero(&jt_y, wp)?, Layout::Plain)?;
    results.put("out.lengths".to_string(), &lengths, Layout::Plain)?;
    results.put("out.penalty".to_string(), &penalty, Layout::Plain)?;
    let wp = Named::new("wp", wp.clone(), Layout::Plain);
    let leaves = generator
        .specs()
        .into_iter()
        .map(|s| Ok(Named::new(format!("p.{}", s.name), p.get(&s.name)?.clone(), s.layout)));
    let leaves: Vec<Named> = leaves.chain([Ok(wp)]).collect::<Result<_>>()?;
    put_gradients(f, &mut results, "grad.", &penalty, &leaves)?;
    Ok(results)
}

/// Logits, features, both losses, R1 (no γ/2), and the gradients of R1 and of the discriminator's loss in every weight.
fn discriminator(f: &Fixture) -> Result<Results> {
    let mut config = discriminator_config(&f.archive, "in.p.")?;
    config.stddev_group = f.find("stddev_group")?.unwrap_or(config.stddev_group);
    let discriminator = Discriminator::new(config)?;
    let specs = discriminator.specs();
    let p = f.parameters(&specs)?.leaves(|_| true);
    let real = f.tensor("in.real", Layout::Nchw)?.as_leaf();
    let fake = f.tensor("in.fake", Layout::Nchw)?;
    let mut features = Features::new();
    let logits_real = discriminator.forward(&p, &real, Some(&mut features))?;
    let logits_fake = discriminator.forward(&p, &fake, None)?;
    let grad_image = grad(&[(&logits_real, None)], &[&real], false)?.remove(0);
    let r1 = r1_penalty(&logits_real, &real)?;
    let d_loss = discriminator_logistic(&logits_real, &logits_fake)?;
    let g_loss = generator_logistic(&logits_fake)?;
    let mut results = Results::default();
    let plain = [
        ("logits_real", &logits_real),
        ("logits_fake", &logits_fake),
        ("r1", &r1),
        ("d_loss", &d_loss),
        ("g_loss", &g_loss),
    ];
    for (name, value) in plain {
        results.put(format!("out.{name}"), value, Layout::Plain)?;
    }
    results.put("out.grad_image".to_string(), &or_zero(&grad_image, &real)?, Layout::Nchw)?;
    for (name, map) in &features {
        results.put(format!("out.{name}"), map, Layout::Nchw)?;
    }
    let leaf = |s: &Spec| Ok(Named::new(format!("p.{}", s.name), p.get(&s.name)?.clone(), s.layout));
    let leaves: Vec<Named> = specs.iter().map(leaf).collect::<Result<_>>()?;
    put_gradients(f, &mut results, "grad_r1.", &r1, &leaves)?;
    put_gradients(f, &mut results, "grad_d.", &d_loss, &leaves)?;
    Ok(results)
}

/// Gradients of `of` in those leaves that the file holds one for.
fn put_gradients(f: &Fixture, results: &mut Results, prefix: &str, of: &Tensor, leaves: &[Named]) -> Result<()> {
    let wanted: Vec<&Named> = leaves.iter().filter(|l| f.has(&format!("{prefix}{}", l.name))).collect();
    let wrt: Vec<&Tensor> = wanted.iter().map(|l| &l.value).collect();
    for (leaf, gradient) in wanted.iter().zip(grad(&[(of, None)], &wrt, false)?) {
        results.put(format!("{prefix}{}", leaf.name), &or_zero(&gradient, &leaf.value)?, leaf.layout)?;
    }
    Ok(())
}
