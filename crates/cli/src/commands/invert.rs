//! `swinstyle invert`: a user's images to W+ codes and back.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde::Serialize;
use serde_json::json;
use swinstyle_data::{
    Picture, load_image,
    picture::{difference, mse, psnr, sheet, ssim, write_png},
};
use swinstyle_models::Model;
use swinstyle_tensor::Device;
use swinstyle_train::Task;
use swinstyle_weights::Array;

use super::{
    Context,
    codes::{make_folder, upload, write_code_array},
    explain,
    model::{ModelFile, Precision},
};
use crate::output::Status;

/// Images inverted at once.
pub(super) const BATCH: usize = 8;
/// Rows of the overview.
const OVERVIEW: usize = 32;
/// Amplification of the difference pictures.
pub(super) const DIFFERENCE_GAIN: f32 = 2.0;

#[derive(Debug, Args)]
pub(super) struct Invert {
    /// Images (PNG, JPEG, WebP) of any size; they are cropped to a square in the middle and resized.
    #[arg(required = true, value_name = "FILES")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    model: ModelFile,
    /// Passes of refinement, for an encoder that was trained with model.refine_steps (ReStyle); without it as many as in training.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=100))]
    refine: Option<u16>,
    /// Also write NAME-attention.png: where the encoder looked, by level and by head, and where the image differs.
    #[arg(long)]
    explain: bool,
    #[command(flatten)]
    precision: Precision,
    /// Folder to write: NAME-inverted.png and NAME-inverted.safetensors (the W+ code) an image, and grid.png.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// One inverted image.
#[derive(Debug, Serialize)]
struct Done {
    file: PathBuf,
    reconstruction: PathBuf,
    code: PathBuf,
    psnr: f64,
    mse: f64,
    ssim: f64,
}

#[derive(Debug, Serialize)]
struct Bad {
    file: PathBuf,
    reason: String,
}

pub(super) fn run(context: &Context, args: Invert) -> Result<Status> {
    let device = context.device()?;
    let path = args.model.locate()?;
    let model = args.precision.load(&path, device)?;
    let size = encoder_size(&model)?;
    make_folder(&args.out)?;
    let (mut done, mut bad, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    let mut names = HashSet::new();
    let mut seconds = 0.0;
    let mut progress = context.output.progress(args.files.len() as u64, "images");
    for (i, chunk) in args.files.chunks(BATCH).enumerate() {
        let mut loaded = Vec::new();
        for file in chunk {
            match load_image(file, size) {
                Ok(picture) => loaded.push((file, picture)),
                Err(error) => bad.push(Bad { file: file.clone(), reason: error.to_string() }),
            }
        }
        if !loaded.is_empty() {
            let pictures: Vec<&Picture> = loaded.iter().map(|(_, p)| p).collect();
            let started = Instant::now();
            let inversion = invert_in(&model, &pictures, args.refine.map(usize::from), size, device)?;
            seconds += started.elapsed().as_secs_f64();
            let mut sheets = match args.explain {
                true => {
                    let made: Vec<&Picture> = inversion.iter().map(|(made, _)| made).collect();
                    explain::sheets(&model, &upload(pictures.iter().copied(), device)?, &pictures, &made)?
                }
                false => Vec::new(),
            }
            .into_iter();
            for ((file, source), (made, code)) in loaded.iter().zip(inversion) {
                let name = unique_name(file, &mut names);
                if let Some(sheet) = sheets.next() {
                    write_png(&args.out.join(format!("{name}-attention.png")), &sheet)?;
                }
                let entry = write(&args.out, &name, file, source, &made, code)?;
                if rows.len() < OVERVIEW {
                    rows.push([source.clone(), made.clone(), difference(source, &made, DIFFERENCE_GAIN)?]);
                }
                done.push(entry);
            }
        }
        progress.set(((i + 1) * BATCH).min(args.files.len()) as u64);
    }
    progress.finish();
    if !rows.is_empty() {
        write_png(&args.out.join("grid.png"), &sheet(&rows)?)?;
    }
    let n = done.len().max(1) as f64;
    let (mean_psnr, ms) = (done.iter().map(|d| d.psnr).sum::<f64>() / n, seconds * 1e3 / n);
    if !done.is_empty() {
        let out = args.out.display();
        context.output.line(format_args!(
            "{} images inverted into {out}: {mean_psnr:.2} dB, {ms:.1} ms an image on {device}",
            done.len()
        ))?;
    }
    for b in &bad {
        context.output.note(format_args!("error: {}", b.reason));
    }
    if !bad.is_empty() {
        context.output.note(format_args!("{} of {} files could not be inverted", bad.len(), args.files.len()));
    }
    let failed = !bad.is_empty();
    context.output.document(&json!({
        "device": device.to_string(), "model": path, "images": done, "failed": bad, "psnr": mean_psnr, "ms_per_image": ms,
    }))?;
    Ok(if failed { Status::Failed } else { Status::Done })
}

/// Side of the images that the model's encoder reads. Errors: a model without an encoder, or whose encoder reads label maps.
pub(super) fn encoder_size(model: &Model) -> Result<usize> {
    let encoder =
        model.encoder.as_ref().context("the model has no encoder: only a trained inversion model can invert")?;
    match Task::of(model)? {
        Task::Segmentation { .. } => {
            bail!("the model's encoder reads label maps, not images: use swinstyle segment2face")
        }
        Task::Inversion {} | Task::SuperResolution { .. } => Ok(encoder.0.config.image_size),
    }
}

/// Inverts pictures of the encoder's size; returns reconstructions of that size and the codes `[n_styles, D]`.
pub(super) fn invert(
    model: &Model,
    pictures: &[&Picture],
    size: usize,
    device: Device,
) -> Result<Vec<(Picture, Array)>> {
    invert_in(model, pictures, None, size, device)
}

/// [`invert`] in so many passes of refinement.
fn invert_in(
    model: &Model,
    pictures: &[&Picture],
    refine: Option<usize>,
    size: usize,
    device: Device,
) -> Result<Vec<(Picture, Array)>> {
    let source = upload(pictures.iter().copied(), device)?;
    let w_plus = match refine {
        Some(passes) => model.codes_in(&source, passes)?,
        None => model.codes(&source)?,
    };
    let images = model.images(&w_plus)?;
    let made = Picture::from_batch(&images.pool_area(size, size)?.to_vec()?, size, size)?;
    let shape = w_plus.shape()[1..].to_vec();
    let codes = w_plus.to_vec()?;
    let each = shape.iter().product::<usize>().max(1);
    let codes = codes.chunks(each).map(|c| Array::new(shape.clone(), c.to_vec()));
    Ok(made.into_iter().zip(codes.collect::<Result<Vec<_>, _>>()?).collect())
}

/// The file's stem, numbered where another file of the batch has the same.
pub(super) fn unique_name(file: &Path, names: &mut HashSet<String>) -> String {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut name = stem.clone();
    let mut i = 2;
    while !names.insert(name.clone()) {
        name = format!("{stem}-{i}");
        i += 1;
    }
    name
}

fn write(out: &Path, name: &str, file: &Path, source: &Picture, made: &Picture, code: Array) -> Result<Done> {
    let (a, b) = (source.to_f32(), made.to_f32());
    let reconstruction = out.join(format!("{name}-inverted.png"));
    write_png(&reconstruction, made)?;
    let path = out.join(format!("{name}-inverted.safetensors"));
    write_code_array(&path, code)?;
    Ok(Done {
        file: file.to_path_buf(),
        reconstruction,
        code: path,
        psnr: psnr(&a, &b)?,
        mse: mse(&a, &b)?,
        ssim: ssim(&a, &b, source.height, source.width, 3)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_one_name_do_not_overwrite_each_other() {
        let mut names = HashSet::new();
        let made: Vec<String> =
            ["a/x.png", "b/x.jpg", "x-2.png"].map(|f| unique_name(Path::new(f), &mut names)).to_vec();
        assert_eq!(made, ["x", "x-2", "x-2-2"]);
    }
}
