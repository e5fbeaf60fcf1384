//! `swinstyle mix` and `swinstyle interpolate`: between two codes, by layers and by time.

use std::{ops::Range, path::PathBuf};

use anyhow::Result;
use clap::Args;
use serde_json::json;
use swinstyle_data::{
    Picture,
    picture::{encode_animation, sheet, write_atomic, write_png},
};
use swinstyle_models::{Model, edit};

use super::{
    Context,
    codes::{Input, check_layers, codes, input, layers, make_folder, pictures, write_code},
    model::ModelFile,
};
use crate::output::Status;

#[derive(Debug, Args)]
pub(super) struct Mix {
    /// Where all other layers come from: images, code files of `invert`, or seeds such as seed:7.
    #[arg(long, required = true, num_args = 1.., value_name = "INPUTS", value_parser = input)]
    coarse: Vec<Input>,
    /// Where the layers of --layers come from, in the same ways.
    #[arg(long, required = true, num_args = 1.., value_name = "INPUTS", value_parser = input)]
    fine: Vec<Input>,
    /// Layers that are taken from --fine, such as 4-9: the later a layer, the finer what it decides.
    #[arg(long, value_name = "RANGE", value_parser = layers)]
    layers: Range<usize>,
    #[command(flatten)]
    model: ModelFile,
    /// Truncation ψ of seeds' codes.
    #[arg(long, default_value_t = 0.7)]
    truncation: f64,
    /// Folder to write: COARSE-FINE.png and .safetensors (the code) a pair, and the table grid.png.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(super) fn mix(context: &Context, args: Mix) -> Result<Status> {
    let device = context.device()?;
    let path = args.model.locate()?;
    let model = Model::load(&path, device)?;
    check_layers(&model, "--layers", &args.layers)?;
    let coarse = codes(&model, &args.coarse, args.truncation, device)?;
    let fine = codes(&model, &args.fine, args.truncation, device)?;
    make_folder(&args.out)?;
    let size = model.generator.config.size;
    let heads: Vec<_> = fine.iter().map(|c| c.w_plus.clone()).collect();
    let mut head = vec![Picture::filled(size, size, [255; 3])];
    head.extend(pictures(&model, &heads)?);
    let (mut table, mut files) = (vec![head], Vec::new());
    for from in &coarse {
        let mut all = vec![from.w_plus.clone()];
        for style in &fine {
            all.push(edit::mix(&from.w_plus, &style.w_plus, &args.layers)?);
        }
        let made = pictures(&model, &all)?;
        for ((style, w_plus), picture) in fine.iter().zip(&all[1..]).zip(&made[1..]) {
            let file = args.out.join(format!("{}-{}.png", from.name, style.name));
            write_png(&file, picture)?;
            write_code(&file.with_extension("safetensors"), w_plus)?;
            files.push(json!({ "coarse": from.name, "fine": style.name, "file": file }));
        }
        table.push(made);
    }
    let grid = args.out.join("grid.png");
    write_png(&grid, &sheet(&table)?)?;
    context.output.line(format_args!(
        "{} x {} mixed in the layers {}-{}: {}",
        coarse.len(),
        fine.len(),
        args.layers.start,
        args.layers.end - 1,
        grid.display()
    ))?;
    context.output.document(&json!({ "device": device.to_string(), "model": path, "mixes": files, "grid": grid }))?;
    Ok(Status::Done)
}

#[derive(Debug, Args)]
pub(super) struct Interpolate {
    /// Two or more images, code files of `invert`, or seeds such as seed:7, passed through in order.
    #[arg(required = true, num_args = 2.., value_name = "INPUTS", value_parser = input)]
    inputs: Vec<Input>,
    #[command(flatten)]
    model: ModelFile,
    /// Pictures from each code to the next.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    frames: u32,
    /// Pictures a second of the animation.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u16).range(1..=240))]
    rate: u16,
    /// Truncation ψ of seeds' codes.
    #[arg(long, default_value_t = 0.7)]
    truncation: f64,
    /// Animated PNG to write (NAME.png), or a folder for the frames.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub(super) fn interpolate(context: &Context, args: Interpolate) -> Result<Status> {
    let device = context.device()?;
    let path = args.model.locate()?;
    let model = Model::load(&path, device)?;
    let found = codes(&model, &args.inputs, args.truncation, device)?;
    let mut all = Vec::new();
    for pair in found.windows(2) {
        for i in 0..args.frames {
            let t = f64::from(i) / f64::from(args.frames);
            all.push(edit::interpolate(&pair[0].w_plus, &pair[1].w_plus, t)?);
        }
    }
    all.extend(found.last().map(|c| c.w_plus.clone()));
    let frames = pictures(&model, &all)?;
    if args.out.extension().is_some_and(|e| e.eq_ignore_ascii_case("png")) {
        if let Some(folder) = args.out.parent().filter(|p| !p.as_os_str().is_empty()) {
            make_folder(folder)?;
        }
        write_atomic(&args.out, &encode_animation(&frames, args.rate)?)?;
    } else {
        make_folder(&args.out)?;
        for (i, frame) in frames.iter().enumerate() {
            write_png(&args.out.join(format!("frame{i:05}.png")), frame)?;
        }
    }
    context.output.line(format_args!("{} frames: {}", frames.len(), args.out.display()))?;
    let count = frames.len();
    context
        .output
        .document(&json!({ "device": device.to_string(), "model": path, "frames": count, "out": args.out }))?;
    Ok(Status::Done)
}
