//! What every command on several inputs shares: what it takes, how it names its results, what it may replace, and what it
//! says of failures.
//!
//! One bad input, one result that cannot be written, one odd name never ends a batch: the others are done, the failures are
//! listed at the end, and the exit code is 1. Nothing is replaced unasked: see [`Outputs`].

mod identity;
mod inputs;
mod list;
mod names;
mod outputs;
mod pattern;
mod record;
mod report;
mod shown;

pub(crate) use inputs::{Accept, Expansion, Item, Lists, Source};
pub(crate) use names::Names;
pub(crate) use outputs::{Force, Outputs, Planned, check_single, is_folder_name, make_folder};
pub(crate) use report::Report;
pub(crate) use shown::{Shown, serialize_path};

use std::{
    collections::HashSet,
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::Result;
use swinstyle_data::picture::{Sheet, write_png};

use crate::output::Output;

/// A command's inputs, results and failures.
pub(crate) struct Batch {
    /// The inputs in order, each with a name of its own.
    pub(crate) items: Vec<Item>,
    /// What may be written.
    pub(crate) outputs: Outputs,
    /// What failed.
    pub(crate) report: Report,
    expansion: Expansion,
}

impl Batch {
    /// Expands a command's arguments, and looks at the folder that it will write.
    ///
    /// Errors: lists that cannot be read, no input at all, an output folder that cannot be one.
    pub(crate) fn open(
        output: Output,
        command: &'static str,
        arguments: &[OsString],
        lists: &Lists,
        accept: Accept,
        folder: &Path,
        force: &Force,
    ) -> Result<Self> {
        let outputs = Outputs::open(folder, command, force)?;
        let expansion = Expansion::new(accept, lists.null, outputs.results());
        let mut batch = Self { items: Vec::new(), outputs, report: Report::new(output), expansion };
        batch.items = batch.more(arguments, lists.files_from.as_deref())?;
        Ok(batch)
    }

    /// A batch of inputs that are no arguments, such as seeds. Errors: an output folder that cannot be one.
    pub(crate) fn of(
        output: Output,
        command: &'static str,
        items: Vec<Item>,
        folder: &Path,
        force: &Force,
    ) -> Result<Self> {
        let outputs = Outputs::open(folder, command, force)?;
        let expansion = Expansion::new(Accept::Files, false, HashSet::new());
        Ok(Self { items, outputs, report: Report::new(output), expansion })
    }

    /// The inputs of a second list, named by themselves. Errors: as [`Batch::open`].
    pub(crate) fn more(&mut self, arguments: &[OsString], files_from: Option<&Path>) -> Result<Vec<Item>> {
        let items = self.expansion.expand(arguments, files_from)?;
        self.report.take(&mut self.expansion);
        self.outputs.reads(&items);
        Ok(items)
    }

    /// Writes an overview of all results beside them, if there are any; what goes wrong is one failure more.
    pub(crate) fn overview(&mut self, stem: &str, of: &[&Item], sheet: &Sheet) -> Option<PathBuf> {
        if sheet.is_empty() {
            return None;
        }
        let mut write = || -> Result<PathBuf> {
            let planned = self.outputs.plan_overview(stem, of)?;
            self.outputs.start(&planned)?;
            write_png(&planned.files[0], &sheet.render()?)?;
            Ok(planned.files[0].clone())
        };
        match write() {
            Ok(file) => {
                if let Some(left_out) = sheet.left_out() {
                    self.report.note(format_args!("{}: {left_out}", Shown(&file)));
                }
                Some(file)
            }
            Err(error) => {
                self.report.fail(format_args!("{stem}.png"), &error);
                None
            }
        }
    }
}
