//! `swinstyle directions`: finds directions of editing and writes them as files.

use std::{ops::Range, path::PathBuf};

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, Value, json};
use swinstyle_data::{
    Picture,
    avatars::{Attributes, PortraitSet, Renderer, Split, Style},
};
use swinstyle_files::safe_name;
use swinstyle_models::{
    Model,
    edit::{Boundary, Direction, ganspace, sefa},
};
use swinstyle_tensor::{Device, Tensor};

use super::{
    Context,
    attributes::{Attribute, attribute, default_attributes, lopsided},
    codes::{check_layers, layers, upload},
    invert::{BATCH, encoder_size},
    model::ModelFile,
    numbers,
};
use crate::{
    batch::{Batch, Force, Names, Outputs, Shown},
    output::{Output, Status, one_line},
};

/// Ridge of a boundary, unless another is asked for.
const RIDGE: f64 = 3.0;
/// Portraits whose codes are moved to see what else changes.
const MOVED: usize = 64;
/// One portrait in so many is held out of the fit.
const HELD_OUT: usize = 5;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// The directions that change chosen layers most, from the weights alone (SeFa).
    Sefa(Sefa),
    /// The principal components of w (GANSpace).
    Ganspace(Unsupervised),
    /// Boundaries between codes of portraits with and without an attribute, with what they reach: Fisher's discriminant, or InterFaceGAN's
    /// support vector machine.
    Attributes(Labelled),
}

#[derive(Debug, Args)]
pub(super) struct Common {
    #[command(flatten)]
    model: ModelFile,
    /// Layers to move, such as 2-7; without it all.
    #[arg(long, value_name = "RANGE", value_parser = layers)]
    layers: Option<Range<usize>>,
    /// Folder to write: NAME.safetensors a direction.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    force: Force,
}

#[derive(Debug, Args)]
pub(super) struct Unsupervised {
    #[command(flatten)]
    common: Common,
    /// Directions to write, the strongest first.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    count: u16,
}

#[derive(Debug, Args)]
pub(super) struct Sefa {
    #[command(flatten)]
    unsupervised: Unsupervised,
    /// As the code that SeFa's authors published: the rows of the weights are brought to length 1 first, and the last layer is its layer
    /// to RGB. Without it the paper's formula.
    #[arg(long)]
    normalise: bool,
}

/// How a boundary is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Method {
    /// Fisher's discriminant with a ridge, moved along in the metric of standardised codes.
    Fisher,
    /// A linear support vector machine (C = 1) and its normal, as InterFaceGAN has it.
    Svm,
}

#[derive(Debug, Args)]
pub(super) struct Labelled {
    #[command(flatten)]
    common: Common,
    /// NAME:COMPONENT (drawn or not), NAME:COMPONENT=VARIANT,VARIANT, or NAME:COLOUR (lighter than the middle); may be repeated.
    /// Without it every part that may be absent and every colour.
    #[arg(long = "attribute", value_name = "SPEC", value_parser = attribute)]
    attributes: Vec<Attribute>,
    /// Style of the portraits.
    #[arg(long, default_value = Style::NAMES[0], value_parser = clap::builder::PossibleValuesParser::new(Style::NAMES))]
    style: String,
    /// Portraits to invert; a fifth of them measures the accuracy.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(100..=1_000_000))]
    count: u64,
    /// Seed of the portraits.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How the boundary is found.
    #[arg(long, value_enum, default_value_t = Method::Fisher)]
    method: Method,
    /// `fisher`: ridge on standardised codes. Large moves along the difference of the means, small along the sharpest boundary.
    #[arg(long, default_value_t = RIDGE, allow_hyphen_values = true, value_parser = numbers::ridge)]
    ridge: f64,
}

impl Labelled {
    fn fit(&self, codes: &[f32], labels: &[bool]) -> swinstyle_models::Result<Boundary> {
        match self.method {
            Method::Fisher => Boundary::fisher(codes, labels, self.ridge),
            Method::Svm => Boundary::svm(codes, labels),
        }
    }
}

