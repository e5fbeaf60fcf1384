//! Swin Transformer (arXiv 2103.14030) [ref], with torchvision's parameter names.
//!
//! `features.0` is the patch embedding, `features.{2s+1}.{b}` block b of stage s, `features.{2s+2}` the patch merging after
//! it, `norm` and `head` the classifier. Maps are `[N, H, W, C]` throughout: windows are index arithmetic inside the
//! attention, so nothing is partitioned or rolled.

mod block;
mod config;
mod forward;
mod patches;
mod stochastic_depth;

pub use config::{SwinConfig, Window};
pub use forward::{Swin, SwinOutput};
pub use patches::patch_merging;

pub(crate) use block::{block_qkv, mlp_hidden};
pub(crate) use forward::block_input;
pub(crate) use patches::gather_2x2;

/// ε of every layer norm, as in torchvision.
pub(crate) const EPSILON: f64 = 1e-5;

#[cfg(test)]
mod tests;
