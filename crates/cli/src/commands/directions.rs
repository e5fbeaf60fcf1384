//! `swinstyle directions`: finds directions of editing and writes them as files.

use std::{collections::BTreeMap, ops::Range, path::PathBuf};

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use swinstyle_data::{
    Picture,
    avatars::{Attributes, PortraitSet, Renderer, Split, Style},
};
use swinstyle_models::{
    Model,
    edit::{Boundary, Direction, ganspace, sefa},
};
use swinstyle_tensor::{Device, Tensor};

use super::{
    Context,
    codes::{check_layers, layers, make_folder, upload},
    invert::{BATCH, encoder_size},
    model::ModelFile,
};
use crate::output::{Output, Status, Usage};

/// Ridge of a boundary, unless another is asked for.
const RIDGE: f64 = 3.0;
/// Portraits whose codes are moved to see what else changes.
const MOVED: usize = 64;
/// One portrait in so many is held out of the fit.
const HELD_OUT: usize = 5;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// The directions that change chosen layers most, from the weights alone (SeFa).
    Sefa(Unsupervised),
    /// The principal components of w (GANSpace).
    Ganspace(Unsupervised),
    /// Boundaries between portraits with and without an attribute (InterFaceGAN), with what they reach.
    Attributes(Labelled),
}

#[derive(Debug, Args)]
pub(super) struct Common {
    #[command(flatten)]
    model: ModelFile,
    /// Layers to move, such as 2-7; without it all.
    #[arg(long, value_name = "RANGE", value_parser = layers)]
    layers: Option<Range<usize>>,
    /// Folder to write: a file a direction.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
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
    /// Ridge on standardised codes: large moves along the difference of the means, small along the sharpest boundary.
    #[arg(long, default_value_t = RIDGE)]
    ridge: f64,
}

/// A question about a portrait.
#[derive(Debug, Clone, PartialEq)]
struct Attribute {
    name: String,
    part: String,
    variants: Vec<String>,
}

fn attribute(text: &str) -> Result<Attribute, String> {
    let bad = || format!("`{text}` is not NAME:COMPONENT, NAME:COMPONENT=VARIANT,... or NAME:COLOUR");
    let (name, rest) = text.split_once(':').ok_or_else(bad)?;
    let (part, variants) = rest.split_once('=').unwrap_or((rest, ""));
    if name.is_empty() || part.is_empty() || name.contains(['/', '\\']) {
        return Err(bad());
    }
    let variants = variants.split(',').filter(|v| !v.is_empty()).map(str::to_string).collect();
    Ok(Attribute { name: name.into(), part: part.into(), variants })
}

impl Attribute {
    /// The answer for every portrait; none where the question makes no sense (the colour of absent hair).
    ///
    /// Errors: a part that the style does not have.
    fn labels(&self, portraits: &[Attributes]) -> Result<Vec<Option<bool>>> {
        if portraits.iter().any(|a| a.components.contains_key(&self.part)) {
            let label = |a: &Attributes| {
                let variant = a.components.get(&self.part)?;
                Some(match (variant, self.variants.is_empty()) {
                    (variant, true) => variant.is_some(),
                    (Some(variant), false) => self.variants.contains(variant),
                    (None, false) => false,
                })
            };
            return Ok(portraits.iter().map(label).collect());
        }
        let lightness: Vec<Option<f64>> = portraits.iter().map(|a| luma(a.colors.get(&self.part)?)).collect();
        let mut known: Vec<f64> = lightness.iter().flatten().copied().collect();
        if known.is_empty() || !self.variants.is_empty() {
            let parts: Vec<&String> =
                portraits.first().map(|a| a.components.keys().chain(a.colors.keys()).collect()).unwrap_or_default();
            bail!(Usage(format!(
                "--attribute {}: the portraits have no part `{}` but {parts:?}",
                self.name, self.part
            )));
        }
        known.sort_by(f64::total_cmp);
        let middle = known[known.len() / 2];
        Ok(lightness.into_iter().map(|l| l.map(|l| l >= middle)).collect())
    }
}

/// Rec. 709 luma of `#rrggbb`.
fn luma(color: &str) -> Option<f64> {
    let value = u32::from_str_radix(color.strip_prefix('#')?, 16).ok()?;
    let channel = |shift: u32| f64::from(value >> shift & 0xFF);
    Some(0.2126 * channel(16) + 0.7152 * channel(8) + 0.0722 * channel(0))
}

