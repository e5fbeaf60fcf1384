//! `swinstyle kernels tune`: times every legal blueprint of the launches of some work, and writes the winners to the device's table.
//!
//! A probe sits in the launch: where a kernel has choices, each candidate computes the same inputs, is compared with the host twin in
//! f64, and only then raced against the default. Where none wins beyond the noise the default stays, and the table says so. The table is written after every launch, so that a run that was
//! stopped goes on where it was.

mod cases;
mod point;
mod race;
pub(crate) mod tables;

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashSet},
    fs,
    path::{Path, PathBuf},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::json;
use swinstyle_kit::tuning::{self, Entry, Key, Table};
use swinstyle_tensor::{
    Device,
    cube::describe,
    probe::{Clock, Visit, visit_launches},
};

use crate::{
    build,
    interrupt::Interrupt,
    output::{Output, Status, one_line},
};
use tables::Identity;

/// What to tune.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) quick: bool,
    /// Only the kernels whose name contains this.
    pub(crate) kernel: Option<String>,
    /// Keep what the table has.
    pub(crate) resume: bool,
    /// Folder of the tables.
    pub(crate) out: Option<PathBuf>,
}

/// How thoroughly candidates are tried.
#[derive(Debug, Clone, Copy)]
struct Effort {
    /// Candidates beside the default, evenly spread over the space.
    candidates: usize,
    rounds: usize,
    /// Keys of a kernel.
    keys: usize,
}

