//! The cases of `peers/pytorch_peer.py` under criterion's statistics: `cargo bench -p swinstyle-benches -- modconv`.
//!
//! `SWINSTYLE_DEVICE` chooses the device. A sample ends when the device has finished. `swinstyle kernels bench` times the same
//! cases without statistics, with FLOP/s, bytes/s and the share of the roofline.

use std::time::{Duration, Instant};

use anyhow::Result;
use criterion::Criterion;
use swinstyle_cli::{bench::cases, in_pool};
use swinstyle_tensor::Device;

fn main() -> Result<()> {
    in_pool(run)
}

fn run() -> Result<()> {
    let device = Device::from_env()?;
    device.check()?;
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    let mut failure = None;
    for case in cases(device) {
        // Made on first use: criterion's filter decides which cases need their tensors.
        let mut work = None;
        criterion.bench_function(&case.name, |bencher| {
            bencher.iter_custom(|iterations| {
                let outcome = (|| -> Result<Duration> {
                    if work.is_none() {
                        work = Some(case.prepare(device)?);
                    }
                    let started = Instant::now();
                    if let Some(run) = &mut work {
                        for _ in 0..iterations {
                            run()?;
                        }
                    }
                    device.synchronize()?;
                    Ok(started.elapsed())
                })();
                outcome.unwrap_or_else(|error| {
                    failure.get_or_insert(error.context(case.name.clone()));
                    // Criterion needs some time; the run ends with the error anyway.
                    Duration::from_secs(1)
                })
            });
        });
        if failure.is_some() {
            break;
        }
    }
    criterion.final_summary();
    failure.map_or(Ok(()), Err)
}
