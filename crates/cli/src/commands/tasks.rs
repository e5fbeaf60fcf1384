//! `swinstyle segment2face` and `swinstyle super-resolve`: what is not in the input has many answers, so several samples.

use std::{ffi::OsString, ops::Range, path::PathBuf, time::Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::{Value, json};
use swinstyle_data::{
    Picture,
    folder::decode_image,
    load_label_map,
    picture::{Sheet, psnr, write_png},
};
use swinstyle_models::{Model, edit};
use swinstyle_tensor::{Tensor, rng::Philox};
use swinstyle_train::{
    Task,
    task::{degrade, one_hot},
};

use super::{
    Context,
    codes::{check_layers, layers, pictures, upload, write_code},
    images::Fitting,
    invert::encoder_size,
    model::{EncoderFile, FACES, SHIPPED},
    numbers,
};
use crate::{
    batch::{Accept, Batch, Force, Item, Lists, Outputs, Shown},
    output::Status,
    text::count,
};

/// How many answers to give, and in what they differ.
#[derive(Debug, Args)]
pub(super) struct Sampling {
    /// Answers to each input: the encoder's own, then the same with random fine layers.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    samples: u32,
    /// Layers that are random from the second answer on, such as 5-9; by default the last ten eighteenths, as the paper's 8-17.
    #[arg(long, value_name = "RANGE", value_parser = layers)]
    mix_layers: Option<Range<usize>>,
    /// Truncation ψ of the random layers' codes: 1 is the full variety, 0 the mean image, below 0 its opposite.
    #[arg(long, default_value_t = 0.7, allow_hyphen_values = true, value_parser = numbers::truncation)]
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

    /// Headings of the answers.
    pub(super) fn columns(&self) -> impl Iterator<Item = String> {
        (1..=self.samples).map(|i| if i == 1 { "answer 1".to_string() } else { format!("answer {i}, mixed") })
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
    /// Label maps (PNG): indexed as `swinstyle data avatars --masks` writes them, grey with a label's number, or in the labels' colours;
    /// also folders of them, patterns in quotes, and - for a list on stdin.
    #[arg(required_unless_present = "files_from", value_name = "MAPS")]
    files: Vec<OsString>,
    #[command(flatten)]
    lists: Lists,
    #[command(flatten)]
    model: EncoderFile,
    #[command(flatten)]
    sampling: Sampling,
    /// Folder to write: NAME-1.png and NAME-1.safetensors (the code) an answer, and grid.png.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    force: Force,
}

pub(super) fn segment2face(context: &Context, args: Segment2Face) -> Result<Status> {
    let device = context.device()?;
    let (models, model) = args.model.load(FACES, device)?;
    let Task::Segmentation { labels, .. } = Task::of(&model)? else {
        bail!(
            "{}: its encoder does not read label maps; train one with [task] kind = \"segmentation\"",
            Shown(&models[0])
        );
    };
    let (encoder, _) = model.encoder.as_ref().context("the model has no encoder")?;
    let size = encoder.config.image_size;
    let read = |item: &Item| -> Result<Question> {
        let map = load_label_map(item.path(), &labels, size)?;
        let input = one_hot(&map.labels, labels.len(), &[1, size, size, 1], device)?;
        Ok(Question { input, shown: vec![map.picture(&labels)], truth: None })
    };
    let o = context.output;
    let mut batch = Batch::open(o, "segment2face", &args.files, &args.lists, Accept::Files, &args.out, &args.force)?;
    models.iter().for_each(|file| batch.outputs.uses(file));
    let work = Answers { model: &model, layers: args.sampling.layers(&model)?, sampling: &args.sampling, read };
    work.run(context, batch, &models, "label map", &["label map"])
}

#[derive(Debug, Args)]
pub(super) struct SuperResolve {
    /// Small images (PNG, JPEG, WebP), with --factor large ones, which are made small first; also folders of them, patterns in
    /// quotes, and - for a list on stdin.
    #[arg(required_unless_present = "files_from", value_name = "FILES")]
    files: Vec<OsString>,
    #[command(flatten)]
    lists: Lists,
    /// Make the images smaller by this factor first, from 1 to 32, and measure how near the answers come to the originals.
    #[arg(long, allow_hyphen_values = true, value_parser = numbers::factor)]
    factor: Option<f64>,
    #[command(flatten)]
    fitting: Fitting,
    #[command(flatten)]
    model: EncoderFile,
    #[command(flatten)]
    sampling: Sampling,
    /// Folder to write: NAME-1.png and NAME-1.safetensors (the code) an answer, and grid.png.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    force: Force,
}

pub(super) fn super_resolve(context: &Context, args: SuperResolve) -> Result<Status> {
    let device = context.device()?;
    let (models, model) = args.model.load(SHIPPED, device)?;
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
    let read = |item: &Item| -> Result<Question> {
        let own = decode_image(item.path())?;
        if let Some(factor) = args.factor {
            let picture = args.fitting.square(&own, size)?;
            let input = degrade(&upload([&picture], device)?, &[factor])?;
            let mut shown = Picture::from_batch(&input.to_vec()?, size, size)?;
            shown.push(picture.clone());
            return Ok(Question { input, shown, truth: Some(picture) });
        }
        let side = own.width.min(own.height);
        // Small images are enlarged as those were that the encoder learned from; large ones shrink without aliasing.
        let input = match side < size {
            true => upload([&args.fitting.square(&own, side)?], device)?.resize_bilinear(size, size, false)?,
            false => upload([&args.fitting.square(&own, size)?], device)?,
        };
        Ok(Question { shown: Picture::from_batch(&input.to_vec()?, size, size)?, input, truth: None })
    };
    let o = context.output;
    let mut batch = Batch::open(o, "super-resolve", &args.files, &args.lists, Accept::Files, &args.out, &args.force)?;
    models.iter().for_each(|file| batch.outputs.uses(file));
    let work = Answers { model: &model, layers: args.sampling.layers(&model)?, sampling: &args.sampling, read };
    let columns: &[&str] = if args.factor.is_some() { &["small", "original"] } else { &["small"] };
    work.run(context, batch, &models, "image", columns)
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

/// What is done to every input.
struct Answers<'a, Read> {
    model: &'a Model,
    layers: Range<usize>,
    sampling: &'a Sampling,
    read: Read,
}

/// What came of one input.
struct Answered {
    document: Value,
    psnr: Option<f64>,
    row: Vec<Picture>,
}

impl<Read: Fn(&Item) -> Result<Question>> Answers<'_, Read> {
    /// Answers each input; bad ones are listed at the end and the others done.
    fn run(
        &self,
        context: &Context,
        mut batch: Batch,
        models: &[PathBuf],
        what: &str,
        shown: &[&str], // headings before the answers
    ) -> Result<Status> {
        let (device, started) = (self.model.w_avg.device(), Instant::now());
        let headings = shown.iter().map(|heading| heading.to_string());
        let mut overview = Sheet::new(headings.chain(self.sampling.columns()));
        let (mut documents, mut done, mut measured) = (Vec::new(), Vec::new(), Vec::new());
        let items = std::mem::take(&mut batch.items);
        let mut progress = context.output.progress(items.len() as u64, "files");
        for (i, item) in items.iter().enumerate() {
            match self.one(item, &mut batch.outputs) {
                Ok(answered) => {
                    documents.push(answered.document);
                    measured.extend(answered.psnr);
                    overview.row(&item.name, answered.row);
                    done.push(item);
                }
                Err(error) => batch.report.fail(item.source.text(), &error),
            }
            progress.set(i as u64 + 1);
        }
        progress.finish();
        let grid = batch.overview("grid", &done, &overview);
        if !done.is_empty() {
            let near = measured.iter().sum::<f64>() / measured.len().max(1) as f64;
            let near =
                if measured.is_empty() { String::new() } else { format!(", the first {near:.2} dB from the original") };
            let mixed = match self.sampling.samples {
                1 => String::new(),
                _ => format!(", the others with random layers {}-{}", self.layers.start, self.layers.end - 1),
            };
            let ms = started.elapsed().as_secs_f64() * 1e3 / done.len() as f64;
            let (files, answers) = (count(done.len(), what), count(self.sampling.samples as usize, "answer"));
            let out = Shown(batch.outputs.folder());
            context
                .output
                .line(format_args!("{files}, {answers} each{near}{mixed}: {out} ({ms:.1} ms a file on {device})"))?;
        }
        let status = batch.report.finish(done.len(), what);
        context.output.document(&json!({
            "device": device.to_string(), "model": Shown(&models[0]), "images": documents,
            "grid": grid.as_deref().map(Shown), "failed": batch.report.failures(),
            "mixed_layers": [self.layers.start, self.layers.end - 1],
        }))?;
        Ok(status)
    }

    fn one(&self, item: &Item, outputs: &mut Outputs) -> Result<Answered> {
        let names = (1..=self.sampling.samples)
            .flat_map(|k| ["png", "safetensors"].map(|end| format!("{}-{k}.{end}", item.name)));
        let planned = outputs.plan(names, &[item])?;
        let question = (self.read)(item)?;
        let codes = self.sampling.codes(self.model, &question.input)?;
        let made = pictures(self.model, &codes)?;
        outputs.start(&planned)?;
        let files = planned.files.chunks(2);
        for ((file, code), picture) in files.clone().zip(&codes).zip(&made) {
            write_png(&file[0], picture)?;
            write_code(&file[1], code, self.model)?;
        }
        let answers: Vec<_> = files.map(|file| Shown(&file[0])).collect();
        let mut document = json!({ "file": Shown(item.path()), "answers": answers });
        let near = match &question.truth {
            Some(truth) => {
                let small = upload([&made[0]], self.model.w_avg.device())?.pool_area(truth.width, truth.width)?;
                let psnr = psnr(&truth.to_f32(), &small.to_vec()?)?;
                document["psnr"] = json!(psnr);
                Some(psnr)
            }
            None => None,
        };
        Ok(Answered { document, psnr: near, row: question.shown.into_iter().chain(made).collect() })
    }
}
