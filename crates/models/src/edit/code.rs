//! Files of W+ codes.

use std::path::Path;

use swinstyle_weights::{Archive, Array, FloatDtype};

use super::file::{Kind, Owner};
use crate::{Kinship, Model, ModelError, Result};

/// Writes a code `[n_styles, D]` with the lineage of the model's generator, whole or not at all.
pub fn write_code(path: impl AsRef<Path>, w_plus: Array, model: &Model) -> Result<()> {
    let mut archive = Archive::new();
    archive.arrays.insert(Kind::Code.tensor().into(), w_plus);
    let owner = serde_json::to_string(&Owner::of(model)?).map_err(|e| ModelError::config("code", e.to_string()))?;
    archive.metadata.insert(Kind::Code.key().into(), owner);
    archive.check_finite()?;
    Ok(archive.write(path, FloatDtype::F32)?)
}

/// Reads a code `[n_styles, D]` for a model, and how its generator stands to the model's.
///
/// A single w (`[D]`, `[1, D]`) becomes the code of all styles, `[1, n_styles, D]` the code itself. Files of others are read too: any with
/// one tensor of such a shape; they and those of older versions do not say whose they are.
///
/// Errors: a direction, no such tensor, another shape, numbers that are not finite, a code of another generator unless `any_generator`.
pub fn read_code(path: impl AsRef<Path>, model: &Model, any_generator: bool) -> Result<(Array, Kinship)> {
    let (path, kind) = (path.as_ref(), Kind::Code);
    let archive = kind.open(path)?;
    let owner: Owner = match archive.metadata.get(kind.key()) {
        Some(text) => {
            serde_json::from_str(text).map_err(|e| kind.error(path, format!("its description cannot be read: {e}")))?
        }
        None => Owner::default(),
    };
    let config = &model.generator.config;
    let vector = kind.vector(path, &archive, config)?;
    let kinship = kind.kinship(path, &owner, model, any_generator)?;
    let (styles, d) = (config.n_styles(), config.style_dim);
    let data = if vector.shape == [d] { vector.data.repeat(styles) } else { vector.data };
    Ok((Array::new(vec![styles, d], data)?, kinship))
}
