//! The training loop that both trainings share: batches, metrics, samples, checkpoints, stopping and resuming.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Map, Value, json};
use swinstyle_data::{Dataset, Loader, LoaderOptions, Picture};
use swinstyle_tensor::{Device, Tensor};
use swinstyle_weights::{Archive, CheckpointHeader, FloatDtype, keep_last, latest};

use crate::{Result, TrainError, config::RunConfig, task};

/// The file that a running training holds locked.
const LOCK: &str = ".lock";
/// Beginning of the names of training-state files.
const STATE: &str = "state-";

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
    fn step(&mut self, step: u64, data: &StepData) -> Result<Vec<(&'static str, Tensor)>>;
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
pub(crate) type Losses = Vec<(&'static str, Tensor)>;

/// A batch in `count` equal parts along its first axis.
pub(crate) fn parts(batch: &Tensor, count: usize) -> Result<Vec<Tensor>> {
    let n = batch.shape()[0] / count;
    match count {
        1 => Ok(vec![batch.clone()]),
        _ => (0..count).map(|i| Ok(batch.slice(0, i * n, n)?)).collect(),
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

    /// Reads the pending losses back; the first that is not finite ends the run.
    fn read(&mut self, last_good: &str) -> Result<()> {
        for (step, indices, losses) in self.pending.drain(..) {
            for (loss, value) in losses {
                let value = value.item()?;
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

/// A run's folder: `config.json`, `metrics.jsonl`, `samples/`, `checkpoints/` and the exported model.
struct Folder {
    root: PathBuf,
    first_step: u64,
    /// Locked as long as the run goes on; the system unlocks it when the process ends, however it ends.
    lock: Option<fs::File>,
}

impl Folder {
    fn open(run: &Run, trainer: &mut dyn Trainer, observe: &mut dyn FnMut(Event)) -> Result<Self> {
        let root = run.folder.clone();
        let mut this = Self { root, first_step: 0, lock: None };
        this.lock_if_there()?;
        let found = match this.checkpoints().is_dir() {
            true => latest(&this.checkpoints(), STATE)?,
            false => None,
        };
        match (run.resume, found) {
            (true, Some(found)) => {
                for skipped in &found.skipped {
                    observe(Event::Note(format!("skipped a checkpoint: {skipped}")));
                }
                let archive = Archive::read(&found.path)?;
                this.check_same_model(trainer, &archive, &found.path, observe)?;
                trainer.load(&archive)?;
                this.first_step = found.step;
                this.cut_metrics()?;
                observe(Event::Note(format!("resumed from {}", found.path.display())));
            }
            (true, None) => {
                let detail = "there is no checkpoint to resume from; leave out --resume to start";
                return Err(TrainError::run(&this.root, detail));
            }
            (false, found) => {
                if found.is_some() || !this.holds_no_work() {
                    return Err(TrainError::run(&this.root, "the folder is not empty; --resume goes on with its run"));
                }
                if this.root.join("config.json").exists() {
                    let note = "the folder held a run that ended before its first checkpoint; it begins anew";
                    observe(Event::Note(note.into()));
                }
                for d in [this.root.join("samples"), this.checkpoints()] {
                    fs::create_dir_all(&d).map_err(|e| TrainError::run(&d, format!("cannot be made: {e}")))?;
                }
            }
        }
        this.take_lock()?;
        let text = format!("{:#}\n", trainer.config_json()?);
        this.write_whole(&this.root.join("config.json"), text.as_bytes())?;
        Ok(this)
    }

    fn checkpoints(&self) -> PathBuf {
        self.root.join("checkpoints")
    }

    /// Locks the folder of an earlier run before it is looked at.
    fn lock_if_there(&mut self) -> Result<()> {
        if self.root.join(LOCK).exists() { self.take_lock() } else { Ok(()) }
    }

    /// Errors: another process has the lock, the file cannot be made.
    fn take_lock(&mut self) -> Result<()> {
        if self.lock.is_some() {
            return Ok(());
        }
        let path = self.root.join(LOCK);
        let file = fs::OpenOptions::new().create(true).append(true).open(&path);
        let file = file.map_err(|e| TrainError::run(&path, format!("cannot be made: {e}")))?;
        match file.try_lock() {
            Err(fs::TryLockError::WouldBlock) => {
                return Err(TrainError::run(&self.root, "another training is running in this folder"));
            }
            // A file system without locks is no reason not to train.
            Ok(()) | Err(fs::TryLockError::Error(_)) => {}
        }
        self.lock = Some(file);
        Ok(())
    }

    /// Whether the folder is empty, or holds only what a run writes before its first checkpoint.
    fn holds_no_work(&self) -> bool {
        let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten();
        let ours = ["config.json", "samples", "checkpoints"];
        let begun = |name: &str| ours.contains(&name) || name.starts_with('.');
        entries(&self.root).all(|e| e.file_name().to_str().is_some_and(begun))
            && ["samples", "checkpoints"].iter().all(|d| {
                // Hidden files are what a killed writer left.
                entries(&self.root.join(d)).all(|e| e.file_name().as_encoded_bytes().starts_with(b"."))
            })
    }

    fn last_good(&self, step: u64) -> String {
        format!("the last good checkpoint is {}", self.state_path(step).display())
    }

    /// [`Folder::last_good`] of the newest checkpoint before `step`.
    fn newest_good(&self, step: u64) -> String {
        match latest(&self.checkpoints(), STATE) {
            Ok(Some(found)) if found.step < step => self.last_good(found.step),
            _ => "there is no checkpoint yet".to_string(),
        }
    }

    fn state_path(&self, step: u64) -> PathBuf {
        self.checkpoints().join(format!("{STATE}{step:08}.safetensors"))
    }

    /// Another run length or output interval is fine on resuming; another model or data is not the same run.
    fn check_same_model(
        &self,
        trainer: &dyn Trainer,
        archive: &Archive,
        path: &Path,
        observe: &mut dyn FnMut(Event),
    ) -> Result<()> {
        let Some(header) = archive.header()? else {
            return Err(TrainError::run(path, "is not a training state"));
        };
        let now = trainer.config_json()?;
        for section in ["model", "data", task::KEY] {
            if header.config.get(section) != now.get(section) {
                let detail = format!("was trained with another [{section}]; give the run's own configuration");
                return Err(TrainError::run(path, detail));
            }
        }
        if header.architecture != trainer.header(0)?.architecture {
            return Err(TrainError::run(path, format!("is the state of a {} run", header.architecture)));
        }
        if header.config != now {
            observe(Event::Note(
                "the configuration differs from the checkpoint's; the new one holds from here on".into(),
            ));
        }
        Ok(())
    }

    /// Drops metrics of steps after the checkpoint: they will be made again.
    fn cut_metrics(&self) -> Result<()> {
        let path = self.root.join("metrics.jsonl");
        let Ok(text) = fs::read_to_string(&path) else { return Ok(()) };
        let kept: String = text
            .lines()
            .filter(|l| {
                let step = serde_json::from_str::<Value>(l).ok().and_then(|v| v.get("step")?.as_u64());
                step.is_some_and(|s| s <= self.first_step)
            })
            .flat_map(|l| [l, "\n"])
            .collect();
        self.write_whole(&path, kept.as_bytes())
    }

    fn write_whole(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        Ok(swinstyle_weights::write_atomic(path, |w| w.write_all(bytes))?)
    }

    fn write_metrics(
        &self,
        step: u64,
        window: &mut Window,
        batch: u64,
        observe: &mut dyn FnMut(Event),
    ) -> Result<Vec<(String, f64)>> {
        let seconds = window.since.elapsed().as_secs_f64().max(1e-9);
        let images_per_second = (window.steps * batch) as f64 / seconds;
        let losses: Vec<(String, f64)> = window.sums.iter().map(|(k, (s, n))| (k.to_string(), s / *n as f64)).collect();
        let mut line = Map::new();
        line.insert("step".into(), json!(step));
        line.insert("images".into(), json!(step * batch));
        line.insert("images_per_second".into(), json!((images_per_second * 100.0).round() / 100.0));
        for (name, value) in &losses {
            line.insert(name.clone(), json!(value));
        }
        let path = self.root.join("metrics.jsonl");
        let append = || -> std::io::Result<()> {
            let mut f = fs::OpenOptions::new().create(true).append(true).open(&path)?;
            writeln!(f, "{}", Value::Object(line))
        };
        append().map_err(|e| TrainError::run(&path, format!("cannot be written: {e}")))?;
        observe(Event::Metrics { images: step * batch, images_per_second, losses: losses.clone() });
        *window = Window::new();
        Ok(losses)
    }

    fn write_samples(&self, trainer: &mut dyn Trainer, step: u64, observe: &mut dyn FnMut(Event)) -> Result<()> {
        self.write_picture(&format!("{step:08}"), &trainer.sample()?, observe)
    }

    fn write_picture(&self, name: &str, picture: &Picture, observe: &mut dyn FnMut(Event)) -> Result<()> {
        let path = self.root.join("samples").join(format!("{name}.png"));
        swinstyle_data::picture::write_png(&path, picture)?;
        observe(Event::Wrote { what: "samples", path });
        Ok(())
    }

    fn checkpoint(
        &self,
        trainer: &dyn Trainer,
        step: u64,
        keep: usize,
        observe: &mut dyn FnMut(Event),
    ) -> Result<String> {
        let mut archive = Archive::new();
        trainer.save(&mut archive)?;
        let path = self.state_path(step);
        if let Err(error) = archive.check_finite() {
            return Err(TrainError::run(path, format!("was not written: {error}; {}", self.newest_good(step))));
        }
        archive.set_header(&trainer.header(step)?);
        archive.write(&path, FloatDtype::F32)?;
        keep_last(&self.checkpoints(), STATE, keep)?;
        observe(Event::Wrote { what: "checkpoint", path });
        Ok(self.last_good(step))
    }
}
