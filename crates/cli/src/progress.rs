//! How far some work is: a line with a bar that fits the terminal, plain lines in a log.

use std::{
    collections::VecDeque,
    fmt::Write as _,
    io::{self, IsTerminal, Write as _},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::text::{duration, grouped, three_digits};

/// Time between two pictures of the bar.
const DRAW_EVERY: Duration = Duration::from_millis(80);
/// Seconds until the first plain line and then between two of them at first; each wait is twice the one before up to the other one.
const LINES_EVERY: [f64; 2] = [5.0, 60.0];
/// Columns that are taken where the terminal does not say how many it has.
const COLUMNS: usize = 80;
/// The bar at its longest and at its shortest, in columns.
const BAR: [usize; 2] = [32, 6];

/// Progress towards a total, on stderr.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    state: State,
    started: Instant,
    drawn: Option<Instant>,
    /// When the next plain line is due and how long the wait for it is, in seconds since the start.
    line_due: [f64; 2],
}

impl Progress {
    /// Begins with nothing done of `total` of `what` (a plural).
    pub(crate) fn new(total: u64, what: impl Into<String>) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            // The message is fitted to the terminal; should it shrink afterwards, this cuts the message off and nothing wraps.
            // A template that does not parse leaves the default one.
            if let Ok(style) = ProgressStyle::with_template("{wide_msg}") {
                bar.set_style(style);
            }
            bar
        });
        let state = State { total, what: what.into(), ..State::default() };
        // A terminal that cannot move its cursor gets lines.
        let bar = bar.filter(|bar| !bar.is_hidden());
        let first = LINES_EVERY[0];
        let mut progress = Self { bar, state, started: Instant::now(), drawn: None, line_due: [first, first] };
        progress.state.speed.add(0.0, 0);
        progress.draw(true);
        progress
    }

    /// Counts what was done before, which took none of the time: a training that goes on.
    pub fn begin_at(&mut self, done: u64) {
        self.state.done = done;
        self.state.speed = Speed::default();
        self.state.speed.add(self.started.elapsed().as_secs_f64(), done);
        self.draw(true);
    }

    /// Says how many are done.
    pub fn set(&mut self, done: u64) {
        self.state.done = done;
        let now = self.started.elapsed().as_secs_f64();
        self.state.speed.add(now, done);
        if self.bar.is_some() {
            self.draw(done >= self.state.total);
        } else if now >= self.line_due[0] && done < self.state.total {
            let wait = self.line_due[1];
            let next = (wait * 2.0).min(LINES_EVERY[1]);
            self.line_due = [now + wait, next];
            self.note(self.state.plain());
        }
    }

    /// Shows numbers beside the count, losses first: what does not fit is left out from the end.
    pub fn values<'a>(&mut self, values: impl IntoIterator<Item = (&'a str, f64)>) {
        let mut values: Vec<(&str, f64)> = values.into_iter().collect();
        values.sort_by_key(|(name, _)| !name.ends_with("loss"));
        let said = |(name, value): (&str, f64)| format!("{name} {}", three_digits(value));
        self.state.values = values.into_iter().map(said).collect();
        self.draw(false);
    }

    /// Prints a line on stderr, above the bar where there is one.
    pub fn note(&self, text: impl AsRef<str>) {
        match &self.bar {
            Some(bar) => bar.println(text),
            // There is nowhere left to say that stderr is closed.
            None => drop(writeln!(io::stderr(), "{}", text.as_ref())),
        }
    }

    /// Removes the bar.
    pub fn finish(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn draw(&mut self, now: bool) {
        let Some(bar) = &self.bar else { return };
        if now || self.drawn.is_none_or(|drawn| drawn.elapsed() >= DRAW_EVERY) {
            self.drawn = Some(Instant::now());
            let columns = terminal_size::terminal_size_of(io::stderr()).map_or(COLUMNS, |(w, _)| usize::from(w.0));
            // Some terminals wrap when their last column is written.
            bar.set_message(self.state.line(columns.saturating_sub(1)));
        }
    }
}

