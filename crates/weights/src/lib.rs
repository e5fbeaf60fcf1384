//! Weights in and out: safetensors both ways, torch checkpoints in.
//!
//! An [`Archive`] is a sorted map from a tensor's name to plain f32 data, with a small text map beside it.
//! [`Archive::read`] decides by a file's content which reader it needs; [`Archive::write`] replaces a file
//! whole or not at all. The names and layouts in a file are torch's (`[O, I, kh, kw]`); [`layout`] turns
//! them into the ones the kernels use (`[kh, kw, I, O]`) and back.
//!
//! Files come from strangers: nothing here panics on their content, allocates what only a header
//! promises, or runs code from a pickle.

mod archive;
mod array;
mod atomic;
mod error;
mod header;
pub mod layout;
mod read_safetensors;
mod read_torch;
mod retention;
mod sniff;
mod write_safetensors;

#[cfg(test)]
mod tests;

pub use archive::Archive;
pub use array::{Array, Dtype, FloatDtype};
pub use atomic::write_atomic;
pub use error::{Misshaped, NameMismatch, NonFinite, WeightsError};
pub use header::{CheckpointHeader, DataSource};
pub use retention::{Latest, checkpoints, keep_last, latest, verify};
