//! `cargo xtask bench`: our cases and PyTorch's in alternation, and the page that says how they compare.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use swinstyle_tensor::Device;

use super::{Ceilings, Measured, measure, median, selected};
use crate::{
    build,
    output::{Output, Status, one_line},
    tune::tables::Identity,
};

/// What to compare.
#[derive(Debug)]
pub struct Options {
    /// Only the cases whose name contains this.
    pub case: Option<String>,
    /// Python with PyTorch.
    pub peer: Option<PathBuf>,
    /// `pytorch_peer.py`.
    pub script: PathBuf,
    /// Times that the two alternate.
    pub rounds: u32,
    /// Timed runs of a case a round.
    pub runs: u32,
    /// Folder of the page and its JSON.
    pub out: PathBuf,
}

/// A way to run PyTorch: its heading, and what the script is told.
type Mode = (&'static str, &'static [&'static str]);

/// What the peer does on a device. Compilation for the cpu wants a C++ compiler and minutes a case, and graphs are CUDA's.
fn modes(device: Device) -> &'static [Mode] {
    match device {
        Device::Cuda(_) | Device::Wgpu(_) => {
            &[("eager", &[]), ("compiled", &["--compile"]), ("with graphs", &["--compile", "--graphs"])]
        }
        _ => &[("eager", &[])],
    }
}

/// One line of the peer's output, as far as it is used.
#[derive(Debug, Deserialize)]
struct PeerLine {
    case: String,
    median_ms: f64,
}

/// A case in the JSON file.
#[derive(Debug, Serialize)]
struct Row {
    case: String,
    ours_ms: f64,
    /// Slowest round over fastest, less 1.
    ours_spread: f64,
    /// By mode.
    pytorch_ms: BTreeMap<String, f64>,
    /// Our time over PyTorch's best.
    ratio: Option<f64>,
    gflops: f64,
    gbs: f64,
    roofline: f64,
    blueprints: Vec<String>,
}

/// The JSON file.
#[derive(Debug, Serialize)]
struct Report {
    device: String,
    name: String,
    driver: String,
    date: String,
    commit: String,
    build: String,
    command: String,
    pytorch: Option<String>,
    ceilings: String,
    /// What makes the shares of the roofline uncertain.
    notes: Vec<String>,
    gemm_gflops: f64,
    copy_gbs: f64,
    rows: Vec<Row>,
    failed: Vec<String>,
}

/// Runs both in alternation, prints the table and writes `<date>-<device>.md` and `.json`.
///
/// Errors: no such case, a peer that cannot run at all. A mode or a case of the peer that fails leaves its column empty.
pub fn run(device: Device, options: &Options, output: Output) -> Result<Status> {
    let cases = selected(device, options.case.as_deref())?;
    let identity = Identity::of(device)?;
    let pytorch = match options.peer.as_deref().map(version).transpose()? {
        Some((version, false)) if device != Device::Cpu => {
            output.note(format_args!("PyTorch {version} has no GPU here, so ours alone"));
            None
        }
        found => found.map(|(version, _)| version),
    };
    if pytorch.is_some() && !options.script.is_file() {
        bail!("{} was not found; --script names pytorch_peer.py", options.script.display());
    }
    let ceilings = Ceilings::measure(device)?;
    output.note(format_args!("on {device}: {ceilings}"));
    let (mut ours, mut theirs): (BTreeMap<String, Vec<Measured>>, Peers) = Default::default();
    let mut failed = Vec::new();
    for round in 1..=options.rounds {
        for case in &cases {
            output.note(format_args!("round {round} of {}: {}", options.rounds, case.name));
            match measure(case, device, options.runs, &ceilings) {
                Ok(m) => ours.entry(case.name.clone()).or_default().push(m),
                Err(error) => failed.push(format!("{}: {}", case.name, one_line(&error))),
            }
        }
        for mode in modes(device).iter().filter(|_| pytorch.is_some()) {
            output.note(format_args!("round {round} of {}: PyTorch {}", options.rounds, mode.0));
            if let Err(error) = peer(device, options, mode, &mut theirs) {
                failed.push(format!("PyTorch {}: {}", mode.0, one_line(&error)));
            }
        }
    }
    // Rounds alternate with the peer for minutes: only now it is known what the machine can do.
    let most = |c: &Ceilings| {
        let shares = ours.values().flatten().map(|m| (m.case.clone(), m.share(c)));
        shares.max_by(|a, b| a.1.total_cmp(&b.1))
    };
    let (ceilings, notes) = ceilings.settled(|| Ceilings::measure(device), most)?;
    ours.values_mut().flatten().for_each(|m| m.roofline = m.share(&ceilings));
    let order = cases.iter().filter_map(|c| ours.remove_entry(&c.name));
    let rows: Vec<Row> = order.map(|(name, rounds)| row(name, &rounds, &theirs)).collect();
    failed.sort();
    failed.dedup();
    let report = Report {
        device: device.to_string(),
        name: identity.device.clone(),
        driver: identity.driver.clone(),
        date: build::date(),
        commit: build::COMMIT.to_string(),
        build: build::ID.to_string(),
        command: command(device, options),
        pytorch,
        ceilings: ceilings.to_string(),
        notes,
        gemm_gflops: ceilings.flops() * 1e-9,
        copy_gbs: ceilings.bytes() * 1e-9,
        rows,
        failed,
    };
    let page = page(&report, modes(device));
    std::fs::create_dir_all(&options.out).with_context(|| format!("{} cannot be made", options.out.display()))?;
    let stem = format!("{}-{}", report.date, report.device.replace(':', ""));
    for (ending, bytes) in [("md", page.clone().into_bytes()), ("json", serde_json::to_vec_pretty(&report)?)] {
        swinstyle_data::picture::write_atomic(&options.out.join(format!("{stem}.{ending}")), &bytes)?;
    }
    output.line(page.trim_end())?;
    output.document(&report)?;
    output.note(format_args!("written to {}", options.out.join(format!("{stem}.md")).display()));
    Ok(if report.failed.is_empty() { Status::Done } else { Status::Failed })
}

/// Milliseconds of the rounds by case and mode.
type Peers = BTreeMap<(String, &'static str), Vec<f64>>;

/// The version of PyTorch that a Python has, and whether it has a GPU.
fn version(python: &Path) -> Result<(String, bool)> {
    let shown = python.display();
    let script = "import torch; print(torch.__version__, torch.cuda.is_available())";
    let output = Command::new(python).args(["-c", script]).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("{shown} did not start"))?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_string();
    match text.split_once(' ') {
        Some((version, gpu)) if output.status.success() => Ok((version.to_string(), gpu == "True")),
        _ => bail!("{shown} has no PyTorch"),
    }
}

/// Runs the peer once in a mode.
fn peer(device: Device, options: &Options, (name, flags): &Mode, times: &mut Peers) -> Result<()> {
    let Some(python) = &options.peer else { return Ok(()) };
    // Through Vulkan the same GPU is compared with PyTorch on CUDA.
    let on = if device == Device::Cpu { "cpu" } else { "cuda" };
    let mut command = Command::new(python);
    command.arg(&options.script).args(["--device", on, "--runs", &options.runs.to_string()]).args(*flags);
    command.args(options.case.iter().flat_map(|case| ["--cases", case]));
    let output = command.stdin(Stdio::null()).output().context("the peer did not start")?;
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        if let Ok(line) = serde_json::from_str::<PeerLine>(line) {
            times.entry((line.case, name)).or_default().push(line.median_ms);
        }
    }
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        bail!("{}", text.trim().lines().last().unwrap_or("it failed without a word"));
    }
    Ok(())
}

