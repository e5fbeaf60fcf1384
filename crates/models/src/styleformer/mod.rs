//! SwinStyleformer (arXiv 2406.13153): an image to W+ codes of StyleGAN2.
//!
//! ```text
//! image ─ Swin ─ stage maps ─ multi-scale connections ─ coarse, medium, fine map ─ map2style, a head a style ─ offset
//! ```
//!
//! Where a choice comes from is marked: **[paper]** its abstract and captions, **[sibling]** its authors' released sibling
//! model, **[ref]** StyleGAN2, Swin and pSp, **[ours]** the rest.
//!
//! - *Backbone* [paper]: Swin with small windows in the early stages and larger ones later; sizes [ours], see [`presets`].
//! - *Multi-scale connections* [paper], form [ours] after pSp's pyramid: linear projections of the stages to one width,
//!   added from the top down. Styles 0–2 read the coarse map, 3–6 the medium one, the rest the fine one [ref].
//! - *Learnable-query block* [paper]: window attention whose queries are parameters. The plain self-attention block
//!   takes its place for the ablation.
//! - *map2style* [paper]: N1 blocks bring the tokens to 16, N2 = 2 to one; each is followed by a 2×2 token merge. Then an
//!   equalised linear layer A. pSp's convolutional head [ref] takes its place for the ablation.
//! - The result is an offset: `w = E(x) + w_avg` [ref]. [`Codes`] and `refine_steps` make it e4e's or ReStyle's; [`Trunk`] puts pSp's
//!   convolutional backbone in Swin's place.

mod block;
mod config;
mod conv_head;
mod encoder;
mod explain;
mod grouped;
mod map2style;
mod presets;
mod pyramid;

pub use config::{Codes, Head, Level, MapToStyleConfig, StyleformerConfig, Trunk};
pub use encoder::{Styleformer, StyleformerOutput, Training};
pub use explain::{AttentionMap, Explanation};
pub use presets::PRESETS;

#[cfg(test)]
mod tests;
