//! Which model file a command uses.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use swinstyle_models::Model;
use swinstyle_tensor::{DType, Device};
use swinstyle_weights::Archive;

/// Name of the model that comes with the repository.
pub(super) const SHIPPED: &str = "assets/avatar64.safetensors";
/// Name of the encoder of label maps that comes with it, for the same generator.
pub(super) const FACES: &str = "assets/avatar64-segmentation.safetensors";

/// Name of the generator that comes with the repository for training encoders.
const SHIPPED_GENERATOR: &str = "assets/avatar64-generator.safetensors";

/// The model file of a command.
#[derive(Debug, Args)]
pub(super) struct ModelFile {
    /// Model file (.safetensors, or a StyleGAN2 .pt). Without it SWINSTYLE_MODEL, then the model shipped in assets/.
    #[arg(long = "model", value_name = "FILE")]
    path: Option<PathBuf>,
}

/// The type in which a command's networks compute.
#[derive(Debug, Args)]
pub(super) struct Precision {
    /// Type in which the networks compute: f32, bf16 or f16. On the CPU the half types are for the same results, not for speed.
    #[arg(long, value_name = "PRECISION", default_value_t = DType::F32)]
    pub(super) precision: DType,
}

impl Precision {
    /// A model from its file for computing in this type.
    pub(super) fn load(&self, path: &Path, device: Device) -> Result<Model> {
        // Before the file is read: what the device lacks is known without it.
        device.check_dtype(self.precision)?;
        Ok(Model::load(path, device)?.to_dtype(self.precision)?)
    }
}

impl ModelFile {
    /// The file to load: the argument, `SWINSTYLE_MODEL`, or the shipped model, looked for upwards from the working folder and
    /// from the program's own place.
    pub(super) fn locate(&self) -> Result<PathBuf> {
        self.locate_or(SHIPPED)
    }

    /// The generator with its discriminator that encoders are trained against: as [`ModelFile::locate`], with another shipped file.
    pub(super) fn locate_generator(&self) -> Result<PathBuf> {
        self.locate_or(SHIPPED_GENERATOR)
    }

    fn locate_or(&self, shipped: &str) -> Result<PathBuf> {
        if let Some(path) = &self.path {
            return Ok(path.clone());
        }
        if let Some(path) = std::env::var_os("SWINSTYLE_MODEL").filter(|p| !p.is_empty()) {
            return Ok(path.into());
        }
        match find(shipped) {
            Some(path) => Ok(path),
            None => bail!("{shipped} was not found; name a model file with --model"),
        }
    }
}

/// A file of the repository, looked for upwards from the working folder and from the program's own place.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    let program = std::env::current_exe().unwrap_or_default();
    let here = std::env::current_dir().unwrap_or_default();
    let places = here.ancestors().chain(program.ancestors().skip(1));
    places.map(|p| p.join(name)).find(|p| p.is_file())
}

/// The model file of a command whose encoder may come without its generator.
#[derive(Debug, Args)]
pub(super) struct EncoderFile {
    /// Model file: what `train encoder` exports, or an encoder alone. Without it the one shipped in assets/.
    #[arg(long = "model", value_name = "FILE")]
    path: Option<PathBuf>,
    /// The generator of an encoder alone. Without it the one of the model shipped in assets/.
    #[arg(long, value_name = "FILE")]
    generator: Option<PathBuf>,
}

impl EncoderFile {
    /// Loads the model, or the encoder of it together with its generator. Errors: no file, an encoder for another generator.
    pub(super) fn load(&self, shipped: &str, device: Device) -> Result<(PathBuf, Model)> {
        let Some(path) = self.path.clone().or_else(|| find(shipped)) else {
            bail!("{shipped} was not found; name a model file with --model");
        };
        let archive = Archive::read(&path)?;
        if !Model::is_encoder(&archive)? {
            return Ok((path, Model::from_archive(&archive, device)?));
        }
        let generator = match &self.generator {
            Some(generator) => generator.clone(),
            None => ModelFile { path: None }.locate()?,
        };
        let model = Model::load(&generator, device)?.with_encoder(&archive)?;
        Ok((path, model))
    }
}
