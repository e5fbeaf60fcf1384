//! `swinstyle profile`: what one pass of the program spends where.
//!
//! The pass runs with every kernel waited for before the next (a traced region), so the times of kernels add up and hold no
//! overlap; how long the pass takes undisturbed is measured apart. On a GPU a kernel's time then holds the way to the device
//! and back: for kernels of microseconds use the vendor's profiler. Ceilings are those of `swinstyle kernels bench`.

mod labels;
mod page;
mod roofline;
mod trace;

use std::{collections::BTreeMap, fmt, path::Path, time::Instant};

use anyhow::Result;
use serde::Serialize;
use serde_json::json;
use swinstyle_data::picture::write_atomic;
use swinstyle_tensor::{
    Device,
    counters::{self, Counts, Launch},
};

use crate::{
    bench::Ceilings,
    commands::codes::make_folder,
    output::{Output, Status},
    text::{bytes, count},
};

/// Passes before the measured ones.
const WARM_UP: usize = 2;

/// The work of one pass.
pub(crate) type Pass = Box<dyn FnMut() -> Result<()>>;

/// All launches of one kernel in a pass.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    kernel: &'static str,
    launches: usize,
    ms: f64,
    /// Share of the time of all kernels.
    share: f64,
    flops: u64,
    bytes: u64,
    gflops: f64,
    gbs: f64,
    /// Time that the ceilings would allow over the time that it took.
    roofline: f64,
}

/// What a pass asks of allocators and of the way between host and device; nothing of it but the wanted copies is there in a good one.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Steady {
    /// Bytes that no freed memory could serve.
    fresh_bytes: u64,
    /// Waits for the device that carry nothing home.
    waits: u64,
    /// Copies to the host, each of which waits for the device, ...
    downloads: u64,
    /// ... and their bytes.
    downloaded: u64,
    /// Copies from the host ...
    uploads: u64,
    /// ... and their bytes.
    uploaded: u64,
}

impl Steady {
    fn of(c: &Counts) -> Self {
        let &Counts { fresh_bytes, waits, downloads, downloaded, uploads, uploaded, .. } = c;
        Self { fresh_bytes, waits, downloads, downloaded, uploads, uploaded }
    }
}

impl fmt::Display for Steady {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let [fresh, downloaded, uploaded] = [self.fresh_bytes, self.downloaded, self.uploaded].map(bytes);
        write!(
            f,
            "undisturbed it takes {fresh} of fresh memory, waits {} for the device, reads back {} ({downloaded}) and sends {} ({uploaded})",
            count(self.waits, "time"),
            count(self.downloads, "tensor"),
            count(self.uploads, "tensor"),
        )
    }
}

/// What is said about a pass.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Profile {
    what: String,
    device: String,
    /// Median milliseconds of an undisturbed pass.
    pass_ms: f64,
    /// Milliseconds of all kernels, waited for one by one.
    kernels_ms: f64,
    launches: usize,
    flops: u64,
    bytes: u64,
    /// The most host memory in tensors at once; 0 where they live on a device.
    peak_host_bytes: u64,
    /// What the device's allocator has reserved after the passes; 0 on the cpu.
    reserved_bytes: u64,
    /// Memory, waits and copies of one undisturbed pass.
    steady: Steady,
    ceilings: String,
    /// What makes the shares of the roofline uncertain.
    notes: Vec<String>,
    kernels: Vec<Row>,
}

