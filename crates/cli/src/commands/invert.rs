//! `swinstyle invert`: a user's images to W+ codes and back.

use std::{ffi::OsString, path::PathBuf, time::Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::{Value, json};
use swinstyle_data::{
    Picture,
    picture::{Sheet, difference, mse, psnr, ssim, write_png},
};
use swinstyle_models::{Model, edit::write_code};
use swinstyle_tensor::Device;
use swinstyle_train::Task;
use swinstyle_weights::Array;

use super::{
    Context,
    codes::{finite_pictures, upload},
    explain, familiarity,
    images::{Fitted, Fitting},
    model::{ModelFile, Precision},
};
use crate::{
    batch::{Accept, Batch, Force, Item, Lists, Outputs, Planned, Report, Shown},
    output::Status,
    text::count,
};

/// Images inverted at once.
pub(super) const BATCH: usize = 8;
/// Amplification of the difference pictures.
pub(super) const DIFFERENCE_GAIN: f32 = 2.0;

#[derive(Debug, Args)]
pub(super) struct Invert {
    /// Images (PNG, JPEG, WebP) of any size, folders of them with their subfolders, patterns in quotes such as '*.png', or - for a
    /// list on stdin, one path a line.
    #[arg(required_unless_present = "files_from", value_name = "FILES")]
    files: Vec<OsString>,
    #[command(flatten)]
    lists: Lists,
    #[command(flatten)]
    fitting: Fitting,
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
    #[command(flatten)]
    force: Force,
}

pub(super) fn run(context: &Context, args: Invert) -> Result<Status> {
    let device = context.device()?;
    let path = args.model.locate()?;
    let model = args.precision.load(&path, device)?;
    let size = encoder_size(&model)?;
    let o = context.output;
    let mut batch = Batch::open(o, "invert", &args.files, &args.lists, Accept::Files, &args.out, &args.force)?;
    batch.outputs.uses(&path);
    let refine = args.refine.map(usize::from);
    let one_pass = model.encoder.as_ref().is_some_and(|(encoder, _)| encoder.config.refine_steps == 1);
    if let Some(passes) = refine.filter(|&passes| passes != 1 && one_pass) {
        bail!("--refine {passes}: this encoder inverts in one pass: it was trained without refine_steps");
    }
    let work = Inverter { model: &model, size, refine, explain: args.explain, fitting: args.fitting };
    let mut found = Found { overview: Sheet::new(triple()), done: Vec::new(), seconds: 0.0 };
    let items = std::mem::take(&mut batch.items);
    let mut progress = o.progress(items.len() as u64, "images");
    for (i, chunk) in items.chunks(BATCH).enumerate() {
        work.chunk(chunk, &mut batch.outputs, &mut batch.report, &mut found);
        progress.set(((i + 1) * BATCH).min(items.len()) as u64);
    }
    progress.finish();
    let Found { overview, done, seconds } = found;
    let grid = batch.overview("grid", &done.iter().map(|d| d.item).collect::<Vec<_>>(), &overview);
    for d in &done {
        o.line(&d.line)?;
    }
    let n = done.len().max(1) as f64;
    let (mean_psnr, ms) = (done.iter().map(|d| d.psnr).sum::<f64>() / n, seconds * 1e3 / n);
    if !done.is_empty() {
        let (images, out) = (count(done.len(), "image"), Shown(&args.out));
        let mean = if done.len() == 1 { "" } else { " on average" };
        o.line(format_args!("{images} inverted into {out}: {mean_psnr:.2} dB{mean}, {ms:.1} ms an image on {device}"))?;
    }
    let status = batch.report.finish(done.len(), "image");
    let psnr = (!done.is_empty()).then_some(mean_psnr);
    o.document(&json!({
        "device": device.to_string(), "model": Shown(&path), "images": done.iter().map(|d| &d.document).collect::<Vec<_>>(),
        "grid": grid.as_deref().map(Shown), "failed": batch.report.failures(), "psnr": psnr, "ms_per_image": ms,
    }))?;
    Ok(status)
}

/// One inverted image.
struct Done<'a> {
    item: &'a Item,
    psnr: f64,
    line: String,
    document: Value,
}

/// What has been done so far.
struct Found<'a> {
    overview: Sheet,
    done: Vec<Done<'a>>,
    /// In the networks.
    seconds: f64,
}

/// What is done to every image.
struct Inverter<'a> {
    model: &'a Model,
    /// Of the images that the encoder reads.
    size: usize,
    refine: Option<usize>,
    explain: bool,
    fitting: Fitting,
}

