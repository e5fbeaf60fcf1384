//! `swinstyle demo`: held-out portraits, inverted, on one page.

mod page;

use std::{path::PathBuf, time::Instant};

use anyhow::Result;
use clap::Args;
use serde_json::json;
use swinstyle_data::{
    LabelMap, Picture,
    avatars::{Portrait, Renderer, Split, Style},
    picture::{Sheet, difference, mse, psnr, psnr_from_mse, ssim, write_atomic, write_png},
};
use swinstyle_models::Model;
use swinstyle_tensor::{Device, Tensor};
use swinstyle_weights::Array;

use super::{
    Context,
    codes::{make_folder, upload},
    invert::{BATCH, DIFFERENCE_GAIN, encoder_size, invert, triple},
    model::ModelFile,
    showcase::{self, edited, faces},
};
use crate::{
    output::{Output, Status},
    text::{count, grouped},
};

/// Training portraits behind the mean image that the baseline is.
const BASELINE_PORTRAITS: u64 = 1000;
/// Portraits shown.
const SHOWN: usize = 18;
/// Portraits that are edited, and whose label maps become faces.
const EXTRAS: usize = 4;

#[derive(Debug, Args)]
pub(super) struct Demo {
    #[command(flatten)]
    model: ModelFile,
    /// Seed of the held-out portraits. Training never used a portrait of this split.
    #[arg(long, default_value_t = 2024)]
    seed: u64,
    /// Portraits to invert and measure.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    images: u64,
    /// Also find the nearest of so many training portraits for each: what an inversion must beat to be a good one.
    #[arg(long, default_value_t = 0, value_name = "PORTRAITS")]
    nearest: u64,
    /// Folder to write: grid.png, edited.png, faces.png, index.html and metrics.json.
    #[arg(long, value_name = "DIR", default_value = "out/demo")]
    out: PathBuf,
}

/// One portrait and what became of it.
struct Row {
    portrait: Portrait,
    source: Picture,
    made: Picture,
    code: Array,
    psnr: f64,
    mse: f64,
    ssim: f64,
    baseline_psnr: f64,
}

/// One portrait as it is shown.
struct Shown {
    name: String,
    source: Picture,
    made: Picture,
    difference: Picture,
    psnr: f64,
}

impl Shown {
    fn of((i, row): (usize, &Row)) -> Result<Self> {
        Ok(Self {
            name: format!("Portrait {}", i + 1),
            source: row.source.clone(),
            made: row.made.clone(),
            difference: difference(&row.source, &row.made, DIFFERENCE_GAIN)?,
            psnr: row.psnr,
        })
    }
}

/// Means over rows.
struct Means {
    images: usize,
    psnr: f64,
    mse: f64,
    ssim: f64,
    baseline_psnr: f64,
}

impl Means {
    fn of<'a>(rows: impl Iterator<Item = &'a Row>) -> Self {
        let mut m = Self { images: 0, psnr: 0.0, mse: 0.0, ssim: 0.0, baseline_psnr: 0.0 };
        for r in rows {
            m.images += 1;
            m.psnr += r.psnr;
            m.mse += r.mse;
            m.ssim += r.ssim;
            m.baseline_psnr += r.baseline_psnr;
        }
        let n = m.images.max(1) as f64;
        Self { psnr: m.psnr / n, mse: m.mse / n, ssim: m.ssim / n, baseline_psnr: m.baseline_psnr / n, ..m }
    }
}

