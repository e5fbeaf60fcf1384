//! A whole model in one file: generator, w_avg and, where trained, encoder and discriminator.

use std::path::Path;

use serde_json::Value;
use swinstyle_tensor::{DType, Device, Tensor, no_grad};
use swinstyle_weights::{Archive, Array, CheckpointHeader, FloatDtype};

use crate::{
    ModelError, Params, Result,
    styleformer::{Styleformer, StyleformerConfig},
    stylegan2::{Channels, Discriminator, DiscriminatorConfig, Generator, GeneratorConfig, Noise},
};

/// Key of the generator's fingerprint in the configuration of a file that holds an encoder alone.
const OF_GENERATOR: &str = "generator_fingerprint";

/// A generator with what belongs to it.
#[derive(Debug, Clone)]
pub struct Model {
    /// The generator.
    pub generator: Generator,
    /// Its weights (the averaged ones of a training).
    pub generator_params: Params,
    /// Mean of w, the centre of truncation and of the encoder's offsets: `[D]`.
    pub w_avg: Tensor,
    /// The encoder and its weights.
    pub encoder: Option<(Styleformer, Params)>,
    /// The discriminator and its weights.
    pub discriminator: Option<(Discriminator, Params)>,
    /// What the file says about itself; empty for foreign checkpoints.
    pub header: CheckpointHeader,
}

/// An image's code and what the generator makes of it.
#[derive(Debug, Clone)]
pub struct Inversion {
    /// `[N, n_styles, D]`.
    pub w_plus: Tensor,
    /// `[N, H, W, 3]`.
    pub images: Tensor,
}

impl Model {
    /// Reads a native model file, or a StyleGAN2 checkpoint in the common PyTorch port's layout (`g_ema`, `d`, `latent_avg`).
    ///
    /// Errors: no checkpoint, missing, surplus or misshaped tensors, weights that are not finite, sizes that make no network.
    pub fn load(path: impl AsRef<Path>, device: Device) -> Result<Self> {
        Self::from_archive(&Archive::read(path)?, device)
    }

    /// [`Model::load`] of a file that has been read.
    pub fn from_archive(archive: &Archive, device: Device) -> Result<Self> {
        match archive.header()? {
            Some(header) => Self::from_native(archive, header, device),
            None => Self::from_port(archive, device),
        }
    }

    /// Whether a file holds an encoder without its generator, as [`Model::save_encoder`] writes it.
    pub fn is_encoder(archive: &Archive) -> Result<bool> {
        Ok(archive.header()?.is_some_and(|h| h.config.get(OF_GENERATOR).is_some()))
    }

    /// This model's generator with the encoder of another file, and what that says about itself.
    ///
    /// Errors: no encoder in the file, or one that was trained for another generator.
    pub fn with_encoder(self, archive: &Archive) -> Result<Self> {
        let refuse = |detail: &str| ModelError::config("encoder", format!("{}: {detail}", archive.origin()));
        let header = archive.header()?.ok_or_else(|| refuse("is no model of this program"))?;
        let Some(config) = header.config.get("encoder").cloned() else {
            return Err(refuse("holds no encoder"));
        };
        let print = self.generator_params.fingerprint()?;
        if header.config.get(OF_GENERATOR).and_then(Value::as_str) != Some(&print) {
            return Err(refuse("belongs to another generator than the one that is used with it"));
        }
        let encoder = Styleformer::new(parse::<StyleformerConfig>("encoder", config)?)?;
        let params = Params::from_archive(archive, "encoder.", &encoder.specs(), self.w_avg.device())?;
        Ok(Self { encoder: Some((encoder, params)), header, ..self })
    }

    /// Writes the encoder alone, with the fingerprint of its generator. Errors: a model without an encoder.
    pub fn save_encoder(&self, path: impl AsRef<Path>, floats: FloatDtype) -> Result<()> {
        let Some((encoder, params)) = &self.encoder else {
            return Err(ModelError::config("model", "it has no encoder to write"));
        };
        let mut archive = Archive::new();
        params.to_archive("encoder.", &encoder.specs(), &mut archive)?;
        let mut config = self.kept_config();
        config.insert("encoder".into(), to_json("encoder", &encoder.config)?);
        config.insert(OF_GENERATOR.into(), self.generator_params.fingerprint()?.into());
        archive.check_finite()?;
        archive.set_header(&CheckpointHeader { config: Value::Object(config), ..self.header.clone() });
        Ok(archive.write(path, floats)?)
    }

