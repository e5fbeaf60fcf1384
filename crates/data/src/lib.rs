//! swinstyle-data: what the networks are trained on and shown. Plain bytes and `f32` buffers, no tensors.
//!
//! - [`avatars`]: layered vector portraits, drawn from a seed, with label maps.
//! - [`folder`]: PNG, JPEG and WebP files, decoded within limits, resized and cropped.
//! - [`label_map`]: label maps, read from PNG files of several kinds.
//! - [`loader`]: batches of either, made on threads ahead of the training step.
//! - [`picture`]: pictures as bytes and as `[-1, 1]`, PNG files, grids, differences, PSNR and SSIM.
//!
//! Everything drawn or shuffled is a pure function of a seed and a position, so a run can be resumed
//! from two integers and gives the same bytes on any number of threads.

pub mod avatars;
mod error;
pub mod folder;
pub mod label_map;
pub mod loader;
pub mod picture;
mod random;

pub use error::{DataError, Result};
pub use folder::{ImageFolder, load_image};
pub use label_map::{Label, LabelMap, load_label_map};
pub use loader::{Batch, Dataset, Loader, LoaderOptions};
pub use picture::Picture;
