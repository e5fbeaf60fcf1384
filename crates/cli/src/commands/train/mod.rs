//! `swinstyle train`: generators and encoders.

mod choose;
mod display;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use swinstyle_data::Dataset;
use swinstyle_models::Model;
use swinstyle_tensor::{DType, Device};
use swinstyle_train::{
    EncoderTrainer, Event, GeneratorTrainer, Init, Reason, Run, Samples, Stop, Trainer,
    config::{DataConfig, EncoderTraining, GeneratorTraining},
    train,
};

use self::display::Display;
use super::Context;
use crate::{
    interrupt::Interrupt,
    output::{Output, Status},
    text::count,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Train a StyleGAN2 generator and its discriminator.
    Generator(Common),
    /// Train a SwinStyleformer encoder against a generator.
    Encoder(Encoder),
}

/// What `--json` prints; said in the help of every training.
const EVENTS: &str = "With --json every line of stdout is an object with the key `event`: \
`started` (images, total_images, data_images, left_out, parameters), `pace` (images_per_second, seconds_left, memory_bytes), \
`progress` and `metrics` (images, images_per_second, losses; metrics also step), `wrote` (what, path), `note` (text), and at last `stopped` \
(reason: finished, time limit or interrupted; step, images, total_images, folder, model, signal).\n\n\
Exit codes: 0 finished, or stopped by --time-limit; 128 and the signal's number after an interrupt (130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP), \
when the checkpoint is written; 1 failed; 2 wrong usage.";

#[derive(Debug, Args)]
#[command(after_help = EVENTS)]
pub(super) struct Common {
    /// Configuration file: see configs/ and `swinstyle config keys`.
    #[arg(long, value_name = "FILE", conflicts_with = "preset")]
    config: Option<PathBuf>,
    /// A configuration that comes with the program, such as avatar64-cpu: see `swinstyle config list`.
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// Train on the images of this folder; without --config and --preset a preset is chosen by device and size.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Pixels of an edge: of the generator's images, or of what the encoder reads.
    #[arg(long, value_name = "PIXELS")]
    size: Option<usize>,
    /// Override a key of the configuration, such as run.batch=8; may be repeated. Sections may be built key by key.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Run folder: new or empty, or with --resume that of a run.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Type in which the networks compute (f32, bf16 or f16) instead of the configuration's.
    #[arg(long, value_name = "PRECISION")]
    precision: Option<DType>,
    /// Go on from the newest whole checkpoint of the run folder; without a configuration with the run's own. Another batch, number of parts or place
    /// of the data is fine: the run counts images.
    #[arg(long)]
    resume: bool,
    /// With --resume: go on although the data are not those that the run began with.
    #[arg(long, requires = "resume")]
    data_changed: bool,
    /// Begin with the weights of this model file: of its networks those that are trained here, shapes must be the same.
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    init: Option<PathBuf>,
    /// Stop cleanly with a checkpoint after this time, such as 90s, 30m or 2h.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    time_limit: Option<Duration>,
}

#[derive(Debug, Args)]
pub(super) struct Encoder {
    /// The generator: what `train generator` exports, or a StyleGAN2 checkpoint.
    #[arg(long, value_name = "FILE")]
    generator: PathBuf,
    #[command(flatten)]
    common: Common,
}

/// A time with a unit: seconds without one.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len()));
    let factor = match unit {
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err("a time is written 90s, 30m or 2h".to_string()),
    };
    let seconds: f64 = number.trim().parse().map_err(|_| "a time is written 90s, 30m or 2h".to_string())?;
    Duration::try_from_secs_f64(seconds * factor).map_err(|e| e.to_string())
}

