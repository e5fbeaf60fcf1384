//! `swinstyle project`: inversion by optimisation, and tuning of the generator around it.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde_json::json;
use swinstyle_data::{
    Picture, load_image,
    picture::{difference, psnr, sheet, write_png},
};
use swinstyle_models::Model;
use swinstyle_tensor::Tensor;
use swinstyle_train::{ProjectOptions, project};
use swinstyle_weights::FloatDtype;

use super::{
    Context,
    codes::{make_folder, upload, write_code},
    invert::DIFFERENCE_GAIN,
    model::ModelFile,
};
use crate::output::{Status, one_line};

#[derive(Debug, Args)]
pub(super) struct Project {
    /// Images (PNG, JPEG, WebP) of any size.
    #[arg(required = true, value_name = "FILES")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    model: ModelFile,
    /// Steps on the code.
    #[arg(long, default_value_t = ProjectOptions::default().steps)]
    steps: usize,
    /// Steps on the generator's weights after those (pivotal tuning); the tuned model is written beside the code.
    #[arg(long, default_value_t = 0)]
    tune: usize,
    /// Begin at the mean code w_avg instead of at the encoder's.
    #[arg(long)]
    from_average: bool,
    /// One w for all layers instead of one for each.
    #[arg(long)]
    single_w: bool,
    /// Optimise the noise maps too, with this weight of their regularisation (the paper's is 1e5); the model with them is written.
    #[arg(long, default_value_t = 0.0)]
    noise: f64,
    /// Highest learning rate of the code; without it 0.02, or 0.1 from the mean code.
    #[arg(long)]
    learning_rate: Option<f64>,
    /// Folder to write: NAME-projected.png, NAME-projected.safetensors (the code), NAME-model.safetensors where weights or noise
    /// have changed, and grid.png (source, start, result, difference).
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(super) fn run(context: &Context, args: Project) -> Result<Status> {
    let device = context.device()?;
    let path = args.model.locate()?;
    let model = Model::load(&path, device)?;
    let rate = if args.from_average { 0.1 } else { ProjectOptions::default().learning_rate };
    let options = ProjectOptions {
        steps: args.steps,
        learning_rate: args.learning_rate.unwrap_or(rate),
        single_w: args.single_w,
        from_average: args.from_average,
        noise_weight: args.noise,
        tune: args.tune,
        ..ProjectOptions::default()
    };
    let full = model.generator.config.size;
    let size = model.encoder.as_ref().map_or(full, |(e, _)| e.config.image_size);
    make_folder(&args.out)?;
    let o = context.output;
    let (mut rows, mut done, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    for file in &args.files {
        let source = match load_image(file, size) {
            Ok(source) => source,
            Err(error) => {
                o.note(format_args!("error: {}", one_line(&error.into())));
                failed.push(file);
                continue;
            }
        };
        let image = upload([&source], device)?;
        let mut progress = o.progress((options.steps + options.tune) as u64, "steps");
        let found = project(&model, &image, &options, &mut |step, _, _| progress.set(step as u64))?;
        progress.finish();
        let picture =
            |t: &Tensor| -> Result<Picture> { Ok(Picture::from_f32(&t.pool_area(size, size)?.to_vec()?, size, size)?) };
        let (before, after) = (picture(&found.before)?, picture(&found.image)?);
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        let at = |end: &str| args.out.join(format!("{name}-{end}"));
        write_png(&at("projected.png"), &Picture::from_f32(&found.image.to_vec()?, full, full)?)?;
        write_code(&at("projected.safetensors"), &found.w_plus)?;
        if options.tune > 0 || options.noise_weight > 0.0 {
            found.model.save(at("model.safetensors"), FloatDtype::F32)?;
        }
        let near = |p: &Picture| psnr(&source.to_f32(), &p.to_f32());
        let (start_psnr, end_psnr) = (near(&before)?, near(&after)?);
        o.line(format_args!("{}: {start_psnr:.2} dB before, {end_psnr:.2} dB after", file.display()))?;
        done.push(json!({ "file": file, "psnr_before": start_psnr, "psnr": end_psnr, "image": at("projected.png") }));
        let gap = difference(&source, &after, DIFFERENCE_GAIN)?;
        rows.push([source, before, after, gap]);
    }
    if !rows.is_empty() {
        let grid = args.out.join("grid.png");
        write_png(&grid, &sheet(&rows)?)?;
        o.line(grid.display())?;
    }
    o.document(&json!({ "device": device.to_string(), "model": path, "images": done, "failed": failed }))?;
    Ok(if failed.is_empty() { Status::Done } else { Status::Failed })
}
