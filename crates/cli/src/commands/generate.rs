//! `swinstyle generate`: images of random codes.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde_json::json;
use swinstyle_data::{
    Picture,
    picture::{grid, write_png},
};
use swinstyle_models::Model;
use swinstyle_tensor::{Tensor, rng::Philox};

use super::{Context, codes::make_folder, model::ModelFile};
use crate::output::Status;

/// Images made at once.
const BATCH: usize = 8;
/// Images on the overview.
const OVERVIEW: usize = 256;

#[derive(Debug, Args)]
pub(super) struct Generate {
    #[command(flatten)]
    model: ModelFile,
    /// Seeds: numbers and ranges, such as 0-15 or 1,4,9-12. A seed is one image, the same on every device.
    #[arg(long, default_value = "0-15", value_parser = seeds)]
    seeds: Seeds,
    /// Truncation ψ: 1 is the full variety, 0 the mean image.
    #[arg(long, default_value_t = 0.7)]
    truncation: f64,
    /// Folder to write.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// A list of seeds as it was typed.
#[derive(Debug, Clone, PartialEq)]
struct Seeds(Vec<u64>);

fn seeds(text: &str) -> Result<Seeds, String> {
    let bad = |part: &str| format!("`{part}` is neither a number nor a range such as 0-15");
    let mut all = Vec::new();
    for part in text.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let from: u64 = from.trim().parse().map_err(|_| bad(part))?;
        let to: u64 = to.trim().parse().map_err(|_| bad(part))?;
        if to < from || to - from >= 1 << 20 {
            return Err(bad(part));
        }
        all.extend(from..=to);
    }
    Ok(Seeds(all))
}

pub(super) fn run(context: &Context, args: Generate) -> Result<Status> {
    let device = context.device()?;
    let path = args.model.locate()?;
    let model = Model::load(&path, device)?;
    make_folder(&args.out)?;
    let (size, d) = (model.generator.config.size, model.generator.config.style_dim);
    let seeds = args.seeds.0;
    let mut progress = context.output.progress(seeds.len() as u64, "images");
    let (mut files, mut overview) = (Vec::new(), Vec::new());
    for chunk in seeds.chunks(BATCH) {
        let z: Vec<f32> = chunk.iter().flat_map(|&s| Philox::new(s, 0).normal_vec(d)).collect();
        let images = model.generate(&Tensor::from_vec(z, &[chunk.len(), d], device)?, args.truncation)?;
        for (seed, picture) in chunk.iter().zip(Picture::from_batch(&images.to_vec()?, size, size)?) {
            let file = args.out.join(format!("seed{seed:04}.png"));
            write_png(&file, &picture)?;
            files.push(file);
            if overview.len() < OVERVIEW {
                overview.push(picture);
            }
        }
        progress.set(files.len() as u64);
    }
    progress.finish();
    let columns = (overview.len() as f64).sqrt().ceil() as usize;
    let sheet = args.out.join("grid.png");
    write_png(&sheet, &grid(&overview, columns.max(1))?)?;
    context.output.line(format_args!(
        "{} images in {}, an overview in {}",
        files.len(),
        args.out.display(),
        sheet.display()
    ))?;
    context.output.document(&json!({
        "device": device.to_string(), "model": path, "truncation": args.truncation, "seeds": seeds, "files": files, "grid": sheet,
    }))?;
    Ok(Status::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_numbers_and_ranges() {
        assert_eq!(seeds("1,4,9-11").unwrap().0, [1, 4, 9, 10, 11]);
        for bad in ["", "a", "3-1", "1-", "0-99999999", "-1"] {
            assert!(seeds(bad).is_err(), "{bad}");
        }
    }
}
