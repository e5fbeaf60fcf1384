//! `swinstyle edit`: moves codes along a direction and draws them.

use std::{ffi::OsString, ops::Range, path::PathBuf};

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};
use swinstyle_data::{
    Picture,
    picture::{Sheet, write_png},
};
use swinstyle_files::safe_name;
use swinstyle_models::{Model, edit::Direction};

use super::{
    Context,
    codes::{self, AnyGenerator, Code, Reader, layers, note_relatives, pictures, write_code},
    images::Fitting,
    model::ModelFile,
    numbers::{self, Listed},
};
use crate::{
    batch::{Accept, Batch, Force, Lists, Outputs, Shown},
    output::Status,
    text::count,
};

#[derive(Debug, Args)]
pub(super) struct Edit {
    /// Images, code files of `invert` (.safetensors) and seeds such as seed:7; also folders of images, patterns in quotes, and - for
    /// a list on stdin.
    #[arg(required_unless_present = "files_from", value_name = "INPUTS")]
    inputs: Vec<OsString>,
    #[command(flatten)]
    lists: Lists,
    #[command(flatten)]
    fitting: Fitting,
    #[command(flatten)]
    model: ModelFile,
    /// Direction file, of `swinstyle directions` or of others: a safetensors, .npy, .npz or .pt file with one tensor of the shape [D] or
    /// [n_styles, D].
    #[arg(long, value_name = "FILE")]
    direction: PathBuf,
    #[command(flatten)]
    any: AnyGenerator,
    /// How far, in the direction's own steps; several make a row: -3,0,3.
    #[arg(long, allow_hyphen_values = true, default_value = "-3,-1.5,1.5,3", value_parser = numbers::strengths)]
    strength: Listed<f64>,
    /// Layers to move, such as 2-7; without it those that the direction was made for.
    #[arg(long, value_name = "RANGE", value_parser = layers)]
    layers: Option<Range<usize>>,
    /// Truncation ψ of seeds' codes: 1 is the full variety, 0 the mean image, below 0 its opposite.
    #[arg(long, default_value_t = 0.7, allow_hyphen_values = true, value_parser = numbers::truncation)]
    truncation: f64,
    /// Folder to write: NAME-DIRECTION-STRENGTH.png and .safetensors (the code) an edit, and DIRECTION-grid.png.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    force: Force,
}

pub(super) fn run(context: &Context, args: Edit) -> Result<Status> {
    let device = context.device()?;
    let path = args.model.locate()?;
    let model = Model::load(&path, device)?;
    if let Some(layers) = &args.layers {
        codes::check_layers(&model, "--layers", layers)?;
    }
    let (direction, kinship) = Direction::read(&args.direction, &model, args.any.any_generator)?;
    let mut batch =
        Batch::open(context.output, "edit", &args.inputs, &args.lists, Accept::Codes, &args.out, &args.force)?;
    batch.outputs.uses(&path);
    batch.outputs.uses(&args.direction);
    let reader = Reader { model: &model, truncation: args.truncation, fitting: args.fitting, any: args.any, device };
    let edit = Edits { model: &model, direction: &direction, name: safe_name(&direction.about.name), args: &args };
    let codes = reader.codes(&batch.items, &mut batch.report);
    note_relatives(context.output, Some(kinship), &[&codes]);
    let mut overview = edit.sheet(codes.iter().any(|code| code.source.is_some()));
    let (mut files, mut edited) = (Vec::new(), Vec::new());
    for code in &codes {
        match edit.write(code, &mut batch.outputs, &mut files) {
            Ok(row) => {
                let source = overview.sources.then(|| code.source.clone()).into_iter();
                overview.sheet.row(&code.item.name, source.chain(row.into_iter().map(Some)));
                edited.push(&code.item);
            }
            Err(error) => batch.report.fail(code.item.source.text(), &error),
        }
    }
    let grid = batch.overview(&format!("{}-grid", edit.name), &edited, &overview.sheet);
    if let Some(grid) = &grid {
        let edits = count(files.len(), "edit");
        let (inputs, name, by, grid) = (count(edited.len(), "input"), &edit.name, &args.strength, Shown(grid));
        context.output.line(format_args!("{inputs} moved along {name} by {by}: {edits}, an overview in {grid}"))?;
    }
    if let Some(remark) = args.strength.remark("--strength") {
        context.output.note(remark);
    }
    let status = batch.report.finish(edited.len(), "input");
    context.output.document(&json!({
        "device": device.to_string(), "model": Shown(&path), "direction": &direction.about, "edits": files,
        "grid": grid.as_deref().map(Shown), "failed": batch.report.failures(),
    }))?;
    Ok(status)
}

/// What is done to every code.
struct Edits<'a> {
    model: &'a Model,
    direction: &'a Direction,
    /// The direction's, fit for a file's name: it comes out of a file.
    name: String,
    args: &'a Edit,
}

impl Edits<'_> {
    /// Writes a code's edits; returns the pictures from the smallest strength to the largest, the code's own among them.
    fn write(&self, code: &Code, outputs: &mut Outputs, files: &mut Vec<Value>) -> Result<Vec<Picture>> {
        let strengths = &self.args.strength.all;
        let names = strengths.iter().flat_map(|strength| {
            let stem = format!("{}-{}-{strength}", code.item.name, self.name);
            [format!("{stem}.png"), format!("{stem}.safetensors")]
        });
        let planned = outputs.plan(names, &[&code.item])?;
        let mut all = vec![code.w_plus.clone()];
        for strength in strengths {
            all.push(self.direction.apply(&code.w_plus, *strength, self.args.layers.as_ref())?);
        }
        let made = pictures(self.model, &all)?;
        outputs.start(&planned)?;
        for (i, strength) in strengths.iter().enumerate() {
            let [picture, code_file] = [&planned.files[2 * i], &planned.files[2 * i + 1]];
            write_png(picture, &made[i + 1])?;
            write_code(code_file, &all[i + 1], self.model)?;
            let input = code.item.source.text();
            files.push(
                json!({ "input": input, "strength": strength, "file": Shown(picture), "code": Shown(code_file) }),
            );
        }
        Ok(self.order().into_iter().map(|(_, i)| made[i].clone()).collect())
    }

    /// The strengths from the smallest to the largest, the code's own 0 among them, each with its place in what is made.
    fn order(&self) -> Vec<(f64, usize)> {
        let own = std::iter::once(0.0);
        let mut order: Vec<_> =
            own.chain(self.args.strength.all.iter().copied()).enumerate().map(|(i, s)| (s, i)).collect();
        order.sort_by(|a, b| a.0.total_cmp(&b.0));
        order
    }

    /// An empty sheet: the sources are a column of their own, empty beside a code that came without one.
    fn sheet(&self, sources: bool) -> Overview {
        let heading =
            |(strength, i): (f64, usize)| if i == 0 { "as found".to_string() } else { format!("{strength:+}") };
        let headings = self.order().into_iter().map(heading);
        let headings = sources.then(|| "source".to_string()).into_iter().chain(headings);
        Overview { sheet: Sheet::new(headings).title(format!("moved along {}", self.name)), sources }
    }
}

/// All edits on one sheet.
struct Overview {
    sheet: Sheet,
    /// Whether the first column shows the images that were inverted.
    sources: bool,
}
