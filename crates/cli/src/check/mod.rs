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
mod kinks;
mod layers;
mod modconv;
mod query_attention;
mod rounding;
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
use swinstyle_tensor::{DType, Device};

use crate::{
    batch::serialize_path,
    output::{one_line, panic_text},
};
pub use compare::Comparison;
use compare::{References, Rule};
use files::Source;
use fixture::{Fixture, Results};
pub use kinks::Kink;

/// The comparisons of a case, computed when it is its turn.
type Run<'a> = Box<dyn FnOnce() -> Result<Checked> + 'a>;

/// What was compared, and the kinks on whose other side values of the device fell.
#[derive(Default)]
struct Checked {
    comparisons: Vec<Comparison>,
    kinks: Vec<Kink>,
}

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
    /// Results that passed by draws of float32's rounding.
    pub drawn: Vec<String>,
    /// Activations of which some values lay within rounding of a kink and fell on its other side, where that was what a result was off by.
    pub kinks: Vec<Kink>,
    /// Every tensor that was compared.
    #[serde(skip)]
    pub tensors: Vec<Comparison>,
    /// The file.
    #[serde(serialize_with = "serialize_path")]
    pub file: PathBuf,
}

/// A few names, or the first and how many more there are.
fn several(names: &[impl AsRef<str>]) -> String {
    let first: Vec<&str> = names.iter().take(3).map(AsRef::as_ref).collect();
    match names.len() - first.len() {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.passed { "ok" } else { "FAIL" };
        write!(f, "{:44} {verdict:4}", printable(&self.case))?;
        match (&self.error, &self.tensor) {
            (Some(error), _) => write!(f, "  {}", printable(error)),
            (None, Some(tensor)) => write!(f, "  worst {:.3} in {}", self.worst, printable(tensor)),
            (None, None) => Ok(()),
        }?;
        if !self.pooled.is_empty() {
            write!(f, "  (by the f32 error of other layers: {})", self.pooled.join(", "))?;
        }
        if !self.drawn.is_empty() {
            write!(f, "  (by draws of the rounding: {})", several(&self.drawn))?;
        }
        self.kinks.iter().try_for_each(|kink| write!(f, "  kink: {kink}"))
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
                let run = move || checkpoints::run(safetensors, torch, device);
                (case.clone(), Box::new(move || Ok(Checked { comparisons: run()?, ..Checked::default() })))
            }
            Source::Unreadable { case, reason, .. } => {
                let reason = reason.clone();
                (case.clone(), Box::new(move || bail!("{reason}")))
            }
            Source::Fixture { case, path } => match Fixture::read(path, device) {
                Ok(fixture) => (fixture.case.clone(), Box::new(move || check(fixture))),
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

fn outcome(case: String, file: &Path, run: impl FnOnce() -> Result<Checked>) -> Outcome {
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
        drawn: Vec::new(),
        kinks: Vec::new(),
        tensors: Vec::new(),
        file,
    };
    match compared {
        Err(error) => outcome.error = Some(one_line(&error)),
        Ok(Checked { comparisons: all, kinks }) => {
            match all.iter().max_by(|a, b| a.ratio().total_cmp(&b.ratio())) {
                None => outcome.error = Some("the file holds no results to compare with".to_string()),
                Some(worst) => {
                    outcome.passed = worst.passes();
                    outcome.worst = worst.ratio();
                    outcome.tensor = Some(worst.tensor.clone());
                    outcome.error = (!worst.passes()).then(|| worst.to_string());
                }
            }
            let by = |rule: Rule| all.iter().filter(|c| c.rule == rule).map(|c| c.tensor.clone()).collect();
            (outcome.pooled, outcome.drawn, outcome.kinks) = (by(Rule::Pooled), by(Rule::Drawn), kinks);
            outcome.tensors = all;
        }
    }
    outcome
}

/// A name from a file on one line: control characters would move the cursor.
fn printable(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

fn check(mut fixture: Fixture) -> Result<Checked> {
    let device = fixture.device;
    let factor = if device == Device::Cpu { 1.0 } else { 2.0 };
    let results = compute(&fixture)?;
    let mut comparisons = References::of(&fixture)?.compare(&results, factor)?;
    if let Device::Dry(_) = device {
        // Nothing was computed.
        return Ok(Checked { comparisons, ..Checked::default() });
    }
    fixture.compute_on(Device::Cpu, DType::F64);
    let in_f64 = References::of(&fixture)?.compare_in_f64(&compute(&fixture)?)?;
    let wrong: Vec<Comparison> = in_f64.into_iter().filter(|c| !c.passes()).collect();
    let mut kinks = Vec::new();
    if wrong.is_empty() && !comparisons.iter().all(Comparison::passes) {
        fixture.compute_on(device, DType::F32);
        let (outcome, sides) = kinks::record(|| compute(&fixture));
        outcome?;
        fixture.compute_on(Device::Cpu, DType::F64);
        if let Some(opinion) = rounding::opinion(&fixture, sides, compute)? {
            References::of(&fixture)?.judge_again(&mut comparisons, &results, &opinion, factor);
            kinks = opinion.kinks;
        }
    }
    comparisons.extend(wrong);
    Ok(Checked { comparisons, kinks })
}

fn compute(fixture: &Fixture) -> Result<Results> {
    match fixture.kind.as_str() {
        "window_attention" => window_attention::run(fixture),
        "query_attention" => query_attention::run(fixture),
        "upfirdn2d" => upfirdn2d::run(fixture),
        "modconv" => modconv::run(fixture),
        "layers" => layers::run(fixture),
        "swin" => swin::run(fixture),
        "stylegan2" => stylegan2::run(fixture),
        other => bail!("fixtures of kind `{other}` are not known to this version"),
    }
}