    /// What the networks were trained for and how: it stays with them, whatever writes the file anew.
    fn kept_config(&self) -> serde_json::Map<String, Value> {
        let keep = |key: &str| Some((key.to_string(), self.header.config.get(key)?.clone()));
        ["task", "training"].into_iter().filter_map(keep).collect()
    }

    fn from_native(archive: &Archive, header: CheckpointHeader, device: Device) -> Result<Self> {
        let part = |key: &str| header.config.get(key).filter(|v| !v.is_null()).cloned();
        let Some(config) = part("generator") else {
            let detail = format!("{} holds {} and no generator", archive.origin(), header.architecture);
            return Err(ModelError::config("model", detail));
        };
        let generator = Generator::new(parse("generator", config)?)?;
        let generator_params = Params::from_archive(archive, "generator.", &generator.specs(), device)?;
        let encoder = match part("encoder") {
            Some(config) => {
                let encoder = Styleformer::new(parse::<StyleformerConfig>("encoder", config)?)?;
                let params = Params::from_archive(archive, "encoder.", &encoder.specs(), device)?;
                Some((encoder, params))
            }
            None => None,
        };
        let discriminator = match part("discriminator") {
            Some(config) => {
                let d = Discriminator::new(parse::<DiscriminatorConfig>("discriminator", config)?)?;
                let params = Params::from_archive(archive, "discriminator.", &d.specs(), device)?;
                Some((d, params))
            }
            None => None,
        };
        let w_avg = w_avg(archive.get("w_avg")?, generator.config.style_dim, device)?;
        Ok(Self { generator, generator_params, w_avg, encoder, discriminator, header })
    }

    fn from_port(archive: &Archive, device: Device) -> Result<Self> {
        let prefix = ["g_ema.", "g.", ""]
            .into_iter()
            .find(|p| archive.arrays.contains_key(&format!("{p}input.input")))
            .ok_or_else(|| {
                let detail =
                    format!("{} is neither a model of this program nor a StyleGAN2 checkpoint", archive.origin());
                ModelError::config("model", detail)
            })?;
        let generator = Generator::new(infer_generator(archive, prefix)?)?;
        // A bare state dict may carry other networks' tensors; under a prefix everything must be the generator's.
        let generator_params = Params::from_archive(archive, prefix, &generator.specs(), device)?;
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
        Ok(Self {
            generator,
            generator_params,
            w_avg,
            encoder: None,
            discriminator,
            header: CheckpointHeader::default(),
        })
    }

    /// The same model for computing in another type: weights are rounded once; the mapping network, w_avg, codes and images stay f32.
    ///
    /// Errors: a type that the weights' device does not have.
    pub fn to_dtype(&self, dtype: DType) -> Result<Self> {
        self.w_avg.device().check_dtype(dtype)?;
        let encoder =
            self.encoder.as_ref().map(|(e, p)| Ok::<_, ModelError>((e.clone(), p.to_dtype(dtype, |_| false)?)));
        let judge =
            self.discriminator.as_ref().map(|(d, p)| Ok::<_, ModelError>((d.clone(), p.to_dtype(dtype, |_| false)?)));
        Ok(Self {
            generator_params: self.generator_params.to_dtype(dtype, Generator::keeps_f32)?,
            encoder: encoder.transpose()?,
            discriminator: judge.transpose()?,
            ..self.clone()
        })
    }

    /// Writes everything into one safetensors file, whole or not at all.
    pub fn save(&self, path: impl AsRef<Path>, floats: FloatDtype) -> Result<()> {
        let mut archive = Archive::new();
        let mut config = self.kept_config();
        self.generator_params.to_archive("generator.", &self.generator.specs(), &mut archive)?;
        config.insert("generator".into(), to_json("generator", &self.generator.config)?);
        if let Some((encoder, params)) = &self.encoder {
            params.to_archive("encoder.", &encoder.specs(), &mut archive)?;
            config.insert("encoder".into(), to_json("encoder", &encoder.config)?);
        }
        if let Some((d, params)) = &self.discriminator {
            params.to_archive("discriminator.", &d.specs(), &mut archive)?;
            config.insert("discriminator".into(), to_json("discriminator", &d.config)?);
        }
        archive.arrays.insert("w_avg".into(), Array::new(self.w_avg.shape().to_vec(), self.w_avg.to_vec()?)?);
        archive.check_finite()?;
        archive.set_header(&CheckpointHeader { config: Value::Object(config), ..self.header.clone() });
        Ok(archive.write(path, floats)?)
    }

    /// Inverts images `[N, H, W, 3]` at the encoder's size. Errors: a model without an encoder, images of another size.
    pub fn invert(&self, images: &Tensor) -> Result<Inversion> {
        let w_plus = self.codes(images)?;
        Ok(Inversion { images: self.images(&w_plus)?, w_plus })
    }