/// Measures a pass, prints its table and, with `out`, writes `profile.json`, `trace.json`, `roofline.svg` and `index.html`.
pub(crate) fn run(
    what: &str,
    device: Device,
    runs: usize,
    out: Option<&Path>,
    output: Output,
    mut pass: Pass,
) -> Result<Status> {
    let ceilings = Ceilings::measure(device)?;
    for _ in 0..WARM_UP {
        pass()?;
    }
    device.synchronize()?;
    let mut undisturbed = Vec::with_capacity(runs);
    let mut steady = Counts::default();
    for _ in 0..runs {
        let started = Instant::now();
        let (outcome, counts) = counters::region_on(device, &mut pass)?;
        outcome?;
        device.synchronize()?;
        undisturbed.push(started.elapsed().as_secs_f64() * 1e3);
        // The last one: what a pass still asks for when it has run for a while.
        steady = counts;
    }
    undisturbed.sort_by(f64::total_cmp);
    counters::reset_peak();
    let traces = (0..runs).map(|_| traced(&mut pass)).collect::<Result<Vec<_>>>()?;
    let (_, peak_host_bytes) = counters::host_bytes();
    let total = |t: &Vec<Launch>| t.iter().map(|l| l.seconds).sum::<f64>();
    // One whole pass is shown, the middle one: parts of different passes would not add up.
    let mut order: Vec<usize> = (0..traces.len()).collect();
    order.sort_by(|&a, &b| total(&traces[a]).total_cmp(&total(&traces[b])));
    let launches = &traces[order[order.len() / 2]];
    let most = |c: &Ceilings| {
        let shares = rows(launches, c).into_iter().map(|r| (r.kernel.to_string(), r.roofline));
        shares.max_by(|a, b| a.1.total_cmp(&b.1))
    };
    let (ceilings, notes) = ceilings.settled(|| Ceilings::measure(device), most)?;
    let rows = rows(launches, &ceilings);
    let profile = Profile {
        what: what.into(),
        device: device.to_string(),
        pass_ms: undisturbed[undisturbed.len() / 2],
        kernels_ms: total(launches) * 1e3,
        launches: launches.len(),
        flops: launches.iter().map(|l| l.flops).sum(),
        bytes: launches.iter().map(|l| l.moved).sum(),
        peak_host_bytes: if device == Device::Cpu { peak_host_bytes } else { 0 },
        reserved_bytes: counters::reserved_bytes(device)?,
        steady: Steady::of(&steady),
        ceilings: ceilings.to_string(),
        notes,
        kernels: rows,
    };
    print(&profile, output)?;
    if let Some(out) = out {
        make_folder(out)?;
        let picture = roofline::svg(&profile.kernels, &ceilings);
        let files = [
            ("profile.json", format!("{:#}\n", json!(profile))),
            ("trace.json", trace::chrome(what, launches)),
            ("roofline.svg", picture.clone()),
            ("index.html", page::page(&profile, picture).into_string()),
        ];
        for (name, text) in files {
            write_atomic(&out.join(name), text.as_bytes())?;
            output.line(out.join(name).display())?;
        }
    }
    output.document(&profile)?;
    Ok(Status::Done)
}

fn traced(pass: &mut Pass) -> Result<Vec<Launch>> {
    let (result, launches) = counters::trace(pass);
    result?;
    Ok(launches)
}

/// The launches by kernel, the longest first.
fn rows(launches: &[Launch], ceilings: &Ceilings) -> Vec<Row> {
    let mut by_kernel: BTreeMap<&'static str, Vec<&Launch>> = BTreeMap::new();
    for launch in launches {
        by_kernel.entry(launch.kernel).or_default().push(launch);
    }
    let all: f64 = launches.iter().map(|l| l.seconds).sum();
    let row = |(kernel, launches): (&'static str, Vec<&Launch>)| {
        let seconds: f64 = launches.iter().map(|l| l.seconds).sum();
        let (flops, bytes) = (launches.iter().map(|l| l.flops).sum(), launches.iter().map(|l| l.moved).sum());
        let least: f64 = launches.iter().map(|l| ceilings.least_seconds(l.flops as f64, l.moved as f64)).sum();
        let rate = |n: u64| n as f64 / seconds * 1e-9;
        let (ms, share, roofline) = (seconds * 1e3, seconds / all, least / seconds);
        Row {
            kernel,
            launches: launches.len(),
            ms,
            share,
            flops,
            bytes,
            gflops: rate(flops),
            gbs: rate(bytes),
            roofline,
        }
    };
    let mut rows: Vec<Row> = by_kernel.into_iter().map(row).collect();
    rows.sort_by(|a, b| b.ms.total_cmp(&a.ms));
    rows
}

