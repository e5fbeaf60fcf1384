//! W+ codes from what a user names: images, the code files of `invert`, and seeds; and pictures of codes.

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use swinstyle_data::{Picture, load_image};
use swinstyle_models::Model;
use swinstyle_tensor::{Device, Tensor, rng::Philox};
use swinstyle_weights::{Archive, Array, FloatDtype};

use super::invert::{BATCH, encoder_size};
use crate::output::Usage;

/// Name of the code in a code file.
const W_PLUS: &str = "w_plus";

/// What a code comes from, as it is typed: a file, or `seed:7`.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Input {
    File(PathBuf),
    Seed(u64),
}

pub(super) fn input(text: &str) -> Result<Input, String> {
    match text.strip_prefix("seed:") {
        Some(seed) => seed.parse().map(Input::Seed).map_err(|_| format!("`{seed}` is not a seed")),
        None => Ok(Input::File(text.into())),
    }
}

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

/// A code with where it comes from.
pub(super) struct Code {
    pub(super) name: String,
    /// The image that was inverted, at the encoder's size.
    pub(super) source: Option<Picture>,
    /// `[1, n_styles, D]`.
    pub(super) w_plus: Tensor,
}

/// The codes of all inputs, in order. `truncation` is of the seeds' codes.
///
/// Errors: the first input that cannot be read, an image without an encoder, a code file of another generator's size.
pub(super) fn codes(model: &Model, inputs: &[Input], truncation: f64, device: Device) -> Result<Vec<Code>> {
    let config = &model.generator.config;
    let shape = [1, config.n_styles(), config.style_dim];
    let one = |input: &Input| -> Result<Code> {
        match input {
            Input::Seed(seed) => {
                let z = Philox::new(*seed, 0).normal(&[1, config.style_dim], device)?;
                let w_plus = model.random_codes(&z, truncation)?;
                Ok(Code { name: format!("seed{seed}"), source: None, w_plus })
            }
            Input::File(path) if is_code_file(path) => {
                let archive = Archive::read(path)?;
                let code = archive.get(W_PLUS)?;
                archive.check_finite()?;
                if code.data.len() != shape.iter().product::<usize>() {
                    bail!("{}: a code of shape {:?}, the model's have {:?}", path.display(), code.shape, &shape[1..]);
                }
                let w_plus = Tensor::from_vec(code.data.clone(), &shape, device)?;
                Ok(Code { name: stem(path), source: None, w_plus })
            }
            Input::File(path) => {
                let size = encoder_size(model)?;
                let picture = load_image(path, size)?;
                let w_plus = model.codes(&upload([&picture], device)?)?;
                Ok(Code { name: stem(path), source: Some(picture), w_plus })
            }
        }
    };
    inputs.iter().map(one).collect()
}

fn is_code_file(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("safetensors"))
}

/// The file's name without its ending; `invert` has put `-inverted` behind it.
fn stem(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    stem.strip_suffix("-inverted").unwrap_or(&stem).to_string()
}

/// Writes a code `[1, n_styles, D]`.
pub(super) fn write_code(path: &Path, w_plus: &Tensor) -> Result<()> {
    write_code_array(path, Array::new(w_plus.shape()[1..].to_vec(), w_plus.to_vec()?)?)
}

/// Writes a code `[n_styles, D]`.
pub(super) fn write_code_array(path: &Path, w_plus: Array) -> Result<()> {
    let mut archive = Archive::new();
    archive.arrays.insert(W_PLUS.into(), w_plus);
    Ok(archive.write(path, FloatDtype::F32)?)
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

/// Pictures of codes `[1, n_styles, D]`, at the generator's size.
pub(super) fn pictures(model: &Model, codes: &[Tensor]) -> Result<Vec<Picture>> {
    let size = model.generator.config.size;
    let mut all = Vec::with_capacity(codes.len());
    for chunk in codes.chunks(BATCH) {
        let batch = Tensor::concat(&chunk.iter().collect::<Vec<_>>(), 0)?;
        all.extend(Picture::from_batch(&model.images(&batch)?.to_vec()?, size, size)?);
    }
    Ok(all)
}

/// The folder of a command's output, made where it is not there.
pub(crate) fn make_folder(out: &Path) -> Result<()> {
    std::fs::create_dir_all(out).with_context(|| format!("{}: cannot be made", out.display()))
}

/// Layers that the model's codes have. Errors: wrong usage, with those there are.
pub(super) fn check_layers(model: &Model, option: &str, layers: &Range<usize>) -> Result<()> {
    let last = model.generator.config.n_styles() - 1;
    if layers.end > last + 1 {
        let asked = format!("{}-{}", layers.start, layers.end - 1);
        return Err(Usage(format!("{option} {asked}: the model has the layers 0-{last}")).into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_files_and_seeds_and_layers_include_their_ends() {
        assert_eq!(input("a/b.png").unwrap(), Input::File("a/b.png".into()));
        assert_eq!(input("seed:12").unwrap(), Input::Seed(12));
        assert!(input("seed:x").is_err());
        assert_eq!((layers("2-7").unwrap(), layers("4").unwrap()), (2..8, 4..5));
        for bad in ["", "a", "3-1", "-2", "1-99999"] {
            assert!(layers(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_name_of_an_inverted_image_is_the_images() {
        assert_eq!((stem(Path::new("x/a-inverted.safetensors")), stem(Path::new("b.png"))), ("a".into(), "b".into()));
    }
}
