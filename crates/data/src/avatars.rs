//! Layered vector portraits: a style's parts are picked by a seed, drawn as SVG and rasterised, with a label map.
//!
//! ```text
//! Style (JSON: components, variants, palettes)
//!   └─ Portrait::sample(style, seed, index, split)   which variant and colour of each part
//!        └─ Renderer::render / mask                  layers, rasterised once and composited
//!             └─ write_dataset                       PNG files, label maps, manifest.jsonl, dataset.json
//! ```
//!
//! The definitions come from the `dicebear-styles` crate; each carries its own licence and creator, which
//! every data set repeats in its `dataset.json`.

mod catalogue;
mod dataset;
mod definition;
mod portrait;
mod renderer;
mod resolve;
mod style;

pub use dataset::{DatasetOptions, Summary, write_dataset};
pub(crate) use dataset::{files_of_dataset, label_maps_of_dataset};
pub use portrait::{Attributes, Portrait, Split};
pub use renderer::{PortraitSet, Renderer};
pub use style::Style;

/// The colour behind every portrait.
pub const BACKGROUND: [u8; 3] = [0xb6, 0xe3, 0xf4];
