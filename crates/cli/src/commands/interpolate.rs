//! `swinstyle interpolate`: from one code to the next, as an animation or as frames.

use std::{ffi::OsString, fmt, path::PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use serde_json::json;
use swinstyle_data::{
    Picture,
    picture::{encode_animation, write_atomic, write_png},
};
use swinstyle_models::{Model, edit};

use super::{
    Context, animation,
    codes::{AnyGenerator, Reader, make_folder, note_relatives, pictures},
    images::Fitting,
    model::ModelFile,
    numbers,
};
use crate::{
    batch::{Accept, Expansion, Force, Item, Lists, Outputs, Report, Shown, check_single, is_folder_name},
    output::{Status, Usage},
    text::count,
};

#[derive(Debug, Args)]
pub(super) struct Interpolate {
    /// Two or more images, code files of `invert`, or seeds such as seed:7, passed through in order; also folders of images, patterns
    /// in quotes, and - for a list on stdin.
    #[arg(required_unless_present = "files_from", value_name = "INPUTS")]
    inputs: Vec<OsString>,
    #[command(flatten)]
    lists: Lists,
    #[command(flatten)]
    fitting: Fitting,
    #[command(flatten)]
    model: ModelFile,
    #[command(flatten)]
    any: AnyGenerator,
    /// Pictures from each code to the next.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    frames: u32,
    /// Pictures a second of the animation.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u16).range(1..=240))]
    rate: u16,
    /// Truncation ψ of seeds' codes: 1 is the full variety, 0 the mean image, below 0 its opposite.
    #[arg(long, default_value_t = 0.7, allow_hyphen_values = true, value_parser = numbers::truncation)]
    truncation: f64,
    /// Animated PNG (NAME.png, NAME.apng) or GIF (NAME.gif) to write, or a folder for the frames (a name without an ending, or with / at its end).
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    force: Force,
}

/// What `--out` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Png,
    Gif,
    Frames,
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Png => "animated PNG",
            Self::Gif => "animated GIF",
            Self::Frames => "frames",
        })
    }
}

impl Form {
    /// Errors: an ending that promises another format.
    fn of(out: &std::path::Path) -> Result<Self> {
        if is_folder_name(out) {
            return Ok(Self::Frames);
        }
        match out.extension().map(|e| e.to_string_lossy().to_lowercase()).as_deref() {
            Some("png" | "apng") => Ok(Self::Png),
            Some("gif") => Ok(Self::Gif),
            other => {
                let (ending, shown) = (other.unwrap_or_default(), Shown(out));
                let detail = format!(
                    "--out {shown}: .{ending} cannot be written; .png and .gif are animations, {shown}/ is a folder of frames \
                     from which others make a video, such as ffmpeg -framerate 12 -i {shown}/frame%05d.png"
                );
                bail!(Usage(detail))
            }
        }
    }
}

pub(super) fn run(context: &Context, args: Interpolate) -> Result<Status> {
    let form = Form::of(&args.out)?;
    let device = context.device()?;
    let path = args.model.locate()?;
    let model = Model::load(&path, device)?;
    let mut expansion = Expansion::new(Accept::Codes, args.lists.null, Default::default());
    let items = expansion.expand(&args.inputs, args.lists.files_from.as_deref())?;
    if items.len() < 2 && expansion.failures.is_empty() {
        bail!(Usage("interpolate goes from one input to another: name two or more".into()));
    }
    let mut report = Report::new(context.output);
    report.take(&mut expansion);
    let read: Vec<_> = items.iter().filter_map(|item| item.source.path()).chain([path.as_path()]).collect();
    if form != Form::Frames {
        check_single(&args.out, &read, &args.force)?;
    }
    let reader = Reader { model: &model, truncation: args.truncation, fitting: args.fitting, any: args.any, device };
    let found = reader.codes(&items, &mut report);
    note_relatives(context.output, None, &[&found]);
    let mut written = 0;
    if found.len() >= 2 {
        let mut all = Vec::new();
        for pair in found.windows(2) {
            for i in 0..args.frames {
                let t = f64::from(i) / f64::from(args.frames);
                all.push(edit::interpolate(&pair[0].w_plus, &pair[1].w_plus, t)?);
            }
        }
        all.extend(found.last().map(|c| c.w_plus.clone()));
        let frames = pictures(&model, &all)?;
        let items: Vec<&Item> = found.iter().map(|code| &code.item).collect();
        written = match form {
            Form::Png => write_file(&args, &encode_animation(&frames, args.rate)?, frames.len())?,
            Form::Gif => write_file(&args, &animation::gif(&frames, args.rate)?, frames.len())?,
            Form::Frames => write_frames(&args, &frames, &items, &path, &mut report)?,
        };
        context.output.line(format_args!("{} ({form}): {}", count(written, "frame"), Shown(&args.out)))?;
    } else {
        context.output.note("error: two inputs are needed; nothing is written");
    }
    let status = report.finish(found.len(), "input");
    context.output.document(&json!({
        "device": device.to_string(), "model": Shown(&path), "frames": written, "out": Shown(&args.out), "failed": report.failures(),
    }))?;
    Ok(status)
}

fn write_file(args: &Interpolate, bytes: &[u8], frames: usize) -> Result<usize> {
    if let Some(folder) = args.out.parent().filter(|p| !p.as_os_str().is_empty()) {
        make_folder(folder)?;
    }
    write_atomic(&args.out, bytes)?;
    Ok(frames)
}

/// Writes the frames that can be written; returns how many.
fn write_frames(
    args: &Interpolate,
    frames: &[Picture],
    items: &[&Item],
    model: &std::path::Path,
    report: &mut Report,
) -> Result<usize> {
    let mut outputs = Outputs::open(&args.out, "interpolate", &args.force)?;
    outputs.uses(model);
    outputs.reads(&items.iter().map(|item| (*item).clone()).collect::<Vec<_>>());
    let mut written = 0;
    for (i, frame) in frames.iter().enumerate() {
        let name = format!("frame{i:05}.png");
        let mut write = || -> Result<()> {
            let planned = outputs.plan([name.clone()], items)?;
            outputs.start(&planned)?;
            Ok(write_png(&planned.files[0], frame)?)
        };
        match write() {
            Ok(()) => written += 1,
            Err(error) => report.fail(args.out.join(&name).to_string_lossy(), &error),
        }
    }
    let next = args.out.join(format!("frame{:05}.png", frames.len()));
    if next.exists() {
        report.note(format_args!("{} and what follows it is of an earlier run", Shown(&next)));
    }
    Ok(written)
}
