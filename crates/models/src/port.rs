//! StyleGAN2 checkpoints of the common PyTorch port: `g_ema`, `d`, `latent_avg`, their sizes read off the shapes.

use swinstyle_tensor::{DType, Device, Tensor};
use swinstyle_weights::{Archive, CheckpointHeader};

use crate::{
    Lineage, Model, ModelError, Params, Result, Spec, mean_w,
    model::{has_mapping, w_avg},
    strangers,
    stylegan2::{Channels, Discriminator, DiscriminatorConfig, Generator, GeneratorConfig},
};

/// Beginning of the names of the noise maps.
const NOISES: &str = "noises.";

/// Reads a checkpoint. Errors: a file of another kind, with what it is and the way out; missing, surplus or misshaped tensors; an absurd size.
pub(crate) fn load(archive: &Archive, device: Device) -> Result<Model> {
    let prefix = ["g_ema.", "g.", ""]
        .into_iter()
        .find(|p| archive.arrays.contains_key(&format!("{p}input.input")))
        .ok_or_else(|| ModelError::config("model", strangers::explain(archive)))?;
    let generator = Generator::new(infer_generator(archive, prefix)?)?;
    has_mapping(&generator.config)?;
    let generator_params = generator_params(archive, prefix, &generator, device)?;
    // A bare state dict may carry other networks' tensors; under a prefix everything must be the generator's.
    let average = archive.arrays.get("latent_avg").filter(|_| !prefix.is_empty());
    let w_avg = match average {
        Some(a) => w_avg(a, generator.config.style_dim, device)?,
        None => mean_w(&generator, &generator_params, device)?,
    };
    let discriminator = match archive.arrays.contains_key("d.final_linear.0.weight") {
        true => {
            let d = Discriminator::new(infer_discriminator(archive, generator.config.size)?)?;
            let params = Params::from_archive(archive, "d.", &d.specs(), device)?;
            Some((d, params))
        }
        false => None,
    };
    let header = CheckpointHeader::default();
    let lineage = Lineage::of(&generator_params)?;
    Ok(Model { generator, generator_params, lineage, w_avg, encoder: None, discriminator, header })
}

/// The generator's weights. Noise maps are drawn once and kept by the port, but not by all who save its files: without any they are zero.
fn generator_params(archive: &Archive, prefix: &str, generator: &Generator, device: Device) -> Result<Params> {
    let specs = generator.specs();
    if archive.part(prefix).names().any(|name| name.starts_with(NOISES)) {
        return Params::from_archive(archive, prefix, &specs, device);
    }
    let (maps, others): (Vec<Spec>, Vec<Spec>) = specs.into_iter().partition(|s| s.name.starts_with(NOISES));
    let mut params = Params::from_archive(archive, prefix, &others, device)?;
    for map in maps {
        params.insert(map.name, Tensor::full(0.0, &map.shape, DType::F32, device)?);
    }
    swinstyle_files::note(format!(
        "{}: it holds no noise maps (`{NOISES}noise_0` …): they are zero, so its images are drawn without noise",
        archive.origin()
    ));
    Ok(params)
}

/// Sizes of a generator from the shapes of its tensors.
fn infer_generator(archive: &Archive, prefix: &str) -> Result<GeneratorConfig> {
    let find = |name: &str| archive.arrays.get(&format!("{prefix}{name}"));
    let axis = |name: &str, axis: usize| -> Result<usize> {
        let shape = &archive.get(&format!("{prefix}{name}"))?.shape;
        shape
            .get(axis)
            .copied()
            .ok_or_else(|| ModelError::config("checkpoint", format!("`{prefix}{name}` has shape {shape:?}")))
    };
    let mut channels = vec![axis("input.input", 1)?];
    while find(&format!("convs.{}.conv.weight", 2 * channels.len() - 1)).is_some() {
        channels.push(axis(&format!("convs.{}.conv.weight", 2 * channels.len() - 1), 1)?);
    }
    let mapping_layers = (1..).take_while(|i| find(&format!("style.{i}.weight")).is_some()).count();
    Ok(GeneratorConfig {
        size: 4 << (channels.len() - 1).min(20),
        style_dim: axis("conv1.conv.modulation.weight", 1)?,
        mapping_layers,
        mapping_lr_multiplier: 0.01,
        channels: Channels(channels),
    })
}

/// Sizes of a discriminator for images of `size` from the shapes of its tensors.
fn infer_discriminator(archive: &Archive, size: usize) -> Result<DiscriminatorConfig> {
    let outputs = |name: &str| -> Result<usize> { Ok(archive.get(name)?.shape.first().copied().unwrap_or(0)) };
    let mut channels = vec![outputs("d.convs.0.0.weight")?];
    for i in 1..=(size.max(4).ilog2() as usize - 2) {
        channels.push(outputs(&format!("d.convs.{i}.conv2.1.weight"))?);
    }
    channels.reverse();
    Ok(DiscriminatorConfig { size, channels: Channels(channels), stddev_group: 4, outputs: 1 })
}