pub(super) fn run(context: &Context, command: Command) -> Result<Status> {
    let device = context.device()?;
    let common = match &command {
        Command::Sefa(a) => &a.unsupervised.common,
        Command::Ganspace(a) => &a.common,
        Command::Attributes(a) => &a.common,
    };
    let path = common.model.locate()?;
    let model = Model::load(&path, device)?;
    let range = common.layers.clone().unwrap_or(0..model.generator.config.n_styles());
    check_layers(&model, "--layers", &range)?;
    let found = match &command {
        Command::Sefa(a) => sefa(&model, &range, usize::from(a.unsupervised.count), a.normalise)?,
        Command::Ganspace(a) => ganspace(&model, &range, usize::from(a.count))?,
        Command::Attributes(a) => from_labels(context.output, &model, &range, a, device)?,
    };
    let mut batch = Batch::of(context.output, "directions", Vec::new(), &common.out, &common.force)?;
    batch.outputs.uses(&path);
    let (mut documents, mut names) = (Vec::new(), Names::default());
    for direction in &found {
        let name = names.claim(&safe_name(&direction.about.name));
        match write(direction, &name, &mut batch.outputs) {
            Ok(file) => {
                context.output.line(format_args!("{}  {}", Shown(&file), in_words(&direction.about.measured)))?;
                documents.push(json!({ "file": Shown(&file), "about": direction.about }));
            }
            Err(error) => batch.report.fail(format_args!("{name}.safetensors"), &error),
        }
    }
    let status = batch.report.finish(documents.len(), "direction");
    let device = device.to_string();
    context.output.document(&json!({
        "device": device, "model": Shown(&path), "directions": documents, "failed": batch.report.failures(),
    }))?;
    Ok(status)
}

fn write(direction: &Direction, name: &str, outputs: &mut Outputs) -> Result<PathBuf> {
    let planned = outputs.plan([format!("{name}.safetensors")], &[])?;
    outputs.start(&planned)?;
    direction.write(&planned.files[0])?;
    Ok(planned.files[0].clone())
}

/// What was measured of a direction, for a person.
fn in_words(measured: &Map<String, Value>) -> String {
    let said = |(key, value): (&String, &Value)| {
        let percent = || value.as_f64().map(|share| format!("{:.0} %", share * 100.0));
        match (key.as_str(), percent(), value.as_f64()) {
            ("accuracy", Some(percent), _) => format!("told right of {percent} of portraits not used for it"),
            ("share", Some(percent), _) => format!("{percent} of portraits have it"),
            ("reached", Some(percent), _) => format!("strength 1 gives it to {percent} of those without"),
            ("others_changed", Some(percent), _) => format!("and changes {percent} of their other attributes"),
            (_, _, Some(number)) => format!("{} {number:.3}", key.replace('_', " ")),
            _ => format!("{} {value}", key.replace('_', " ")),
        }
    };
    // As it is read: what it is worth, then what it does.
    let order = ["share", "accuracy", "reached", "others_changed"];
    let place = |key: &str| order.iter().position(|known| *known == key).unwrap_or(order.len());
    let mut all: Vec<_> = measured.iter().collect();
    all.sort_by_key(|(key, _)| place(key));
    all.into_iter().map(said).collect::<Vec<_>>().join(", ")
}

/// An attribute with its boundary.
struct Probe {
    attribute: Attribute,
    boundary: Boundary,
    accuracy: f64,
    share: f64,
}

fn from_labels(
    output: Output,
    model: &Model,
    layers: &Range<usize>,
    args: &Labelled,
    device: Device,
) -> Result<Vec<Direction>> {
    let size = encoder_size(model)?;
    let renderer = Renderer::new(&Style::named(&args.style)?, size)?;
    let set = PortraitSet::new(renderer, args.seed, Split::Train, args.count)?;
    let described: Vec<Attributes> = (0..args.count).map(|i| set.portrait(i).attributes()).collect();
    let questions = match args.attributes.is_empty() {
        true => default_attributes(&described),
        false => args.attributes.clone(),
    };
    let labels = questions.iter().map(|q| q.labels(&described)).collect::<Result<Vec<_>>>()?;
    let codes = encode(output, model, &set, "labelled portraits inverted", device)?;
    let f = codes.len() / described.len();

    // What can be answered of the portraits that are (or are not) held out.
    let part = |labels: &[Option<bool>], held: bool| -> (Vec<f32>, Vec<bool>) {
        let known = labels.iter().enumerate().filter(|(i, _)| (i % HELD_OUT == 0) == held);
        let (mut x, mut y) = (Vec::new(), Vec::new());
        for (i, label) in known.filter_map(|(i, l)| l.map(|l| (i, l))) {
            x.extend_from_slice(&codes[i * f..][..f]);
            y.push(label);
        }
        (x, y)
    };
    let mut probes = Vec::new();
    for (attribute, labels) in questions.into_iter().zip(&labels) {
        let (x, y) = part(labels, false);
        let share = y.iter().filter(|l| **l).count() as f64 / y.len().max(1) as f64;
        let boundary = match lopsided(&attribute, &y).map_or_else(|| Ok(args.fit(&x, &y)?), Err) {
            Ok(boundary) => boundary,
            Err(error) if args.attributes.is_empty() => {
                output.note(format_args!("left out: {}", one_line(&error)));
                continue;
            }
            Err(error) => return Err(error),
        };
        let (x, y) = part(labels, true);
        probes.push(Probe { accuracy: boundary.accuracy(&x, &y), attribute, boundary, share });
    }
    let held: Vec<f32> = codes.chunks(f).step_by(HELD_OUT).flatten().copied().collect();
    probes.iter().map(|probe| measured(model, layers, probe, &probes, &held, device)).collect()
}

