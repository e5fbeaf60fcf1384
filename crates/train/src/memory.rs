//! Memory that a training needs at least, and what the machine has.

use swinstyle_models::{Spec, stylegan2::Channels};

use crate::{Result, config::bad_key};

/// Batches that the loader holds at once, the one that is trained on among them.
const BATCHES: u64 = 4;

/// Parts of a training's need of memory, in bytes. Each is less than what is really taken, so that only the impossible is refused.
#[derive(Debug, Clone, Default)]
pub(crate) struct Need {
    /// Weights, their averages, moments and gradients.
    pub(crate) networks: u64,
    /// What the backward pass keeps of one part of a batch; on the cpu, where it is the machine's memory.
    pub(crate) activations: u64,
    /// Images that are loaded ahead.
    pub(crate) images: u64,
}

impl Need {
    /// All of it.
    fn total(&self) -> u64 {
        self.networks.saturating_add(self.activations).saturating_add(self.images)
    }

    /// Errs where a machine with so much free memory cannot do it; `None` is a machine that does not say. `networks` is the section of their sizes.
    pub(crate) fn check(&self, available: Option<u64>, networks: &str) -> Result<()> {
        let Some(available) = available.filter(|available| self.total() > *available) else { return Ok(()) };
        let batch = self.activations.saturating_add(self.images);
        let detail = format!(
            "needs {} of memory at least ({} for the networks, {} for a batch), and {} are free",
            in_words(self.total()),
            in_words(self.networks),
            in_words(batch),
            in_words(available),
        );
        match batch > self.networks {
            true => {
                Err(bad_key("run.batch", format!("{detail}; lower it, raise run.accumulate, or take smaller images")))
            }
            false => Err(bad_key(networks, format!("{detail}; lower its channels, dims or layers"))),
        }
    }
}

/// Values of a network.
pub(crate) fn values(specs: &[Spec]) -> u64 {
    specs.iter().map(|s| s.shape.iter().map(|n| *n as u64).product::<u64>()).sum()
}

/// Values of the maps of an image in a generator or discriminator: two in each block.
pub(crate) fn maps(channels: &Channels) -> f64 {
    let block = |(k, channels): (usize, &usize)| 2.0 * f64::from(1_u32 << (2 * k + 4)) * *channels as f64;
    channels.0.iter().enumerate().map(block).sum()
}

/// Bytes of the batches that are loaded ahead.
pub(crate) fn loaded(batch: usize, size: usize) -> u64 {
    [batch as u64, size as u64, size as u64, 3 * 4 * BATCHES].into_iter().fold(1, u64::saturating_mul)
}

/// 1.5 GiB.
fn in_words(bytes: u64) -> String {
    match bytes as f64 / f64::from(1 << 20) {
        mib if mib < 1024.0 => format!("{mib:.0} MiB"),
        mib => format!("{:.1} GiB", mib / 1024.0),
    }
}

/// Memory and swap that can still be had; nothing where the system does not tell.
pub(crate) fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    Some(field(&text, "MemAvailable:")? + field(&text, "SwapFree:").unwrap_or(0))
}

/// The most memory that the process has taken so far; nothing where the system does not tell.
pub(crate) fn peak() -> Option<u64> {
    field(&std::fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
}

/// A line such as `MemAvailable:  123 kB`, in bytes.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_by_what_is_largest() {
        let need = Need { networks: 1 << 30, activations: 5 << 30, images: 1 << 30 };
        assert!(need.check(None, "model").is_ok() && need.check(Some(7 << 30), "model").is_ok());
        let error = need.check(Some((7 << 30) - 1), "model").unwrap_err().to_string();
        assert!(error.starts_with("run.batch: needs 7.0 GiB") && error.contains("6.0 GiB for a batch"), "{error}");
        let need = Need { networks: u64::MAX, activations: 1, images: 1 };
        assert!(need.check(Some(1 << 40), "model").unwrap_err().to_string().starts_with("model: "));
    }

    #[test]
    fn the_systems_tables_are_read_in_bytes() {
        let text = "MemTotal:       100 kB\nMemAvailable:     3 kB\n";
        assert_eq!((field(text, "MemAvailable:"), field(text, "SwapFree:")), (Some(3072), None));
    }
}
