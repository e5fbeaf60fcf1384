//! Losses since the last line of metrics.

use std::{collections::BTreeMap, time::Instant};

use serde_json::{Map, Value, json};
use swinstyle_tensor::Tensor;
use swinstyle_weights::Archive;

use super::Losses;
use crate::{Result, TrainError};

/// Metadata key of an open window in a training state.
const KEY: &str = "metrics_window";

/// Losses since the last line of metrics.
pub(super) struct Window {
    /// Steps, the images of their batches, and their losses.
    pending: Vec<(u64, Vec<u64>, Losses)>,
    /// Sum and number of each loss's values.
    sums: BTreeMap<String, (f64, u64)>,
    /// Images since `since`.
    images: u64,
    since: Instant,
}

impl Window {
    pub(super) fn new() -> Self {
        Self { pending: Vec::new(), sums: BTreeMap::new(), images: 0, since: Instant::now() }
    }

    pub(super) fn push(&mut self, step: u64, indices: Vec<u64>, losses: Losses) {
        self.images += indices.len() as u64;
        self.pending.push((step, indices, losses));
    }

    /// Reads the pending losses back, waiting once; the first that is not finite ends the run.
    pub(super) fn read(&mut self, last_good: &str) -> Result<()> {
        let scalars: Vec<&Tensor> =
            self.pending.iter().flat_map(|(_, _, losses)| losses.iter().map(|(_, t)| t)).collect();
        let mut values = Tensor::to_vecs(&scalars)?.into_iter().map(|v| v.first().map_or(f64::NAN, |v| f64::from(*v)));
        for (step, indices, losses) in self.pending.drain(..) {
            for (loss, _) in losses {
                let Some(value) = values.next() else { break };
                if !value.is_finite() {
                    return Err(TrainError::NotFinite { loss, value, step, indices, last_good: last_good.to_string() });
                }
                let sum = match self.sums.get_mut(loss) {
                    Some(sum) => sum,
                    None => self.sums.entry(loss.to_string()).or_insert((0.0, 0)),
                };
                *sum = (sum.0 + value, sum.1 + 1);
            }
        }
        Ok(())
    }

    /// Mean losses of the steps that were read.
    pub(super) fn means(&self) -> Vec<(String, f64)> {
        self.sums.iter().map(|(name, (sum, n))| (name.clone(), sum / *n as f64)).collect()
    }

    /// Images a second of this process.
    pub(super) fn images_per_second(&self) -> f64 {
        self.images as f64 / self.since.elapsed().as_secs_f64().max(1e-9)
    }

    /// Puts the sums into a training state: the next line of metrics must be that of a run that was never stopped.
    pub(super) fn save(&self, archive: &mut Archive) {
        // A sum as text: JSON's numbers may lose the last bit.
        let sums: Map<String, Value> =
            self.sums.iter().map(|(name, (sum, n))| (name.clone(), json!([sum.to_string(), n]))).collect();
        archive.metadata.insert(KEY.into(), Value::Object(sums).to_string());
    }

    /// What [`Window::save`] wrote; nothing from a state that is older than it.
    pub(super) fn load(archive: &Archive) -> Result<Self> {
        let mut window = Self::new();
        let Some(text) = archive.metadata.get(KEY) else { return Ok(window) };
        let sums: Option<BTreeMap<String, (String, u64)>> = serde_json::from_str(text).ok();
        let sums = sums.and_then(|sums| {
            let parsed = sums.into_iter().map(|(name, (sum, n))| Some((name, (sum.parse::<f64>().ok()?, n))));
            parsed.collect::<Option<BTreeMap<_, _>>>()
        });
        window.sums = sums
            .filter(|sums| sums.values().all(|(sum, n)| sum.is_finite() && *n > 0))
            .ok_or_else(|| TrainError::run(archive.origin(), format!("its `{KEY}` cannot be read")))?;
        Ok(window)
    }
}

#[cfg(test)]
mod tests {
    use swinstyle_tensor::Device;

    use super::*;

    #[test]
    fn a_saved_window_comes_back_with_all_bits_and_a_broken_one_is_an_error() {
        let mut window = Window::new();
        for value in [0.1_f32, 1e-30, 7.3] {
            let loss = Tensor::from_vec(vec![value], &[], Device::Cpu).unwrap();
            window.push(0, vec![1, 2], vec![("loss", loss)]);
        }
        window.read("").unwrap();
        let mut archive = Archive::new();
        window.save(&mut archive);
        let again = Window::load(&archive).unwrap();
        assert_eq!(again.sums, window.sums);
        assert_eq!(again.means()[0].1.to_bits(), window.means()[0].1.to_bits());
        archive.metadata.insert(KEY.into(), "{\"loss\":[\"NaN\",1]}".into());
        assert!(Window::load(&archive).is_err_and(|e| e.to_string().contains(KEY)));
    }
}
