//! Holds the kernels and the networks to fixtures: inputs, and float64 results of values and gradients, in one file a case.
//!
//! `tests/golden/make_golden.py` writes such files; any that it makes from other shapes and seeds are read the same way.
//! Nothing about a case is known here but its kind: shapes, parameters, which inputs have gradients, and the error that
//! plain f32 makes all come from the file.

mod case;
mod checkpoints;
mod compare;
mod files;
mod fixture;
mod layers;
mod modconv;
mod query_attention;
mod stylegan2;
mod swin;
mod upfirdn2d;
mod window_attention;

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};
use serde::Serialize;
use swinstyle_tensor::Device;

use crate::output::{one_line, panic_text};
pub use compare::Comparison;
use files::Source;
use fixture::{Fixture, Results};

/// The comparisons of a case, computed when it is its turn.
type Run<'a> = Box<dyn FnOnce() -> Result<Vec<Comparison>> + 'a>;

/// How one case went.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// Name of the case, such as `upfirdn2d/up2_f1331`.
    pub case: String,
    /// Whether every tensor was within its tolerance.
    pub passed: bool,
    /// Largest error as a share of its tolerance; infinite (`null` in JSON) where nothing could be compared.
    pub worst: f64,
    /// The tensor with that error.
    pub tensor: Option<String>,
    /// What is wrong, on one line.
    pub error: Option<String>,
    /// Single numbers that passed by the `f32_err` of the same number in other layers.
    pub pooled: Vec<String>,
    /// Every tensor that was compared.
    #[serde(skip)]
    pub tensors: Vec<Comparison>,
    /// The file.
    pub file: PathBuf,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.passed { "ok" } else { "FAIL" };
        write!(f, "{:44} {verdict:4}", self.case)?;
        match (&self.error, &self.tensor) {
            (Some(error), _) => write!(f, "  {error}"),
            (None, Some(tensor)) => write!(f, "  worst {:.3} in {tensor}", self.worst),
            (None, None) => Ok(()),
        }?;
        match &self.pooled[..] {
            [] => Ok(()),
            some => write!(f, "  (by the f32 error of other layers: {})", some.join(", ")),
        }
    }
}

/// Runs every case of a folder whose name contains `filter`, telling `each` of every outcome as it is known.
///
/// A file that is no fixture, is damaged or makes an operation fail is a failed case, not an error.
/// Errors: a folder that cannot be read or holds no fixture, a filter that no case matches, and what `each` returns.
pub fn run(
    folder: &Path,
    device: Device,
    filter: Option<&str>,
    mut each: impl FnMut(&Outcome) -> Result<()>,
) -> Result<Vec<Outcome>> {
    let sources = files::find(folder)?;
    let mut outcomes = Vec::new();
    for source in &sources {
        let (case, run): (String, Run<'_>) = match source {
            Source::Pair { case, safetensors, torch } => {
                (case.clone(), Box::new(move || checkpoints::run(safetensors, torch, device)))
            }
            Source::Fixture { case, path } => match Fixture::read(path, device) {
                Ok(fixture) => (fixture.case.clone(), Box::new(move || check(&fixture))),
                Err(error) => (case.clone(), Box::new(move || Err(error))),
            },
        };
        if filter.is_some_and(|f| !case.contains(f)) {
            continue;
        }
        let outcome = outcome(case, source.path(), run);
        each(&outcome)?;
        outcomes.push(outcome);
    }
    match (outcomes.is_empty(), filter) {
        (true, Some(filter)) => {
            bail!("none of the {} cases in {} contains `{filter}`", sources.len(), folder.display())
        }
        _ => Ok(outcomes),
    }
}

fn outcome(case: String, file: &Path, run: impl FnOnce() -> Result<Vec<Comparison>>) -> Outcome {
    // A fixture can hold anything; a bug that one of them meets must not keep the others from running.
    let compared = catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|payload| Err(anyhow::anyhow!(panic_text(payload.as_ref()))));
    let file = file.to_path_buf();
    let mut outcome = Outcome {
        case,
        passed: false,
        worst: f64::INFINITY,
        tensor: None,
        error: None,
        pooled: Vec::new(),
        tensors: Vec::new(),
        file,
    };
    match compared {
        Err(error) => outcome.error = Some(one_line(&error)),
        Ok(all) => {
            match all.iter().max_by(|a, b| a.ratio().total_cmp(&b.ratio())) {
                None => outcome.error = Some("the file holds no results to compare with".to_string()),
                Some(worst) => {
                    outcome.passed = worst.passes();
                    outcome.worst = worst.ratio();
                    outcome.tensor = Some(worst.tensor.clone());
                    outcome.error = (!worst.passes()).then(|| worst.to_string());
                }
            }
            outcome.pooled = all.iter().filter(|c| c.pooled).map(|c| c.tensor.clone()).collect();
            outcome.tensors = all;
        }
    }
    outcome
}

fn check(fixture: &Fixture) -> Result<Vec<Comparison>> {
    let results = match fixture.kind.as_str() {
        "window_attention" => window_attention::run(fixture),
        "query_attention" => query_attention::run(fixture),
        "upfirdn2d" => upfirdn2d::run(fixture),
        "modconv" => modconv::run(fixture),
        "layers" => layers::run(fixture),
        "swin" => swin::run(fixture),
        "stylegan2" => stylegan2::run(fixture),
        other => bail!("fixtures of kind `{other}` are not known to this version"),
    }?;
    compare::all(fixture, &results)
}
