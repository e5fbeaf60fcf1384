//! A direction in W or W+, and its file.

use std::{ops::Range, path::Path};

use serde::{Deserialize, Serialize};
use swinstyle_tensor::Tensor;
use swinstyle_weights::{Archive, Array, FloatDtype};

use super::check_layers;
use crate::{ModelError, Result, stylegan2::GeneratorConfig};

/// Metadata key of what a file says beside the vector.
const KEY: &str = "swinstyle.direction";
/// Name of the vector in a file of this program.
const TENSOR: &str = "direction";

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
    /// `sefa`, `ganspace` or `boundary`; empty for foreign files.
    pub method: String,
    /// The styles that it was made for.
    pub layers: Range<usize>,
    /// Length of strength 1 in lengths of the vector: a standard deviation of w, or the way from one side of a boundary to the other.
    pub step: f64,
    /// Fingerprint of the generator's weights; empty for foreign files.
    pub generator: String,
    /// Eigenvalue, accuracy and what else the method says.
    pub measured: serde_json::Map<String, serde_json::Value>,
}

impl Default for About {
    fn default() -> Self {
        let (name, method, generator) = Default::default();
        Self { name, method, layers: 0..0, step: 1.0, generator, measured: serde_json::Map::new() }
    }
}

impl Direction {
    /// Moves codes `[N, n_styles, D]` in the styles `layers`, or in those that the direction was made for.
    ///
    /// Errors: layers that the codes do not have, codes of another size.
    pub fn apply(&self, w_plus: &Tensor, strength: f64, layers: Option<&Range<usize>>) -> Result<Tensor> {
        let layers = layers.unwrap_or(&self.about.layers);
        let styles = check_layers(w_plus, layers)?;
        let d = w_plus.shape()[2];
        let rows = self.vector.data.chunks(d).collect::<Vec<_>>();
        if self.vector.data.len() != d * rows.len() || !(rows.len() == 1 || rows.len() == styles) {
            return Err(self.misfit(styles, d));
        }
        let scale = (strength * self.about.step) as f32;
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
        archive.arrays.insert(TENSOR.into(), self.vector.clone());
        let about = serde_json::to_string(&self.about).map_err(|e| ModelError::config("direction", e.to_string()))?;
        archive.metadata.insert(KEY.into(), about);
        archive.check_finite()?;
        Ok(archive.write(path, FloatDtype::F32)?)
    }

    /// Reads a direction for the generator `config` whose weights have that `fingerprint`.
    ///
    /// Files of others are read too: any safetensors or `.pt` file with one tensor of D or n_styles·D numbers, which then moves all styles
    /// by its own length.
    ///
    /// Errors: no such tensor, a direction of another generator.
    pub fn read(path: impl AsRef<Path>, config: &GeneratorConfig, fingerprint: &str) -> Result<Self> {
        let path = path.as_ref();
        let archive = Archive::read(path)?;
        let bad = |detail: String| ModelError::config("direction", format!("{}: {detail}", path.display()));
        let (styles, d) = (config.n_styles(), config.style_dim);
        let mut about = match archive.metadata.get(KEY) {
            Some(text) => {
                serde_json::from_str(text).map_err(|e| bad(format!("its description cannot be read: {e}")))?
            }
            None => About { layers: 0..styles, ..About::default() },
        };
        let vector = match archive.arrays.len() {
            1 => archive.arrays.values().next(),
            _ => archive.arrays.get(TENSOR),
        };
        let Some(vector) = vector else {
            return Err(bad(format!("{} tensors and none called `{TENSOR}`", archive.arrays.len())));
        };
        archive.check_finite()?;
        let foreign = !about.generator.is_empty() && about.generator != fingerprint;
        let shape = match vector.data.len() {
            n if n == d => vec![d],
            n if n == styles * d => vec![styles, d],
            n => {
                return Err(bad(format!("{n} numbers, for a generator with codes of {styles} x {d}: it is another's")));
            }
        };
        if foreign {
            return Err(bad("it was made for another generator".into()));
        }
        if about.name.is_empty() {
            about.name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        }
        if !about.step.is_finite() || about.layers.start >= about.layers.end || about.layers.end > styles {
            return Err(bad("its description does not fit the generator".into()));
        }
        Ok(Self { vector: Array::new(shape, vector.data.clone())?, about })
    }
}
