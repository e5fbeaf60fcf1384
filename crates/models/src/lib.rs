//! The networks of SwinStyle: StyleGAN2, Swin, SwinStyleformer, discriminators and perceptual losses.
//!
//! A network is its configuration; its weights are [`Params`] that every call is given, so the same code serves
//! training (leaves of the tape), averages (EMA) and frozen networks. Images are NHWC in [−1, 1].

mod checkpoint;
mod error;
pub mod params;
pub mod perceptual;
pub mod stylegan2;

pub use error::{ModelError, Result};
pub use params::{Init, Layout, Params, Spec};
