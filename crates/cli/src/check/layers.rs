//! The small layers that both networks share; the case's name says which.

use anyhow::{Result, bail};
use swinstyle_bias_act::{Activation, bias_act};
use swinstyle_layer_norm::layer_norm;
use swinstyle_models::{
    Layout,
    layers::{minibatch_stddev, pixel_norm},
    swin::patch_merging,
};
use swinstyle_tensor::Tensor;

use super::{
    Fixture, Results,
    case::{self, Inputs, Named},
};

pub(super) fn run(f: &Fixture) -> Result<Results> {
    let name = f.case.rsplit('/').next().unwrap_or_default();
    let is = |layer: &str| name.starts_with(layer);
    let eps = |default: f64| -> Result<f64> { Ok(f.find("eps")?.unwrap_or(default)) };
    let leaky = Activation::LeakyRelu { slope: f.find("slope")?.unwrap_or(0.2) };
    let gain = f.find("gain")?.unwrap_or(std::f64::consts::SQRT_2);
    if is("layer_norm") {
        let eps = eps(1e-5)?;
        layer(f, Layout::Plain, |x| Ok(layer_norm(x.get("x")?, x.get("weight")?, x.get("bias")?, eps)?))
    } else if is("gelu") {
        layer(f, Layout::Plain, |x| Ok(bias_act(x.get("x")?, None, Activation::Gelu, 1.0, None)?))
    } else if is("patch_merging") {
        layer(f, Layout::Plain, |x| {
            Ok(patch_merging(x.get("x")?, x.get("norm_w")?, x.get("norm_b")?, x.get("red_w")?)?)
        })
    } else if is("pixel_norm") {
        let eps = eps(1e-8)?;
        layer(f, Layout::Plain, |x| Ok(pixel_norm(x.get("x")?, eps)?))
    } else if is("equal_linear") {
        let (weight_gain, lr): (f64, f64) = (f.get("weight_gain")?, f.get("lr_mul")?);
        layer(f, Layout::Plain, |x| {
            let y = x.get("x")?.scale(weight_gain)?.linear(x.get("w")?, None)?;
            Ok(bias_act(&y, Some(&x.get("b")?.scale(lr)?), leaky, gain, None)?)
        })
    } else if is("bias_lrelu") {
        layer(f, Layout::Nchw, |x| Ok(bias_act(x.get("x")?, x.find("b"), leaky, gain, None)?))
    } else if is("minibatch_stddev") {
        let (group, eps) = (f.get("group")?, eps(1e-8)?);
        layer(f, Layout::Nchw, |x| Ok(minibatch_stddev(x.get("x")?, group, eps)?))
    } else {
        bail!("the layer `{name}` is not known to this version")
    }
}

/// x to y in one layout; every other input is plain.
fn layer(f: &Fixture, layout: Layout, forward: impl FnOnce(&Inputs) -> Result<Tensor>) -> Result<Results> {
    let inputs = Inputs::read(f, |name| if name == "x" { layout } else { Layout::Plain })?;
    case::run(f, &inputs, |x| Ok(vec![Named::new("y", forward(x)?, layout)]))
}