    /// The codes `[N, n_styles, D]` of images `[N, H, W, 3]`: the first half of [`Model::invert`].
    pub fn codes(&self, images: &Tensor) -> Result<Tensor> {
        self.codes_in(images, self.encoder.as_ref().map_or(1, |(encoder, _)| encoder.config.refine_steps))
    }

    /// [`Model::codes`] in so many passes of ReStyle's refinement. Errors: more than one pass of an encoder that was not trained for it.
    pub fn codes_in(&self, images: &Tensor, passes: usize) -> Result<Tensor> {
        let Some((encoder, params)) = &self.encoder else {
            return Err(ModelError::config("model", "it has no encoder: only a trained inversion model can invert"));
        };
        if encoder.config.refine_steps == 1 {
            if passes != 1 {
                let detail = "this encoder inverts in one pass: it was trained without refine_steps";
                return Err(ModelError::config("refinement", detail));
            }
            return no_grad(|| encoder.encode(params, images, &self.w_avg));
        }
        no_grad(|| {
            let mut w_plus = self.first_code()?;
            for _ in 0..passes {
                let input = self.with_inversion(images, &w_plus)?;
                w_plus = w_plus.add(&encoder.forward(params, &input, None)?.offsets)?;
            }
            Ok(w_plus)
        })
    }

    /// w_avg in every style, `[1, n_styles, D]`: where refinement starts.
    pub fn first_code(&self) -> Result<Tensor> {
        let (styles, d) = (self.generator.config.n_styles(), self.generator.config.style_dim);
        Ok(self.w_avg.broadcast_to(&[1, styles, d])?)
    }

    /// The input of a pass of refinement: images `[N, H, W, C]` beside what the generator makes of the codes so far, of each
    /// or one for all; `[N, H, W, C + 3]`.
    pub fn with_inversion(&self, images: &Tensor, w_plus: &Tensor) -> Result<Tensor> {
        let [n, h, w, _] = images.shape()[..] else {
            return Err(ModelError::config("images", format!("[N, H, W, C] expected, not {:?}", images.shape())));
        };
        let made = self.images(w_plus)?.pool_area(h, w)?.broadcast_to(&[n, h, w, 3])?;
        Ok(Tensor::concat(&[images, &made], 3)?)
    }

    /// Images `[N, H, W, 3]` of codes `[N, n_styles, D]`, with the model's own noise maps.
    pub fn images(&self, w_plus: &Tensor) -> Result<Tensor> {
        no_grad(|| self.generator.synthesis(&self.generator_params, w_plus, &mut Noise::Fixed, None))
    }

    /// w `[count, D]` of fixed codes: see [`Generator::sample_w`].
    pub fn sample_w(&self, count: usize) -> Result<Tensor> {
        self.generator.sample_w(&self.generator_params, count, self.w_avg.device())
    }

    /// The codes `[N, n_styles, D]` of latent codes z `[N, D]` with truncation ψ: the first half of [`Model::generate`].
    pub fn random_codes(&self, z: &Tensor, truncation_psi: f64) -> Result<Tensor> {
        no_grad(|| {
            let w = self.generator.mapping(&self.generator_params, z)?;
            self.generator.truncate(&w, &self.w_avg, truncation_psi, None)
        })
    }

    /// Images of latent codes z `[N, D]` with truncation ψ.
    pub fn generate(&self, z: &Tensor, truncation_psi: f64) -> Result<Tensor> {
        self.images(&self.random_codes(z, truncation_psi)?)
    }
}

fn w_avg(array: &Array, style_dim: usize, device: Device) -> Result<Tensor> {
    if array.data.len() != style_dim {
        let detail = format!("w_avg {:?} for a style of {style_dim}", array.shape);
        return Err(ModelError::config("model", detail));
    }
    Ok(Tensor::from_vec(array.data.clone(), &[style_dim], device)?)
}

/// Mean of w over 4096 fixed codes.
pub fn mean_w(generator: &Generator, params: &Params, device: Device) -> Result<Tensor> {
    let d = generator.config.style_dim;
    Ok(generator.sample_w(params, 4096, device)?.mean(&[0])?.reshape(&[d])?)
}

fn parse<T: serde::de::DeserializeOwned>(what: &'static str, value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(|e| ModelError::config(what, format!("its configuration in the file: {e}")))
}

fn to_json(what: &'static str, value: &impl serde::Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(|e| ModelError::config(what, e.to_string()))
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
