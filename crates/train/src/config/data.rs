//! `[data]`: where the images come from.

use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};
use swinstyle_data::{
    Dataset, ImageFolder,
    avatars::{PortraitSet, Renderer, Split, Style},
};
use swinstyle_weights::DataSource;

use crate::Result;

/// Where the images come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "source", rename_all = "kebab-case", deny_unknown_fields)]
pub enum DataConfig {
    /// Layered vector portraits, drawn as they are needed.
    Avatars {
        /// Name of the style.
        style: String,
        /// Seed of the picks.
        seed: u64,
        /// Number of different portraits.
        count: u64,
        /// Whether half of the images are mirrored.
        flip: bool,
    },
    /// A folder of PNG, JPEG or WebP files.
    Folder {
        /// The folder.
        #[serde(serialize_with = "lossy")]
        path: std::path::PathBuf,
        /// Licence of the images, recorded in the checkpoints.
        licence: String,
        /// Whether half of the images are mirrored.
        flip: bool,
        /// MiB of decoded images that may be kept in memory.
        #[serde(default = "decoded_mib")]
        memory_mib: usize,
        /// Largest share of picture files that may be unusable.
        #[serde(default = "half")]
        max_broken: f64,
    },
}

/// A path as text, whatever bytes it has.
fn lossy<S: Serializer>(path: &std::path::Path, s: S) -> std::result::Result<S::Ok, S::Error> {
    s.serialize_str(&path.to_string_lossy())
}

fn half() -> f64 {
    0.5
}

/// Enough for 40,000 images of 64 px or 2,700 of 256.
fn decoded_mib() -> usize {
    512
}

impl DataConfig {
    /// Whether half of the images are mirrored.
    pub fn flip(&self) -> bool {
        match self {
            Self::Avatars { flip, .. } | Self::Folder { flip, .. } => *flip,
        }
    }

    /// Opens the training images at `size` pixels.
    pub fn open(&self, size: usize) -> Result<Arc<Dataset>> {
        Ok(Arc::new(match self {
            Self::Avatars { style, seed, count, .. } => {
                let renderer = Renderer::new(&Style::named(style)?, size)?;
                Dataset::Portraits(PortraitSet::new(renderer, *seed, Split::Train, *count)?)
            }
            Self::Folder { path, memory_mib, max_broken, .. } => {
                let images = ImageFolder::open(path, size, memory_mib.saturating_mul(1 << 20))?;
                images.check_share(*max_broken)?;
                Dataset::Folder(images)
            }
        }))
    }

    /// What checkpoints say about the data.
    pub fn describe(&self) -> Result<DataSource> {
        Ok(match self {
            Self::Avatars { style, seed, count, .. } => {
                let s = Style::named(style)?;
                let (name, url) = s.license();
                DataSource {
                    description: format!("{count} portraits of style {style}, split train, seed {seed}"),
                    licence: format!("{name} ({url})"),
                    attribution: s.attribution().to_string(),
                }
            }
            Self::Folder { path, licence, .. } => DataSource {
                description: format!("images of the folder {}", path.file_name().unwrap_or_default().to_string_lossy()),
                licence: licence.clone(),
                attribution: String::new(),
            },
        })
    }
}
