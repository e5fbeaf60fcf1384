//! The networks of SwinStyle: StyleGAN2, Swin, SwinStyleformer, discriminators and perceptual losses.
//!
//! A network is its configuration; its weights are [`Params`] that every call is given, so the same code serves
//! training (leaves of the tape), averages (EMA) and frozen networks. Images are NHWC in [−1, 1].

mod checkpoint;
mod defaults;
pub mod edit;
mod error;
pub mod foreign;
mod latent_discriminator;
pub mod layers;
mod model;
pub mod params;
pub mod perceptual;
pub mod psp;
pub mod styleformer;
pub mod stylegan2;
pub mod swin;

pub use error::{ModelError, Result};
pub use latent_discriminator::LatentDiscriminator;
pub use model::{Inversion, Model, mean_w};
pub use params::{Init, Layout, Params, Spec};
