//! `swinstyle demo`: held-out portraits, inverted, on one page.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::Result;
use clap::Args;
use maud::{Markup, html};
use serde_json::json;
use swinstyle_data::{
    LabelMap, Picture,
    avatars::{Portrait, Renderer, Split, Style},
    picture::{difference, mse, psnr, psnr_from_mse, sheet, ssim, write_atomic, write_png},
};
use swinstyle_models::Model;
use swinstyle_tensor::{Device, Tensor};
use swinstyle_weights::Array;

use super::{
    Context,
    codes::{make_folder, upload},
    invert::{BATCH, DIFFERENCE_GAIN, encoder_size, invert},
    model::ModelFile,
    showcase::{EDITS, edited, faces},
};
use crate::{
    output::{Output, Status},
    page::whole_page,
};

/// Training portraits behind the mean image that the baseline is.
const BASELINE_PORTRAITS: u64 = 1000;
/// Triples shown on the grid, and in a row of it.
const SHOWN: usize = 24;
const TRIPLES_A_ROW: usize = 3;
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
    let mut progress = context.output.progress(args.images, "portraits");
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
    let triples = rows
        .iter()
        .take(SHOWN)
        .map(|r| Ok([r.source.clone(), r.made.clone(), difference(&r.source, &r.made, DIFFERENCE_GAIN)?]));
    let triples = triples.collect::<Result<Vec<_>>>()?;
    let grid: Vec<Vec<Picture>> = triples.chunks(TRIPLES_A_ROW).map(|t| t.concat()).collect();
    write_png(&args.out.join("grid.png"), &sheet(&grid)?)?;

    let shown = &rows[..rows.len().min(EXTRAS)];
    let picture = Renderer::new(&style, model.generator.config.size)?;
    let sources = shown.iter().map(|r| picture.render(&r.portrait)).collect::<Result<Vec<_>, _>>()?;
    let edits: Vec<(&Picture, &Array)> = sources.iter().zip(shown.iter().map(|r| &r.code)).collect();
    write_png(&args.out.join("edited.png"), &edited(context.output, &model, &edits, device)?)?;
    let maps = shown.iter().map(|r| renderer.mask(&r.portrait)).collect::<Result<Vec<_>, _>>()?;
    let portraits: Vec<(&Picture, LabelMap)> = sources.iter().zip(maps).collect();
    let faces = faces(context.output, &model, &portraits, device)?;
    if let Some(faces) = &faces {
        write_png(&args.out.join("faces.png"), &faces.sheet)?;
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
    let page = page(&model, &path, &style, &args, &all, &parts, ms_per_image, &device.to_string(), faces.is_some());
    write_atomic(&args.out.join("index.html"), page.into_string().as_bytes())?;

    let o = context.output;
    o.line(format_args!(
        "{} held-out portraits inverted on {device}: PSNR {:.2} dB (mean training image {:.2} dB), SSIM {:.3}, {ms_per_image:.1} ms an image",
        all.images, all.psnr, all.baseline_psnr, all.ssim
    ))?;
    if let Some(psnr) = nearest {
        o.line(format_args!("the nearest of {} training portraits: {psnr:.2} dB", args.nearest))?;
    }
    if let Some(faces) = &faces {
        o.line(format_args!("{} faces from their label maps alone: {:.2} dB", shown.len(), faces.psnr))?;
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
    let mut progress = output.progress(BASELINE_PORTRAITS, "training portraits for the baseline");
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
    let mut progress = output.progress(count, "training portraits");
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

fn page(
    model: &Model,
    path: &Path,
    style: &Style,
    args: &Demo,
    all: &Means,
    [seen, unseen]: &[Means; 2],
    ms_per_image: f64,
    device: &str,
    faces: bool,
) -> Markup {
    let row = |name: &str, m: &Means| {
        html! {
            tr {
                td { (name) } td { (m.images) } td { (format!("{:.2}", m.psnr)) } td { (format!("{:.2}", m.baseline_psnr)) }
                td { (format!("{:.4}", m.mse)) } td { (format!("{:.3}", m.ssim)) }
            }
        }
    };
    let h = &model.header;
    let body = html! {
        h1 { "Inverted portraits" }
        p.lead { "Portraits that no training saw, each beside what SwinStyleformer and StyleGAN2 made of it and the difference (amplified " (DIFFERENCE_GAIN) " times)." }
        img src="grid.png" alt="Triples of source, reconstruction and difference";
        table {
            tr { th { "portraits" } th { "count" } th { "PSNR (dB)" } th { "mean image (dB)" } th { "MSE" } th { "SSIM" } }
            (row("all", all))
            (row("of variants seen in training", seen))
            (row("with a variant never seen", unseen))
        }
        p { "“Mean image” is the PSNR of the mean training image in the reconstruction's place. MSE and SSIM are of images in [−1, 1]. One image takes "
            (format!("{ms_per_image:.1}")) " ms on " (device) " at batch " (BATCH) "." }
        h2 { "Edited" }
        p.lead { "The portrait, its inversion, then its code moved along the directions of " (EDITS.join(" and ")) ": darker and lighter." }
        img src="edited.png" alt="Rows of source, inversion and edits";
        @if faces {
            h2 { "Faces from label maps" }
            p.lead { "A label map, what its encoder makes of it, the same with random fine layers, and the portrait that the map is of: its colours are not in the map." }
            img src="faces.png" alt="Rows of label map, answers and portrait";
        }
        footer {
            p { "Model " code { (path.file_name().unwrap_or_default().to_string_lossy()) } ": " (h.architecture) ", " (h.images_seen)
                " training images, seed " (h.seed) ". Portraits: style " (style.name()) ", seed " (args.seed) ", split heldout." }
            p { (style.attribution()) }
        }
    };
    whole_page("inverted portraits", body)
}
