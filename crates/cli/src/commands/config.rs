//! `swinstyle config`: the presets, and every key of the configuration files.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use swinstyle_train::{
    EncoderTrainer, GeneratorTrainer,
    ablation::AblationConfig,
    config::{EncoderTraining, GeneratorTraining, Kind, PRESETS, Source, kind_of, page, schema},
};

use super::Context;
use crate::{
    batch::Shown,
    output::{Output, Status, Usage},
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the presets that come with the program.
    List,
    /// Print a preset's file, to begin one of your own with.
    Show {
        /// Its name, as `list` prints it.
        name: String,
    },
    /// Read a file as a training would, and say what is wrong with it, or what it holds.
    Check(Check),
    /// Print the JSON schema of a kind of file.
    Schema {
        /// Whose files.
        kind: FileKind,
    },
    /// List every key: what it takes, its default, its meaning.
    Keys(Keys),
}

#[derive(Debug, Args)]
pub(super) struct Check {
    /// The file.
    file: PathBuf,
    /// Override a key; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Whose file it is; without it that is told by its keys.
    #[arg(long)]
    kind: Option<FileKind>,
}

#[derive(Debug, Args)]
pub(super) struct Keys {
    /// Whose files; without it those of all.
    kind: Option<FileKind>,
    /// The page docs/configuration.md.
    #[arg(long, conflicts_with = "kind")]
    markdown: bool,
}

/// A kind of configuration file.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum FileKind {
    /// `train generator`
    Generator,
    /// `train encoder`
    Encoder,
    /// `ablate`
    Ablation,
}

impl From<FileKind> for Kind {
    fn from(kind: FileKind) -> Self {
        match kind {
            FileKind::Generator => Self::Generator,
            FileKind::Encoder => Self::Encoder,
            FileKind::Ablation => Self::Ablation,
        }
    }
}

pub(super) fn run(context: &Context, command: Command) -> Result<Status> {
    let o = context.output;
    match command {
        Command::List => list(o)?,
        Command::Show { name } => {
            let Some(preset) = PRESETS.iter().find(|p| p.name == name) else {
                let names: Vec<&str> = PRESETS.iter().map(|p| p.name).collect();
                return Err(Usage(format!("`{name}` is no preset; there are {}", names.join(", "))).into());
            };
            o.line(preset.text.trim_end())?;
            o.document(&json!({ "name": preset.name, "kind": preset.kind.name(), "text": preset.text }))?;
        }
        Command::Check(args) => check(context, args)?,
        Command::Schema { kind } => {
            let schema = schema(kind.into());
            o.line(format_args!("{schema:#}"))?;
            o.document(&schema)?;
        }
        Command::Keys(Keys { markdown: true, .. }) => {
            o.line(page().trim_end())?;
            o.document(&json!({ "markdown": page() }))?;
        }
        Command::Keys(Keys { kind, .. }) => keys(o, kind.map(Kind::from))?,
    }
    Ok(Status::Done)
}

fn list(o: Output) -> Result<()> {
    for preset in PRESETS {
        o.line(format_args!("{:30} {:10} {}", preset.name, preset.kind, preset.about()))?;
    }
    let entry =
        |p: &swinstyle_train::config::Preset| json!({ "name": p.name, "kind": p.kind.name(), "about": p.about() });
    o.document(&PRESETS.iter().map(entry).collect::<Vec<Value>>())
}

fn keys(o: Output, kind: Option<Kind>) -> Result<()> {
    let mut all = Vec::new();
    for kind in Kind::ALL.into_iter().filter(|k| kind.is_none_or(|wanted| wanted == *k)) {
        o.line(format_args!("{}:", kind.command()))?;
        for key in kind.keys() {
            let (takes, default, meaning) = (key.values.describe(), key.default_in_words(kind), key.meaning_in_full());
            o.line(format_args!("  {} = {default}\n      {meaning}\n      {takes}", key.path))?;
            all.push(
                json!({ "kind": kind.name(), "key": key.path, "takes": takes, "default": default, "meaning": meaning }),
            );
        }
    }
    o.document(&all)
}

/// Judges a file without its data, and without the generator of an encoder.
fn check(context: &Context, args: Check) -> Result<()> {
    let source = Source::read(&args.file, &args.overrides)?;
    let kind = match args.kind {
        Some(kind) => kind.into(),
        None => toml::from_str::<toml::Table>(&source.text).ok().as_ref().and_then(kind_of).unwrap_or(Kind::Generator),
    };
    let (what, config) = match kind {
        Kind::Generator => {
            let config: GeneratorTraining = source.load()?;
            let (g, d) = GeneratorTrainer::check(&config, context.device()?).map_err(|e| source.located(e))?;
            let what = format!("{} px, generator {g} parameters, discriminator {d}", config.model.size);
            (what, serde_json::to_value(config)?)
        }
        Kind::Encoder => {
            let config: EncoderTraining = source.load()?;
            let n = EncoderTrainer::check_alone(&config).map_err(|e| source.located(e))?;
            (format!("{} px, {n} parameters", config.model.image_size), serde_json::to_value(config)?)
        }
        Kind::Ablation => {
            let config = AblationConfig::read(&args.file, &args.overrides)?;
            for row in &config.rows {
                config.training(row, config.seeds[0])?;
            }
            (format!("{} rows", config.rows.len()), serde_json::to_value(config)?)
        }
    };
    context.output.line(format_args!("{}: right, for {}: {what}", Shown(&args.file), kind.command()))?;
    context.output.document(&json!({ "file": Shown(&args.file), "kind": kind.name(), "config": config }))
}
