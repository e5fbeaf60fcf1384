//! pSp's convolutional map2style [ref] (arXiv 2008.00951), for the ablation: strided 3×3 convolutions and leaky ReLUs to 1×1, then
//! an equalised linear layer. Names as in pSp's checkpoints: `styles.{i}.convs.{2k}`, `styles.{i}.linear`.

use swinstyle_modulated_conv2d::{LeakyRelu, conv2d_bias_act};
use swinstyle_tensor::Tensor;

use super::{Level, map2style};
use crate::{Init, Layout, Params, Result, Spec};

/// PyTorch's default leaky ReLU, as in pSp.
const LEAKY_RELU: LeakyRelu = LeakyRelu { slope: 0.01, gain: 1.0, clamp: None };

/// Parameters of a level's heads.
pub(super) fn specs(width: usize, level: &Level, style_dim: usize) -> Vec<Spec> {
    // PyTorch's default for a convolution.
    let init = Init::Uniform { bound: 1.0 / (9.0 * width as f64).sqrt() };
    let mut specs = Vec::new();
    for style in level.styles.clone() {
        for layer in 0..level.side.ilog2() {
            let at = format!("styles.{style}.convs.{}", 2 * layer);
            specs.push(Spec::new(format!("{at}.weight"), &[3, 3, width, width], init).stored(Layout::Oihw));
            specs.push(Spec::new(format!("{at}.bias"), &[width], init));
        }
        specs.extend(map2style::output_specs(&format!("styles.{style}"), &[], width, style_dim));
    }
    specs
}

/// The offset of one style, `[N, 1, style_dim]`.
pub(super) fn forward(
    p: &Params,
    style: usize,
    map: &Tensor, // [N, S, S, width]
) -> Result<Tensor> {
    let (images, side, width) = (map.shape()[0], map.shape()[1], map.shape()[3]);
    let mut x = map.clone();
    for layer in 0..side.ilog2() {
        let at = format!("styles.{style}.convs.{}", 2 * layer);
        let (weight, bias) = (p.get(&format!("{at}.weight"))?, p.get(&format!("{at}.bias"))?);
        x = conv2d_bias_act(&x, weight, Some(bias), Some(LEAKY_RELU), 2, 1)?;
    }
    let at = format!("styles.{style}.linear");
    let weight = p.get(&format!("{at}.weight"))?.scale(map2style::output_scale(width))?;
    let y = x.reshape(&[images, width])?.linear(&weight, Some(p.get(&format!("{at}.bias"))?))?;
    let style_dim = y.shape()[1];
    Ok(y.reshape(&[images, 1, style_dim])?)
}