/// The table that grows, and where it is written.
struct Run {
    table: Table,
    file: PathBuf,
    options: Options,
    effort: Effort,
    stopped: Arc<AtomicBool>,
    output: Output,
    /// Keys that were tuned in this run, by kernel.
    done: BTreeMap<&'static str, usize>,
    /// Launches that the table had before.
    kept: HashSet<(&'static str, Key)>,
    tuned: HashSet<(&'static str, Key)>,
    case: String,
    failure: Option<anyhow::Error>,
}

/// Tunes a device. Errors: an unknown kernel, a table that cannot be written. Work that fails is reported and the rest goes on.
pub(crate) fn run(device: Device, options: Options, output: Output) -> Result<Status> {
    let known = cases::KERNELS.map(|(name, _)| name);
    if let Some(filter) = options.kernel.as_deref().filter(|f| !known.iter().any(|name| name.contains(f))) {
        bail!("no kernel contains `{filter}`; there are {}", known.join(", "));
    }
    let identity = Identity::of(device)?;
    let software = describe(device)?.software;
    let effort = match (software, options.quick) {
        // A software GPU compiles each candidate for seconds and proves nothing about time.
        (true, true) => Effort { candidates: 2, rounds: 3, keys: 1 },
        (true, false) => Effort { candidates: 4, rounds: 3, keys: 2 },
        (false, true) => Effort { candidates: 8, rounds: 5, keys: 4 },
        (false, false) => Effort { candidates: usize::MAX, rounds: 7, keys: usize::MAX },
    };
    let folder = options.out.clone().unwrap_or_else(tables::default_folder);
    fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let file = folder.join(identity.file());
    // Another kernel's measurements are kept as well when one is asked for.
    let previous = tables::previous(&file, &identity).filter(|_| options.resume || options.kernel.is_some());
    let quick = options.quick;
    let interrupt = Interrupt::watch()?;
    let stopped = interrupt.flag.clone();
    tuning::install(tables::place(device), None);
    let table = table(identity, previous, &options);
    output.note(format_args!("tuning {} into {}", table.device, file.display()));
    let started = Instant::now();
    let run = Rc::new(RefCell::new(Run {
        table,
        file,
        options,
        effort,
        stopped: stopped.clone(),
        output,
        done: BTreeMap::new(),
        kept: HashSet::new(),
        tuned: HashSet::new(),
        case: String::new(),
        failure: None,
    }));
    let all = cases::cases(device, software, quick);
    let mut progress = output.progress(all.len() as u64, "cases");
    let mut status = Status::Done;
    for (i, case) in all.iter().enumerate() {
        run.borrow_mut().case.clone_from(&case.name);
        let probed = run.clone();
        let probe = move |visit: &Visit| probed.borrow_mut().visit(visit);
        if let Err(error) = visit_launches(probe, || (case.run)(device)) {
            output.note(format_args!("error: {}: {}", case.name, one_line(&error)));
            status = Status::Failed;
        }
        if let Some(error) = run.borrow_mut().failure.take() {
            return Err(error);
        }
        if stopped.load(Ordering::Relaxed) {
            break;
        }
        progress.set(i as u64 + 1);
    }
    progress.finish();
    let run = run.borrow();
    let tuned: usize = run.done.values().sum();
    let minutes = started.elapsed().as_secs_f64() / 60.0;
    let (file, kept) = (run.file.display(), run.kept.len());
    output.line(format_args!("{tuned} launches tuned, {kept} kept, in {minutes:.1} min: {file}"))?;
    output.document(&json!({ "table": file.to_string(), "tuned": tuned, "kept": kept, "stopped": stopped }))?;
    if stopped.load(Ordering::Relaxed) {
        output.note("stopped; `--resume` goes on from here");
        status = interrupt.status();
    }
    Ok(status)
}

/// Runs each operation with its gradients on small images, and says how it went.
#[cfg(feature = "cuda")]
pub(crate) fn small_operations(device: Device) -> Vec<(String, Result<()>)> {
    cases::cases(device, true, true).into_iter().map(|case| (case.name, (case.run)(device))).collect()
}

fn table(identity: Identity, previous: Option<Table>, options: &Options) -> Table {
    let quick = if options.quick { " --quick" } else { "" };
    let kernel = options.kernel.as_ref().map(|k| format!(" --kernel {k}")).unwrap_or_default();
    let mut entries = previous.map(|t| t.entries).unwrap_or_default();
    if !options.resume {
        entries.retain(|e| options.kernel.as_ref().is_some_and(|k| !e.kernel.contains(k)));
    }
    Table {
        device: identity.device,
        driver: identity.driver,
        date: build::date(),
        commit: build::COMMIT.to_string(),
        command: format!("swinstyle kernels tune{quick}{kernel}"),
        clock: String::new(),
        code: build::code(),
        entries,
    }
}

impl Run {
    /// Tunes the choices of one launch.
    fn visit(&mut self, visit: &Visit) {
        let wanted = |name: &str| self.options.kernel.as_deref().is_none_or(|filter| name.contains(filter));
        if self.stopped.load(Ordering::Relaxed) || self.failure.is_some() || !wanted(visit.kernel) {
            return;
        }
        let (outcome, points) = tuning::listing(|| (visit.run)());
        drop(outcome);
        for p in points.iter().filter(|p| p.candidates.len() > 1) {
            if self.table.entry(p.kernel, &p.key).is_some() {
                let known = (p.kernel, p.key.clone());
                if !self.tuned.contains(&known) {
                    self.kept.insert(known);
                }
                continue;
            }
            let done = self.done.entry(p.kernel).or_default();
            if *done >= self.effort.keys || self.stopped.load(Ordering::Relaxed) {
                continue;
            }
            *done += 1;
            self.tuned.insert((p.kernel, p.key.clone()));
            match point::tune(visit, p, self.effort.candidates, self.effort.rounds) {
                Ok((measured, clock)) => {
                    self.table.clock = match clock {
                        Clock::Device => "device timestamps",
                        Clock::Wall => "wall clock",
                    }
                    .to_string();
                    self.add(p, measured);
                }
                Err(error) => {
                    let reason = one_line(&anyhow!(error));
                    self.output.note(format_args!("{} in {}: {reason}", p.kernel, self.case));
                }
            }
        }
    }

    fn add(&mut self, p: &tuning::Point, m: point::Measured) {
        let entry = Entry {
            kernel: p.kernel.to_string(),
            room: cases::room(p.kernel).to_string(),
            class: p.key.class.clone(),
            sizes: p.key.sizes.clone(),
            case: self.case.clone(),
            median_us: m.winner.median_us,
            spread_us: m.winner.spread_us,
            default_us: m.default_us,
            won: m.duel.as_ref().filter(|duel| duel.wins()).map(|duel| [duel.faster as u32, race::PAIRS as u32]),
            blueprint: m.winner.blueprint,
            lost: m.lost,
            dropped: m.dropped,
        };
        let (tried, dropped) = (entry.lost.len() + 1, entry.dropped.len());
        let place = format!("{} {} {:?}", entry.kernel, entry.class, entry.sizes);
        let verdict = match (&m.duel, &m.challenger) {
            (Some(duel), Some(challenger)) => {
                let raced = format!(
                    "{:.2} times the default's speed, faster in {} of {} pairs",
                    duel.gain,
                    duel.faster,
                    race::PAIRS
                );
                let challenger = tuning::inline(challenger);
                if duel.wins() {
                    format!("{challenger}, {:.1} us ± {:.1}, {raced}", entry.median_us, entry.spread_us)
                } else {
                    format!("no winner: within the noise ({challenger}: {raced}); the default stays")
                }
            }
            _ => format!("no winner: the default's {:.1} us ± {:.1} are the best", entry.median_us, entry.spread_us),
        };
        self.output.note(format_args!("{place}: {verdict}; {tried} tried, {dropped} dropped"));
        for d in &entry.dropped {
            self.output.note(format_args!("  dropped {}: {}", tuning::inline(&d.blueprint), d.reason));
        }
        self.table.entries.push(entry);
        if let Err(error) = write(&self.file, &self.table) {
            self.failure = Some(error);
        }
    }
}

fn write(file: &Path, table: &Table) -> Result<()> {
    let head = "# Measured by `cargo xtask tune`; see the rooms' tune.rs for what the fields mean.\n";
    let text = table.text().map_err(|e| anyhow!("the table cannot be written: {e}"))?;
    swinstyle_data::picture::write_atomic(file, format!("{head}{text}").as_bytes())?;
    Ok(())
}
