//! `swinstyle segment2face` and `swinstyle super-resolve`: what is not in the input has many answers, so several samples.

use std::{collections::HashSet, ops::Range, path::PathBuf, time::Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::{Value, json};
use swinstyle_data::{
    Picture,
    folder::decode_image,
    load_image, load_label_map,
    picture::{psnr, sheet, write_png},
};
use swinstyle_models::{Model, edit};
use swinstyle_tensor::{Tensor, rng::Philox};
use swinstyle_train::{
    Task,
    task::{degrade, one_hot},
};

use super::{
    Context,
    codes::{check_layers, layers, make_folder, pictures, upload, write_code},
    invert::{encoder_size, unique_name},
    model::{EncoderFile, FACES},
};
use crate::output::{Status, Usage};

/// Rows of the overview.
const OVERVIEW: usize = 32;

/// How many answers to give, and in what they differ.
#[derive(Debug, Args)]
pub(super) struct Sampling {
    /// Answers to each input: the encoder's own, then the same with random fine layers.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    samples: u32,
    /// Layers that are random from the second answer on, such as 5-9; by default the last ten eighteenths, as the paper's 8-17.
    #[arg(long, value_name = "RANGE", value_parser = layers)]
    mix_layers: Option<Range<usize>>,
    /// Truncation ψ of the random layers' codes.
    #[arg(long, default_value_t = 0.7)]
    truncation: f64,
    /// Seed of the random layers.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { samples: 4, mix_layers: None, truncation: 0.7, seed: 0 }
    }
}

impl Sampling {
    /// The layers to mix. [paper: layers >= 8 of 18] The same share of them in smaller generators [ours].
    fn layers(&self, model: &Model) -> Result<Range<usize>> {
        let n = model.generator.config.n_styles();
        let range = self.mix_layers.clone().unwrap_or((n * 8).div_ceil(18)..n);
        check_layers(model, "--mix-layers", &range)?;
        Ok(range)
    }

    /// The codes of all answers to one input, the encoder's own first.
    pub(super) fn codes(&self, model: &Model, input: &Tensor) -> Result<Vec<Tensor>> {
        let (layers, device) = (self.layers(model)?, input.device());
        let own = model.codes(input)?;
        let mut all = vec![own.clone()];
        for i in 1..u64::from(self.samples) {
            let z = Philox::new(self.seed, i).normal(&[1, model.generator.config.style_dim], device)?;
            all.push(edit::mix(&own, &model.random_codes(&z, self.truncation)?, &layers)?);
        }
        Ok(all)
    }
}

#[derive(Debug, Args)]
pub(super) struct Segment2Face {
    /// Label maps (PNG): indexed as `swinstyle data avatars --masks` writes them, grey with a label's number, or in the labels' colours.
    #[arg(required = true, value_name = "MAPS")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    model: EncoderFile,
    #[command(flatten)]
    sampling: Sampling,
    /// Folder to write: NAME-1.png and NAME-1.safetensors (the code) an answer, and grid.png.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(super) fn segment2face(context: &Context, args: Segment2Face) -> Result<Status> {
    let device = context.device()?;
    let (path, model) = args.model.load(FACES, device)?;
    let Task::Segmentation { labels, .. } = Task::of(&model)? else {
        bail!(
            "{}: its encoder does not read label maps; train one with [task] kind = \"segmentation\"",
            path.display()
        );
    };
    let (encoder, _) = model.encoder.as_ref().context("the model has no encoder")?;
    let size = encoder.config.image_size;
    let read = |file: &PathBuf| -> Result<Question> {
        let map = load_label_map(file, &labels, size)?;
        let input = one_hot(&map.labels, labels.len(), &[1, size, size, 1], device)?;
        Ok(Question { input, shown: vec![map.picture(&labels)], truth: None })
    };
    answer(context, &model, &args.files, read, &args.sampling, &args.out, &path, "faces from label maps")
}

