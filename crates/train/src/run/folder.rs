//! The folder of a run: what is in it, who may write to it, and how a run goes on from it.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value, json};
use swinstyle_data::Picture;
use swinstyle_weights::{Archive, FloatDtype, keep_last, latest};

use super::{Event, Run, Trainer, Window};
use crate::{Result, TrainError, task};

/// The file that a running training holds locked.
const LOCK: &str = ".lock";
/// Beginning of the names of training-state files.
const STATE: &str = "state-";

/// A run's folder: `config.json`, `metrics.jsonl`, `samples/`, `checkpoints/` and the exported model.
pub(super) struct Folder {
    root: PathBuf,
    /// The step that the run goes on with.
    pub(super) first_step: u64,
    /// Locked as long as the run goes on; the system unlocks it when the process ends, however it ends.
    lock: Option<fs::File>,
}

impl Folder {
    pub(super) fn open(run: &Run, trainer: &mut dyn Trainer, observe: &mut dyn FnMut(Event)) -> Result<Self> {
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

    pub(super) fn write_metrics(
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

    pub(super) fn write_samples(
        &self,
        trainer: &mut dyn Trainer,
        step: u64,
        observe: &mut dyn FnMut(Event),
    ) -> Result<()> {
        self.write_picture(&format!("{step:08}"), &trainer.sample()?, observe)
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
