//! `swinstyle generate`: images of random codes.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde_json::json;
use swinstyle_data::{
    Picture,
    picture::{Sheet, write_png},
};
use swinstyle_models::Model;
use swinstyle_tensor::{Tensor, rng::Philox};

use super::{
    Context,
    codes::finite_pictures,
    model::ModelFile,
    numbers::{self, Listed},
};
use crate::{
    batch::{Batch, Force, Item, Outputs, Shown, Source},
    output::Status,
    text::count,
};

/// Images made at once.
const AT_ONCE: usize = 8;

#[derive(Debug, Args)]
pub(super) struct Generate {
    #[command(flatten)]
    model: ModelFile,
    /// Seeds: numbers and ranges, such as 0-15 or 1,4,9-12. A seed is one image, the same on every device.
    #[arg(long, default_value = "0-15", value_parser = numbers::seeds)]
    seeds: Listed<u64>,
    /// Truncation ψ: 1 is the full variety, 0 the mean image, below 0 its opposite.
    #[arg(long, default_value_t = 0.7, allow_hyphen_values = true, value_parser = numbers::truncation)]
    truncation: f64,
    /// Folder to write: seedNNNN.png an image, and grid.png.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    force: Force,
}

pub(super) fn run(context: &Context, args: Generate) -> Result<Status> {
    let device = context.device()?;
    let path = args.model.locate_generator()?;
    let model = Model::load(&path, device)?;
    let seeds = args.seeds.all.iter();
    let items = seeds.map(|&seed| Item { source: Source::Seed(seed), name: format!("seed{seed:04}") }).collect();
    let mut batch = Batch::of(context.output, "generate", items, &args.out, &args.force)?;
    batch.outputs.uses(&path);
    let mut progress = context.output.progress(batch.items.len() as u64, "images");
    let (mut made, mut files, mut overview) = (Vec::new(), Vec::new(), Sheet::default());
    for (i, chunk) in batch.items.chunks(AT_ONCE).enumerate() {
        match draw(&model, chunk, args.truncation) {
            Ok(pictures) => {
                for (item, picture) in chunk.iter().zip(pictures) {
                    match write(&mut batch.outputs, item, &picture) {
                        Ok(file) => {
                            made.push(item);
                            files.push(file);
                            let seed = item.source.seed().unwrap_or_default();
                            overview.row(format!("seed {seed}"), [picture]);
                        }
                        Err(error) => batch.report.fail(item.source.text(), &error),
                    }
                }
            }
            Err(error) => chunk.iter().for_each(|item| batch.report.fail(item.source.text(), &error)),
        }
        progress.set(((i + 1) * AT_ONCE).min(batch.items.len()) as u64);
    }
    progress.finish();
    let made: Vec<Item> = made.into_iter().cloned().collect();
    let sheet = batch.overview("grid", &made.iter().collect::<Vec<_>>(), &overview);
    if let Some(sheet) = &sheet {
        let (images, model, sheet) = (count(files.len(), "image"), Shown(&path), Shown(sheet));
        context.output.line(format_args!("{images} by {model} in {}, an overview in {sheet}", Shown(&args.out)))?;
    }
    if let Some(remark) = args.seeds.remark("--seeds") {
        context.output.note(remark);
    }
    let status = batch.report.finish(files.len(), "image");
    let seeds: Vec<u64> = made.iter().filter_map(|item| item.source.seed()).collect();
    context.output.document(&json!({
        "device": device.to_string(), "model": Shown(&path), "truncation": args.truncation, "seeds": seeds,
        "files": files.iter().map(|file| Shown(file)).collect::<Vec<_>>(), "grid": sheet.as_deref().map(Shown),
        "failed": batch.report.failures(),
    }))?;
    Ok(status)
}

/// The pictures of some seeds.
fn draw(model: &Model, items: &[Item], truncation: f64) -> Result<Vec<Picture>> {
    let d = model.generator.config.style_dim;
    let seeds = items.iter().filter_map(|item| item.source.seed());
    let z: Vec<f32> = seeds.flat_map(|seed| Philox::new(seed, 0).normal_vec(d)).collect();
    let z = Tensor::from_vec(z, &[items.len(), d], model.w_avg.device())?;
    finite_pictures(&model.generate(&z, truncation)?, model.generator.config.size)
}

fn write(outputs: &mut Outputs, item: &Item, picture: &Picture) -> Result<PathBuf> {
    let planned = outputs.plan([format!("{}.png", item.name)], &[item])?;
    outputs.start(&planned)?;
    write_png(&planned.files[0], picture)?;
    Ok(planned.files[0].clone())
}