/// Every part that is sometimes absent, and every colour.
fn default_attributes(portraits: &[Attributes]) -> Vec<Attribute> {
    let mut parts: BTreeMap<&String, ()> = BTreeMap::new();
    for a in portraits {
        parts.extend(a.components.iter().filter(|(_, v)| v.is_none()).map(|(k, _)| (k, ())));
        parts.extend(a.colors.keys().map(|k| (k, ())));
    }
    parts.into_keys().map(|p| Attribute { name: p.clone(), part: p.clone(), variants: Vec::new() }).collect()
}

pub(super) fn run(context: &Context, command: Command) -> Result<Status> {
    let device = context.device()?;
    let common = match &command {
        Command::Sefa(a) | Command::Ganspace(a) => &a.common,
        Command::Attributes(a) => &a.common,
    };
    let path = common.model.locate()?;
    let model = Model::load(&path, device)?;
    let range = common.layers.clone().unwrap_or(0..model.generator.config.n_styles());
    check_layers(&model, "--layers", &range)?;
    let found = match &command {
        Command::Sefa(a) => sefa(&model, &range, usize::from(a.count))?,
        Command::Ganspace(a) => ganspace(&model, &range, usize::from(a.count))?,
        Command::Attributes(a) => from_labels(context.output, &model, &range, a, device)?,
    };
    make_folder(&common.out)?;
    let mut documents = Vec::new();
    for direction in &found {
        let file = common.out.join(format!("{}.safetensors", direction.about.name));
        direction.write(&file)?;
        let said = |(key, value): (&String, &Value)| match value.as_f64() {
            Some(number) => format!("{} {number:.3}", key.replace('_', " ")),
            None => format!("{} {value}", key.replace('_', " ")),
        };
        let measured: Vec<String> = direction.about.measured.iter().map(said).collect();
        context.output.line(format_args!("{}  {}", file.display(), measured.join(", ")))?;
        documents.push(json!({ "file": file, "about": direction.about }));
    }
    let device = device.to_string();
    context.output.document(&json!({ "device": device, "model": path, "directions": documents }))?;
    Ok(Status::Done)
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
    let codes = encode(output, model, &set, device)?;
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
        let boundary = match Boundary::fit(&x, &y, args.ridge) {
            Ok(boundary) => boundary,
            Err(error) if args.attributes.is_empty() => {
                output.note(format_args!("{}: left out: {error}", attribute.name));
                continue;
            }
            Err(error) => return Err(anyhow::Error::new(error).context(attribute.name)),
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
    let codes = encode(output, model, &set, device)?;
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
        Ok(Boundary::fit(&x, &y, RIDGE)?.direction(model, name, &layers)?)
    };
    names.iter().map(one).collect()
}

/// The codes of a set's portraits, `[N, n_styles · D]`.
fn encode(output: Output, model: &Model, set: &PortraitSet, device: Device) -> Result<Vec<f32>> {
    let mut codes = Vec::new();
    let mut progress = output.progress(set.count(), "portraits");
    let indices: Vec<u64> = (0..set.count()).collect();
    for chunk in indices.chunks(BATCH) {
        let portraits = chunk.iter().map(|&i| set.picture(i)).collect::<Result<Vec<Picture>, _>>()?;
        codes.extend(model.codes(&upload(&portraits, device)?)?.to_vec()?);
        progress.set(chunk[chunk.len() - 1] + 1);
    }
    progress.finish();
    Ok(codes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn portrait(glasses: Option<&str>, hair: Option<&str>) -> Attributes {
        Attributes {
            components: [("accessories".to_string(), glasses.map(str::to_string))].into(),
            colors: hair.map(|h| ("hair".to_string(), h.to_string())).into_iter().collect(),
            unseen: Vec::new(),
        }
    }

    #[test]
    fn questions_are_answered_from_the_manifest() {
        let all = [
            portrait(Some("round"), Some("#000000")),
            portrait(None, Some("#ffffff")),
            portrait(Some("sunglasses"), None),
            portrait(None, Some("#00ff00")),
        ];
        let ask = |spec: &str| attribute(spec).unwrap().labels(&all);
        assert_eq!(ask("glasses:accessories").unwrap(), [Some(true), Some(false), Some(true), Some(false)]);
        assert_eq!(ask("round:accessories=round,oval").unwrap(), [Some(true), Some(false), Some(false), Some(false)]);
        assert_eq!(ask("light:hair").unwrap(), [Some(false), Some(true), None, Some(true)]);
        assert!(ask("x:nose").unwrap_err().to_string().contains("accessories"));
        let names: Vec<String> = default_attributes(&all).into_iter().map(|a| a.name).collect();
        assert_eq!(names, ["accessories", "hair"]);
        for bad in ["glasses", ":x", "x:", "a/b:c"] {
            assert!(attribute(bad).is_err(), "{bad}");
        }
    }
}
