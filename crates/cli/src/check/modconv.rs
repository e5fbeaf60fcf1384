//! Modulated convolution, alone and as a styled layer: affine style, convolution, noise, bias, leaky ReLU, clamp.

use anyhow::Result;
use swinstyle_models::Layout;
use swinstyle_modulated_conv2d::{LeakyRelu, ModulatedConv, modulated_conv2d, styled_conv2d};

use super::{
    Fixture, Results,
    case::{self, Inputs, Named},
};

pub(super) fn run(f: &Fixture) -> Result<Results> {
    let inputs = Inputs::read(f, |name| match name {
        "x" | "noise" => Layout::Nchw,
        "w" => Layout::Oihw,
        _ => Layout::Plain,
    })?;
    let shape = inputs.get("w")?.shape();
    let fan_in: usize = shape[..3].iter().product();
    let conv = ModulatedConv {
        up: f.find("up")?.unwrap_or(1),
        down: f.find("down")?.unwrap_or(1),
        demodulate: f.find("demodulate")?.unwrap_or(true),
        eps: f.find("eps")?.unwrap_or(1e-8),
        weight_gain: f.find("weight_gain")?.unwrap_or(1.0 / (fan_in as f64).sqrt()),
        fir: inputs.find("f"),
    };
    case::run(f, &inputs, |x| {
        let y = match x.find("s") {
            Some(style) => modulated_conv2d(x.get("x")?, x.get("w")?, style, &conv)?,
            None => {
                let activation = LeakyRelu {
                    slope: f.find("slope")?.unwrap_or(LeakyRelu::STYLEGAN2.slope),
                    gain: f.find("gain")?.unwrap_or(LeakyRelu::STYLEGAN2.gain),
                    clamp: f.find("clamp")?,
                };
                let latent = x.get("wlat")?;
                let width = latent.shape().last().copied().unwrap_or(1) as f64;
                let style = latent.scale(1.0 / width.sqrt())?.linear(x.get("affine_w")?, x.find("affine_b"))?;
                let noise = x.find("noise").zip(x.find("noise_strength"));
                styled_conv2d(x.get("x")?, x.get("w")?, &style, &conv, noise, x.find("bias"), Some(activation))?
            }
        };
        Ok(vec![Named::new("y", y, Layout::Nchw)])
    })
}
