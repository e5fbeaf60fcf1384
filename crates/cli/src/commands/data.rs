//! `swinstyle data`: data sets that are drawn.

use std::{path::PathBuf, time::Instant};

use anyhow::Result;
use clap::{Args, Subcommand, builder::PossibleValuesParser};
use serde::Serialize;
use swinstyle_data::{
    DataError,
    avatars::{DatasetOptions, Split, Style, Summary, write_dataset},
};

use super::Context;
use crate::{
    batch::Shown,
    output::{Status, Usage},
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Draw layered vector portraits with label maps and a manifest.
    Avatars(Avatars),
}

#[derive(Debug, Args)]
pub(super) struct Avatars {
    /// Style of the portraits.
    #[arg(long, default_value = Style::NAMES[0], value_parser = PossibleValuesParser::new(Style::NAMES))]
    style: String,
    /// Side in pixels.
    #[arg(long, default_value_t = 64)]
    size: usize,
    /// Number of portraits.
    #[arg(long, default_value_t = 1000)]
    count: u64,
    /// Which variants may occur: `train` never draws some, `heldout` draws all.
    #[arg(long, default_value = "train", value_parser = PossibleValuesParser::new(["train", "heldout"]))]
    split: String,
    /// Write label maps too.
    #[arg(long)]
    masks: bool,
    /// Seed of the picks; the same seed gives the same bytes.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder to write: new, empty, or holding the same data set.
    #[arg(long)]
    out: PathBuf,
}

#[derive(Serialize)]
struct Report<'a> {
    out: Shown<'a>,
    style: &'a str,
    size: usize,
    split: Split,
    seed: u64,
    images: u64,
    images_with_unseen_variants: u64,
    manifest: Shown<'a>,
    seconds: f64,
}

pub(super) fn run(context: &Context, command: Command) -> Result<Status> {
    match command {
        Command::Avatars(args) => avatars(context, args),
    }
}

fn avatars(context: &Context, args: Avatars) -> Result<Status> {
    let options = DatasetOptions {
        style: args.style,
        size: args.size,
        count: args.count,
        split: args.split.parse()?,
        masks: args.masks,
        seed: args.seed,
        out: args.out,
    };
    let started = Instant::now();
    let mut progress = context.output.progress(options.count, "portraits");
    let written = write_dataset(&options, |done| progress.set(done));
    progress.finish();
    let summary = written.map_err(|error| match error {
        DataError::InvalidArgument { .. } => Usage(error.to_string()).into(),
        other => anyhow::Error::new(other),
    })?;
    let seconds = started.elapsed().as_secs_f64();
    context.output.line(format_args!(
        "{} {} portraits of {} px in {} ({seconds:.1} s)",
        summary.images,
        options.style,
        options.size,
        Shown(&options.out),
    ))?;
    if options.split == Split::Heldout {
        let unseen = summary.images_with_unseen_variants;
        context.output.line(format_args!("{unseen} of them hold a variant that no training portrait has"))?;
    }
    let DatasetOptions { out, style, size, split, seed, .. } = &options;
    let Summary { images, images_with_unseen_variants, manifest } = &summary;
    let report = Report {
        out: Shown(out),
        style,
        size: *size,
        split: *split,
        seed: *seed,
        images: *images,
        images_with_unseen_variants: *images_with_unseen_variants,
        manifest: Shown(manifest),
        seconds,
    };
    context.output.document(&report)?;
    Ok(Status::Done)
}
