//! What a run's folder says about its data: how many images, which files were left out, and by what the same data are known again.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use swinstyle_data::{Dataset, folder::BadFile};
use swinstyle_weights::{Archive, CheckpointHeader};

use crate::{Result, TrainError};

/// Metadata key of the data in a training state.
const KEY: &str = "data";
/// Files that are named, one a line, before the rest is counted.
const NAMED: usize = 10;

/// The data of a run.
pub(super) struct DataRecord {
    images: u64,
    fingerprint: String,
    left_out: Vec<BadFile>,
    /// Files that turned out bad while training.
    late: usize,
}

impl DataRecord {
    pub(super) fn new(dataset: &Dataset) -> Self {
        Self { images: dataset.count(), fingerprint: dataset.fingerprint(), left_out: dataset.left_out(), late: 0 }
    }

    /// The files that are left out from the start: some by name, the rest by number.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes: Vec<String> =
            self.left_out.iter().take(NAMED).map(|bad| format!("left out: {}", bad.reason)).collect();
        if self.left_out.len() > NAMED {
            notes.push(format!("left out: {} more files; data.json names them all", self.left_out.len() - NAMED));
        }
        notes
    }

    /// The content of `data.json`.
    pub(super) fn json(&self) -> Value {
        let left_out: Vec<Value> = self
            .left_out
            .iter()
            .map(|bad| json!({ "file": bad.path.to_string_lossy(), "reason": bad.reason }))
            .collect();
        json!({ "images": self.images, "fingerprint": self.fingerprint, "left_out": left_out })
    }

    /// Puts what the data are known by into a training state.
    pub(super) fn save(&self, archive: &mut Archive) {
        let value = json!({ "images": self.images, "fingerprint": self.fingerprint });
        archive.metadata.insert(KEY.into(), value.to_string());
    }

    /// Compares the data with those of a training state. Returns what the user should know.
    ///
    /// Errors: other data, unless the user said so.
    pub(super) fn check(&self, archive: &Archive, header: &CheckpointHeader, allowed: bool) -> Result<Option<String>> {
        let Some(text) = archive.metadata.get(KEY) else {
            let then = &header.data.description;
            return Ok(Some(format!("the checkpoint is older than fingerprints of data; it was trained on {then}")));
        };
        let unreadable = || TrainError::run(archive.origin(), format!("its `{KEY}` cannot be read"));
        let then: Value = serde_json::from_str(text).map_err(|_| unreadable())?;
        let images = then["images"].as_u64().ok_or_else(unreadable)?;
        if then["fingerprint"].as_str() == Some(self.fingerprint.as_str()) {
            return Ok(None);
        }
        let what = match self.images {
            now if now == images => format!("the data have changed: {now} images then and now, but not the same"),
            now => format!("the data have changed: {images} images then, {now} now"),
        };
        if allowed {
            return Ok(Some(format!("{what}; it goes on with the new ones, in an order of their own")));
        }
        let detail = format!("{what}; give the run's own data, or --data-changed to go on with these");
        Err(TrainError::run(archive.origin(), detail))
    }

    /// Takes over which files have turned out bad since; returns what is to be said about them.
    pub(super) fn renew(&mut self, dataset: &Dataset) -> Vec<String> {
        if dataset.left_out_count() == self.left_out.len() {
            return Vec::new();
        }
        let known: BTreeSet<BadFile> = std::mem::replace(&mut self.left_out, dataset.left_out()).into_iter().collect();
        let mut notes = Vec::new();
        for bad in self.left_out.iter().filter(|bad| !known.contains(bad)) {
            self.late += 1;
            match self.late {
                n if n <= NAMED => notes.push(format!("left out from here on: {}", bad.reason)),
                n if n == NAMED + 1 => notes.push("more files have become unreadable; data.json names them all".into()),
                _ => {}
            }
        }
        notes
    }
}
