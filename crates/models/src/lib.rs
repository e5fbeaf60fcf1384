#![doc = include_str!("../README.md")]

mod checkpoint;
mod defaults;
pub mod edit;
mod error;
pub mod foreign;
mod latent_discriminator;
pub mod layers;
mod lineage;
mod model;
pub mod params;
pub mod perceptual;
mod port;
pub mod psp;
pub mod ranges;
mod strangers;
pub mod styleformer;
pub mod stylegan2;
pub mod swin;

pub use error::{ModelError, Result};
pub use latent_discriminator::LatentDiscriminator;
pub use lineage::{Kinship, Lineage};
pub use model::{Inversion, LINEAGE, Model, mean_w};
pub use params::{Init, Layout, Params, Spec};
