//! A table of measured blueprints: one TOML file a device.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use toml::Value;

use super::Key;

/// What was measured on a device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Name of the device, and what it is.
    pub device: String,
    /// Its driver.
    pub driver: String,
    /// Day of the last measurement.
    pub date: String,
    /// Commit of the program.
    pub commit: String,
    /// The command that measured.
    pub command: String,
    /// "device timestamps" or "wall clock".
    pub clock: String,
    /// Fingerprint of each kernel room's code at the time.
    pub code: BTreeMap<String, String>,
    /// The measurements.
    #[serde(default, rename = "entry")]
    pub entries: Vec<Entry>,
}

/// The winner for a kernel and key, and those that lost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Name of the kernel.
    pub kernel: String,
    /// Room whose code it is.
    pub room: String,
    /// Class of the key.
    pub class: String,
    /// Sizes of the key.
    pub sizes: Vec<u64>,
    /// Case that launched it.
    pub case: String,
    /// Median time of the winner, µs.
    pub median_us: f64,
    /// Slowest minus fastest round of the winner, µs.
    pub spread_us: f64,
    /// Median time of the default, µs.
    pub default_us: f64,
    /// The winner.
    pub blueprint: Value,
    /// Candidates that were slower.
    #[serde(default)]
    pub lost: Vec<Lost>,
    /// Candidates that failed.
    #[serde(default)]
    pub dropped: Vec<Dropped>,
}

impl Entry {
    /// Its key.
    pub fn key(&self) -> Key {
        Key { class: self.class.clone(), sizes: self.sizes.clone() }
    }
}

/// A candidate that was slower than the winner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lost {
    /// Median time, µs.
    pub median_us: f64,
    /// Slowest minus fastest round, µs.
    pub spread_us: f64,
    /// The candidate.
    pub blueprint: Value,
}

/// A candidate that did not compile, run or match the twin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dropped {
    /// Why.
    pub reason: String,
    /// The candidate.
    pub blueprint: Value,
}

impl Table {
    /// Reads a table. Errors: text that is not one, on one line.
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|e| {
            let at = e.span().map_or(0, |s| text[..s.start.min(text.len())].lines().count());
            format!("line {at}: {}", e.message())
        })
    }

    /// The table as a file.
    pub fn text(&self) -> Result<String, String> {
        toml::to_string(self).map_err(|e| e.to_string())
    }

    /// Rooms whose code differs from what was measured, by the fingerprints of the running program.
    pub fn stale(&self, code: &BTreeMap<String, String>) -> Vec<String> {
        let differs = |room: &str| self.code.get(room) != code.get(room);
        let mut rooms: Vec<String> = self.entries.iter().map(|e| e.room.clone()).filter(|r| differs(r)).collect();
        rooms.sort();
        rooms.dedup();
        rooms
    }

    /// The entry of a kernel and key.
    pub fn entry(&self, kernel: &str, key: &Key) -> Option<&Entry> {
        self.entries.iter().find(|e| e.kernel == kernel && e.key() == *key)
    }
}
