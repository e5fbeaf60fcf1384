//! The training loop that both trainings share: batches, metrics, samples, checkpoints, stopping and resuming.
//!
//! A run counts the images that it has shown. Schedules, samples, the order of the data and the end hang on that count, so that a run may go on
//! with another batch; the steps are numbered on, for the random numbers and for what is done every few steps.

mod data;
mod folder;
mod pace;
mod training;
mod window;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use serde_json::Value;
use swinstyle_data::Picture;
use swinstyle_tensor::{Device, Tensor};
use swinstyle_weights::{Archive, CheckpointHeader};

pub use self::training::train;
use crate::{Result, config::RunConfig};

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// Steps done.
    pub step: u64,
    /// Images shown, with repetition.
    pub images: u64,
}

impl Position {
    /// After another step on so many images.
    pub(crate) fn after(self, batch: usize) -> Self {
        Self { step: self.step + 1, images: self.images + batch as u64 }
    }
}

/// What a training does in the loop of [`train`].
pub trait Trainer {
    /// `generator` or `encoder`.
    fn kind(&self) -> &'static str;
    /// Length, batch and outputs.
    fn run_config(&self) -> &RunConfig;
    /// Whether the data are mirrored at random.
    fn flip(&self) -> bool;
    /// The whole configuration, for the run folder and the checkpoints.
    fn config_json(&self) -> Result<Value>;
    /// The networks that are trained, with the number of their values.
    fn parameters(&self) -> Vec<(&'static str, u64)>;
    /// Whether its steps read label maps.
    fn label_maps(&self) -> bool {
        false
    }
    /// Trains on one batch at a position of the run. Returns the losses by name, not yet read back from the device.
    fn step(&mut self, at: Position, data: &StepData) -> Result<Losses>;
    /// A picture of what it does to the first batch before it is trained on, if it does something.
    fn preview(&self, _images: &Tensor) -> Result<Option<Picture>> {
        Ok(None)
    }
    /// A picture of what it makes now.
    fn sample(&mut self) -> Result<Picture>;
    /// Puts the whole state into an archive.
    fn save(&self, archive: &mut Archive) -> Result<()>;
    /// Takes the state back from what [`Trainer::save`] wrote.
    fn load(&mut self, archive: &Archive) -> Result<()>;
    /// Writes the trained model for users into the run folder; returns its path.
    fn export(&self, folder: &Path, header: &CheckpointHeader) -> Result<PathBuf>;
    /// A word about the means of the losses since the last line of metrics, where the user should have one.
    fn remark(&mut self, _losses: &[(String, f64)]) -> Option<String> {
        None
    }
    /// What checkpoints say about model, data and progress.
    fn header(&self, at: Position) -> Result<CheckpointHeader>;
}

/// What a training step is given.
#[derive(Debug, Clone)]
pub struct StepData {
    /// The images on the run's device: `[N, H, W, 3]` in [−1, 1].
    pub images: Tensor,
    /// Their label maps, `[N, H, W]`, where [`Trainer::label_maps`] asks for them.
    pub labels: Vec<u8>,
}

/// Where a run lives and how it starts.
#[derive(Debug, Clone)]
pub struct Run {
    /// The run folder.
    pub folder: PathBuf,
    /// Whether to go on from the newest whole checkpoint in it.
    pub resume: bool,
    /// Whether to go on although the data are not those that the run began with.
    pub data_changed: bool,
    /// Device of the training.
    pub device: Device,
}

/// When to stop before the configured number of images; either way with a checkpoint.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// Wall-clock limit of this process's part of the run.
    pub time_limit: Option<Duration>,
    /// Set by a signal handler.
    pub interrupted: Arc<AtomicBool>,
}

/// Why a training ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// All its images were shown.
    Finished,
    /// The time that it was given is over.
    TimeLimit,
    /// It was told to stop.
    Interrupted,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Finished => "finished",
            Self::TimeLimit => "time limit",
            Self::Interrupted => "interrupted",
        })
    }
}

/// Progress, for a bar or a log.
#[derive(Debug, Clone)]
pub enum Event {
    /// The loop starts.
    Started {
        /// Images shown before, by the run that is resumed.
        images: u64,
        /// Images of the whole run.
        total_images: u64,
        /// Different images of the data.
        data_images: u64,
        /// Files of the data that are left out.
        left_out: u64,
        /// The networks that are trained, with the number of their values.
        parameters: Vec<(&'static str, u64)>,
    },
    /// Another step is done.
    Step {
        /// Images shown so far.
        images: u64,
    },
    /// How fast it goes and how long it will take, measured on the steps so far; said twice.
    Pace {
        /// Images a second.
        images_per_second: f64,
        /// Seconds to the end of the run.
        seconds_left: f64,
        /// The most memory that the process has taken so far, in bytes, where the system tells.
        memory: Option<u64>,
    },
    /// A sign of life between lines of metrics, every few seconds.
    Progress {
        /// Images shown so far.
        images: u64,
        /// Images a second since the last line of metrics.
        images_per_second: f64,
        /// Mean losses since the last line of metrics.
        losses: Vec<(String, f64)>,
    },
    /// A line of `metrics.jsonl` was written.
    Metrics {
        /// Steps done.
        step: u64,
        /// Images shown so far.
        images: u64,
        /// Images a second since the last line.
        images_per_second: f64,
        /// Mean losses since the last line.
        losses: Vec<(String, f64)>,
    },
    /// A file was written.
    Wrote {
        /// What it is: "samples", "checkpoint", "model".
        what: &'static str,
        /// Where.
        path: PathBuf,
    },
    /// Something that the user should know.
    Note(String),
    /// The loop is over.
    Stopped {
        /// Steps done.
        step: u64,
        /// Images shown.
        images: u64,
        /// Why.
        reason: Reason,
    },
}

/// Losses of a step by name, not yet read back from the device.
pub type Losses = Vec<(&'static str, Tensor)>;

/// A batch in `count` equal parts along its first axis.
pub(crate) fn parts(batch: &Tensor, count: usize) -> Result<Vec<Tensor>> {
    let n = batch.shape()[0] / count;
    match count {
        1 => Ok(vec![batch.clone()]),
        _ => (0..count).map(|i| Ok(batch.slice(0, i * n, n)?)).collect(),
    }
}

/// What [`parts`] took apart; without a copy where there is one part.
pub(crate) fn whole<'a>(parts: impl Iterator<Item = &'a Tensor>) -> Result<Tensor> {
    match parts.collect::<Vec<_>>()[..] {
        [one] => Ok(one.clone()),
        ref several => Ok(Tensor::concat(several, 0)?),
    }
}
