//! Tests of whole archives: fixtures, round trips, bad input, digests, folders of checkpoints.

mod bad_input;
mod digest;
mod forge;
mod golden;
mod mutations;
mod others;
mod retention;
mod round_trip;

use std::path::PathBuf;

/// A file under `tests/golden`.
fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(name)
}
