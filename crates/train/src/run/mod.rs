//! The training loop that both trainings share: batches, metrics, samples, checkpoints, stopping and resuming.

mod folder;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::Value;
use swinstyle_data::{Dataset, Loader, LoaderOptions, Picture};
use swinstyle_tensor::{Device, Tensor};
use swinstyle_weights::{Archive, CheckpointHeader};

use self::folder::Folder;
use crate::{Result, TrainError, config::RunConfig};

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
    /// Whether its steps read label maps.
    fn label_maps(&self) -> bool {
        false
    }
    /// Trains on one batch. Returns the losses by name, not yet read back from the device.
    fn step(&mut self, step: u64, data: &StepData) -> Result<Losses>;
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
    fn header(&self, step: u64) -> Result<CheckpointHeader>;
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

/// Progress, for a bar or a log.
#[derive(Debug, Clone)]
pub enum Event {
    /// The loop starts.
    Started {
        /// Images shown before, by the run that is resumed.
        images: u64,
        /// Images of the whole run.
        total_images: u64,
    },
    /// Another step is done.
    Step {
        /// Images shown so far.
        images: u64,
    },
    /// A line of `metrics.jsonl` was written.
    Metrics {
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
        /// Images shown.
        images: u64,
        /// Why: "finished", "time limit", "interrupted".
        why: &'static str,
    },
}

/// Runs a training until its images are shown or it is told to stop.
///
/// Errors: a folder that already holds a run (without `resume`) or none (with it), losses that are not finite, and
/// whatever data, networks and files give. Whatever happens, checkpoints already written stay whole.
pub fn train(
    trainer: &mut dyn Trainer,
    dataset: Arc<Dataset>,
    run: &Run,
    stop: &Stop,
    observe: &mut dyn FnMut(Event),
) -> Result<()> {
    let config = trainer.run_config().clone();
    let started = Instant::now();
    let folder = Folder::open(run, trainer, observe)?;
    let mut step = folder.first_step;
    let batch = config.batch as u64;
    let (seed, flip, label_maps) = (config.seed, trainer.flip(), trainer.label_maps());
    let options = LoaderOptions { batch_size: config.batch, seed, flip, label_maps, ..Default::default() };
    let size = dataset.size();
    let mut loader = Loader::new(dataset, options)?;
    loader.seek(step);
    observe(Event::Started { images: step * batch, total_images: config.images });
    let mut window = Window::new();
    // One at the very start: whenever the process is killed, there is something whole to resume from.
    let mut last_good = match step {
        0 => folder.checkpoint(trainer, 0, config.keep, observe)?,
        _ => folder.last_good(step),
    };
    let mut saved = Instant::now();
    let total_steps = config.images.div_ceil(batch);
    let due = |step: u64, every: u64| step * batch / every != step.saturating_sub(1) * batch / every;
    let why = loop {
        if step >= total_steps {
            break "finished";
        }
        if stop.interrupted.load(Ordering::Relaxed) {
            break "interrupted";
        }
        if stop.time_limit.is_some_and(|limit| started.elapsed() >= limit) {
            break "time limit";
        }
        let data = loader.next_batch()?;
        let images = Tensor::from_vec(data.images, &[config.batch, size, size, 3], run.device)?;
        if step == 0
            && let Some(picture) = trainer.preview(&images)?
        {
            folder.write_picture("augmentations", &picture, observe)?;
        }
        let losses = trainer.step(step, &StepData { images, labels: data.labels })?;
        window.push(step, data.indices, losses);
        step += 1;
        observe(Event::Step { images: step * batch });
        // Reading a loss back waits for the device: on a GPU only when a line is due.
        if run.device == Device::Cpu || step.is_multiple_of(config.log_steps) {
            window.read(&last_good)?;
        }
        if step.is_multiple_of(config.log_steps) {
            let losses = folder.write_metrics(step, &mut window, batch, observe)?;
            if let Some(remark) = trainer.remark(&losses) {
                observe(Event::Note(remark));
            }
        }
        if due(step, config.sample_images) {
            window.read(&last_good)?;
            folder.write_samples(trainer, step, observe)?;
        }
        if saved.elapsed().as_secs_f64() >= config.checkpoint_minutes * 60.0 && step < total_steps {
            saved = Instant::now();
            window.read(&last_good)?;
            last_good = folder.checkpoint(trainer, step, config.keep, observe)?;
        }
    };
    window.read(&last_good)?;
    if step > folder.first_step {
        folder.write_samples(trainer, step, observe)?;
        folder.checkpoint(trainer, step, config.keep, observe)?;
        let path = trainer.export(&run.folder, &trainer.header(step)?)?;
        observe(Event::Wrote { what: "model", path });
    }
    observe(Event::Stopped { images: step * batch, why });
    Ok(())
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

/// Losses since the last line of metrics.
struct Window {
    /// Steps, the images of their batches, and their losses.
    pending: Vec<(u64, Vec<u64>, Losses)>,
    sums: BTreeMap<&'static str, (f64, u64)>,
    steps: u64,
    since: Instant,
}

impl Window {
    fn new() -> Self {
        Self { pending: Vec::new(), sums: BTreeMap::new(), steps: 0, since: Instant::now() }
    }

    fn push(&mut self, step: u64, indices: Vec<u64>, losses: Losses) {
        self.steps += 1;
        self.pending.push((step, indices, losses));
    }

    /// Reads the pending losses back, waiting once; the first that is not finite ends the run.
    fn read(&mut self, last_good: &str) -> Result<()> {
        let scalars: Vec<&Tensor> =
            self.pending.iter().flat_map(|(_, _, losses)| losses.iter().map(|(_, t)| t)).collect();
        let mut values = Tensor::to_vecs(&scalars)?.into_iter().map(|v| v.first().map_or(f64::NAN, |v| f64::from(*v)));
        for (step, indices, losses) in self.pending.drain(..) {
            for (loss, _) in losses {
                let Some(value) = values.next() else { break };
                if !value.is_finite() {
                    return Err(TrainError::NotFinite { loss, value, step, indices, last_good: last_good.to_string() });
                }
                let sum = self.sums.entry(loss).or_insert((0.0, 0));
                *sum = (sum.0 + value, sum.1 + 1);
            }
        }
        Ok(())
    }
}