fn print(p: &Profile, output: Output) -> Result<()> {
    output.line(format_args!("{} on {}: {}", p.what, p.device, p.ceilings))?;
    let head = ["kernel", "launches", "ms", "share", "GFLOP/s", "GB/s", "roofline"];
    output.line(format_args!(
        "{:28} {:>8} {:>10} {:>7} {:>9} {:>8} {:>9}",
        head[0], head[1], head[2], head[3], head[4], head[5], head[6]
    ))?;
    for r in &p.kernels {
        let (share, roofline) = (100.0 * r.share, 100.0 * r.roofline);
        output.line(format_args!(
            "{:28} {:8} {:10.3} {share:6.1}% {:9.1} {:8.1} {roofline:8.1}%",
            r.kernel, r.launches, r.ms, r.gflops, r.gbs
        ))?;
    }
    let memory = match (p.peak_host_bytes, p.reserved_bytes) {
        (0, 0) => String::new(),
        (0, reserved) => format!(", {} reserved on the device", bytes(reserved)),
        (peak, _) => format!(", at most {} in tensors", bytes(peak)),
    };
    let moved = bytes(p.bytes);
    output.line(format_args!(
        "a pass takes {:.2} ms; its {} take {:.2} ms when each is waited for; {:.2} GFLOP, {moved} moved{memory}",
        p.pass_ms,
        count(p.launches as u64, "launch"),
        p.kernels_ms,
        p.flops as f64 * 1e-9,
    ))?;
    output.line(p.steady)?;
    p.notes.iter().try_for_each(|note| output.line(format_args!("note: {note}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(kernel: &'static str, start: f64, seconds: f64, moved: u64, flops: u64) -> Launch {
        Launch { kernel, start, seconds, moved, flops, outputs: vec![vec![2, 3]] }
    }

    #[test]
    fn launches_add_up_by_kernel_and_the_longest_comes_first() {
        let ceilings = Ceilings::of(100e9, 10e9);
        let launches = [
            launch("add", 0.0, 0.001, 5_000_000, 10),
            launch("conv2d", 0.001, 0.004, 1000, 200_000_000),
            launch("add", 0.006, 0.001, 5_000_000, 10),
        ];
        let rows = rows(&launches, &ceilings);
        assert_eq!(rows.iter().map(|r| (r.kernel, r.launches)).collect::<Vec<_>>(), [("conv2d", 1), ("add", 2)]);
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-9 * b.abs(), "{a} {b}");
        close(rows[0].share, 4.0 / 6.0);
        close(rows[0].gflops, 50.0);
        // 0.2 GFLOP at 100 GFLOP/s take 2 of 4 ms; 5 MB at 10 GB/s half of 1 ms.
        close(rows[0].roofline, 0.5);
        close(rows[1].roofline, 0.5);
        close(rows[1].gbs, 5.0);
    }

    #[test]
    fn the_trace_is_json_with_an_event_a_launch_in_microseconds() {
        let launches = [launch("add", 0.0, 0.001, 1, 2), launch("conv2d", 0.0015, 0.004, 3, 4)];
        let trace: serde_json::Value = serde_json::from_str(&trace::chrome("invert", &launches)).unwrap();
        let events = trace["traceEvents"].as_array().unwrap();
        let complete: Vec<_> = events.iter().filter(|e| e["ph"] == "X").collect();
        assert_eq!(complete.len(), 2);
        assert_eq!((complete[1]["ts"].as_f64(), complete[1]["dur"].as_f64()), (Some(1500.0), Some(4000.0)));
        assert_eq!((complete[1]["name"].as_str(), complete[1]["args"]["flops"].as_u64()), (Some("conv2d"), Some(4)));
    }
}
