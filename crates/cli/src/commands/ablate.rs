//! `swinstyle ablate`: trains encoders that differ in one part each, and compares them.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use swinstyle_data::{
    Dataset, Picture,
    avatars::{Renderer, Style},
    picture::write_atomic,
};
use swinstyle_models::{Model, Params};
use swinstyle_tensor::Device;
use swinstyle_train::{
    EncoderTrainer, Run, Samples, Stop,
    ablation::{
        AblationConfig, AttributeClassifier, Attributes, ClassifierConfig, Examples, Heldout, Measures, Row, measure,
        time,
    },
    config::{DataConfig, EncoderTraining},
};
use swinstyle_weights::{Archive, FloatDtype};

use super::{
    Context,
    codes::make_folder,
    train::{duration, follow},
};
use crate::{
    ablation::{Outcome, Report, curve},
    interrupt::Interrupt,
    output::{Output, Status},
};

/// File of a row's numbers: with it the row is done.
const RESULT: &str = "result.json";
/// Metadata key of what a classifier was made for.
const MADE_FOR: &str = "classifier";
/// Portraits of the comparison's pictures.
const SHOWN: usize = 10;

#[derive(Debug, Args)]
pub(super) struct Ablate {
    /// The ablation: generator, base configuration and rows (see configs/ablation-*.toml).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Override a key of the ablation, such as heldout.images=64; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Only these rows, by id; the others stay for another call.
    #[arg(long, value_name = "ID,ID", value_delimiter = ',')]
    rows: Vec<String>,
    /// Folder to write, by default out/ and the configuration's name; rows that are done there are not trained again, and one that was begun goes on.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Stop cleanly with a checkpoint after this time, such as 90s, 30m or 2h; the same command goes on.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    time_limit: Option<Duration>,
}

