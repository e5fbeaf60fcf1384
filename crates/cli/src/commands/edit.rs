//! `swinstyle edit`: moves codes along a direction and draws them.

use std::{ops::Range, path::PathBuf};

use anyhow::Result;
use clap::Args;
use serde_json::json;
use swinstyle_data::{
    Picture,
    picture::{sheet, write_png},
};
use swinstyle_models::{Model, edit::Direction};

use super::{
    Context,
    codes::{self, Input, codes, input, layers, make_folder, pictures, write_code},
    model::ModelFile,
};
use crate::output::Status;

#[derive(Debug, Args)]
pub(super) struct Edit {
    /// Images, code files of `invert` (.safetensors), or seeds such as seed:7.
    #[arg(required = true, value_name = "INPUTS", value_parser = input)]
    inputs: Vec<Input>,
    #[command(flatten)]
    model: ModelFile,
    /// Direction file, of `swinstyle directions` or of others: one tensor of D or n_styles x D numbers.
    #[arg(long, value_name = "FILE")]
    direction: PathBuf,
    /// How far, in the direction's own steps; several make a row: -3,0,3.
    #[arg(long, value_delimiter = ',', allow_hyphen_values = true, default_value = "-3,-1.5,1.5,3")]
    strength: Vec<f64>,
    /// Layers to move, such as 2-7; without it those that the direction was made for.
    #[arg(long, value_name = "RANGE", value_parser = layers)]
    layers: Option<Range<usize>>,
    /// Truncation ψ of seeds' codes.
    #[arg(long, default_value_t = 0.7)]
    truncation: f64,
    /// Folder to write: NAME-DIRECTION-STRENGTH.png and .safetensors (the code) an edit, and grid.png.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(super) fn run(context: &Context, args: Edit) -> Result<Status> {
    let device = context.device()?;
    let path = args.model.locate()?;
    let model = Model::load(&path, device)?;
    if let Some(layers) = &args.layers {
        codes::check_layers(&model, "--layers", layers)?;
    }
    let fingerprint = model.generator_params.fingerprint()?;
    let direction = Direction::read(&args.direction, &model.generator.config, &fingerprint)?;
    let found = codes(&model, &args.inputs, args.truncation, device)?;
    make_folder(&args.out)?;
    let name = &direction.about.name;
    let (mut rows, mut files) = (Vec::new(), Vec::new());
    for code in &found {
        let mut all = vec![code.w_plus.clone()];
        for strength in &args.strength {
            all.push(direction.apply(&code.w_plus, *strength, args.layers.as_ref())?);
        }
        let made = pictures(&model, &all)?;
        for ((strength, w_plus), picture) in args.strength.iter().zip(&all[1..]).zip(&made[1..]) {
            let file = args.out.join(format!("{}-{name}-{strength}.png", code.name));
            write_png(&file, picture)?;
            write_code(&file.with_extension("safetensors"), w_plus)?;
            files.push(json!({ "input": code.name, "strength": strength, "file": file }));
        }
        // The unedited code stands among the edits, where its strength belongs.
        let mut order: Vec<(f64, usize)> =
            std::iter::once(0.0).chain(args.strength.iter().copied()).enumerate().map(|(i, s)| (s, i)).collect();
        order.sort_by(|a, b| a.0.total_cmp(&b.0));
        let edits: Vec<_> = order.into_iter().map(|(_, i)| made[i].clone()).collect();
        rows.push((code.source.clone().filter(|s| s.width == made[0].width), edits));
    }
    // The sources are a column of their own, white beside a code that came without one.
    let white = Picture::filled(model.generator.config.size, model.generator.config.size, [255; 3]);
    let any = rows.iter().any(|(source, _)| source.is_some());
    let row = |(source, mut edits): (Option<Picture>, Vec<Picture>)| {
        if any {
            edits.insert(0, source.unwrap_or_else(|| white.clone()));
        }
        edits
    };
    let rows: Vec<Vec<Picture>> = rows.into_iter().map(row).collect();
    let grid = args.out.join("grid.png");
    write_png(&grid, &sheet(&rows)?)?;
    let strengths: Vec<String> = args.strength.iter().map(f64::to_string).collect();
    context.output.line(format_args!(
        "{} images moved along {name} by {}: {}",
        found.len(),
        strengths.join(", "),
        grid.display()
    ))?;
    let about = &direction.about;
    context.output.document(&json!({
        "device": device.to_string(), "model": path, "direction": about, "edits": files, "grid": grid,
    }))?;
    Ok(Status::Done)
}
