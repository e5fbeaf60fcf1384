//! What a training shows: a bar on a terminal, lines in a log, and with `--json` one object a line on stdout.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Map, Value, json};
use swinstyle_train::Event;

use crate::{
    output::{Output, Progress},
    text::{bytes, count, duration, grouped, three_digits},
};

/// Time to the first sign of life in JSON, and from one to the next.
const FIRST: Duration = Duration::from_secs(5);
const EVERY: Duration = Duration::from_secs(30);

/// The progress of one training.
pub(super) struct Display {
    output: Output,
    progress: Option<Progress>,
    total: u64,
    /// What every JSON object says beside its event, such as the row of an ablation.
    tags: Map<String, Value>,
    started: Instant,
    said: Option<Instant>,
}

impl Display {
    pub(super) fn new(output: Output, tags: Map<String, Value>) -> Self {
        Self { output, progress: None, total: 0, tags, started: Instant::now(), said: None }
    }

    fn say(&self, text: String) {
        match &self.progress {
            Some(progress) => progress.note(text),
            None => self.output.note(text),
        }
    }

    /// A JSON object of an event. Errors: stdout is closed or full.
    pub(super) fn object(&self, event: &str, more: Value) -> Result<()> {
        let object = join(json!({ "event": event }), Value::Object(self.tags.clone()));
        self.output.document(&join(object, more))
    }

    /// Errors: stdout cannot take the JSON.
    pub(super) fn show(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Started { images, total_images, data_images, left_out, parameters } => {
                self.total = total_images;
                let networks: Vec<String> =
                    parameters.iter().map(|(name, values)| format!("{name} {} parameters", grouped(*values))).collect();
                let out = match left_out {
                    0 => String::new(),
                    n => format!(" ({} left out)", grouped(n)),
                };
                let shown = match images {
                    0 => String::new(),
                    n => format!(", {} of them shown before", grouped(n)),
                };
                let (data, total) = (count(data_images, "image"), grouped(total_images));
                self.say(format!("{data}{out}, {total} to show{shown}; {}", networks.join(", ")));
                let mut progress = self.output.progress(total_images, "images");
                progress.begin_at(images);
                self.progress = Some(progress);
                let parameters: Map<String, Value> =
                    parameters.into_iter().map(|(n, v)| (n.into(), v.into())).collect();
                let counts = json!({ "images": images, "total_images": total_images, "data_images": data_images });
                self.object("started", join(counts, json!({ "left_out": left_out, "parameters": parameters })))
            }
            Event::Step { images } => {
                if let Some(progress) = &mut self.progress {
                    progress.set(images);
                }
                Ok(())
            }
            Event::Pace { images_per_second, seconds_left, memory } => {
                let taken = memory.map(|m| format!(", {} of memory so far", bytes(m))).unwrap_or_default();
                let (left, rate) = (duration(seconds_left), three_digits(images_per_second));
                self.say(format!("about {left} to go at {rate} images/s{taken}"));
                let pace = json!({ "images_per_second": images_per_second, "seconds_left": seconds_left });
                self.object("pace", join(pace, json!({ "memory_bytes": memory })))
            }
            Event::Progress { images, images_per_second, losses } => {
                self.values(&losses);
                let due = match self.said {
                    None => self.started.elapsed() >= FIRST,
                    Some(said) => said.elapsed() >= EVERY,
                };
                if !due {
                    return Ok(());
                }
                self.said = Some(Instant::now());
                self.object("progress", numbers(images, images_per_second, losses))
            }
            Event::Metrics { step, images, images_per_second, losses } => {
                self.said = Some(Instant::now());
                self.values(&losses);
                self.object("metrics", join(json!({ "step": step }), numbers(images, images_per_second, losses)))
            }
            Event::Wrote { what, path } => {
                self.say(format!("wrote {what} {}", path.display()));
                self.object("wrote", json!({ "what": what, "path": path.to_string_lossy() }))
            }
            Event::Note(text) => {
                let object = self.object("note", json!({ "text": text }));
                self.say(text);
                object
            }
            Event::Stopped { images, reason, .. } => {
                self.say(format!("stopped after {} of {}: {reason}", grouped(images), count(self.total, "image")));
                Ok(())
            }
        }
    }

    fn values(&mut self, losses: &[(String, f64)]) {
        if let Some(progress) = &mut self.progress {
            progress.values(losses.iter().map(|(name, value)| (name.as_str(), *value)));
        }
    }

    /// Removes the bar.
    pub(super) fn close(&mut self) {
        if let Some(progress) = self.progress.take() {
            progress.finish();
        }
    }
}

fn numbers(images: u64, images_per_second: f64, losses: Vec<(String, f64)>) -> Value {
    let losses: Map<String, Value> = losses.into_iter().map(|(name, value)| (name, value.into())).collect();
    json!({ "images": images, "images_per_second": images_per_second, "losses": losses })
}

/// Two objects in one.
fn join(mut a: Value, b: Value) -> Value {
    if let (Value::Object(a), Value::Object(b)) = (&mut a, b) {
        a.extend(b);
    }
    a
}
