//! Which model file a command uses.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

/// Name of the model that comes with the repository.
const SHIPPED: &str = "assets/avatar64.safetensors";

/// Name of the generator that comes with the repository for training encoders.
const SHIPPED_GENERATOR: &str = "assets/avatar64-generator.safetensors";

/// The model file of a command.
#[derive(Debug, Args)]
pub(super) struct ModelFile {
    /// Model file (.safetensors, or a StyleGAN2 .pt). Without it SWINSTYLE_MODEL, then the model shipped in assets/.
    #[arg(long = "model", value_name = "FILE")]
    path: Option<PathBuf>,
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
        let program = std::env::current_exe().unwrap_or_default();
        let here = std::env::current_dir().unwrap_or_default();
        let places = here.ancestors().chain(program.ancestors().skip(1));
        match places.map(|p| p.join(shipped)).find(|p| p.is_file()) {
            Some(path) => Ok(path),
            None => bail!("{shipped} was not found; name a model file with --model"),
        }
    }
}
