//! The ablation: encoders that differ in one part each, trained alike, and measured on the same held-out portraits.
//!
//! Rows share data, generator, steps and seeds; what differs is written as overrides of one encoder configuration. What they are measured with beside
//! MSE, PSNR and SSIM is a small classifier trained on the true attributes of the portraits: whether it still finds each attribute in the
//! reconstruction (agreement), how far its features move (feature distance), and the Fréchet distance between its features of
//! all sources and all reconstructions.

mod classifier;
mod config;
mod frechet;
mod measure;

pub use classifier::{AttributeClassifier, Attributes, ClassifierConfig};
pub use config::{AblationConfig, Heldout, Row};
pub use frechet::frechet_distance;
pub use measure::{Examples, Measures, measure, time};
