//! What failed in a batch, kept until its end and then told.

use std::{fmt::Display, path::Path};

use serde::Serialize;

use super::{Expansion, Shown};
use crate::{
    output::{Output, Status, one_line},
    text::count,
};

/// An input, or a result, with which something went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Failure {
    /// The input as it was given, or the result.
    pub(crate) file: String,
    /// One line that names it and says what is wrong.
    pub(crate) reason: String,
}

impl Failure {
    pub(super) fn new(file: &str, reason: &str) -> Self {
        let shown = Shown(Path::new(file)).to_string();
        let named = reason.contains(file) || reason.contains(&shown);
        Self { file: file.into(), reason: if named { reason.into() } else { format!("{shown}: {reason}") } }
    }
}

/// The failures of a batch.
#[derive(Debug)]
pub(crate) struct Report {
    output: Output,
    failures: Vec<Failure>,
}

impl Report {
    pub(crate) fn new(output: Output) -> Self {
        Self { output, failures: Vec::new() }
    }

    /// Takes over what went wrong in finding the inputs.
    pub(crate) fn take(&mut self, expansion: &mut Expansion) {
        self.failures.append(&mut expansion.failures);
    }

    /// Keeps a failure for the end.
    pub(crate) fn fail(&mut self, file: impl Display, error: &anyhow::Error) {
        self.failures.push(Failure::new(&file.to_string(), &one_line(error)));
    }

    /// A remark that is no failure.
    pub(crate) fn note(&self, text: impl Display) {
        self.output.note(text);
    }

    /// What failed, for the document.
    pub(crate) fn failures(&self) -> &[Failure] {
        &self.failures
    }

    /// Lists the failures, and says how many of `what` were `done` nevertheless.
    pub(crate) fn finish(&self, done: usize, what: &str) -> Status {
        for failure in &self.failures {
            self.output.note(format_args!("error: {}", failure.reason));
        }
        let failed = self.failures.len();
        if failed == 0 {
            return Status::Done;
        }
        // A single failure has had its line.
        if done + failed > 1 {
            self.output.note(format_args!("{}, {} done", count(failed, "failure"), count(done, what)));
        }
        Status::Failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_names_its_file_once() {
        assert_eq!(Failure::new("a.png", "truncated").reason, "a.png: truncated");
        assert_eq!(Failure::new("a.png", "a.png: truncated").reason, "a.png: truncated");
        let odd = Failure::new("a\nb.png", "truncated");
        assert_eq!((odd.file.as_str(), odd.reason.as_str()), ("a\nb.png", "a\\nb.png: truncated"));
    }

    #[test]
    fn one_failure_is_enough_to_fail() {
        let mut report = Report::new(Output::new(false));
        assert_eq!(report.finish(3, "image"), Status::Done);
        report.fail("a.png", &anyhow::anyhow!("truncated"));
        assert_eq!(report.finish(3, "image"), Status::Failed);
    }
}