/// What is known of the work.
#[derive(Debug, Default)]
struct State {
    done: u64,
    total: u64,
    what: String,
    values: Vec<String>,
    speed: Speed,
}

impl State {
    /// The line of a log.
    fn plain(&self) -> String {
        let mut parts = vec![self.counted()];
        parts.extend(self.rate());
        parts.extend(self.values.iter().cloned());
        parts.push(self.left());
        parts.join(", ")
    }

    /// The line of a terminal with so many columns: a long bar becomes a short one, then further values, the bar, the first value and
    /// the rate are left out, in this order, until the rest fits.
    fn line(&self, columns: usize) -> String {
        let (counted, left, rate) = (self.counted(), self.left(), self.rate());
        let kept = |values: usize, rated: bool| {
            let mut parts = vec![counted.clone()];
            parts.extend(rate.clone().filter(|_| rated));
            parts.extend(self.values.iter().take(values).cloned());
            parts.push(left.clone());
            parts.join("  ")
        };
        let length = |text: &str| text.chars().count();
        for values in (self.values.len().min(1)..=self.values.len()).rev() {
            let text = kept(values, true);
            let room = columns.saturating_sub(length(&text) + 2);
            if room >= BAR[1] {
                return format!("{}  {text}", self.bar(room.min(BAR[0])));
            }
        }
        let shorter = [kept(1, true), kept(0, true), kept(0, false)];
        let fitting = shorter.into_iter().find(|text| length(text) <= columns);
        fitting.unwrap_or_else(|| counted.chars().take(columns).collect())
    }

    fn counted(&self) -> String {
        format!("{}/{} {}", grouped(self.done), grouped(self.total), self.what)
    }

    /// The rate; of slow things how long each takes.
    fn rate(&self) -> Option<String> {
        let rate = self.speed.per_second()?;
        Some(if rate < 0.1 { format!("{} each", duration(rate.recip())) } else { format!("{}/s", three_digits(rate)) })
    }

    fn left(&self) -> String {
        let missing = self.total.saturating_sub(self.done) as f64;
        match self.speed.per_second() {
            Some(rate) => format!("{} left", duration((missing / rate).ceil())),
            None if missing == 0.0 => "0 s left".to_string(),
            None => "-- left".to_string(),
        }
    }

    fn bar(&self, columns: usize) -> String {
        let share = (self.done as f64 / self.total.max(1) as f64).min(1.0);
        let halves = (share * 2.0 * columns as f64).floor() as usize;
        let mut bar = "━".repeat(halves / 2);
        if halves % 2 == 1 {
            bar.push('╸');
        }
        let rest = columns - halves.div_ceil(2);
        // Writing to a string cannot fail.
        let _ = write!(bar, "{}", "┄".repeat(rest));
        bar
    }
}

/// How fast it went in the last half minute: the first steps of a work are seldom like the others.
#[derive(Debug, Default)]
struct Speed {
    /// Seconds since the start and what was done then, the oldest first.
    seen: VecDeque<(f64, u64)>,
}

impl Speed {
    const WINDOW: f64 = 30.0;
    /// Seconds between what is kept.
    const APART: f64 = 0.25;
    /// Seconds that must have passed before a rate is told.
    const LEAST: f64 = 0.5;

    fn add(&mut self, now: f64, done: u64) {
        // The last one is always the newest; the one before it is far enough from the one before that.
        if let [.., before, last] = self.seen.make_contiguous()
            && last.0 - before.0 < Self::APART
        {
            *last = (now, done);
        } else {
            self.seen.push_back((now, done));
        }
        while self.seen.len() > 2 && self.seen[1].0 <= now - Self::WINDOW {
            self.seen.pop_front();
        }
    }

