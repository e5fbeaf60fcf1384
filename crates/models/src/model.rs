//! A whole model in one file: generator, w_avg and, where trained, encoder and discriminator.

use std::path::Path;

use serde_json::Value;
use swinstyle_tensor::{DType, Device, Tensor, no_grad};
use swinstyle_weights::{Archive, Array, CheckpointHeader, FloatDtype};

use crate::{
    Lineage, ModelError, Params, Result, port, ranges,
    styleformer::{Styleformer, StyleformerConfig},
    stylegan2::{Discriminator, DiscriminatorConfig, Generator, GeneratorConfig, Noise},
};

/// Key of the generator's fingerprint in the configuration of a file that holds an encoder alone.
const OF_GENERATOR: &str = "generator_fingerprint";
/// Key of the generator's lineage in a file's configuration.
pub const LINEAGE: &str = "lineage";

/// A generator with what belongs to it.
#[derive(Debug, Clone)]
pub struct Model {
    /// The generator.
    pub generator: Generator,
    /// Its weights (the averaged ones of a training).
    pub generator_params: Params,
    /// Whose weights those are; without a name, as a model has that was not read from a file, they say it themselves.
    pub lineage: Lineage,
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
        let model = match archive.header()? {
            Some(header) => Self::from_native(archive, header, device),
            None => port::load(archive, device),
        };
        model.map_err(|error| error.in_file(archive.origin()))
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
        let theirs = header.config.get(OF_GENERATOR).and_then(Value::as_str).unwrap_or_default();
        if theirs != self.lineage()?.own() && theirs != self.generator_params.fingerprint()? {
            return Err(refuse("belongs to another generator than the one that is used with it"));
        }
        let encoder = parse::<StyleformerConfig>("encoder", config).and_then(Styleformer::new);
        let encoder = encoder.map_err(|error| error.in_file(archive.origin()))?;
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
        config.insert(OF_GENERATOR.into(), self.lineage()?.own().into());
        archive.check_finite()?;
        archive.set_header(&CheckpointHeader { config: Value::Object(config), ..self.header.clone() });
        Ok(archive.write(path, floats)?)
    }

    /// Whose weights the generator has.
    pub fn lineage(&self) -> Result<Lineage> {
        match self.lineage.is_empty() {
            true => Lineage::of(&self.generator_params),
            false => Ok(self.lineage.clone()),
        }
    }

    /// This model with another generator's weights that were made from its own.
    pub fn with_generator(&self, weights: Params) -> Result<Self> {
        let lineage = Lineage::made_from(&weights, &self.lineage()?)?;
        Ok(Self { generator_params: weights, lineage, ..self.clone() })
    }

    /// What the networks were trained for and how: it stays with them, whatever writes the file anew.
    fn kept_config(&self) -> serde_json::Map<String, Value> {
        let keep = |key: &str| Some((key.to_string(), self.header.config.get(key)?.clone()));
        ["task", "training"].into_iter().filter_map(keep).collect()
    }

    fn from_native(archive: &Archive, header: CheckpointHeader, device: Device) -> Result<Self> {
        let part = |key: &str| header.config.get(key).filter(|v| !v.is_null()).cloned();
        let Some(config) = part("generator") else {
            return Err(ModelError::config("model", format!("it holds {} and no generator", header.architecture)));
        };
        let generator = Generator::new(parse("generator", config)?)?;
        has_mapping(&generator.config)?;
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
        let lineage = match part(LINEAGE) {
            Some(names) => parse(LINEAGE, names)?,
            None => Lineage::of(&generator_params)?,
        };
        let w_avg = w_avg(archive.get("w_avg")?, generator.config.style_dim, device)?;
        Ok(Self { generator, generator_params, lineage, w_avg, encoder, discriminator, header })
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
            lineage: self.lineage()?,
            ..self.clone()
        })
    }

    /// Writes everything into one safetensors file, whole or not at all.
    pub fn save(&self, path: impl AsRef<Path>, floats: FloatDtype) -> Result<()> {
        let mut archive = Archive::new();
        let mut config = self.kept_config();
        self.generator_params.to_archive("generator.", &self.generator.specs(), &mut archive)?;
        config.insert("generator".into(), to_json("generator", &self.generator.config)?);
        config.insert(LINEAGE.into(), to_json(LINEAGE, &self.lineage()?)?);
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

/// A model draws random images, for which w must be mapped.
pub(crate) fn has_mapping(config: &GeneratorConfig) -> Result<()> {
    ranges::check("generator", "mapping_layers", config.mapping_layers, &(1..=*ranges::MAPPING_LAYERS.end()))
}

pub(crate) fn w_avg(array: &Array, style_dim: usize, device: Device) -> Result<Tensor> {
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

/// A network's configuration as the file gives it; the error names the key.
fn parse<T: serde::de::DeserializeOwned>(what: &'static str, value: Value) -> Result<T> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let (key, reason) = (error.path().to_string(), error.inner());
        ModelError::config(what, format!("{key} in the file's configuration: {reason}"))
    })
}

fn to_json(what: &'static str, value: &impl serde::Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(|e| ModelError::config(what, e.to_string()))
}

#[cfg(test)]
mod tests;
