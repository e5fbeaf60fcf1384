//! The same StyleGAN2 checkpoint as torch wrote it and as safetensors: both must load, agree, and fit the networks.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use swinstyle_models::{
    Params,
    stylegan2::{Discriminator, Generator, Noise},
};
use swinstyle_tensor::{Device, Tensor, no_grad};
use swinstyle_weights::Archive;

use super::{
    compare::Comparison,
    stylegan2::{discriminator_config, generator_config},
};

pub(super) fn run(safetensors: &Path, torch: &Path, device: Device) -> Result<Vec<Comparison>> {
    let (ours, theirs) = (Archive::read(safetensors)?, Archive::read(torch)?);
    let shapes: Vec<(&String, &Vec<usize>)> = ours.arrays.iter().map(|(name, a)| (name, &a.shape)).collect();
    theirs.match_names(&shapes)?;
    let comparisons = ours.arrays.iter().map(|(name, array)| {
        let pairs = array.data.iter().zip(&theirs.arrays[name].data);
        Comparison::exact(name.clone(), pairs.filter(|(a, b)| a.to_bits() != b.to_bits()).count())
    });
    let comparisons = comparisons.collect();
    no_grad(|| draw_and_judge(&theirs, device))?;
    Ok(comparisons)
}

/// Loads both networks, draws an image from the mean style and has it judged.
fn draw_and_judge(archive: &Archive, device: Device) -> Result<()> {
    let generator = Generator::new(generator_config(archive, "g_ema.")?)?;
    let discriminator = Discriminator::new(discriminator_config(archive, "d.")?)?;
    let g = Params::from_archive(archive, "g_ema.", &generator.specs(), device)?;
    let d = Params::from_archive(archive, "d.", &discriminator.specs(), device)?;
    let w_avg = archive.get("latent_avg")?;
    let dim = generator.config.style_dim;
    ensure!(w_avg.data.len() == dim, "latent_avg has shape {:?}, the styles {dim} values", w_avg.shape);
    let w = Tensor::from_vec(w_avg.data.clone(), &[1, dim], device)?;
    let image = generator.synthesis(&g, &generator.repeat_w(&w)?, &mut Noise::Fixed, None)?;
    let logit = discriminator.forward(&d, &image, None)?;
    if !logit.to_vec()?.iter().chain(&image.to_vec()?).all(|v| v.is_finite()) {
        bail!("the generator's image or the discriminator's logit is not finite");
    }
    Ok(())
}
