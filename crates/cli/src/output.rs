//! Where a command's text, JSON, progress and errors go.
//!
//! Results are lines on stdout. With `--json` stdout carries JSON alone and the lines move to stderr, where progress and
//! errors always are. An error is one line that starts with `error: `. A reader that closes stdout ends the program
//! quietly: `swinstyle … | head` is no failure.

use std::{
    any::Any,
    error::Error,
    fmt,
    io::{self, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    sync::{Mutex, PoisonError},
};

use anyhow::Result;
use serde::Serialize;
use swinstyle_files::printable;

pub use crate::progress::Progress;

/// How a command that ran to its end went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// All of it was done.
    Done,
    /// Some of it failed, and the command has said what: exit code 1.
    Failed,
    /// A signal of this number ended it before its work was done; what it had is kept: exit code 128 and the number.
    Interrupted(u8),
}

/// Arguments that parse but make no sense together: exit code 2.
#[derive(Debug)]
pub struct Usage(pub String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Usage {}

/// The reader of stdout went away.
#[derive(Debug)]
struct StdoutClosed;

impl fmt::Display for StdoutClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stdout was closed")
    }
}

impl Error for StdoutClosed {}

/// The two streams of a command.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    json: bool,
}

impl Output {
    /// Streams for a command with or without `--json`.
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether stdout carries JSON.
    pub fn is_json(self) -> bool {
        self.json
    }

    /// A line of the result for a person.
    pub fn line(self, text: impl fmt::Display) -> Result<()> {
        match self.json {
            true => {
                self.note(text);
                Ok(())
            }
            false => to_stdout(&(harmless(&text.to_string()) + "\n")),
        }
    }

    /// A JSON document on one line of stdout; nothing without `--json`.
    pub fn document(self, value: &impl Serialize) -> Result<()> {
        match self.json {
            true => to_stdout(&(serde_json::to_string(value)? + "\n")),
            false => Ok(()),
        }
    }

    /// A remark on stderr.
    pub fn note(self, text: impl fmt::Display) {
        // There is nowhere left to say that stderr is closed.
        let _ = writeln!(io::stderr(), "{}", harmless(&text.to_string()));
    }

    /// Progress towards `total` of `what` (a plural), on stderr.
    pub fn progress(self, total: u64, what: impl Into<String>) -> Progress {
        Progress::new(total, what)
    }
}

/// Lines that do nothing to a terminal but stand there, whatever a file says or is called.
fn harmless(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

fn to_stdout(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Err(StdoutClosed.into()),
        Err(e) => Err(anyhow::Error::new(e).context("stdout cannot be written")),
    }
}

/// Runs the program: its error becomes one line on stderr, its outcome the exit code.
pub(crate) fn finish(program: impl FnOnce() -> Result<Status>) -> ExitCode {
    match catch_unwind(AssertUnwindSafe(program)) {
        Ok(Ok(Status::Done)) => ExitCode::SUCCESS,
        Ok(Ok(Status::Failed)) => ExitCode::FAILURE,
        Ok(Ok(Status::Interrupted(signal))) => ExitCode::from(128 + signal),
        Ok(Err(error)) => report(&error),
        Err(payload) => {
            let text = panic_text(payload.as_ref());
            let _ = writeln!(io::stderr(), "error: {text}; this is a bug, RUST_BACKTRACE=1 shows where");
            ExitCode::FAILURE
        }
    }
}

fn report(error: &anyhow::Error) -> ExitCode {
    if error.is::<StdoutClosed>() {
        return ExitCode::SUCCESS;
    }
    if let Some(wrong) = error.downcast_ref::<clap::Error>() {
        let _ = wrong.print();
        // Asking for help or the version is no error.
        return ExitCode::from(u8::try_from(wrong.exit_code()).unwrap_or(2));
    }
    let _ = writeln!(io::stderr(), "error: {}", one_line(error));
    ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
}

/// An error and its causes on one line, each said once: some errors already quote their cause.
pub fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = cause.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        if line.is_empty() {
            line = text;
        } else if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
    }
    printable(&line).into_owned()
}

/// Message and place of the last panic, for whoever catches it.
static LAST_PANIC: Mutex<Option<String>> = Mutex::new(None);

/// Keeps panics for the one line in which they are reported; with `RUST_BACKTRACE` set they are printed in full as well.
pub(crate) fn remember_panics() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let text = text_of(info.payload()).unwrap_or("a panic without a message");
        let place = info.location().map(|l| format!(" ({}:{})", l.file(), l.line())).unwrap_or_default();
        *LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner) = Some(format!("{text}{place}"));
        if std::env::var_os("RUST_BACKTRACE").is_some_and(|v| v != "0") {
            default(info);
        }
    }));
}

fn text_of(payload: &(dyn Any + Send)) -> Option<&str> {
    payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str))
}

/// What a caught panic said, on one line.
pub(crate) fn panic_text(payload: &(dyn Any + Send)) -> String {
    let kept = LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner).take();
    let text = kept.or_else(|| text_of(payload).map(str::to_string)).unwrap_or_else(|| "a panic".to_string());
    printable(&format!("internal error: {}", text.split_whitespace().collect::<Vec<_>>().join(" "))).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_joined_and_said_once() {
        let io = io::Error::other("disk\nfull");
        let quoting = anyhow::Error::new(io).context("a.png: cannot be written: disk full").context("grid");
        assert_eq!(one_line(&quoting), "grid: a.png: cannot be written: disk full");
        let error = anyhow::anyhow!("no header").context("b.safetensors");
        assert_eq!(one_line(&error), "b.safetensors: no header");
    }

    #[test]
    fn names_of_files_do_not_drive_the_terminal() {
        assert_eq!(harmless("a\u{1b}[2J.png\nb\r.png"), "a\\u{1b}[2J.png\nb\\r.png");
        assert_eq!(one_line(&anyhow::anyhow!("\u{1b}]0;x\u{7}.png: no image")), r"\u{1b}]0;x\u{7}.png: no image");
    }
}