pub(super) fn run(context: &Context, args: Ablate) -> Result<Status> {
    let device = context.device()?;
    let started = Instant::now();
    let config = AblationConfig::read(&args.config, &args.overrides)?;
    if let Some(unknown) = args.rows.iter().find(|id| !config.rows.iter().any(|r| r.id == **id)) {
        let known: Vec<&str> = config.rows.iter().map(|r| r.id.as_str()).collect();
        bail!("--rows: no row `{unknown}`; there are {}", known.join(", "));
    }
    // Every row is read before the first is trained.
    let mut plan: Vec<(&Row, u64, EncoderTraining)> = Vec::new();
    for row in &config.rows {
        for &seed in &config.seeds {
            let training = config.training(row, seed).with_context(|| format!("row `{}`", row.id))?;
            plan.push((row, seed, training));
        }
    }
    let generator = Model::load(&config.generator, device)?;
    for (row, seed, training) in &plan {
        EncoderTrainer::new(training.clone(), generator.clone(), Samples::default(), device)
            .map_err(|e| match config.source(row, *seed) {
                Ok(source) => source.located(e),
                Err(_) => e,
            })
            .with_context(|| format!("row `{}`, seed {seed}", row.id))?;
    }
    let first = &plan[0].2;
    let (DataConfig::Avatars { style, .. }, size) = (&first.data, first.model.image_size) else {
        bail!(
            "{}: an ablation measures attributes, which drawn portraits alone have: data.source = \"avatars\"",
            args.config.display()
        );
    };
    if let Some((row, ..)) = plan.iter().find(|(.., t)| t.data != first.data || t.model.image_size != size) {
        bail!(
            "row `{}`: [data] or model.image_size differs from the first row's: rows must see the same images",
            row.id
        );
    }
    if let Some((row, ..)) = plan.iter().find(|(.., t)| !t.task.is_inversion()) {
        bail!("row `{}`: [task]: an ablation compares inversions", row.id);
    }
    let out = args.out.clone().unwrap_or_else(|| Path::new("out").join(args.config.file_stem().unwrap_or_default()));
    make_folder(&out)?;
    let data = first.data.open(size)?;
    let interrupt = Interrupt::watch()?;
    let stop = Stop { time_limit: None, interrupted: interrupt.flag.clone() };
    let Some(judge) = classifier(&config, &data, size, &out, &stop, context.output, device)? else {
        context.output.note("stopped before the classifier was trained; the same command starts again");
        return Ok(interrupt.status());
    };
    let renderer = Renderer::new(&Style::named(style)?, size)?;
    let examples = Examples::new(&renderer, config.heldout, &judge, device)?;
    let found = format!("{:.1} % of the attributes of the portraits themselves", 100.0 * examples.agreement);
    context.output.note(format_args!("the classifier finds {found}"));

    let fingerprint = generator.generator_params.fingerprint()?;
    let mut report = Report::new(&config, &examples, SHOWN, device);
    let (mut models, mut status) = (Vec::new(), Status::Done);
    for (number, (row, seed, training)) in plan.iter().enumerate() {
        let folder = out.join("rows").join(&row.id).join(format!("seed-{seed}"));
        let key = Key {
            training: training.clone(),
            generator: fingerprint.clone(),
            heldout: config.heldout,
            classifier: config.classifier.clone(),
        };
        let wanted = args.rows.is_empty() || args.rows.contains(&row.id);
        let measures = match done(&folder, &key)? {
            Some(measures) => measures,
            None if !wanted => continue,
            None => {
                context.output.note(format_args!("row {} of {}: {}, seed {seed}", number + 1, plan.len(), row.name));
                let left = args.time_limit.map(|limit| limit.saturating_sub(started.elapsed()));
                let stop = Stop { time_limit: left, ..stop.clone() };
                let mut tags = Map::new();
                tags.insert("row".into(), row.id.as_str().into());
                tags.insert("seed".into(), (*seed).into());
                let training = Training { config: training, generator: &generator, data: &data, folder: &folder, tags };
                if !training.run(&stop, &interrupt, context.output, device)? {
                    context.output.note("stopped; the same command goes on from here");
                    status = interrupt.status();
                    break;
                }
                let measures = measure(&model(&folder, device)?, &examples, &judge)?;
                write_result(&folder, &key, &measures)?;
                measures
            }
        };
        models.push(model(&folder, device)?);
        let newest = &models[models.len() - 1..];
        let (shown, ms) = (shown(&newest[0], &examples, size, device)?, time(newest, &examples)?[0]);
        report.add(Outcome { row, measures, ms, curve: curve(&folder.join("metrics.jsonl"))?, shown });
        report.write(&out)?;
    }
    report.set_times(&time(&models, &examples)?);
    report.write(&out)?;
    let o = context.output;
    o.line(report.table())?;
    for file in Report::FILES {
        o.line(out.join(file).display())?;
    }
    o.document(&report.document())?;
    Ok(status)
}

/// The classifier of the output folder, trained when there is none; nothing if it was interrupted.
fn classifier(
    config: &AblationConfig,
    data: &Arc<Dataset>,
    size: usize,
    out: &Path,
    stop: &Stop,
    output: Output,
    device: Device,
) -> Result<Option<AttributeClassifier>> {
    let Dataset::Portraits(portraits) = &**data else { bail!("attributes are known of drawn portraits alone") };
    let attributes = Attributes::of(portraits);
    let made_for = json!({ "config": config.classifier, "attributes": attributes, "size": size }).to_string();
    let mut judge = AttributeClassifier::new(config.classifier.clone(), attributes, size, device)?;
    let path = out.join("classifier.safetensors");
    if path.exists() {
        let archive = Archive::read(&path)?;
        if archive.metadata.get(MADE_FOR) != Some(&made_for) {
            bail!("{}: a classifier of another configuration; give a new --out, or remove the folder", path.display());
        }
        let params = Params::from_archive(&archive, "", &judge.specs(), device)?;
        return Ok(Some(judge.with_params(params)));
    }
    let mut progress = output.progress(config.classifier.images, "images for the classifier");
    let whole = judge.train(Arc::clone(data), &mut |images, _| {
        progress.set(images.min(config.classifier.images));
        !stop.interrupted.load(std::sync::atomic::Ordering::Relaxed)
    })?;
    progress.finish();
    if !whole {
        return Ok(None);
    }
    let mut archive = Archive::new();
    judge.params().to_archive("", &judge.specs(), &mut archive)?;
    archive.metadata.insert(MADE_FOR.into(), made_for);
    archive.write(&path, FloatDtype::F32)?;
    Ok(Some(judge))
}

