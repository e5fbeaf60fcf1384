//! W+ codes from what a user names: images, the code files of `invert`, and seeds; and pictures of codes.

use std::{ops::Range, path::Path};

use anyhow::{Result, bail};
use clap::Args;
use swinstyle_data::Picture;
use swinstyle_models::{Kinship, Model, edit};
use swinstyle_tensor::{Device, Tensor, rng::Philox};
use swinstyle_weights::Array;

use super::{
    images::Fitting,
    invert::{BATCH, encoder_size},
};
pub(crate) use crate::batch::make_folder;
use crate::{
    batch::{Item, Report, Source},
    output::{Output, Usage},
};

/// A range of styles such as `2-7` or `4`, the ends included.
pub(super) fn layers(text: &str) -> Result<Range<usize>, String> {
    let bad = || format!("`{text}` is not a range of layers such as 2-7");
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let from: usize = from.trim().parse().map_err(|_| bad())?;
    let to: usize = to.trim().parse().map_err(|_| bad())?;
    if to < from || to > 1000 {
        return Err(bad());
    }
    Ok(from..to + 1)
}

/// Whether files of other generators are taken.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct AnyGenerator {
    /// Take codes and directions of any generator; only their shape must fit.
    #[arg(long)]
    pub(super) any_generator: bool,
}

/// How codes are made of inputs.
pub(super) struct Reader<'a> {
    pub(super) model: &'a Model,
    /// Of the seeds' codes.
    pub(super) truncation: f64,
    pub(super) fitting: Fitting,
    pub(super) any: AnyGenerator,
    pub(super) device: Device,
}

/// A code with where it comes from.
pub(super) struct Code {
    pub(super) item: Item,
    /// The image that was inverted, at the encoder's size.
    pub(super) source: Option<Picture>,
    /// `[1, n_styles, D]`.
    pub(super) w_plus: Tensor,
    /// How the generator of a code file stands to the model's.
    kinship: Kinship,
}

impl Reader<'_> {
    /// The codes of the inputs that have one, in order; what is wrong with the others goes to the report.
    pub(super) fn codes(&self, items: &[Item], report: &mut Report) -> Vec<Code> {
        let mut codes = Vec::new();
        for item in items {
            match self.code(item) {
                Ok(code) => codes.push(code),
                Err(error) => report.fail(item.source.text(), &error),
            }
        }
        codes
    }

    /// Errors: an input that cannot be read, an image without an encoder, a code file of another generator.
    fn code(&self, item: &Item) -> Result<Code> {
        let config = &self.model.generator.config;
        let (item, shape) = (item.clone(), [1, config.n_styles(), config.style_dim]);
        match &item.source {
            Source::Seed(seed) => {
                let z = Philox::new(*seed, 0).normal(&[1, config.style_dim], self.device)?;
                let w_plus = self.model.random_codes(&z, self.truncation)?;
                Ok(Code { item, source: None, w_plus, kinship: Kinship::Same })
            }
            Source::File(path) if is_code_file(path) => {
                let (code, kinship) = edit::read_code(path, self.model, self.any.any_generator)?;
                let w_plus = Tensor::from_vec(code.data, &shape, self.device)?;
                Ok(Code { item, source: None, w_plus, kinship })
            }
            Source::File(path) => {
                let size = encoder_size(self.model)?;
                let picture = self.fitting.load(path, size)?.picture;
                let w_plus = self.model.codes(&upload([&picture], self.device)?)?;
                Ok(Code { item, source: Some(picture), w_plus, kinship: Kinship::Same })
            }
        }
    }
}

fn is_code_file(path: &Path) -> bool {
    const ENDINGS: [&str; 5] = ["safetensors", "pt", "pth", "npy", "npz"];
    path.extension().is_some_and(|e| ENDINGS.iter().any(|ending| e.eq_ignore_ascii_case(ending)))
}

/// Says once that a direction or codes are of a generator that the model's was made from, or the like.
pub(super) fn note_relatives(output: Output, direction: Option<Kinship>, codes: &[&[Code]]) {
    let relatives = codes.iter().flat_map(|c| c.iter()).filter(|c| c.kinship == Kinship::Relative).count();
    let what = match (direction == Some(Kinship::Relative), relatives) {
        (false, 0) => return,
        (true, 0) => "the direction is".to_string(),
        (false, n) => format!("{n} of the codes are"),
        (true, n) => format!("the direction and {n} of the codes are"),
    };
    output.note(format_args!(
        "{what} of a relative of the model's generator: one was made from the other, or both from a third"
    ));
}

/// Writes a code `[1, n_styles, D]`. Errors: one that is not finite, and what the system refuses.
pub(super) fn write_code(path: &Path, w_plus: &Tensor, model: &Model) -> Result<()> {
    Ok(edit::write_code(path, Array::new(w_plus.shape()[1..].to_vec(), w_plus.to_vec()?)?, model)?)
}

/// Square pictures of one size as a batch `[N, S, S, 3]` on the device.
pub(super) fn upload<'a>(pictures: impl IntoIterator<Item = &'a Picture>, device: Device) -> Result<Tensor> {
    let (mut pixels, mut n, mut size) = (Vec::new(), 0, 0);
    for picture in pictures {
        pixels.extend(picture.to_f32());
        (n, size) = (n + 1, picture.width);
    }
    Ok(Tensor::from_vec(pixels, &[n, size, size, 3], device)?)
}

/// Pictures of codes `[1, n_styles, D]`, at the generator's size. Errors: images that are not finite.
pub(super) fn pictures(model: &Model, codes: &[Tensor]) -> Result<Vec<Picture>> {
    let size = model.generator.config.size;
    let mut all = Vec::with_capacity(codes.len());
    for chunk in codes.chunks(BATCH) {
        let batch = Tensor::concat(&chunk.iter().collect::<Vec<_>>(), 0)?;
        all.extend(finite_pictures(&model.images(&batch)?, size)?);
    }
    Ok(all)
}

/// The pictures of a network's images `[N, S, S, 3]`. Errors: one that is not finite, which would be black.
pub(super) fn finite_pictures(images: &Tensor, size: usize) -> Result<Vec<Picture>> {
    let pixels = images.to_vec()?;
    if pixels.iter().any(|pixel| !pixel.is_finite()) {
        bail!("the generator's image is not finite: its code is too far from those that the generator knows");
    }
    Ok(Picture::from_batch(&pixels, size, size)?)
}

/// Layers that the model's codes have. Errors: wrong usage, with those there are.
pub(super) fn check_layers(model: &Model, option: &str, layers: &Range<usize>) -> Result<()> {
    let last = model.generator.config.n_styles() - 1;
    if layers.end > last + 1 {
        let asked = format!("{option} {}-{}", layers.start, layers.end - 1);
        return Err(Usage(format!("{asked}: the model has the layers 0-{last}")).into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_include_their_ends() {
        assert_eq!((layers("2-7").unwrap(), layers("4").unwrap()), (2..8, 4..5));
        for bad in ["", "a", "3-1", "-2", "1-99999"] {
            assert!(layers(bad).is_err(), "{bad}");
        }
    }
}