pub(super) fn run(context: &Context, args: Demo) -> Result<Status> {
    let device = context.device()?;
    let path = args.model.locate()?;
    let model = Model::load(&path, device)?;
    let size = encoder_size(&model)?;
    make_folder(&args.out)?;
    let style = Style::named(Style::NAMES[0])?;
    let renderer = Renderer::new(&style, size)?;
    let mean = mean_image(&renderer, context.output)?;

    let mut rows: Vec<Row> = Vec::new();
    let mut seconds = 0.0;
    let mut progress = context.output.progress(args.images, "held-out portraits inverted");
    let indices: Vec<u64> = (0..args.images).collect();
    for chunk in indices.chunks(BATCH) {
        let portraits: Vec<Portrait> =
            chunk.iter().map(|&i| Portrait::sample(&style, args.seed, i, Split::Heldout)).collect();
        let sources = portraits.iter().map(|p| renderer.render(p)).collect::<Result<Vec<_>, _>>()?;
        if rows.is_empty() {
            // The first pass allocates and, on a GPU, compiles: it is not what an image costs.
            invert(&model, &sources.iter().collect::<Vec<_>>(), size, device)?;
        }
        let started = Instant::now();
        let made = invert(&model, &sources.iter().collect::<Vec<_>>(), size, device)?;
        seconds += started.elapsed().as_secs_f64();
        for ((portrait, source), (made, code)) in portraits.into_iter().zip(sources).zip(made) {
            let (a, b) = (source.to_f32(), made.to_f32());
            rows.push(Row {
                psnr: psnr(&a, &b)?,
                mse: mse(&a, &b)?,
                ssim: ssim(&a, &b, size, size, 3)?,
                baseline_psnr: psnr(&a, &mean)?,
                portrait,
                source,
                made,
                code,
            });
        }
        progress.set(rows.len() as u64);
    }
    progress.finish();

    let nearest = match args.nearest {
        0 => None,
        count => Some(nearest_psnr(&renderer, &rows, count, context.output)?),
    };
    let unseen = |r: &&Row| !r.portrait.attributes().unseen.is_empty();
    let all = Means::of(rows.iter());
    let parts = [Means::of(rows.iter().filter(|r| !unseen(r))), Means::of(rows.iter().filter(unseen))];
    let ms_per_image = seconds * 1e3 / rows.len() as f64;
    let shown = rows.iter().enumerate().take(SHOWN).map(Shown::of).collect::<Result<Vec<_>>>()?;
    let mut grid = Sheet::new(triple());
    for s in &shown {
        let pictures = [&s.source, &s.made, &s.difference].map(Picture::clone);
        grid.row(format!("{}  {:.1} dB", s.name, s.psnr), pictures);
    }
    write_png(&args.out.join("grid.png"), &grid.render()?)?;

    let extras = &rows[..rows.len().min(EXTRAS)];
    let picture = Renderer::new(&style, model.generator.config.size)?;
    let sources = extras.iter().map(|r| picture.render(&r.portrait)).collect::<Result<Vec<_>, _>>()?;
    let edits: Vec<(&Picture, &Array)> = sources.iter().zip(extras.iter().map(|r| &r.code)).collect();
    let edited = edited(context.output, &model, &edits, device)?;
    write_png(&args.out.join("edited.png"), &edited.sheet()?)?;
    let maps = extras.iter().map(|r| renderer.mask(&r.portrait)).collect::<Result<Vec<_>, _>>()?;
    let portraits: Vec<(&Picture, LabelMap)> = sources.iter().zip(maps).collect();
    let faces = faces(context.output, &model, &portraits, device)?;
    if let Some(faces) = &faces {
        write_png(&args.out.join("faces.png"), &faces.table.sheet()?)?;
    }

    let metrics = json!({
        "images": all.images,
        "psnr": all.psnr,
        "mse": all.mse,
        "ssim": all.ssim,
        "baseline_mean_image_psnr": all.baseline_psnr,
        "nearest_training_image_psnr": nearest,
        "ms_per_image": ms_per_image,
        "device": device.to_string(),
        "psnr_seen_variants": parts[0].psnr,
        "psnr_unseen_variants": parts[1].psnr,
        "images_with_unseen_variants": parts[1].images,
        "batch": BATCH,
        "seed": args.seed,
        "style": style.name(),
        "face_from_segmentation_psnr": faces.as_ref().map(|f| f.psnr),
    });
    write_atomic(&args.out.join("metrics.json"), format!("{metrics:#}\n").as_bytes())?;
    let header = &model.header;
    let told = page::Told {
        shown: &shown,
        all: &all,
        seen: &parts[0],
        unseen: &parts[1],
        nearest: nearest.map(|psnr| (args.nearest, psnr)),
        ms_per_image,
        device: device.to_string(),
        edited: &edited,
        faces: faces.as_ref().map(|f| &f.table),
        made_with: [
            format!(
                "Model {}: {}, {} training images, seed {}.",
                path.file_name().unwrap_or_default().display(),
                header.architecture,
                grouped(header.images_seen),
                header.seed
            ),
            format!("Portraits: style {}, seed {}, split heldout.", style.name(), args.seed),
            style.attribution().to_string(),
        ],
    };
    write_atomic(&args.out.join("index.html"), page::page(&told)?.into_string().as_bytes())?;

    let o = context.output;
    o.line(format_args!(
        "{} inverted on {device}: PSNR {:.2} dB (mean training image {:.2} dB), SSIM {:.3}, {ms_per_image:.1} ms an image",
        count(all.images as u64, "held-out portrait"), all.psnr, all.baseline_psnr, all.ssim
    ))?;
    if let Some(psnr) = nearest {
        o.line(format_args!("the nearest of {}: {psnr:.2} dB", count(args.nearest, "training portrait")))?;
    }
    if let Some(faces) = &faces {
        o.line(format_args!(
            "{} from their label maps alone: {:.2} dB",
            count(extras.len() as u64, "face"),
            faces.psnr
        ))?;
    }
    let files = ["grid.png", "edited.png", "faces.png", "index.html", "metrics.json"];
    for file in files.iter().filter(|f| **f != "faces.png" || faces.is_some()) {
        o.line(args.out.join(file).display())?;
    }
    o.document(&metrics)?;
    Ok(Status::Done)
}

