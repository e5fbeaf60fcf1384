//! Compiled kernels on disk, and device time of a piece of work.
//!
//! CubeCL keeps SPIR-V (Vulkan) and PTX (CUDA) under a folder if it is told to before the first device opens. Its keys do not hold a kernel's
//! body, so the folder must be another one for every build.

use std::path::Path;

use cubecl::{
    future::block_on,
    prelude::{ComputeClient, Runtime},
    profile::TimingMethod,
};
use cubecl_runtime::config::{CubeClRuntimeConfig, RuntimeConfig, cache::CacheConfig};

use super::faults;
use crate::Result;

/// Keeps compiled kernels in a folder. Call it before any device is opened; a `cubecl.toml` that names a cache is left its will.
pub fn cache_kernels(folder: &Path) {
    if std::env::current_dir().is_err() {
        return;
    }
    let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
    if config.compilation.cache.is_none() {
        config.compilation.cache = Some(CacheConfig::File(folder.to_path_buf()));
    }
    // Setting it twice is a panic; the first caller has already said all there is to say.
    let mut slot = CubeClRuntimeConfig::storage().lock();
    if slot.is_none() {
        *slot = Some(config.into());
    }
}

/// Work that another thread runs while this one waits for it.
struct Lent<'a>(&'a dyn Fn() -> Result<()>);

// SAFETY: `profile` returns only after the work has run, and meanwhile nothing else touches what it borrows.
unsafe impl Send for Lent<'_> {}

impl Lent<'_> {
    fn run(self) -> Result<()> {
        (self.0)()
    }
}

/// Seconds between the device's timestamps around some work; `None` where it has no timestamps or profiling fails.
pub(crate) fn profile<R: Runtime>(client: &ComputeClient<R>, work: &dyn Fn() -> Result<()>) -> Option<Result<f64>> {
    if client.properties().timing_method != TimingMethod::Device {
        return None;
    }
    let work = Lent(work);
    let measured = faults::guarded(|| Ok(client.profile(move || work.run(), "timed")));
    let (outcome, duration) = measured.ok()?.ok()?;
    Some(outcome.map(|()| block_on(duration.resolve()).duration().as_secs_f64()))
}
