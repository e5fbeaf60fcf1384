//! Times the cases of `benches/peers/pytorch_peer.py` under its names: the same shapes, the same gradients, batch sizes by
//! device as there.
//!
//! A case runs three times to warm up; what counts is the median of the timed runs, with the device idle before and
//! after each. FLOPs are those that the kernels report. Bytes are the least that any implementation moves for a single
//! operation (each input and cotangent read once, each output and gradient written once), and for a network the sum of
//! that over its kernels. The share of the roofline is the time that FLOPs or bytes, whichever takes longer, would need at the
//! ceilings that a matrix product and a copy reach in the same run, before the cases or after them, whichever is higher.

mod ceilings;
pub mod compare;
mod networks;
mod operations;

use std::time::Instant;

use anyhow::{Result, bail};
use serde::Serialize;
use swinstyle_kit::tuning::{self, Point, Source};
use swinstyle_tensor::{DType, Device, counters};

use crate::output::{Output, Status, one_line};
pub(crate) use ceilings::Ceilings;

/// Runs before the timed ones.
const WARM_UP: usize = 3;

/// A case whose tensors are made only when it runs.
pub struct Case {
    /// Its name, as the PyTorch script has it.
    pub name: String,
    build: Box<dyn Fn(Device) -> Result<Work>>,
}

/// What is timed.
struct Work {
    run: Box<dyn FnMut() -> Result<()>>,
    /// Bytes that any implementation moves; without, the sum over the kernels that ran.
    least_bytes: Option<u64>,
}

impl Case {
    fn new(name: String, build: impl Fn(Device) -> Result<Work> + 'static) -> Self {
        Self { name, build: Box::new(build) }
    }

    /// Makes the tensors; each call of the result does the case's work once.
    pub fn prepare(&self, device: Device) -> Result<Box<dyn FnMut() -> Result<()>>> {
        Ok((self.build)(device)?.run)
    }
}

/// One line of the result.
#[derive(Debug, Clone, Serialize)]
struct Measured {
    case: String,
    device: String,
    dtype: &'static str,
    median_ms: f64,
    min_ms: f64,
    gflops: f64,
    gbs: f64,
    roofline: f64,
    /// What makes the share of the roofline uncertain.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    runs: u32,
    /// Blueprints that its launches took from a tuning table.
    blueprints: Vec<String>,
}

impl Measured {
    /// Time that ceilings would allow over the time that it took.
    fn share(&self, ceilings: &Ceilings) -> f64 {
        let seconds = self.median_ms * 1e-3;
        ceilings.least_seconds(self.gflops * 1e9 * seconds, self.gbs * 1e9 * seconds) / seconds
    }
}

/// All cases on a device.
pub fn cases(device: Device) -> Vec<Case> {
    let mut cases = operations::cases(device, DType::F32);
    cases.extend(networks::cases(device));
    cases
}

/// The cases of single operations in a half type, which the PyTorch script does not have.
pub fn half_cases(device: Device, dtype: DType) -> Vec<Case> {
    operations::cases(device, dtype)
}

/// The cases whose name contains `filter`. Errors: none does.
fn selected(device: Device, filter: Option<&str>) -> Result<Vec<Case>> {
    let all = cases(device);
    let count = all.len();
    let selected: Vec<Case> = all.into_iter().filter(|c| filter.is_none_or(|f| c.name.contains(f))).collect();
    match (selected.is_empty(), filter) {
        (true, Some(filter)) => bail!("none of the {count} cases on {device} contains `{filter}`"),
        _ => Ok(selected),
    }
}