/// The mean of training portraits, `[H, W, 3]` in [−1, 1]: what a reconstruction must beat.
fn mean_image(renderer: &Renderer, output: Output) -> Result<Vec<f32>> {
    let mut sum = vec![0.0_f64; renderer.size() * renderer.size() * 3];
    let mut progress = output.progress(BASELINE_PORTRAITS, "training portraits drawn for their mean");
    for i in 0..BASELINE_PORTRAITS {
        let picture = renderer.render(&Portrait::sample(renderer.style(), 0, i, Split::Train))?;
        for (s, v) in sum.iter_mut().zip(picture.to_f32()) {
            *s += f64::from(v);
        }
        progress.set(i + 1);
    }
    progress.finish();
    Ok(sum.into_iter().map(|s| (s / BASELINE_PORTRAITS as f64) as f32).collect())
}

/// The mean over the portraits of the PSNR of the training portrait that is nearest to each.
fn nearest_psnr(renderer: &Renderer, rows: &[Row], count: u64, output: Output) -> Result<f64> {
    const BLOCK: u64 = 512;
    let length = renderer.size() * renderer.size() * 3;
    let flat = |pictures: &mut dyn Iterator<Item = &Picture>| -> Result<(Tensor, Vec<f32>)> {
        let images = upload(pictures, Device::Cpu)?;
        let images = images.reshape(&[images.shape()[0], length])?;
        let squares = images.square()?.sum(&[1])?.to_vec()?;
        Ok((images, squares))
    };
    let (sources, of_sources) = flat(&mut rows.iter().map(|r| &r.source))?;
    let mut least = vec![f64::INFINITY; rows.len()];
    let mut progress = output.progress(count, "training portraits compared with");
    for first in (0..count).step_by(BLOCK as usize) {
        let block = first..count.min(first + BLOCK);
        let portraits = block.map(|i| renderer.render(&Portrait::sample(renderer.style(), 0, i, Split::Train)));
        let portraits = portraits.collect::<Result<Vec<_>, _>>()?;
        let (images, of_images) = flat(&mut portraits.iter())?;
        // |a − b|² = |a|² + |b|² − 2 a·b.
        let products = sources.matmul(&images.transpose()?)?.to_vec()?;
        for ((least, products), a) in least.iter_mut().zip(products.chunks(of_images.len())).zip(&of_sources) {
            for (product, b) in products.iter().zip(&of_images) {
                *least = least.min(f64::from(*a) + f64::from(*b) - 2.0 * f64::from(*product));
            }
        }
        progress.set(first + portraits.len() as u64);
    }
    progress.finish();
    Ok(least.iter().map(|d| psnr_from_mse(d.max(0.0) / length as f64)).sum::<f64>() / rows.len() as f64)
}