pub(super) fn run(context: &Context, command: Command) -> Result<Status> {
    let output = context.output;
    match command {
        Command::Generator(common) => {
            let device = context.device()?;
            let source = choose::generator(&common, device, output)?;
            let mut config: GeneratorTraining = source.load()?;
            common.put_into(&mut config.data);
            config.run.precision = common.precision.unwrap_or(config.run.precision);
            let mut trainer = GeneratorTrainer::new(config.clone(), device).map_err(|e| source.located(e))?;
            if let Some(file) = &common.init {
                say(output, trainer.start_from(&Model::load(file, device)?, file)?);
            }
            let data = config.data.open(config.model.size).map_err(|e| source.located(e))?;
            if data.count() < FEW && config.augment.is_none() {
                let images = count(data.count(), "image");
                output.note(format_args!(
                    "{images}: few enough that the discriminator learns them by heart; --set augment.kind=bgc holds against it"
                ));
            }
            start(output, &mut trainer, data, &common, device)
        }
        Command::Encoder(Encoder { generator, common }) => {
            let device = context.device()?;
            // A configuration that can be read on its own is judged before a large file is read.
            let early = choose::given(&common, swinstyle_train::config::Kind::Encoder)?;
            if let Some(source) = &early {
                let config: EncoderTraining = source.load()?;
                EncoderTrainer::check_alone(&config).map_err(|e| source.located(e))?;
            }
            let model = Model::load(&generator, device)?;
            let source = match early {
                Some(source) => source,
                None => choose::encoder(&common, &model, device, output)?,
            };
            let mut config: EncoderTraining = source.load()?;
            common.put_into(&mut config.data);
            config.run.precision = common.precision.unwrap_or(config.run.precision);
            // Without samples first: what does not fit together is said before the data are read.
            if config.task.is_inversion() {
                EncoderTrainer::check(&config, &model, device).map_err(|e| source.located(e))?;
            }
            let size = config.model.image_size;
            let data = config.task.open(&config.data, size).map_err(|e| source.located(e))?;
            let samples = Samples::take(&data, &config.task)?;
            let mut trainer = EncoderTrainer::new(config, model, samples, device).map_err(|e| source.located(e))?;
            if let Some(file) = &common.init {
                say(output, trainer.start_from(&Model::load(file, device)?, file)?);
            }
            start(output, &mut trainer, data, &common, device)
        }
    }
}

/// Fewer images than this are told of augmentation (arXiv 2006.06676) [ours].
const FEW: u64 = 5_000;

impl Common {
    /// The folder as it was typed: in the configuration's text it is UTF-8.
    fn put_into(&self, data: &mut DataConfig) {
        if let (DataConfig::Folder { path, .. }, Some(given)) = (data, &self.data) {
            path.clone_from(given);
        }
    }
}

/// What a training begins with.
fn say(output: Output, init: &Init) {
    let (taken, file, data) = (init.taken.join(" and "), &init.file, &init.data);
    let images = count(init.images_seen, "image");
    output.note(format_args!("begins with the {taken} of {file} ({images} of {data})"));
}

fn start(
    output: Output,
    trainer: &mut dyn Trainer,
    data: Arc<Dataset>,
    common: &Common,
    device: Device,
) -> Result<Status> {
    let interrupt = Interrupt::watch()?;
    let stop = Stop { time_limit: common.time_limit, interrupted: interrupt.flag.clone() };
    let run = Run { folder: common.out.clone(), resume: common.resume, data_changed: common.data_changed, device };
    let (_, reason) = follow(output, trainer, data, &run, &stop, &interrupt, Map::new())?;
    Ok(match reason {
        Reason::Finished => Status::Done,
        Reason::TimeLimit => {
            output.note("the time limit is over; --resume goes on");
            Status::Done
        }
        Reason::Interrupted => interrupt.status(),
    })
}

/// Trains and shows the progress; returns the images shown in all, and why it ended. `tags` go into every JSON object.
pub(super) fn follow(
    output: Output,
    trainer: &mut dyn Trainer,
    data: Arc<Dataset>,
    run: &Run,
    stop: &Stop,
    interrupt: &Interrupt,
    tags: Map<String, Value>,
) -> Result<(u64, Reason)> {
    let (kind, total) = (trainer.kind(), trainer.run_config().images);
    output.note(format_args!("training the {kind} on {} in {}", run.device, run.folder.display()));
    let mut display = Display::new(output, tags);
    let (mut step, mut shown, mut model, mut failure) = (0, 0, None, None);
    let result = train(trainer, data, run, stop, &mut |event| {
        match &event {
            Event::Stopped { step: s, images, .. } => (step, shown) = (*s, *images),
            Event::Wrote { what: "model", path } => model = Some(path.to_string_lossy().into_owned()),
            _ => {}
        }
        // A reader of the JSON that went away ends the training as an interrupt does: with a checkpoint.
        if let Err(error) = display.show(event) {
            failure.get_or_insert(error);
            stop.interrupted.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    });
    display.close();
    let reason = result?;
    if let Some(error) = failure {
        return Err(error);
    }
    let signal = match interrupt.status() {
        Status::Interrupted(signal) => Some(signal),
        _ => None,
    };
    let (folder, device) = (run.folder.to_string_lossy(), run.device.to_string());
    display.object(
        "stopped",
        json!({
            "reason": reason.to_string(), "kind": kind, "device": device, "folder": folder, "step": step, "images": shown,
            "total_images": total, "model": model, "signal": signal,
        }),
    )?;
    Ok((shown, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(duration("90").unwrap(), Duration::from_secs(90));
        assert_eq!(duration("1.5m").unwrap(), Duration::from_secs(90));
        assert_eq!(duration("2h").unwrap(), Duration::from_secs(7200));
        for wrong in ["soon", "3 days", "-5s", ""] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
