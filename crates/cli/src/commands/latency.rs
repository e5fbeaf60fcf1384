//! `swinstyle latency`: how long one image takes, from its file's bytes to the reconstruction's.
//!
//! Two clocks are kept apart. Host-visible time is what a user waits: the host's clock, the device idle before and after. Device time
//! passes between the device's own timestamps before the first kernel and after the last: no transfer is in it, but the gaps in which the
//! device waits for the host's next launch.

use std::time::Instant;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use serde_json::json;
use swinstyle_data::{
    Picture,
    avatars::{PortraitSet, Renderer, Split, Style},
    picture::encode_png,
};
use swinstyle_models::Model;
use swinstyle_tensor::{
    DType, Device, Tensor, TensorError,
    probe::{Clock, timed},
};

use super::{
    Context,
    codes::upload,
    invert::encoder_size,
    model::{ModelFile, Precision},
};
use crate::output::{Output, Status};

/// Passes before the measured ones.
const WARM_UP: usize = 5;

#[derive(Debug, Args)]
pub(super) struct Latency {
    #[command(flatten)]
    model: ModelFile,
    #[command(flatten)]
    precision: Precision,
    /// Images at once; several are measured one after the other.
    #[arg(long, value_delimiter = ',', default_value = "1,8", value_parser = clap::value_parser!(u16).range(1..=4096))]
    batch: Vec<u16>,
    /// Measured passes, after five that warm up.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    runs: u32,
}

/// Quantiles of a sample, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Quantiles {
    p50: f64,
    p90: f64,
    p99: f64,
}

impl Quantiles {
    /// The smallest values that so many percent do not exceed.
    fn of(mut ms: Vec<f64>) -> Self {
        ms.sort_by(f64::total_cmp);
        let at = |percent: usize| ms[(ms.len() * percent).div_ceil(100).clamp(1, ms.len()) - 1];
        Self { p50: at(50), p90: at(90), p99: at(99) }
    }
}

/// What an image passes through, in order.
const PARTS: [&str; 6] = ["read", "upload", "encoder", "generator", "download", "write"];
/// What of it are kernels, and so have a time on the device.
const ON_DEVICE: [&str; 3] = ["inversion", "encoder", "generator"];

/// Whose clock the device's times are of.
#[derive(Debug, Clone, PartialEq)]
enum DeviceTimes {
    /// Timestamps of the device, for each of [`ON_DEVICE`].
    Stamped([Quantiles; 3]),
    /// Host and device are one: the cpu.
    OneClock,
    /// A device that has no timestamps.
    None,
}

impl DeviceTimes {
    /// What the table says beside the host's time of `part`.
    fn beside(&self, part: &str) -> String {
        match (self, ON_DEVICE.iter().position(|p| *p == part)) {
            (_, None) => String::new(),
            (Self::Stamped(all), Some(i)) => columns(&all[i]),
            (Self::OneClock, _) => format!("{:>32}", "the same clock"),
            (Self::None, _) => format!("{:>32}", "no timestamps"),
        }
    }

    fn json(&self) -> serde_json::Value {
        match self {
            Self::Stamped(all) => json!(ON_DEVICE.iter().zip(all).collect::<std::collections::BTreeMap<_, _>>()),
            Self::OneClock | Self::None => serde_json::Value::Null,
        }
    }

    fn clock(&self) -> &'static str {
        match self {
            Self::Stamped(_) => "device",
            Self::OneClock => "host",
            Self::None => "none",
        }
    }
}

/// p50, p90 and p99 as columns.
fn columns(q: &Quantiles) -> String {
    format!("{:10.3} {:10.3} {:10.3}", q.p50, q.p90, q.p99)
}

