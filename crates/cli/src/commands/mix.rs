//! `swinstyle mix`: two codes in one, by layers.

use std::{ffi::OsString, ops::Range, path::PathBuf};

use anyhow::Result;
use clap::Args;
use serde_json::json;
use swinstyle_data::{
    Picture,
    picture::{Sheet, write_png},
};
use swinstyle_models::{Model, edit};
use swinstyle_tensor::Tensor;

use super::{
    Context,
    codes::{AnyGenerator, Code, Reader, check_layers, layers, note_relatives, pictures, write_code},
    images::Fitting,
    model::ModelFile,
    numbers,
};
use crate::{
    batch::{Accept, Batch, Force, Item, Lists, Names, Shown},
    output::Status,
    text::count,
};

#[derive(Debug, Args)]
pub(super) struct Mix {
    /// Where all other layers come from: images, code files of `invert`, seeds such as seed:7, folders of images, patterns in
    /// quotes, or - for a list on stdin.
    #[arg(long, required_unless_present = "coarse_from", num_args = 1.., value_name = "INPUTS")]
    coarse: Vec<OsString>,
    /// Where the layers of --layers come from, in the same ways.
    #[arg(long, required_unless_present = "fine_from", num_args = 1.., value_name = "INPUTS")]
    fine: Vec<OsString>,
    /// Also take the coarse inputs that FILE lists, one a line; - is stdin.
    #[arg(long, value_name = "FILE")]
    coarse_from: Option<PathBuf>,
    /// Also take the fine inputs that FILE lists, one a line; - is stdin.
    #[arg(long, value_name = "FILE")]
    fine_from: Option<PathBuf>,
    /// Paths in lists end with NUL instead of a line break, as `find -print0` writes them.
    #[arg(long, short = '0')]
    null: bool,
    /// Layers that are taken from --fine, such as 4-9: the later a layer, the finer what it decides.
    #[arg(long, value_name = "RANGE", value_parser = layers)]
    layers: Range<usize>,
    #[command(flatten)]
    fitting: Fitting,
    #[command(flatten)]
    model: ModelFile,
    #[command(flatten)]
    any: AnyGenerator,
    /// Truncation ψ of seeds' codes: 1 is the full variety, 0 the mean image, below 0 its opposite.
    #[arg(long, default_value_t = 0.7, allow_hyphen_values = true, value_parser = numbers::truncation)]
    truncation: f64,
    /// Folder to write: COARSE-FINE.png and .safetensors (the code) a pair, and the table grid.png.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    force: Force,
}

pub(super) fn run(context: &Context, args: Mix) -> Result<Status> {
    let device = context.device()?;
    let path = args.model.locate()?;
    let model = Model::load(&path, device)?;
    check_layers(&model, "--layers", &args.layers)?;
    let lists = Lists { files_from: args.coarse_from, null: args.null };
    let mut batch = Batch::open(context.output, "mix", &args.coarse, &lists, Accept::Codes, &args.out, &args.force)?;
    let second = batch.more(&args.fine, args.fine_from.as_deref())?;
    batch.outputs.uses(&path);
    let reader = Reader { model: &model, truncation: args.truncation, fitting: args.fitting, any: args.any, device };
    let coarse = reader.codes(&batch.items, &mut batch.report);
    let fine = reader.codes(&second, &mut batch.report);
    note_relatives(context.output, None, &[&coarse, &fine]);

    let mut names = Names::default();
    // A pair of that name must not take the table's place.
    names.claim("grid");
    // The fine codes' pictures above, the coarse codes' on the left.
    let mut table = Sheet::new([""].into_iter().chain(fine.iter().map(|code| code.item.name.as_str())));
    let heads: Vec<Tensor> = fine.iter().map(|code| code.w_plus.clone()).collect();
    table.row("", [None].into_iter().chain(pictures(&model, &heads)?.into_iter().map(Some)));
    let mut mixes = Vec::new();
    for from in &coarse {
        let mut row: Vec<_> = pictures(&model, std::slice::from_ref(&from.w_plus))?.into_iter().map(Some).collect();
        for style in &fine {
            let stem = names.claim(&format!("{}-{}", from.item.name, style.item.name));
            match mixed(&model, &mut batch, [from, style], &args.layers, &stem) {
                Ok((picture, file)) => {
                    row.push(Some(picture));
                    mixes.push(json!({
                        "coarse": from.item.source.text(), "fine": style.item.source.text(), "file": Shown(&file),
                        "code": Shown(&file.with_extension("safetensors")),
                    }));
                }
                Err(error) => {
                    row.push(None);
                    batch.report.fail(format_args!("{stem}.png"), &error);
                }
            }
        }
        table.row(&from.item.name, row);
    }
    let mut grid = None;
    if !mixes.is_empty() {
        let of: Vec<&Item> = coarse.iter().chain(&fine).map(|code| &code.item).collect();
        grid = batch.overview("grid", &of, &table);
    }
    if let Some(grid) = &grid {
        let (first, last, grid) = (args.layers.start, args.layers.end - 1, Shown(grid));
        let (pairs, coarse, fine) = (count(mixes.len(), "pair"), coarse.len(), fine.len());
        context.output.line(format_args!("{pairs} ({coarse} x {fine}) mixed in the layers {first}-{last}: {grid}"))?;
    }
    let status = batch.report.finish(mixes.len(), "pair");
    context.output.document(&json!({
        "device": device.to_string(), "model": Shown(&path), "mixes": mixes, "grid": grid.as_deref().map(Shown),
        "failed": batch.report.failures(),
    }))?;
    Ok(status)
}

/// Writes one pair's picture and code; returns the picture and its file.
fn mixed(
    model: &Model,
    batch: &mut Batch,
    [coarse, fine]: [&Code; 2],
    layers: &Range<usize>,
    stem: &str,
) -> Result<(Picture, PathBuf)> {
    let names = [format!("{stem}.png"), format!("{stem}.safetensors")];
    let planned = batch.outputs.plan(names, &[&coarse.item, &fine.item])?;
    let w_plus = edit::mix(&coarse.w_plus, &fine.w_plus, layers)?;
    let picture = pictures(model, std::slice::from_ref(&w_plus))?.remove(0);
    batch.outputs.start(&planned)?;
    let [image, code] = [&planned.files[0], &planned.files[1]];
    write_png(image, &picture)?;
    write_code(code, &w_plus, model)?;
    Ok((picture, image.clone()))
}
