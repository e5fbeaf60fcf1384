//! What the files of codes and of directions have in common: one tensor, its shape, and the generator that it belongs to.

use std::path::Path;

use serde::{Deserialize, Serialize};
use swinstyle_weights::{Archive, Array, Dtype, WeightsError};

use crate::{Kinship, Lineage, Model, ModelError, Result, stylegan2::GeneratorConfig};

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Code,
    Direction,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Code, Self::Direction];

    /// Name of the tensor in files of this program.
    pub(super) fn tensor(self) -> &'static str {
        match self {
            Self::Code => "w_plus",
            Self::Direction => "direction",
        }
    }

    /// Metadata key of what the file says beside the tensor.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Code => "swinstyle.code",
            Self::Direction => "swinstyle.direction",
        }
    }

    fn what(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::Direction => "direction",
        }
    }

    /// An error that begins with the file's name.
    pub(super) fn error(self, path: &Path, detail: impl std::fmt::Display) -> ModelError {
        ModelError::config(self.what(), format!("{}: {detail}", path.display()))
    }

    /// Reads a file that is not of the other kind.
    pub(super) fn open(self, path: &Path) -> Result<Archive> {
        let (what, tensor) = (self.what(), self.tensor());
        let archive = Archive::read(path).map_err(|error| match error {
            WeightsError::NotACheckpoint { looks_like, .. } => self.error(
                path,
                format!(
                    "this looks like {looks_like}; a {what} is a file with one named tensor, which \
                     safetensors.numpy.save_file({{\"{tensor}\": array}}, \"{what}.safetensors\") writes in Python"
                ),
            ),
            error => error.into(),
        })?;
        let is = |kind: Self| archive.metadata.contains_key(kind.key()) || archive.arrays.contains_key(kind.tensor());
        match Self::ALL.into_iter().find(|kind| *kind != self && is(*kind) && !is(self)) {
            Some(Self::Code) => Err(self.error(path, "this is a code, not a direction: give it as an input")),
            Some(Self::Direction) => Err(self.error(path, "this is a direction, not a code: give it to --direction")),
            None => Ok(archive),
        }
    }

    /// The one tensor of a file, or the one with the kind's name, in the shape `[D]` or `[n_styles, D]`.
    ///
    /// Axes of one element in front are dropped. Errors: no such tensor, numbers that are not finite, another shape.
    pub(super) fn vector(self, path: &Path, archive: &Archive, config: &GeneratorConfig) -> Result<Array> {
        let found = match archive.arrays.len() {
            1 => archive.arrays.values().next(),
            _ => archive.arrays.get(self.tensor()),
        };
        let Some(array) = found else {
            let detail = format!("{} tensors and none called `{}`", archive.arrays.len(), self.tensor());
            return Err(self.error(path, detail));
        };
        if array.dtype == Dtype::Bool {
            return Err(self.error(path, "it holds truth values, not numbers"));
        }
        if let Some(value) = array.data.iter().find(|v| !v.is_finite()) {
            return Err(self.error(path, format!("it holds the number {value}")));
        }
        let (styles, d) = (config.n_styles(), config.style_dim);
        let ones = array.shape.iter().take_while(|n| **n == 1).count().min(array.shape.len().saturating_sub(1));
        let shape = &array.shape[ones..];
        if shape != [d] && shape != [styles, d] {
            let hint = if shape == [d, styles] { "; its axes are swapped" } else { "" };
            let detail = format!(
                "of shape {:?}, the generator's codes are [{styles}, {d}] and a single w is [{d}]{hint}",
                array.shape
            );
            return Err(self.error(path, detail));
        }
        Ok(Array::new(shape.to_vec(), array.data.clone())?)
    }

    /// How the file's generator stands to the model's. Errors: it is another one, unless `any_generator`.
    pub(super) fn kinship(self, path: &Path, owner: &Owner, model: &Model, any_generator: bool) -> Result<Kinship> {
        match model.lineage()?.kinship(&owner.lineage()) {
            Kinship::Other if !any_generator => {
                Err(self.error(path, "it was made for another generator; --any-generator uses it all the same"))
            }
            kinship => Ok(kinship),
        }
    }
}

/// The generator that a code or a direction belongs to, as files say it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Owner {
    /// Fingerprint of the generator's weights; empty for foreign files.
    pub generator: String,
    /// The generators that it was made from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lineage: Vec<String>,
}

impl Owner {
    /// The generator of a model.
    pub(super) fn of(model: &Model) -> Result<Self> {
        let lineage = model.lineage()?;
        Ok(Self { generator: lineage.own().into(), lineage: lineage.ancestors().to_vec() })
    }

    fn lineage(&self) -> Lineage {
        Lineage::new(self.generator.as_str(), &self.lineage)
    }
}