fn row(case: String, rounds: &[Measured], theirs: &Peers) -> Row {
    let middle = |mut ms: Vec<f64>| {
        ms.sort_by(f64::total_cmp);
        median(&ms)
    };
    let of = |f: fn(&Measured) -> f64| middle(rounds.iter().map(f).collect());
    let ours_ms = of(|m| m.median_ms);
    let (low, high) =
        rounds.iter().fold((f64::INFINITY, 0.0_f64), |(low, high), m| (low.min(m.median_ms), high.max(m.median_ms)));
    let pytorch_ms: BTreeMap<String, f64> = theirs
        .iter()
        .filter(|((name, _), _)| *name == case)
        .map(|((_, mode), ms)| (mode.to_string(), middle(ms.clone())))
        .collect();
    let best = pytorch_ms.values().copied().min_by(f64::total_cmp);
    Row {
        case,
        ours_ms,
        ours_spread: high / low - 1.0,
        ratio: best.map(|best| ours_ms / best),
        pytorch_ms,
        gflops: of(|m| m.gflops),
        gbs: of(|m| m.gbs),
        roofline: of(|m| m.roofline),
        blueprints: rounds.last().map(|m| m.blueprints.clone()).unwrap_or_default(),
    }
}

fn command(device: Device, options: &Options) -> String {
    let peer = if options.peer.is_some() { " --peer PYTHON" } else { "" };
    let case = options.case.as_ref().map(|c| format!(" --case {c}")).unwrap_or_default();
    format!("cargo xtask bench --device {device}{peer}{case} --rounds {} --runs {}", options.rounds, options.runs)
}

