//! The folder of a run: what is in it, who may write to it, and how a run goes on from it.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value, json};
use swinstyle_data::{Dataset, Picture};
use swinstyle_files::shown;
use swinstyle_weights::{Archive, CheckpointHeader, FloatDtype, Skipped, keep_last, latest, put_aside};

use super::{Event, Position, Run, Trainer, data::DataRecord, window::Window};
use crate::{Result, TrainError, task};

/// The file that a running training holds locked.
const LOCK: &str = ".lock";
/// Beginning of the names of training-state files.
const STATE: &str = "state-";

/// A run's folder: `config.json`, `data.json`, `metrics.jsonl`, `samples/`, `checkpoints/` and the exported model.
pub(super) struct Folder {
    root: PathBuf,
    /// Where the run goes on.
    pub(super) first: Position,
    /// Losses since the last line of metrics.
    pub(super) window: Window,
    data: DataRecord,
    /// The step of the last sample grid.
    sampled: Option<u64>,
    /// Locked as long as the run goes on; the system unlocks it when the process ends, however it ends.
    lock: Option<fs::File>,
}

/// Puts a damaged checkpoint aside, that a later one of its number finds its place free; says what was done.
fn put_out_of_the_way(skipped: &Skipped) -> String {
    let said = format!("skipped a checkpoint: {}", skipped.error);
    // What the system does not let us read may be whole.
    if !skipped.error.is_damage() {
        return said;
    }
    match put_aside(&skipped.path) {
        Ok(aside) => format!("{said}; it was put aside as {}", shown(&aside)),
        Err(error) => format!("{said}; it stays where it is: {error}"),
    }
}

