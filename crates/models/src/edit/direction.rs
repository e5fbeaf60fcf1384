//! A direction in W or W+, and its file.

use std::{ops::Range, path::Path};

use serde::{Deserialize, Serialize};
use swinstyle_files::safe_name;
use swinstyle_tensor::Tensor;
use swinstyle_weights::{Archive, Array, FloatDtype};

use super::{
    check_layers,
    file::{Kind, Owner},
};
use crate::{Kinship, Model, ModelError, Result};

/// A way to move a code: `w + strength · step · vector` in the styles `layers`.
#[derive(Debug, Clone, PartialEq)]
pub struct Direction {
    /// One vector for all styles `[D]`, or one for each `[n_styles, D]`.
    pub vector: Array,
    /// What is known about it.
    pub about: About,
}

/// What a direction's file says beside the vector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct About {
    /// What it changes, or its number.
    pub name: String,
    /// `sefa`, `ganspace`, or a kind of boundary; empty for foreign files.
    pub method: String,
    /// The styles that it was made for.
    pub layers: Range<usize>,
    /// Length of strength 1 in lengths of the vector: a standard deviation of w, or the way from one side of a boundary to the other.
    pub step: f64,
    /// The generator that it was made for.
    #[serde(flatten)]
    pub owner: Owner,
    /// Eigenvalue, accuracy and what else the method says.
    pub measured: serde_json::Map<String, serde_json::Value>,
}

impl Default for About {
    fn default() -> Self {
        let (name, method, owner) = Default::default();
        Self { name, method, layers: 0..0, step: 1.0, owner, measured: serde_json::Map::new() }
    }
}

impl Direction {
    /// Moves codes `[N, n_styles, D]` in the styles `layers`, or in those that the direction was made for.
    ///
    /// Errors: layers that the codes do not have, codes of another size, a strength that is not finite.
    pub fn apply(&self, w_plus: &Tensor, strength: f64, layers: Option<&Range<usize>>) -> Result<Tensor> {
        let layers = layers.unwrap_or(&self.about.layers);
        let styles = check_layers(w_plus, layers)?;
        let d = w_plus.shape()[2];
        let rows = self.vector.data.chunks(d).collect::<Vec<_>>();
        if self.vector.data.len() != d * rows.len() || !(rows.len() == 1 || rows.len() == styles) {
            return Err(self.misfit(styles, d));
        }
        let scale = (strength * self.about.step) as f32;
        if !scale.is_finite() {
            return Err(ModelError::config("strength", format!("{strength} times the step {}", self.about.step)));
        }
        let mut shift = vec![0.0; styles * d];
        for style in layers.clone() {
            let row = rows[if rows.len() == 1 { 0 } else { style }];
            shift[style * d..][..d].iter_mut().zip(row).for_each(|(s, v)| *s = v * scale);
        }
        Ok(w_plus.add(&Tensor::from_vec(shift, &[1, styles, d], w_plus.device())?)?)
    }

    fn misfit(&self, styles: usize, d: usize) -> ModelError {
        let detail =
            format!("of shape {:?} for a generator with codes of {styles} x {d}: it is another's", self.vector.shape);
        ModelError::config("direction", detail)
    }

    /// Writes the file, whole or not at all.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        let mut archive = Archive::new();
        archive.arrays.insert(Kind::Direction.tensor().into(), self.vector.clone());
        let about = serde_json::to_string(&self.about).map_err(|e| ModelError::config("direction", e.to_string()))?;
        archive.metadata.insert(Kind::Direction.key().into(), about);
        archive.check_finite()?;
        Ok(archive.write(path, FloatDtype::F32)?)
    }

    /// Reads a direction for a model, and how its generator stands to the model's.
    ///
    /// Files of others are read too: any that [`Archive::read`] takes, with one tensor of the shape `[D]` or `[n_styles, D]`, with axes of
    /// one element in front or without, which then moves all styles by its own length.
    ///
    /// Errors: a code, no such tensor, another shape, numbers that are not finite, a direction of another generator unless `any_generator`.
    pub fn read(path: impl AsRef<Path>, model: &Model, any_generator: bool) -> Result<(Self, Kinship)> {
        let (path, kind) = (path.as_ref(), Kind::Direction);
        let archive = kind.open(path)?;
        let styles = model.generator.config.n_styles();
        let mut about: About = match archive.metadata.get(kind.key()) {
            Some(text) => serde_json::from_str(text)
                .map_err(|e| kind.error(path, format!("its description cannot be read: {e}")))?,
            None => About { layers: 0..styles, ..About::default() },
        };
        let vector = kind.vector(path, &archive, &model.generator.config)?;
        let kinship = kind.kinship(path, &about.owner, model, any_generator)?;
        if about.name.is_empty() {
            about.name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        }
        // It becomes part of the names of files.
        about.name = safe_name(&about.name);
        if !about.step.is_finite() || about.layers.start >= about.layers.end || about.layers.end > styles {
            let (layers, step) = (&about.layers, about.step);
            let detail = format!("it moves the layers {layers:?} by {step}, the generator has the layers 0..{styles}");
            return Err(kind.error(path, detail));
        }
        Ok((Self { vector, about }, kinship))
    }
}