#[derive(Debug, Args)]
pub(super) struct SuperResolve {
    /// Small images (PNG, JPEG, WebP), cropped to a square in the middle; with --factor large ones, which are made small first.
    #[arg(required = true, value_name = "FILES")]
    files: Vec<PathBuf>,
    /// Make the images smaller by this factor first, from 1 to 32, and measure how near the answers come to the originals.
    #[arg(long)]
    factor: Option<f64>,
    #[command(flatten)]
    model: EncoderFile,
    #[command(flatten)]
    sampling: Sampling,
    /// Folder to write: NAME-1.png and NAME-1.safetensors (the code) an answer, and grid.png.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(super) fn super_resolve(context: &Context, args: SuperResolve) -> Result<Status> {
    if let Some(factor) = args.factor.filter(|f| !(1.0..=32.0).contains(f)) {
        return Err(Usage(format!("--factor {factor}: from 1 to 32")).into());
    }
    let device = context.device()?;
    let (path, model) = args.model.load(super::model::SHIPPED, device)?;
    let size = encoder_size(&model)?;
    match Task::of(&model)? {
        Task::SuperResolution { min_factor, max_factor } => {
            if let Some(factor) = args.factor.filter(|f| !(min_factor..=max_factor).contains(f)) {
                let trained = format!("{min_factor} to {max_factor}");
                context.output.note(format_args!("the model was trained on factors from {trained}, not {factor}"));
            }
        }
        _ => context.output.note("the model was trained on whole images, not on small ones: expect less"),
    }
    let read = |file: &PathBuf| -> Result<Question> {
        if let Some(factor) = args.factor {
            let picture = load_image(file, size)?;
            let input = degrade(&upload([&picture], device)?, &[factor])?;
            let mut shown = Picture::from_batch(&input.to_vec()?, size, size)?;
            shown.push(picture.clone());
            return Ok(Question { input, shown, truth: Some(picture) });
        }
        let own = decode_image(file)?;
        let side = own.width.min(own.height);
        // Small images are enlarged as those were that the encoder learned from; large ones shrink without aliasing.
        let input = match side < size {
            true => upload([&load_image(file, side)?], device)?.resize_bilinear(size, size, false)?,
            false => upload([&load_image(file, size)?], device)?,
        };
        Ok(Question { shown: Picture::from_batch(&input.to_vec()?, size, size)?, input, truth: None })
    };
    answer(context, &model, &args.files, read, &args.sampling, &args.out, &path, "images enlarged")
}

/// An input as the encoder reads it.
struct Question {
    /// `[1, S, S, C]`.
    input: Tensor,
    /// What the overview shows before the answers.
    shown: Vec<Picture>,
    /// What the first answer is measured against.
    truth: Option<Picture>,
}

/// Answers each file; bad files are listed at the end and the others done.
fn answer(
    context: &Context,
    model: &Model,
    files: &[PathBuf],
    read: impl Fn(&PathBuf) -> Result<Question>,
    sampling: &Sampling,
    out: &std::path::Path,
    model_path: &std::path::Path,
    what: &str,
) -> Result<Status> {
    let layers = sampling.layers(model)?;
    let (device, started) = (model.w_avg.device(), Instant::now());
    let (mut rows, mut done, mut failed): (Vec<Vec<Picture>>, Vec<Value>, Vec<Value>) = Default::default();
    let (mut names, mut errors, mut sum) = (HashSet::new(), Vec::new(), 0.0);
    let mut progress = context.output.progress(files.len() as u64, "files");
    for (i, file) in files.iter().enumerate() {
        match read(file) {
            Ok(question) => {
                let codes = sampling.codes(model, &question.input)?;
                let made = pictures(model, &codes)?;
                make_folder(out)?;
                let name = unique_name(file, &mut names);
                let mut answers = Vec::new();
                for (k, (code, picture)) in codes.iter().zip(&made).enumerate() {
                    let path = out.join(format!("{name}-{}.png", k + 1));
                    write_png(&path, picture)?;
                    write_code(&path.with_extension("safetensors"), code)?;
                    answers.push(path);
                }
                let mut entry = json!({ "file": file, "answers": answers });
                if let Some(truth) = &question.truth {
                    let size = truth.width;
                    let small = upload([&made[0]], device)?.pool_area(size, size)?.to_vec()?;
                    let psnr = psnr(&truth.to_f32(), &small)?;
                    entry["psnr"] = json!(psnr);
                    sum += psnr;
                }
                done.push(entry);
                if rows.len() < OVERVIEW {
                    let size = model.generator.config.size;
                    let factor = |p: &Picture| (size / p.width.max(1)).max(1);
                    let shown = question.shown.iter().map(|p| p.enlarged(factor(p)));
                    rows.push(shown.chain(made).collect());
                }
            }
            Err(error) => {
                let reason = crate::output::one_line(&error);
                failed.push(json!({ "file": file, "reason": reason }));
                errors.push(reason);
            }
        }
        progress.set(i as u64 + 1);
    }
    progress.finish();
    if !rows.is_empty() {
        write_png(&out.join("grid.png"), &sheet(&rows)?)?;
        let n = done.len();
        let measured =
            if sum > 0.0 { format!(", the first {:.2} dB from the original", sum / n as f64) } else { String::new() };
        let mixed = match sampling.samples {
            1 => String::new(),
            _ => format!(", the others with random layers {}-{}", layers.start, layers.end - 1),
        };
        let (out, k, ms) = (out.display(), sampling.samples, started.elapsed().as_secs_f64() * 1e3 / n as f64);
        context.output.line(format_args!(
            "{n} {what}, {k} answers each{measured}{mixed}: {out} ({ms:.1} ms a file on {device})"
        ))?;
    }
    for error in &errors {
        context.output.note(format_args!("error: {error}"));
    }
    let status = if errors.is_empty() { Status::Done } else { Status::Failed };
    context.output.document(&json!({
        "device": device.to_string(), "model": model_path, "images": done, "failed": failed,
        "mixed_layers": [layers.start, layers.end - 1],
    }))?;
    Ok(status)
}