pub(super) fn run(context: &Context, args: Latency) -> Result<Status> {
    let device = context.device()?;
    let path = args.model.locate()?;
    let started = Instant::now();
    let model = args.precision.load(&path, device)?;
    let load_ms = started.elapsed().as_secs_f64() * 1e3;
    let (o, dtype) = (context.output, args.precision.precision);
    o.line(format_args!("{} on {device}, {dtype}; the model loads in {load_ms:.0} ms", path.display()))?;
    o.line(format_args!("{:24} {:^32}   {:^32}", "milliseconds", "host-visible", "on the device"))?;
    let names = format!("{:>10} {:>10} {:>10}", "p50", "p90", "p99");
    o.line(format_args!("{:24} {names}   {names}", ""))?;
    for batch in &args.batch {
        measure(&model, usize::from(*batch), args.runs as usize, (device, dtype), o)?;
    }
    o.line("Parts are measured in passes of their own, the device waited for after each; the sum is not the whole.")?;
    o.line("On the device: from the first kernel to the last by its own timestamps, in passes of their own too.")?;
    Ok(Status::Done)
}

fn measure(model: &Model, batch: usize, runs: usize, (device, dtype): (Device, DType), output: Output) -> Result<()> {
    let size = encoder_size(model)?;
    // Portraits of another size than the encoder's, as users have them: reading them is decoding and resizing.
    let renderer = Renderer::new(&Style::named(Style::NAMES[0])?, 2 * size)?;
    let set = PortraitSet::new(renderer, 2024, Split::Heldout, batch as u64)?;
    let folder = Folder::new()?;
    let mut files = Vec::new();
    for i in 0..batch {
        let file = folder.0.join(format!("{i}.png"));
        swinstyle_data::picture::write_png(&file, &set.picture(i as u64)?)?;
        files.push(file);
    }
    let mut first_ms = None;
    let mut whole = Vec::with_capacity(runs);
    for i in 0..WARM_UP + runs {
        let started = Instant::now();
        let images = upload(&read(&files, size)?, device)?;
        write(model, &model.invert(&images)?.images)?;
        let ms = started.elapsed().as_secs_f64() * 1e3;
        first_ms.get_or_insert(ms);
        if i >= WARM_UP {
            whole.push(ms);
        }
    }
    let mut parts = vec![Vec::with_capacity(runs); PARTS.len()];
    for i in 0..WARM_UP + runs {
        let times = in_parts(model, &files, size, device)?;
        if i >= WARM_UP {
            parts.iter_mut().zip(times).for_each(|(part, ms)| part.push(ms));
        }
    }
    let on_device = on_device(model, &upload(&read(&files, size)?, device)?, runs)?;
    let line = |name: &str, q: &Quantiles, part: &str| {
        let text = format!("{name:24} {}   {}", columns(q), on_device.beside(part));
        output.line(text.trim_end())
    };
    let whole = Quantiles::of(whole);
    line(&format!("batch {batch}"), &whole, ON_DEVICE[0])?;
    let parts: Vec<Quantiles> = parts.into_iter().map(Quantiles::of).collect();
    for (name, q) in PARTS.iter().zip(&parts) {
        line(&format!("  {name}"), q, name)?;
    }
    let first = first_ms.unwrap_or(0.0);
    output.line(format_args!("  {first:.1} ms the first time, {:.3} ms an image", whole.p50 / batch as f64))?;
    let by_part: serde_json::Map<_, _> = PARTS.iter().zip(&parts).map(|(n, q)| ((*n).to_string(), json!(q))).collect();
    output.document(&json!({
        "device": device.to_string(), "dtype": dtype.to_string(), "batch": batch, "runs": runs, "ms": whole, "first_ms": first, "parts_ms": by_part,
        "device_clock": on_device.clock(), "device_ms": on_device.json(),
    }))
}

/// Times of the kernels by the device's clock, where it has one of its own.
fn on_device(model: &Model, images: &Tensor, runs: usize) -> Result<DeviceTimes> {
    let device = images.device();
    if device == Device::Cpu {
        return Ok(DeviceTimes::OneClock);
    }
    let codes = model.codes(images)?;
    let works: [&dyn Fn() -> Result<()>; 3] =
        [&|| Ok(model.invert(images).map(drop)?), &|| Ok(model.codes(images).map(drop)?), &|| {
            Ok(model.images(&codes).map(drop)?)
        }];
    let mut all = Vec::new();
    for work in works {
        let mut ms = Vec::with_capacity(runs);
        for i in 0..WARM_UP + runs {
            let Some(one) = stamped(device, work)? else { return Ok(DeviceTimes::None) };
            if i >= WARM_UP {
                ms.push(one);
            }
        }
        all.push(Quantiles::of(ms));
    }
    Ok(<[Quantiles; 3]>::try_from(all).map_or(DeviceTimes::None, DeviceTimes::Stamped))
}

