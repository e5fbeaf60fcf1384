//! Which model file a command uses, and where the shipped ones are looked for.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use clap::Args;
use swinstyle_models::Model;
use swinstyle_tensor::{DType, Device};
use swinstyle_weights::Archive;

use crate::batch::Shown;

/// The model of images that comes with the program.
pub(super) const SHIPPED: &str = "avatar64.safetensors";
/// The encoder of label maps for the same generator.
pub(super) const FACES: &str = "avatar64-segmentation.safetensors";
/// The generator as it was before it was tuned to reconstruct, with its discriminator: it draws best.
const GENERATOR: &str = "avatar64-generator.safetensors";

/// The folder of shipped models in a checkout.
const ASSETS: &str = "assets";
/// The folder of shipped models in the user's data.
const DATA: &str = "swinstyle";

/// The model file of a command.
#[derive(Debug, Args)]
pub(super) struct ModelFile {
    /// Model file (.safetensors, or a StyleGAN2 .pt). Without it SWINSTYLE_MODEL, then avatar64.safetensors, which comes with the
    /// program; for `generate` avatar64-generator.safetensors, the same generator before it was tuned to reconstruct, which draws more
    /// crisply.
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
    /// The file to load: the argument, `SWINSTYLE_MODEL`, or the shipped model. Errors: none of them, with the places.
    pub(super) fn locate(&self) -> Result<PathBuf> {
        self.locate_or(SHIPPED)
    }

    /// As [`ModelFile::locate`], with the generator that draws best, which is also what encoders are trained against.
    pub(super) fn locate_generator(&self) -> Result<PathBuf> {
        self.locate_or(GENERATOR)
    }

    fn locate_or(&self, shipped: &str) -> Result<PathBuf> {
        let given = self.path.clone().or_else(|| named_by("SWINSTYLE_MODEL"));
        given.or_else(|| find(shipped)).ok_or_else(|| not_found(shipped))
    }
}

/// A file that comes with the program, if it is in one of the places.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    Places::of_this_process().candidates(name).find(|path| path.is_file())
}

fn named_by(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn not_found(name: &str) -> anyhow::Error {
    let places = Places::of_this_process();
    anyhow!(
        "{name} was not found: name a model with --model FILE or SWINSTYLE_MODEL, or put it into one of these: {places}"
    )
}

/// Where shipped files may be.
struct Places {
    working_folder: PathBuf,
    /// Of the program.
    program_folder: PathBuf,
    /// `XDG_DATA_HOME/swinstyle`.
    data: Option<PathBuf>,
    /// The checkout that the program was built from.
    checkout: PathBuf,
}

impl Places {
    fn of_this_process() -> Self {
        let home = |rest: &str| named_by("HOME").map(|home| home.join(rest));
        let data = named_by("XDG_DATA_HOME").or_else(|| home(".local/share"));
        let program = std::env::current_exe().unwrap_or_default();
        Self {
            working_folder: std::env::current_dir().unwrap_or_default(),
            program_folder: program.parent().map(Path::to_path_buf).unwrap_or_default(),
            data: data.map(|data| data.join(DATA)),
            checkout: [env!("CARGO_MANIFEST_DIR"), "..", ".."].iter().collect(),
        }
    }

    /// Every path at which a file is looked for, in this order.
    fn candidates<'a>(&'a self, name: &'a str) -> impl Iterator<Item = PathBuf> + 'a {
        let assets = move |folder: &Path| folder.join(ASSETS).join(name);
        let beside = std::iter::once(self.program_folder.join(name));
        let above = self.working_folder.ancestors().chain(self.program_folder.ancestors()).map(assets);
        let data = self.data.iter().map(move |data| data.join(name));
        beside.chain(above).chain(data).chain(std::iter::once(assets(&self.checkout)))
    }
}

impl std::fmt::Display for Places {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (program, working) = (Shown(&self.program_folder), Shown(&self.working_folder));
        write!(
            f,
            "{program} (beside the program), {ASSETS} in {working} or in a folder above it or above the program"
        )?;
        if let Some(data) = &self.data {
            write!(f, ", {} (XDG_DATA_HOME)", Shown(data))?;
        }
        write!(f, ", {ASSETS} in the checkout that it was built from")
    }
}

/// The model file of a command whose encoder may come without its generator.
#[derive(Debug, Args)]
pub(super) struct EncoderFile {
    /// Model file: what `train encoder` exports, or an encoder alone. Without it the one that comes with the program; where that is
    /// the model of images, SWINSTYLE_MODEL first.
    #[arg(long = "model", value_name = "FILE")]
    path: Option<PathBuf>,
    /// The generator of an encoder alone. Without it SWINSTYLE_MODEL, then that of the model that comes with the program.
    #[arg(long, value_name = "FILE")]
    generator: Option<PathBuf>,
}

impl EncoderFile {
    /// Loads the model, or the encoder of it together with its generator; the files are those that were read, the encoder's first.
    ///
    /// Errors: no file, an encoder for another generator.
    pub(super) fn load(&self, shipped: &str, device: Device) -> Result<(Vec<PathBuf>, Model)> {
        let path = match (&self.path, shipped) {
            (Some(path), _) => path.clone(),
            (None, SHIPPED) => ModelFile { path: None }.locate()?,
            (None, _) => find(shipped).ok_or_else(|| not_found(shipped))?,
        };
        let archive = Archive::read(&path)?;
        if !Model::is_encoder(&archive)? {
            return Ok((vec![path], Model::from_archive(&archive, device)?));
        }
        let generator = ModelFile { path: self.generator.clone() }.locate()?;
        let model = Model::load(&generator, device)?.with_encoder(&archive)?;
        Ok((vec![path, generator], model))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_models_are_looked_for_beside_the_program_above_it_in_the_users_data_and_in_the_checkout() {
        let places = Places {
            working_folder: "/users/me/pictures".into(),
            program_folder: "/opt/swinstyle/bin".into(),
            data: Some("/users/me/.local/share/swinstyle".into()),
            checkout: "/src".into(),
        };
        let all: Vec<PathBuf> = places.candidates("m.safetensors").collect();
        let expected = [
            "/opt/swinstyle/bin/m.safetensors",
            "/users/me/pictures/assets/m.safetensors",
            "/users/me/assets/m.safetensors",
            "/users/assets/m.safetensors",
            "/assets/m.safetensors",
            "/opt/swinstyle/bin/assets/m.safetensors",
            "/opt/swinstyle/assets/m.safetensors",
            "/opt/assets/m.safetensors",
            "/assets/m.safetensors",
            "/users/me/.local/share/swinstyle/m.safetensors",
            "/src/assets/m.safetensors",
        ];
        assert_eq!(all, expected.map(PathBuf::from));
    }

    #[test]
    fn what_is_not_found_is_said_with_the_places_and_the_variables() {
        let text = not_found("m.safetensors").to_string();
        for part in ["m.safetensors", "--model", "SWINSTYLE_MODEL", "beside the program", "XDG_DATA_HOME", "assets"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
