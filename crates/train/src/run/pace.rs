//! How fast a run goes, and when to say so.

use std::time::{Duration, Instant};

use super::{Event, Position};

/// Time between signs of life.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);
/// When the pace is said: as soon as there is something to go by, and again when it is well known.
const SAID_AT: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(60)];

/// The clock of a run.
pub(super) struct Pace {
    started: Instant,
    /// Where this process began.
    first: Position,
    /// Images of the whole run.
    total: u64,
    last_progress: Instant,
    /// How often the pace was said.
    said: usize,
}

impl Pace {
    pub(super) fn new(first: Position, total: u64) -> Self {
        let now = Instant::now();
        Self { started: now, first, total, last_progress: now, said: 0 }
    }

    /// Whether a sign of life is due. The first step is one.
    pub(super) fn progress_due(&mut self, at: Position) -> bool {
        let due = at.step == self.first.step + 1 || self.last_progress.elapsed() >= PROGRESS_EVERY;
        if due {
            self.last_progress = Instant::now();
        }
        due
    }

    /// The pace, when it is time to say it.
    pub(super) fn due(&mut self, at: Position) -> Option<Event> {
        let elapsed = self.started.elapsed();
        if self.said >= SAID_AT.len() || elapsed < SAID_AT[self.said] || at.images >= self.total {
            return None;
        }
        self.said += 1;
        let images_per_second = (at.images - self.first.images) as f64 / elapsed.as_secs_f64().max(1e-9);
        let seconds_left = (self.total - at.images) as f64 / images_per_second.max(1e-9);
        Some(Event::Pace { images_per_second, seconds_left, memory: crate::memory::peak() })
    }
}
