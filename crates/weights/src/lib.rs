#![doc = include_str!("../README.md")]

mod archive;
mod array;
mod digest;
mod error;
mod header;
pub mod layout;
mod part;
mod read_numpy;
mod read_safetensors;
mod read_torch;
mod retention;
mod sniff;
mod torch_kinds;
mod torch_wrap;
mod write_safetensors;

#[cfg(test)]
mod tests;

pub use archive::{Archive, write_atomic};
pub use array::{Array, Dtype, FloatDtype};
pub use error::{Misshaped, NameMismatch, NonFinite, WeightsError};
pub use header::{CheckpointHeader, DataSource};
pub use part::Part;
pub use retention::{Latest, Skipped, checkpoints, keep_last, latest, put_aside, verify};