    fn per_second(&self) -> Option<f64> {
        let (first, last) = (self.seen.front()?, self.seen.back()?);
        let (time, done) = (last.0 - first.0, last.1.saturating_sub(first.1));
        (time >= Self::LEAST && done > 0).then(|| done as f64 / time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(done: u64, total: u64, rate: f64, values: &[&str]) -> State {
        let mut speed = Speed::default();
        speed.add(0.0, 0);
        if rate > 0.0 {
            speed.add(10.0, (rate * 10.0) as u64);
        }
        let values = values.iter().map(|v| v.to_string()).collect();
        State { done, total, what: "images".to_string(), values, speed }
    }

    #[test]
    fn a_line_fits_every_terminal_and_says_what_matters_longest() {
        let all = state(320, 5_000_000, 4.3, &["loss 0.318", "l2 0.0451", "perceptual 1.23"]);
        for columns in 0..240 {
            let line = all.line(columns);
            assert!(line.chars().count() <= columns, "{columns}: {line}");
        }
        let left = "13 d 11 h left";
        assert_eq!(
            all.line(200),
            format!("{}  320/5,000,000 images  4.30/s  loss 0.318  l2 0.0451  perceptual 1.23  {left}", "┄".repeat(32))
        );
        assert_eq!(
            all.line(79),
            format!("{}  320/5,000,000 images  4.30/s  loss 0.318  l2 0.0451  {left}", "┄".repeat(10))
        );
        assert_eq!(all.line(60), format!("320/5,000,000 images  4.30/s  loss 0.318  {left}"));
        assert_eq!(all.line(46), format!("320/5,000,000 images  4.30/s  {left}"));
        assert_eq!(all.line(40), format!("320/5,000,000 images  {left}"));
        assert_eq!(all.line(20), "320/5,000,000 images");
        assert_eq!(all.line(9), "320/5,000");
    }

    #[test]
    fn the_bar_is_empty_half_and_full() {
        for (done, expected) in [(0, "┄┄┄┄"), (3, "━╸┄┄"), (4, "━━┄┄"), (8, "━━━━"), (9, "━━━━")]
        {
            assert_eq!(state(done, 8, 0.0, &[]).bar(4), expected, "{done}");
        }
    }

    #[test]
    fn what_is_not_known_yet_is_not_said() {
        assert_eq!(state(0, 400_000, 0.0, &[]).plain(), "0/400,000 images, -- left");
        assert_eq!(state(64_404, 400_000, 6440.4429, &[]).plain(), "64,404/400,000 images, 6,440/s, 53 s left");
        assert_eq!(state(3, 4, 0.0125, &[]).rate(), None);
        // One in twenty seconds.
        let mut slow = state(1, 4, 0.0, &[]);
        slow.speed.add(20.0, 1);
        assert_eq!(slow.plain(), "1/4 images, 20 s each, 1 min left");
        assert_eq!(state(4, 4, 0.0, &[]).left(), "0 s left");
    }

    #[test]
    fn the_rate_is_that_of_the_last_half_minute() {
        let mut speed = Speed::default();
        speed.add(0.0, 0);
        assert_eq!(speed.per_second(), None);
        // Ten a second for two minutes, then a hundred.
        for i in 1..=1200 {
            speed.add(f64::from(i) * 0.1, i as u64);
        }
        assert!((speed.per_second().unwrap() - 10.0).abs() < 0.2);
        for i in 1..=4000_u32 {
            speed.add(120.0 + f64::from(i) * 0.01, 1200 + u64::from(i));
        }
        assert!((speed.per_second().unwrap() - 100.0).abs() < 1.0, "{:?}", speed.per_second());
        assert!(speed.seen.len() < 130);
        // Steps that take longer than the window still have a rate.
        let mut slow = Speed::default();
        (0..4_u32).for_each(|i| slow.add(f64::from(i) * 100.0, u64::from(i)));
        assert_eq!(slow.per_second(), Some(0.01));
    }
}
