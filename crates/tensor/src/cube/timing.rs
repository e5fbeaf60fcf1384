//! Device time of a piece of work.

use cubecl::{
    future::block_on,
    prelude::{ComputeClient, Runtime},
    profile::TimingMethod,
};

use super::faults;
use crate::Result;

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