/// What a row's numbers are of. Read back, it has the defaults of keys that did not exist when it was written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Key {
    training: EncoderTraining,
    /// Fingerprint of the generator's weights.
    generator: String,
    heldout: Heldout,
    classifier: ClassifierConfig,
}

/// How rows are measured: a result of another number is measured anew. 1 is SSIM of images in [0, 1]; results before it have no number.
const MEASURED_BY: u32 = 1;

/// A row that is done.
#[derive(Debug, Serialize, Deserialize)]
struct Finished {
    #[serde(default)]
    measured_by: u32,
    key: Key,
    measures: Measures,
}

/// The numbers of a row that is done; none of a row that was measured in another way, whose model stands.
fn done(folder: &Path, key: &Key) -> Result<Option<Measures>> {
    let path = folder.join(RESULT);
    let Ok(text) = std::fs::read_to_string(&path) else { return Ok(None) };
    let finished: Finished = serde_json::from_str(&text).with_context(|| format!("{}", path.display()))?;
    if finished.key != *key {
        bail!(
            "{}: the row was trained otherwise than it is configured now; give a new --out, or remove its folder",
            folder.display()
        );
    }
    Ok((finished.measured_by == MEASURED_BY).then_some(finished.measures))
}

fn write_result(folder: &Path, key: &Key, measures: &Measures) -> Result<()> {
    let text =
        format!("{:#}\n", json!(Finished { measured_by: MEASURED_BY, key: key.clone(), measures: measures.clone() }));
    Ok(write_atomic(&folder.join(RESULT), text.as_bytes())?)
}

fn model(folder: &Path, device: Device) -> Result<Model> {
    Ok(Model::load(folder.join("model.safetensors"), device)?)
}

/// The training of a row with a seed.
struct Training<'a> {
    config: &'a EncoderTraining,
    generator: &'a Model,
    data: &'a Arc<Dataset>,
    folder: &'a Path,
    /// What `--json` says of it in every object.
    tags: Map<String, Value>,
}

impl Training<'_> {
    /// Trains it or goes on with it; returns whether it came to its end.
    fn run(self, stop: &Stop, interrupt: &Interrupt, output: Output, device: Device) -> Result<bool> {
        let Self { config, generator, data, folder, tags } = self;
        let whole = |images: u64| images >= config.run.images;
        if folder.join("model.safetensors").exists() && whole(model(folder, device)?.header.images_seen) {
            return Ok(true);
        }
        let samples = Samples::take(data, &config.task)?;
        let mut trainer = EncoderTrainer::new(config.clone(), generator.clone(), samples, device)?;
        // A row that was killed before its first checkpoint begins anew.
        let states = std::fs::read_dir(folder.join("checkpoints")).into_iter().flatten().flatten();
        let resume = states.map(|e| e.file_name()).any(|name| name.as_encoded_bytes().starts_with(b"state-"));
        let run = Run { folder: folder.to_path_buf(), resume, data_changed: false, device };
        let (images, _) = follow(output, &mut trainer, Arc::clone(data), &run, stop, interrupt, tags)?;
        Ok(whole(images))
    }
}

/// The first examples as the model makes them.
fn shown(model: &Model, examples: &Examples, size: usize, device: Device) -> Result<Vec<Picture>> {
    let sources: Vec<&Picture> = examples.pictures.iter().take(SHOWN).collect();
    let made = super::invert::invert(model, &sources, size, device)?;
    Ok(made.into_iter().map(|(picture, _)| picture).collect())
}
