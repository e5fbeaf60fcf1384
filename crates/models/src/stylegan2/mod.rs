//! StyleGAN2 (arXiv 1912.04958) [ref]: mapping, synthesis, discriminator.
//!
//! Parameter names are those of the common PyTorch port's checkpoints (`style.N`, `input.input`, `conv1`, `to_rgb1`,
//! `convs.N`, `to_rgbs.N`, `noises.noise_N`; `convs.N.conv1`, `final_conv`, `final_linear` in the discriminator).

mod config;
mod discriminator;
mod generator;
mod mapping;
mod synthesis;

pub use config::{Channels, GeneratorConfig};
pub use discriminator::{Discriminator, DiscriminatorConfig};
pub use generator::Generator;
pub use synthesis::{Features, Noise};

/// Slope of every leaky ReLU.
pub(crate) const SLOPE: f64 = 0.2;
/// Gain of every leaky ReLU: keeps the variance of the activations.
pub(crate) const GAIN: f64 = std::f64::consts::SQRT_2;
/// Guard of the demodulation's and the pixel norm's root.
pub(crate) const EPSILON: f64 = 1e-8;
/// Taps of the resampling filter, normalised when used.
pub(crate) const FIR: [f64; 4] = [1.0, 3.0, 3.0, 1.0];