/// The page for people.
fn page(r: &Report, modes: &[Mode]) -> String {
    let title = if r.pytorch.is_some() { "against PyTorch" } else { "alone" };
    let pytorch = r.pytorch.as_ref().map(|v| format!(" PyTorch {v}, f32.")).unwrap_or_default();
    let mut page = format!(
        "# {} {title}, {}\n\nDevice: {}, {}. Commit {}, build {}.{pytorch} Medians, the two in alternation:\n\n```\n{}\n```\n\nCeilings of the same run: {}.\n\n",
        r.device, r.date, r.name, r.driver, r.commit, r.build, r.command, r.ceilings
    );
    for note in &r.notes {
        let _ = write!(page, "Note: {note}.\n\n");
    }
    let columns: Vec<&str> = modes.iter().map(|m| m.0).filter(|_| r.pytorch.is_some()).collect();
    if !columns.is_empty() {
        page += "Ratio: our time over PyTorch's best. ";
    }
    page += "Spread: slowest round of ours over the fastest. Roofline: share of what the ceilings allow (above 100 % where the data fit \
             the caches or the form needs fewer products).\n\n| case | ours, ms | spread |";
    for column in &columns {
        let _ = write!(page, " {column}, ms |");
    }
    page += if columns.is_empty() { "" } else { " ratio |" };
    page += " GFLOP/s | GB/s | roofline |\n|---|---|---|";
    page += &"---|".repeat(columns.len() + usize::from(!columns.is_empty()) + 3);
    for row in &r.rows {
        let _ = write!(page, "\n| `{}` | {:.2} | {:.0} % |", row.case, row.ours_ms, 100.0 * row.ours_spread);
        for column in &columns {
            let _ = match row.pytorch_ms.get(*column) {
                Some(ms) => write!(page, " {ms:.2} |"),
                None => write!(page, " – |"),
            };
        }
        if !columns.is_empty() {
            page += &row.ratio.map_or(" – |".to_string(), |ratio| format!(" {ratio:.2} |"));
        }
        let _ = write!(page, " {:.0} | {:.1} | {:.0} % |", row.gflops, row.gbs, 100.0 * row.roofline);
    }
    page += "\n";
    let tuned: Vec<&Row> = r.rows.iter().filter(|row| !row.blueprints.is_empty()).collect();
    if !tuned.is_empty() {
        page += "\nBlueprints that were not the default:\n\n";
        for row in tuned {
            let _ = writeln!(page, "- `{}`: {}", row.case, row.blueprints.join("; "));
        }
    }
    if !r.failed.is_empty() {
        page += "\nFailed:\n\n";
        for line in &r.failed {
            let _ = writeln!(page, "- {line}");
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(median_ms: f64) -> Measured {
        Measured {
            case: "a/fwd".to_string(),
            device: "cpu".to_string(),
            dtype: "f32",
            median_ms,
            min_ms: median_ms,
            gflops: 10.0,
            gbs: 1.0,
            roofline: 0.5,
            note: None,
            runs: 3,
            blueprints: vec!["conv2d: winograd true (tuned)".to_string()],
        }
    }

    #[test]
    fn a_ratio_is_to_pytorchs_best_mode_and_medians_are_over_rounds() {
        let theirs = BTreeMap::from([
            (("a/fwd".to_string(), "eager"), vec![8.0, 10.0, 9.0]),
            (("a/fwd".to_string(), "compiled"), vec![6.0, 4.0, 5.0]),
            (("a/fwd+bwd".to_string(), "eager"), vec![1.0]),
        ]);
        let row = row("a/fwd".to_string(), &[measured(2.0), measured(4.0), measured(2.5)], &theirs);
        assert_eq!((row.ours_ms, row.ratio, row.ours_spread), (2.5, Some(0.5), 1.0));
        assert_eq!(row.pytorch_ms.len(), 2);
    }

    #[test]
    fn the_page_has_a_column_a_mode_and_names_what_failed() {
        let report = Report {
            device: "cuda".to_string(),
            name: "cuda: X".to_string(),
            driver: "CUDA 12.8".to_string(),
            date: "2026-01-02".to_string(),
            commit: "abc".to_string(),
            build: "0".to_string(),
            command: "x".to_string(),
            pytorch: Some("2".to_string()),
            ceilings: "fast".to_string(),
            notes: vec!["the ceilings were disturbed".to_string()],
            gemm_gflops: 1.0,
            copy_gbs: 1.0,
            rows: vec![row("a/fwd".to_string(), &[measured(2.0)], &Peers::new())],
            failed: vec!["PyTorch compiled: no compiler".to_string()],
        };
        let page = page(&report, modes(Device::Cuda(0)));
        let table: Vec<&str> = page.lines().filter(|l| l.starts_with('|')).collect();
        let cells = |line: &str| line.matches('|').count();
        assert!(table.len() == 3 && table.iter().all(|l| cells(l) == cells(table[0])), "{page}");
        assert!(
            table[0].contains("with graphs")
                && page.contains("no compiler")
                && page.contains("Note: the ceilings were disturbed.")
                && page.contains("winograd true")
        );
    }
}