/// Runs the cases whose name contains `filter`; every case is printed as soon as it is measured.
///
/// Errors: a filter that no case matches. A case that fails is reported and the others still run.
pub fn run(device: Device, filter: Option<&str>, runs: u32, output: Output) -> Result<Status> {
    let selected = selected(device, filter)?;
    let mut ceilings = Ceilings::measure(device)?;
    output.line(format_args!("on {device}: {ceilings}"))?;
    output.line(format_args!("PyTorch runs the same cases with benches/peers/pytorch_peer.py"))?;
    output.line(format_args!("{:44} {:>11} {:>11} {:>9} {:>9}", "case", "median ms", "GFLOP/s", "GB/s", "roofline"))?;
    let mut status = Status::Done;
    for case in &selected {
        match measure(case, device, runs, &ceilings) {
            Ok(mut m) => {
                if m.roofline > 1.0 {
                    // Lines are printed as they come, so ceilings are measured again at once.
                    let most = |c: &Ceilings| Some((m.case.clone(), m.share(c)));
                    let (again, mut notes) = ceilings.clone().settled(|| Ceilings::measure(device), most)?;
                    (ceilings, m.note) = (again, notes.pop());
                    m.roofline = m.share(&ceilings);
                }
                let (percent, at) = (100.0 * m.roofline, [m.median_ms, m.gflops, m.gbs]);
                output
                    .line(format_args!("{:44} {:11.4} {:11.2} {:9.2} {percent:8.1}%", m.case, at[0], at[1], at[2]))?;
                for line in m.blueprints.iter().chain(&m.note) {
                    output.line(format_args!("    {line}"))?;
                }
                output.document(&m)?;
            }
            Err(error) => {
                output.note(format_args!("error: {}: {}", case.name, one_line(&error)));
                status = Status::Failed;
            }
        }
    }
    let after = Ceilings::measure(device)?;
    if ceilings.is_below(&after) {
        output.line(format_args!("the ceilings were disturbed: in the end {after}; the shares above are too high"))?;
    }
    Ok(status)
}

fn measure(case: &Case, device: Device, runs: u32, ceilings: &Ceilings) -> Result<Measured> {
    let mut work = (case.build)(device)?;
    let ((counted, counts), points) = tuning::listing(|| counters::region(|| (work.run)()));
    counted?;
    for _ in 1..WARM_UP {
        (work.run)()?;
    }
    device.synchronize()?;
    let mut seconds = Vec::with_capacity(runs as usize);
    for _ in 0..runs {
        seconds.push(timed(device, &mut work.run)?);
    }
    seconds.sort_by(f64::total_cmp);
    let median = median(&seconds);
    let bytes = work.least_bytes.unwrap_or(counts.moved) as f64;
    let flops = counts.flops as f64;
    Ok(Measured {
        case: case.name.clone(),
        device: device.to_string(),
        dtype: "f32",
        median_ms: median * 1e3,
        min_ms: seconds[0] * 1e3,
        gflops: flops / median * 1e-9,
        gbs: bytes / median * 1e-9,
        roofline: ceilings.least_seconds(flops, bytes) / median,
        note: None,
        runs,
        blueprints: points.iter().filter(|p| p.source != Source::Default).map(named).collect(),
    })
}

/// A choice that a tuning table made, in words.
fn named(p: &Point) -> String {
    format!("{}: {} ({})", p.kernel, tuning::inline(&p.chosen), p.source)
}

/// Seconds of one run, the device idle before and after.
fn timed(device: Device, run: &mut dyn FnMut() -> Result<()>) -> Result<f64> {
    let started = Instant::now();
    run()?;
    device.synchronize()?;
    Ok(started.elapsed().as_secs_f64())
}

/// Median of sorted numbers, the mean of the middle two where they are even in number.
fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[middle],
        _ => 0.5 * (sorted[middle - 1] + sorted[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_is_the_mean_of_the_middle_two() {
        assert_eq!(median(&[1.0, 2.0, 9.0]), 2.0);
        assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), 3.0);
    }

    #[test]
    fn the_cases_have_the_peers_names() {
        let names: Vec<String> = cases(Device::Cpu).into_iter().map(|c| c.name).collect();
        for name in [
            "window_attention/64x64x96_w4_s2/fwd",
            "window_attention/32x32x192_w8_s4/fwd+bwd",
            "query_attention/m18_n1024_c512/fwd",
            "query_attention/32x32x192_w8/fwd+bwd",
            "modconv/512to512_32_up1/fwd",
            "modconv/64to32_128_up2/fwd+bwd",
            "upfirdn2d/64x256_u1d2/fwd+bwd",
            "stylegan2_256/b1/fwd",
            "swin_tiny_256_w8/b1/fwd",
            "swin_base_256_w8/b1/fwd",
            "gan_step/64px_base1024_max64_b16",
            "gan_step/64px_base2048_max128_b16",
        ] {
            assert!(names.iter().any(|n| n == name), "{name} is not among {names:?}");
        }
        assert_eq!(names.len(), 27);
        let gpu: Vec<String> = cases(Device::Cuda(0)).into_iter().map(|c| c.name).collect();
        assert!(gpu.iter().any(|n| n == "stylegan2_1024/b1/fwd") && gpu.iter().any(|n| n.ends_with("_b64")));
    }
}
