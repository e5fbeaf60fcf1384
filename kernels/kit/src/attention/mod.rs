//! What the two attention rooms share: the geometry of windows and the small products of the host twins.

mod chunks;
pub mod cube;
pub mod matrix;
pub mod tiles;
mod windows;

pub use chunks::{Chunks, Cost, add_runs};
pub use windows::{MASK, Windows};