/// The direction of a probe, with what moving held-out codes by strength 1 does to the images, as the encoder sees them again.
fn measured(
    model: &Model,
    layers: &Range<usize>,
    probe: &Probe,
    probes: &[Probe],
    held: &[f32], // [N, n_styles · D]
    device: Device,
) -> Result<Direction> {
    let mut direction = probe.boundary.direction(model, &probe.attribute.name, layers)?;
    let config = &model.generator.config;
    let (styles, d) = (config.n_styles(), config.style_dim);
    let without: Vec<&[f32]> = held.chunks(styles * d).filter(|x| probe.boundary.score(x) < 0.0).take(MOVED).collect();
    let (mut reached, mut others, mut compared) = (0, 0, 0);
    for chunk in without.chunks(BATCH) {
        let codes = Tensor::from_vec(chunk.concat(), &[chunk.len(), styles, d], device)?;
        let seen = |codes: &Tensor| -> Result<Vec<f32>> {
            let size = encoder_size(model)?;
            Ok(model.codes(&model.images(codes)?.pool_area(size, size)?)?.to_vec()?)
        };
        let (before, after) = (seen(&codes)?, seen(&direction.apply(&codes, 1.0, None)?)?);
        for (before, after) in before.chunks(styles * d).zip(after.chunks(styles * d)) {
            reached += usize::from(probe.boundary.score(after) > 0.0);
            for other in probes.iter().filter(|p| p.attribute != probe.attribute) {
                compared += 1;
                others += usize::from((other.boundary.score(before) > 0.0) != (other.boundary.score(after) > 0.0));
            }
        }
    }
    let m = &mut direction.about.measured;
    m.insert("accuracy".into(), probe.accuracy.into());
    m.insert("share".into(), probe.share.into());
    m.insert("reached".into(), (reached as f64 / without.len().max(1) as f64).into());
    m.insert("others_changed".into(), (f64::from(others as u32) / f64::from(compared.max(1) as u32)).into());
    Ok(direction)
}

/// Directions of some attributes of the default style over all layers, from its first `count` training portraits; unmeasured.
pub(super) fn of_attributes(
    output: Output,
    model: &Model,
    names: &[&str],
    count: u64,
    device: Device,
) -> Result<Vec<Direction>> {
    let renderer = Renderer::new(&Style::named(Style::NAMES[0])?, encoder_size(model)?)?;
    let set = PortraitSet::new(renderer, 0, Split::Train, count)?;
    let described: Vec<Attributes> = (0..count).map(|i| set.portrait(i).attributes()).collect();
    let codes = encode(output, model, &set, "training portraits inverted for the directions of editing", device)?;
    let f = codes.len() / described.len();
    let one = |name: &&str| {
        let question = Attribute { name: name.to_string(), part: name.to_string(), variants: Vec::new() };
        let (mut x, mut y) = (Vec::new(), Vec::new());
        for (code, label) in codes.chunks(f).zip(question.labels(&described)?) {
            if let Some(label) = label {
                x.extend_from_slice(code);
                y.push(label);
            }
        }
        let layers = 0..model.generator.config.n_styles();
        Ok(Boundary::fisher(&x, &y, RIDGE)?.direction(model, name, &layers)?)
    };
    names.iter().map(one).collect()
}

/// The codes of a set's portraits, `[N, n_styles · D]`.
fn encode(output: Output, model: &Model, set: &PortraitSet, what: &str, device: Device) -> Result<Vec<f32>> {
    let mut codes = Vec::new();
    let mut progress = output.progress(set.count(), what);
    let indices: Vec<u64> = (0..set.count()).collect();
    for chunk in indices.chunks(BATCH) {
        let portraits = chunk.iter().map(|&i| set.picture(i)).collect::<Result<Vec<Picture>, _>>()?;
        codes.extend(model.codes(&upload(&portraits, device)?)?.to_vec()?);
        progress.set(chunk[chunk.len() - 1] + 1);
    }
    progress.finish();
    Ok(codes)
}
