//! A table of measured blueprints: one TOML file a device, and the ranges of its numbers.

use std::{collections::BTreeMap, ops::RangeInclusive};

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

/// The winner for a kernel and key, and those that lost. Where none was faster than the default beyond the noise, the default.
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
    /// Pairs of timings in which the winner was faster than the default, of so many; absent where the default stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub won: Option<[u32; 2]>,
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

/// Microseconds of a launch: at most twelve days.
const MICROSECONDS: RangeInclusive<f64> = 0.0..=1e12;
/// A size of a key.
const SIZE: RangeInclusive<u64> = 1..=1 << 48;
/// Sizes of a key.
const SIZES: RangeInclusive<usize> = 1..=16;
/// Pairs of timings.
const PAIRS: RangeInclusive<u32> = 1..=1000;
/// A number of a blueprint: units, tiles, vectors, blocks.
const OF_BLUEPRINT: RangeInclusive<i64> = 0..=1 << 16;

impl Entry {
    /// The first of its numbers that is out of its range: key, value, range.
    pub fn fault(&self) -> Option<String> {
        let own = [("median_us", self.median_us), ("spread_us", self.spread_us), ("default_us", self.default_us)];
        let lost = self.lost.iter().flat_map(|l| [("lost.median_us", l.median_us), ("lost.spread_us", l.spread_us)]);
        let time = own.into_iter().chain(lost).find(|(_, v)| !MICROSECONDS.contains(v));
        if let Some((key, value)) = time {
            return Some(format!("{key} is {value}, not from 0 to {:e}", MICROSECONDS.end()));
        }
        if !SIZES.contains(&self.sizes.len()) {
            return Some(format!("sizes has {} numbers, not {} to {}", self.sizes.len(), SIZES.start(), SIZES.end()));
        }
        if let Some(size) = self.sizes.iter().find(|s| !SIZE.contains(s)) {
            return Some(format!("a number of sizes is {size}, not from {} to {}", SIZE.start(), SIZE.end()));
        }
        if let Some([faster, pairs]) = self.won.filter(|[faster, pairs]| !PAIRS.contains(pairs) || faster > pairs) {
            return Some(format!("won is {faster} of {pairs} pairs, not some of {} to {}", PAIRS.start(), PAIRS.end()));
        }
        let others = self.lost.iter().map(|l| ("lost.blueprint", &l.blueprint));
        let others = others.chain(self.dropped.iter().map(|d| ("dropped.blueprint", &d.blueprint)));
        let blueprints = [("blueprint", &self.blueprint)].into_iter().chain(others);
        blueprints.into_iter().find_map(|(key, value)| fault_of(key, value))
    }
}

/// The first number in a blueprint that is out of its range.
fn fault_of(key: &str, value: &Value) -> Option<String> {
    match value {
        Value::Integer(n) if OF_BLUEPRINT.contains(n) => None,
        Value::Integer(_) | Value::Float(_) | Value::Datetime(_) => Some(format!(
            "{key} is {value}, not a whole number from {} to {}",
            OF_BLUEPRINT.start(),
            OF_BLUEPRINT.end()
        )),
        Value::Table(fields) => fields.iter().find_map(|(name, value)| fault_of(&format!("{key}.{name}"), value)),
        Value::Array(values) => values.iter().find_map(|value| fault_of(key, value)),
        Value::Boolean(_) | Value::String(_) => None,
    }
}

impl Table {
    /// Removes entries with numbers out of their ranges, and says of each which, with its number among all entries, its kernel and its key.
    pub fn take_faults(&mut self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut number = 0;
        self.entries.retain(|entry| {
            number += 1;
            let Some(fault) = entry.fault() else { return true };
            faults.push(format!("entry {number} ({} {} {:?}): {fault}", entry.kernel, entry.class, entry.sizes));
            false
        });
        faults
    }

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
