#![doc = include_str!("../README.md")]

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
