//! The loop itself.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use swinstyle_data::{Dataset, Loader, LoaderOptions};
use swinstyle_tensor::{Device, Tensor};

use super::{Event, Position, Reason, Run, StepData, Stop, Trainer, folder::Folder, pace::Pace};
use crate::Result;

/// Runs a training until its images are shown or it is told to stop.
///
/// It ends with the first batch that reaches `run.images`, and counts that batch whole.
/// Errors: a folder that already holds a run (without `resume`) or none (with it), data that are not the run's, losses that are not finite, and
/// whatever data, networks and files give. Whatever happens, checkpoints already written stay whole.
pub fn train(
    trainer: &mut dyn Trainer,
    dataset: Arc<Dataset>,
    run: &Run,
    stop: &Stop,
    observe: &mut dyn FnMut(Event),
) -> Result<Reason> {
    let config = trainer.run_config().clone();
    let started = Instant::now();
    let mut folder = Folder::open(run, trainer, &dataset, observe)?;
    let first = folder.first;
    let mut at = first;
    let (seed, flip, label_maps) = (config.seed, trainer.flip(), trainer.label_maps());
    let options = LoaderOptions { batch_size: config.batch, seed, flip, label_maps, ..Default::default() };
    let size = dataset.size();
    let mut loader = Loader::new(Arc::clone(&dataset), options)?;
    loader.seek(at.images);
    observe(Event::Started {
        images: at.images,
        total_images: config.images,
        data_images: dataset.count(),
        left_out: dataset.left_out().len() as u64,
        parameters: trainer.parameters(),
    });
    folder.data_notes().into_iter().for_each(|note| observe(Event::Note(note)));
    // One at the very start: whenever the process is killed, there is something whole to resume from.
    let mut last_good = match at.step {
        0 => folder.checkpoint(trainer, at, config.keep, observe)?,
        step => folder.last_good(step),
    };
    let mut saved = Instant::now();
    let mut pace = Pace::new(at, config.images);
    let reason = loop {
        if at.images >= config.images {
            break Reason::Finished;
        }
        if stop.interrupted.load(Ordering::Relaxed) {
            break Reason::Interrupted;
        }
        if stop.time_limit.is_some_and(|limit| started.elapsed() >= limit) {
            break Reason::TimeLimit;
        }
        let data = loader.next_batch()?;
        folder.note_left_out(&dataset, observe)?;
        let images = Tensor::from_vec(data.images, &[config.batch, size, size, 3], run.device)?;
        if at.step == 0
            && let Some(picture) = trainer.preview(&images)?
        {
            folder.write_picture("augmentations", &picture, observe)?;
        }
        let losses = trainer.step(at, &StepData { images, labels: data.labels })?;
        folder.window.push(at.step, data.indices, losses);
        let before = at;
        at = at.after(config.batch);
        observe(Event::Step { images: at.images });
        let progress = pace.progress_due(at);
        // Reading a loss back waits for the device: on a GPU only when somebody is to see it.
        let line = at.step.is_multiple_of(config.log_steps);
        if run.device == Device::Cpu || line || progress {
            folder.window.read(&last_good)?;
        }
        if line {
            let losses = folder.write_metrics(at, observe)?;
            if let Some(remark) = trainer.remark(&losses) {
                observe(Event::Note(remark));
            }
        } else if progress {
            let (losses, images_per_second) = (folder.window.means(), folder.window.images_per_second());
            observe(Event::Progress { images: at.images, images_per_second, losses });
        }
        if let Some(event) = pace.due(at) {
            observe(event);
        }
        if passes(before, at, config.sample_images) {
            folder.window.read(&last_good)?;
            folder.write_samples(trainer, at, observe)?;
        }
        if saved.elapsed().as_secs_f64() >= config.checkpoint_minutes * 60.0 && at.images < config.images {
            saved = Instant::now();
            folder.window.read(&last_good)?;
            last_good = folder.checkpoint(trainer, at, config.keep, observe)?;
        }
    };
    folder.window.read(&last_good)?;
    if at.step > first.step {
        folder.write_samples(trainer, at, observe)?;
        folder.checkpoint(trainer, at, config.keep, observe)?;
        let path = trainer.export(&run.folder, &trainer.header(at)?)?;
        observe(Event::Wrote { what: "model", path });
    }
    observe(Event::Stopped { step: at.step, images: at.images, reason });
    Ok(reason)
}

/// Whether a multiple of `every` images lies between two positions.
fn passes(before: Position, after: Position, every: u64) -> bool {
    before.images / every != after.images / every
}