impl Inverter<'_> {
    /// Inverts images together; what is wrong with one goes to the report.
    fn chunk<'a>(&self, items: &'a [Item], outputs: &mut Outputs, report: &mut Report, found: &mut Found<'a>) {
        let mut loaded = Vec::new();
        for item in items {
            match self.load(item, outputs) {
                Ok((planned, source)) => loaded.push((item, planned, source)),
                Err(error) => report.fail(item.source.text(), &error),
            }
        }
        if loaded.is_empty() {
            return;
        }
        let started = Instant::now();
        let sources: Vec<&Picture> = loaded.iter().map(|(_, _, source)| &source.picture).collect();
        let inverted = invert_in(self.model, &sources, self.refine, self.size, self.model.w_avg.device());
        found.seconds += started.elapsed().as_secs_f64();
        let mut explained = Vec::new();
        let inverted = inverted.and_then(|inverted| {
            if self.explain {
                let made: Vec<&Picture> = inverted.iter().map(|(made, _)| made).collect();
                let input = upload(sources.iter().copied(), self.model.w_avg.device())?;
                explained = explain::sheets(self.model, &input, &sources, &made)?;
            }
            Ok(inverted)
        });
        let inverted = match inverted {
            Ok(inverted) => inverted,
            Err(error) => return loaded.iter().for_each(|(item, ..)| report.fail(item.source.text(), &error)),
        };
        let mut explained = explained.into_iter();
        for ((item, planned, source), (made, code)) in loaded.into_iter().zip(inverted) {
            let result = Inverted { made, code, explanation: explained.next() };
            match self.write(item, &planned, &source, &result, outputs) {
                Ok((done, gap)) => {
                    let name = format!("{}  {:.1} dB", item.name, done.psnr);
                    found.overview.row(name, [source.picture, result.made, gap]);
                    found.done.push(done);
                }
                Err(error) => report.fail(item.source.text(), &error),
            }
        }
    }

    /// Errors: an image that cannot be read, or whose results may not be written.
    fn load(&self, item: &Item, outputs: &Outputs) -> Result<(Planned, Fitted)> {
        let ends = ["inverted.png", "inverted.safetensors"].into_iter().chain(self.explain.then_some("attention.png"));
        let planned = outputs.plan(ends.map(|end| format!("{}-{end}", item.name)), &[item])?;
        Ok((planned, self.fitting.load(item.path(), self.size)?))
    }

    /// Writes an image's results; returns what there is to say of it and the picture of the difference.
    fn write<'a>(
        &self,
        item: &'a Item,
        planned: &Planned,
        source: &Fitted,
        inverted: &Inverted,
        outputs: &mut Outputs,
    ) -> Result<(Done<'a>, Picture)> {
        let (a, b) = (source.picture.to_f32(), inverted.made.to_f32());
        let (psnr, explained) = (psnr(&a, &b)?, familiarity::explained(&a, &b));
        outputs.start(planned)?;
        write_png(&planned.files[0], &inverted.made)?;
        write_code(&planned.files[1], inverted.code.clone(), self.model)?;
        if let (Some(file), Some(sheet)) = (planned.files.get(2), &inverted.explanation) {
            write_png(file, sheet)?;
        }
        let unknown = familiarity::is_unknown(explained);
        let remarks = source.remark.as_deref().into_iter().chain(unknown.then_some(familiarity::REMARK));
        let remarks: String = remarks.map(|remark| format!(", {remark}")).collect();
        let line = format!("{}: {psnr:.2} dB{remarks}", item.source.shown());
        let document = json!({
            "file": Shown(item.path()), "reconstruction": Shown(&planned.files[0]), "code": Shown(&planned.files[1]),
            "attention": planned.files.get(2).map(|file| Shown(file)), "fitted": source.remark,
            "psnr": psnr, "mse": mse(&a, &b)?, "ssim": ssim(&a, &b, source.picture.height, source.picture.width, 3)?,
            "explained": explained, "unknown": unknown,
        });
        Ok((Done { item, psnr, line, document }, difference(&source.picture, &inverted.made, DIFFERENCE_GAIN)?))
    }
}

/// What the networks made of an image.
struct Inverted {
    made: Picture,
    code: Array,
    explanation: Option<Picture>,
}

/// Headings of a source, what was made of it, and their difference.
pub(super) fn triple() -> [String; 3] {
    ["source".into(), "inverted".into(), format!("difference x{DIFFERENCE_GAIN}")]
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
    let made = finite_pictures(&model.images(&w_plus)?.pool_area(size, size)?, size)?;
    let shape = w_plus.shape()[1..].to_vec();
    let codes = w_plus.to_vec()?;
    let each = shape.iter().product::<usize>().max(1);
    let codes = codes.chunks(each).map(|c| Array::new(shape.clone(), c.to_vec()));
    Ok(made.into_iter().zip(codes.collect::<Result<Vec<_>, _>>()?).collect())
}
