//! `swinstyle train`: generators and encoders.

use std::{
    io::{self, IsTerminal},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::Result;
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use swinstyle_models::Model;
use swinstyle_tensor::{DType, Device};
use swinstyle_train::{
    EncoderTrainer, Event, GeneratorTrainer, Init, Run, Samples, Stop, TrainError, Trainer,
    config::{EncoderTraining, GeneratorTraining, load, located},
    train,
};

use super::Context;
use crate::{
    interrupt::flag_on_interrupt,
    output::{Output, Status},
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Train a StyleGAN2 generator and its discriminator.
    Generator(Common),
    /// Train a SwinStyleformer encoder against a generator.
    Encoder(Encoder),
}

#[derive(Debug, Args)]
pub(super) struct Common {
    /// Configuration file (see configs/).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Override a key of the configuration, such as run.batch=8; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Run folder: new or empty, or with --resume that of a run.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Type in which the networks compute (f32, bf16 or f16) instead of the configuration's.
    #[arg(long, value_name = "PRECISION")]
    precision: Option<DType>,
    /// Go on from the newest whole checkpoint of the run folder.
    #[arg(long)]
    resume: bool,
    /// Begin with the weights of this model file: of its networks those that are trained here, shapes must be the same.
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    init: Option<PathBuf>,
    /// Stop cleanly with a checkpoint after this time, such as 90s, 30m or 2h.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    time_limit: Option<Duration>,
}

impl Common {
    /// An error of the configuration with its file and line.
    fn located(&self, error: TrainError) -> TrainError {
        located(&self.config, &self.overrides, error)
    }
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
    let device = context.device()?;
    match command {
        Command::Generator(common) => {
            let mut config: GeneratorTraining = load(&common.config, &common.overrides)?;
            config.run.precision = common.precision.unwrap_or(config.run.precision);
            let data = config.data.open(config.model.size)?;
            let mut trainer = GeneratorTrainer::new(config, device).map_err(|e| common.located(e))?;
            if let Some(file) = &common.init {
                say(context.output, trainer.start_from(&Model::load(file, device)?, file)?);
            }
            start(context.output, &mut trainer, data, &common, device)
        }
        Command::Encoder(Encoder { generator, common }) => {
            let mut config: EncoderTraining = load(&common.config, &common.overrides)?;
            config.run.precision = common.precision.unwrap_or(config.run.precision);
            let model = Model::load(&generator, device)?;
            let size = config.model.image_size;
            let data = config.task.open(&config.data, size).map_err(|e| common.located(e))?;
            let samples = Samples::take(&data, &config.task)?;
            let mut trainer = EncoderTrainer::new(config, model, samples, device).map_err(|e| common.located(e))?;
            if let Some(file) = &common.init {
                say(context.output, trainer.start_from(&Model::load(file, device)?, file)?);
            }
            start(context.output, &mut trainer, data, &common, device)
        }
    }
}

/// What a training begins with.
fn say(output: Output, init: &Init) {
    let (taken, file, images, data) = (init.taken.join(" and "), &init.file, init.images_seen, &init.data);
    output.note(format_args!("begins with the {taken} of {file} ({images} images of {data})"));
}

fn start(
    output: Output,
    trainer: &mut dyn Trainer,
    data: Arc<swinstyle_data::Dataset>,
    common: &Common,
    device: Device,
) -> Result<Status> {
    let stop = Stop { time_limit: common.time_limit, ..stop_on_signals()? };
    let run = Run { folder: common.out.clone(), resume: common.resume, device };
    follow(output, trainer, data, &run, &stop)?;
    Ok(Status::Done)
}

/// A stop that an interrupt asks for.
pub(super) fn stop_on_signals() -> Result<Stop> {
    let stop = Stop::default();
    flag_on_interrupt(stop.interrupted.clone())?;
    Ok(stop)
}

/// Trains and shows the progress; returns the images shown in all.
pub(super) fn follow(
    output: Output,
    trainer: &mut dyn Trainer,
    data: Arc<swinstyle_data::Dataset>,
    run: &Run,
    stop: &Stop,
) -> Result<u64> {
    output.note(format_args!("training the {} on {} in {}", trainer.kind(), run.device, run.folder.display()));
    let mut display = Display::new(output);
    let mut shown = 0;
    let result = train(trainer, data, run, stop, &mut |event| {
        if let Event::Stopped { images, .. } = event {
            shown = images;
        }
        display.show(event);
    });
    display.finish();
    result?;
    Ok(shown)
}

/// A progress bar on a terminal, lines otherwise.
struct Display {
    output: Output,
    bar: Option<ProgressBar>,
    total: u64,
}

impl Display {
    fn new(output: Output) -> Self {
        Self { output, bar: None, total: 0 }
    }

    fn say(&self, text: String) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => self.output.note(text),
        }
    }

    fn show(&mut self, event: Event) {
        match event {
            Event::Started { images, total_images } => {
                self.total = total_images;
                if io::stderr().is_terminal() {
                    let template = "{bar:24} {human_pos}/{human_len} images  {msg}  {eta} left";
                    let bar = ProgressBar::new(total_images);
                    if let Ok(style) = ProgressStyle::with_template(template) {
                        bar.set_style(style);
                    }
                    bar.set_position(images);
                    bar.reset_eta();
                    self.bar = Some(bar);
                }
            }
            Event::Step { images } => {
                if let Some(bar) = &self.bar {
                    bar.set_position(images);
                }
            }
            Event::Metrics { images, images_per_second, losses } => {
                let losses: Vec<String> = losses.iter().map(|(name, value)| format!("{name} {value:.4}")).collect();
                let text = format!("{images_per_second:.1} images/s  {}", losses.join("  "));
                match &self.bar {
                    Some(bar) => bar.set_message(text),
                    None => {
                        let left = self.total.saturating_sub(images) as f64 / images_per_second.max(1e-9);
                        self.say(format!("{images}/{} images  {text}  {} left", self.total, clock(left)));
                    }
                }
            }
            Event::Wrote { what, path } => self.say(format!("wrote {what} {}", path.display())),
            Event::Note(text) => self.say(text),
            Event::Stopped { images, why } => self.say(format!("stopped after {images} images: {why}")),
        }
    }

    fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

/// 1:02:03.
fn clock(seconds: f64) -> String {
    let s = seconds.min(3.6e8) as u64;
    format!("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(duration("90").unwrap(), Duration::from_secs(90));
        assert_eq!(duration("1.5m").unwrap(), Duration::from_secs(90));
        assert_eq!(duration("2h").unwrap(), Duration::from_secs(7200));
        assert!(duration("2 days").is_err() && duration("-1s").is_err() && duration("").is_err());
        assert_eq!(clock(3723.0), "1:02:03");
    }
}