/// Milliseconds between the device's timestamps around some work, where it has timestamps.
fn stamped(device: Device, work: &dyn Fn() -> Result<()>) -> Result<Option<f64>> {
    let (seconds, clock) = timed(device, &|| work().map_err(|e| TensorError::shape("latency", format!("{e:#}"))))?;
    Ok((clock == Clock::Device).then_some(seconds * 1e3))
}

fn read(files: &[std::path::PathBuf], size: usize) -> Result<Vec<Picture>> {
    files.iter().map(|f| Ok(swinstyle_data::load_image(f, size)?)).collect()
}

/// Downloads images and makes PNG files of them in memory.
fn write(model: &Model, images: &Tensor) -> Result<()> {
    encode(model, &images.to_vec()?)
}

fn encode(model: &Model, pixels: &[f32]) -> Result<()> {
    let size = model.generator.config.size;
    for picture in Picture::from_batch(pixels, size, size)? {
        std::hint::black_box(encode_png(&picture)?);
    }
    Ok(())
}

/// Milliseconds of each of [`PARTS`], the device idle between them.
fn in_parts(model: &Model, files: &[std::path::PathBuf], size: usize, device: Device) -> Result<[f64; 6]> {
    let mut clock = Instant::now();
    let mut lap = || -> Result<f64> {
        device.synchronize()?;
        let ms = clock.elapsed().as_secs_f64() * 1e3;
        clock = Instant::now();
        Ok(ms)
    };
    let pictures = read(files, size)?;
    let reading = lap()?;
    let images = upload(&pictures, device)?;
    let uploading = lap()?;
    let codes = model.codes(&images)?;
    let encoding = lap()?;
    let made = model.images(&codes)?;
    let generating = lap()?;
    let pixels = made.to_vec()?;
    let downloading = lap()?;
    encode(model, &pixels)?;
    Ok([reading, uploading, encoding, generating, downloading, lap()?])
}

/// A temporary folder that goes with the value.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("swinstyle-latency-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left of a temporary folder harms nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_have_a_time_of_their_own_on_a_device_with_timestamps_and_none_on_the_cpu() {
        let run = |device: Device| {
            let x = Tensor::full(1.0, &[256, 256], DType::F32, device).unwrap();
            let work = || Ok(x.matmul(&x).map(drop)?);
            // The first compiles the kernel, which is no time of the device.
            stamped(device, &work).unwrap();
            let started = Instant::now();
            let on_device = stamped(device, &work).unwrap();
            (on_device, started.elapsed().as_secs_f64() * 1e3)
        };
        let (on_device, visible) = run(Device::Wgpu(0));
        let on_device = on_device.expect("the software adapter has timestamps");
        assert!(0.0 < on_device && on_device <= visible, "{on_device} ms on the device, {visible} ms seen");
        assert_eq!(run(Device::Cpu).0, None);
        let failed = stamped(Device::Wgpu(0), &|| anyhow::bail!("no such image"));
        assert!(failed.unwrap_err().to_string().contains("no such image"));
    }

    #[test]
    fn the_table_says_whose_clock_a_time_is_of() {
        let q = |ms: f64| Quantiles::of(vec![ms]);
        let times = DeviceTimes::Stamped([q(3.0), q(2.0), q(1.0)]);
        assert!(times.beside("encoder").contains("2.000") && times.beside("upload").is_empty());
        assert_eq!((times.clock(), times.json()["generator"]["p90"].as_f64()), ("device", Some(1.0)));
        assert!(DeviceTimes::OneClock.beside("inversion").contains("the same clock"));
        assert!(DeviceTimes::None.beside("generator").contains("no timestamps") && DeviceTimes::None.json().is_null());
    }

    #[test]
    fn quantiles_are_values_of_the_sample() {
        let q = Quantiles::of((1..=100).rev().map(f64::from).collect());
        assert_eq!((q.p50, q.p90, q.p99), (50.0, 90.0, 99.0));
        let one = Quantiles::of(vec![3.0]);
        assert_eq!((one.p50, one.p99), (3.0, 3.0));
    }
}
