//! `swinstyle project`: inversion by optimisation, and tuning of the generator around it.

use std::{ffi::OsString, path::PathBuf};

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};
use swinstyle_data::{
    Picture,
    picture::{Sheet, difference, psnr, write_png},
};
use swinstyle_models::Model;
use swinstyle_tensor::{Device, Tensor};
use swinstyle_train::{ProjectOptions, project};
use swinstyle_weights::FloatDtype;

use super::{
    Context,
    codes::{finite_pictures, upload, write_code},
    images::Fitting,
    invert::{DIFFERENCE_GAIN, triple},
    model::ModelFile,
    numbers,
};
use crate::{
    batch::{Accept, Batch, Force, Item, Lists, Outputs, Shown},
    output::{Output, Status},
};

#[derive(Debug, Args)]
pub(super) struct Project {
    /// Images (PNG, JPEG, WebP) of any size, folders of them, patterns in quotes, or - for a list on stdin.
    #[arg(required_unless_present = "files_from", value_name = "FILES")]
    files: Vec<OsString>,
    #[command(flatten)]
    lists: Lists,
    #[command(flatten)]
    fitting: Fitting,
    #[command(flatten)]
    model: ModelFile,
    /// Steps on the code.
    #[arg(long, default_value_t = ProjectOptions::default().steps as u64, value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
    steps: u64,
    /// Steps on the generator's weights after those (pivotal tuning); the tuned model is written beside the code.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
    tune: u64,
    /// Begin at the mean code w_avg instead of at the encoder's.
    #[arg(long)]
    from_average: bool,
    /// One w for all layers instead of one for each.
    #[arg(long)]
    single_w: bool,
    /// Optimise the noise maps too, with this weight of their regularisation (the paper's is 1e5); the model with them is written.
    #[arg(long, default_value_t = 0.0, allow_hyphen_values = true, value_parser = numbers::noise_weight)]
    noise: f64,
    /// Highest learning rate of the code; without it 0.02, or 0.1 from the mean code.
    #[arg(long, allow_hyphen_values = true, value_parser = numbers::learning_rate)]
    learning_rate: Option<f64>,
    /// Folder to write: NAME-projected.png, NAME-projected.safetensors (the code), NAME-model.safetensors where weights or noise
    /// have changed, and grid.png (source, start, result, difference).
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    force: Force,
}

pub(super) fn run(context: &Context, args: Project) -> Result<Status> {
    let device = context.device()?;
    let path = args.model.locate()?;
    let model = Model::load(&path, device)?;
    let rate = if args.from_average { 0.1 } else { ProjectOptions::default().learning_rate };
    let options = ProjectOptions {
        steps: args.steps as usize,
        learning_rate: args.learning_rate.unwrap_or(rate),
        single_w: args.single_w,
        from_average: args.from_average,
        noise_weight: args.noise,
        tune: args.tune as usize,
        ..ProjectOptions::default()
    };
    let full = model.generator.config.size;
    let size = model.encoder.as_ref().map_or(full, |(e, _)| e.config.image_size);
    let o = context.output;
    let mut batch = Batch::open(o, "project", &args.files, &args.lists, Accept::Files, &args.out, &args.force)?;
    batch.outputs.uses(&path);
    let work = Projector { model: &model, options, fitting: args.fitting, size, device, output: o };
    let [source, _, gap] = triple();
    let mut overview = Sheet::new([source, "start".into(), "projected".into(), gap]);
    let (mut documents, mut done) = (Vec::new(), Vec::new());
    for item in std::mem::take(&mut batch.items) {
        match work.one(&item, &mut batch.outputs) {
            Ok(projected) => {
                o.line(&projected.line)?;
                documents.push(projected.document);
                overview.row(projected.name, projected.row);
                done.push(item);
            }
            Err(error) => batch.report.fail(item.source.text(), &error),
        }
    }
    let grid = batch.overview("grid", &done.iter().collect::<Vec<_>>(), &overview);
    if let Some(grid) = &grid {
        o.line(Shown(grid))?;
    }
    let status = batch.report.finish(done.len(), "image");
    o.document(&json!({
        "device": device.to_string(), "model": Shown(&path), "images": documents, "grid": grid.as_deref().map(Shown),
        "failed": batch.report.failures(),
    }))?;
    Ok(status)
}

/// What is done to every image.
struct Projector<'a> {
    model: &'a Model,
    options: ProjectOptions,
    fitting: Fitting,
    /// Of the images that the encoder reads.
    size: usize,
    device: Device,
    output: Output,
}

/// What came of one image.
struct Projected {
    line: String,
    document: Value,
    /// What stands at its row of the overview.
    name: String,
    /// Source, start, result, difference.
    row: [Picture; 4],
}

impl Projector<'_> {
    fn one(&self, item: &Item, outputs: &mut Outputs) -> Result<Projected> {
        let changes_model = self.options.tune > 0 || self.options.noise_weight > 0.0;
        let ends =
            ["projected.png", "projected.safetensors"].into_iter().chain(changes_model.then_some("model.safetensors"));
        let planned = outputs.plan(ends.map(|end| format!("{}-{end}", item.name)), &[item])?;
        let source = self.fitting.load(item.path(), self.size)?;
        let image = upload([&source.picture], self.device)?;
        let mut progress = self.output.progress((self.options.steps + self.options.tune) as u64, "steps");
        let found = project(self.model, &image, &self.options, &mut |step, _, _| progress.set(step as u64));
        progress.finish();
        let found = found?;
        let picture = |image: &Tensor, size: usize| -> Result<Picture> { Ok(finite_pictures(image, size)?.remove(0)) };
        let small = |image: &Tensor| picture(&image.pool_area(self.size, self.size)?, self.size);
        let (before, after) = (small(&found.before)?, small(&found.image)?);
        outputs.start(&planned)?;
        write_png(&planned.files[0], &picture(&found.image, self.model.generator.config.size)?)?;
        write_code(&planned.files[1], &found.w_plus, &found.model)?;
        if let Some(file) = planned.files.get(2) {
            found.model.save(file, FloatDtype::F32)?;
        }
        let near = |p: &Picture| psnr(&source.picture.to_f32(), &p.to_f32());
        let (start_psnr, end_psnr) = (near(&before)?, near(&after)?);
        let remark = source.remark.map(|remark| format!(" ({remark})")).unwrap_or_default();
        let line = format!("{}: {start_psnr:.2} dB before, {end_psnr:.2} dB after{remark}", item.source.shown());
        let document = json!({
            "file": Shown(item.path()), "psnr_before": start_psnr, "psnr": end_psnr, "image": Shown(&planned.files[0]),
            "code": Shown(&planned.files[1]), "model": planned.files.get(2).map(|file| Shown(file)),
        });
        let gap = difference(&source.picture, &after, DIFFERENCE_GAIN)?;
        let name = format!("{}  {start_psnr:.1} to {end_psnr:.1} dB", item.name);
        Ok(Projected { line, document, name, row: [source.picture, before, after, gap] })
    }
}