impl Folder {
    pub(super) fn open(
        run: &Run,
        trainer: &mut dyn Trainer,
        dataset: &Dataset,
        observe: &mut dyn FnMut(Event),
    ) -> Result<Self> {
        let mut this = Self {
            root: run.folder.clone(),
            first: Position::default(),
            window: Window::new(),
            data: DataRecord::new(dataset),
            sampled: None,
            lock: None,
        };
        this.lock_if_there()?;
        let found = match this.checkpoints().is_dir() {
            true => latest(&this.checkpoints(), STATE)?,
            false => None,
        };
        match (run.resume, found) {
            (true, Some(found)) => {
                this.take_lock()?;
                for skipped in &found.skipped {
                    observe(Event::Note(put_out_of_the_way(skipped)));
                }
                let archive = Archive::read(&found.path)?;
                let header = this.check_same_model(trainer, &archive, &found.path, observe)?;
                let changed = this.data.check(&archive, &header, run.data_changed)?;
                changed.into_iter().for_each(|note| observe(Event::Note(note)));
                trainer.load(&archive)?;
                this.first = Position { step: found.step, images: images_seen(&header, &found.path)? };
                this.window = Window::load(&archive)?;
                this.cut_metrics()?;
                observe(Event::Note(format!("resumed from {}", found.path.display())));
                let (shown, total) = (this.first.images, trainer.run_config().images);
                if shown >= total {
                    let note =
                        format!("the run has shown {shown} images already; a larger run.images than {total} goes on");
                    observe(Event::Note(note));
                }
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
        this.write_data()?;
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
        let ours = ["config.json", "data.json", "samples", "checkpoints"];
        let begun = |name: &str| ours.contains(&name) || name.starts_with('.');
        entries(&self.root).all(|e| e.file_name().to_str().is_some_and(begun))
            && ["samples", "checkpoints"].iter().all(|d| {
                // Hidden files are what a killed writer left.
                entries(&self.root.join(d)).all(|e| e.file_name().as_encoded_bytes().starts_with(b"."))
            })
    }

    pub(super) fn last_good(&self, step: u64) -> String {
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

    /// Another run length, batch or output interval is fine on resuming; another model or task is not the same run. Where the data lie, and
    /// how much of them is kept in memory, is nothing to the run; whether they changed is [`DataRecord::check`]'s.
    fn check_same_model(
        &self,
        trainer: &dyn Trainer,
        archive: &Archive,
        path: &Path,
        observe: &mut dyn FnMut(Event),
    ) -> Result<CheckpointHeader> {
        let Some(header) = archive.header()? else {
            return Err(TrainError::run(path, "is not a training state"));
        };
        let now = trainer.config_json()?;
        for section in ["model", task::KEY] {
            if header.config.get(section) != now.get(section) {
                let detail = format!("was trained with another [{section}]; give the run's own configuration");
                return Err(TrainError::run(path, detail));
            }
        }
        if header.architecture != trainer.header(Position::default())?.architecture {
            return Err(TrainError::run(path, format!("is the state of a {} run", header.architecture)));
        }
        if header.config != now {
            observe(Event::Note(
                "the configuration differs from the checkpoint's; the new one holds from here on".into(),
            ));
        }
        Ok(header)
    }

    /// Drops metrics of steps after the checkpoint: they will be made again.
    fn cut_metrics(&self) -> Result<()> {
        let path = self.root.join("metrics.jsonl");
        let Ok(text) = fs::read_to_string(&path) else { return Ok(()) };
        let kept: String = text
            .lines()
            .filter(|l| {
                let step = serde_json::from_str::<Value>(l).ok().and_then(|v| v.get("step")?.as_u64());
                step.is_some_and(|s| s <= self.first.step)
            })
            .flat_map(|l| [l, "\n"])
            .collect();
        self.write_whole(&path, kept.as_bytes())
    }

    fn write_whole(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        Ok(swinstyle_weights::write_atomic(path, |w| w.write_all(bytes))?)
    }

    /// What is to be said of the data at the start.
    pub(super) fn data_notes(&self) -> Vec<String> {
        self.data.notes()
    }

    /// The record of the data, with every file that was left out.
    fn write_data(&self) -> Result<()> {
        self.write_whole(&self.root.join("data.json"), format!("{:#}\n", self.data.json()).as_bytes())
    }

    /// Names files that turned out bad, or are gone, since the last call: each once.
    pub(super) fn note_left_out(&mut self, dataset: &Dataset, observe: &mut dyn FnMut(Event)) -> Result<()> {
        let notes = self.data.renew(dataset);
        if notes.is_empty() {
            return Ok(());
        }
        notes.into_iter().for_each(|note| observe(Event::Note(note)));
        self.write_data()
    }

    /// Ends the window with a line of metrics; returns its means.
    pub(super) fn write_metrics(&mut self, at: Position, observe: &mut dyn FnMut(Event)) -> Result<Vec<(String, f64)>> {
        let images_per_second = self.window.images_per_second();
        let losses = self.window.means();
        let mut line = Map::new();
        line.insert("step".into(), json!(at.step));
        line.insert("images".into(), json!(at.images));
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
        observe(Event::Metrics { step: at.step, images: at.images, images_per_second, losses: losses.clone() });
        self.window = Window::new();
        Ok(losses)
    }

    /// A sample grid, once a step.
    pub(super) fn write_samples(
        &mut self,
        trainer: &mut dyn Trainer,
        at: Position,
        observe: &mut dyn FnMut(Event),
    ) -> Result<()> {
        if self.sampled == Some(at.step) {
            return Ok(());
        }
        self.sampled = Some(at.step);
        self.write_picture(&format!("{:08}", at.step), &trainer.sample()?, observe)
    }

    pub(super) fn write_picture(&self, name: &str, picture: &Picture, observe: &mut dyn FnMut(Event)) -> Result<()> {
        let path = self.root.join("samples").join(format!("{name}.png"));
        swinstyle_data::picture::write_png(&path, picture)?;
        observe(Event::Wrote { what: "samples", path });
        Ok(())
    }

    pub(super) fn checkpoint(
        &self,
        trainer: &dyn Trainer,
        at: Position,
        keep: usize,
        observe: &mut dyn FnMut(Event),
    ) -> Result<String> {
        let mut archive = Archive::new();
        trainer.save(&mut archive)?;
        self.window.save(&mut archive);
        self.data.save(&mut archive);
        let step = at.step;
        let path = self.state_path(step);
        if let Err(error) = archive.check_finite() {
            return Err(TrainError::run(path, format!("was not written: {error}; {}", self.newest_good(step))));
        }
        archive.set_header(&trainer.header(at)?);
        archive.write(&path, FloatDtype::F32)?;
        keep_last(&self.checkpoints(), STATE, keep)?;
        observe(Event::Wrote { what: "checkpoint", path });
        Ok(self.last_good(step))
    }
}

/// Images that the run behind a training state has shown. A state that does not say so is from a time when every step had the batch of its
/// configuration.
fn images_seen(header: &CheckpointHeader, path: &Path) -> Result<u64> {
    if header.images_seen > 0 || header.step == 0 {
        return Ok(header.images_seen);
    }
    let batch = header.config.pointer("/run/batch").and_then(Value::as_u64);
    let images = batch.and_then(|batch| batch.checked_mul(header.step));
    images.ok_or_else(|| TrainError::run(path, "says neither how many images were shown nor its batch"))
}
