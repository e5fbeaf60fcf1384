//! Patch embedding and patch merging: the two places where Swin changes resolution.

use swinstyle_layer_norm::layer_norm;
use swinstyle_tensor::{Tensor, TensorError};

use super::{EPSILON, SwinConfig};
use crate::{Init, Layout, Params, Result, Spec};

/// Parameters of the embedding.
pub(super) fn embedding_specs(config: &SwinConfig) -> Vec<Spec> {
    let (p, i, o) = (config.patch, config.in_channels, config.dims[0]);
    // PyTorch's default for a convolution.
    let init = Init::Uniform { bound: 1.0 / ((p * p * i) as f64).sqrt() };
    vec![
        Spec::new("features.0.0.weight", &[p, p, i, o], init).stored(Layout::Oihw),
        Spec::new("features.0.0.bias", &[o], init),
        Spec::new("features.0.2.weight", &[o], Init::Constant(1.0)),
        Spec::new("features.0.2.bias", &[o], Init::Constant(0.0)),
    ]
}

/// Convolution p×p of stride p, then layer norm. Pixels beyond the last whole patch are ignored, as by the convolution.
///
/// A patch is a row of `p·p·I` values in the order of the weight `[p, p, I, O]`, so the convolution is one linear layer.
pub(super) fn embed(
    config: &SwinConfig,
    p: &Params,
    images: &Tensor, // [N, H, W, I]
) -> Result<Tensor> {
    let patch = config.patch;
    let (n, h, w) = match *images.shape() {
        [n, h, w, c] if c == config.in_channels && h >= patch && w >= patch => (n, h / patch, w / patch),
        _ => {
            let expected = format!("[N, H, W, {}] with H and W of at least {patch}", config.in_channels);
            return Err(TensorError::shape("swin", format!("images {:?}, {expected} expected", images.shape())).into());
        }
    };
    let row = patch * config.in_channels;
    let x = images.slice(1, 0, h * patch)?.slice(2, 0, w * patch)?;
    let x = x.reshape(&[n * h, patch, w, row])?.permute(&[0, 2, 1, 3])?.reshape(&[n, h, w, patch * row])?;
    let weight = p.get("features.0.0.weight")?;
    // From here on in the type of the parameters.
    let x = x.to_dtype(weight.dtype())?;
    let weight = weight.reshape(&[patch * row, config.dims[0]])?.transpose()?;
    let x = x.linear(&weight, Some(p.get("features.0.0.bias")?))?;
    Ok(layer_norm(&x, p.get("features.0.2.weight")?, p.get("features.0.2.bias")?, EPSILON)?)
}

/// Parameters of the merging after `stage`.
pub(super) fn merging_specs(config: &SwinConfig, stage: usize) -> Vec<Spec> {
    let (i, o) = (4 * config.dims[stage], config.dims[stage + 1]);
    let at = format!("features.{}", 2 * stage + 2);
    vec![
        Spec::new(format!("{at}.reduction.weight"), &[o, i], Init::Normal { std: 0.02 }),
        Spec::new(format!("{at}.norm.weight"), &[i], Init::Constant(1.0)),
        Spec::new(format!("{at}.norm.bias"), &[i], Init::Constant(0.0)),
    ]
}

/// [`patch_merging`] after `stage`.
pub(super) fn merge(
    p: &Params,
    stage: usize,
    x: &Tensor, // [N, H, W, C]
) -> Result<Tensor> {
    let get = |key: &str| p.get(&format!("features.{}.{key}", 2 * stage + 2));
    patch_merging(x, get("norm.weight")?, get("norm.bias")?, get("reduction.weight")?)
}

/// Swin's patch merging: the channels of 2×2 neighbours side by side, layer norm, linear.
///
/// x `[N, H, W, C]` → `[N, ⌈H/2⌉, ⌈W/2⌉, O]`; an odd row or column is joined by zeros.
/// Errors: shapes that do not fit. torchvision: `PatchMerging`.
pub fn patch_merging(
    x: &Tensor,           // [N, H, W, C]
    norm_weight: &Tensor, // [4C]
    norm_bias: &Tensor,   // [4C]
    reduction: &Tensor,   // [O, 4C]
) -> Result<Tensor> {
    let &[_, h, w, _] = x.shape() else {
        return Err(TensorError::shape("patch_merging", format!("{:?}: [N, H, W, C] expected", x.shape())).into());
    };
    let x = gather_2x2(&x.pad(1, 0, h % 2)?.pad(2, 0, w % 2)?)?;
    Ok(layer_norm(&x, norm_weight, norm_bias, EPSILON)?.linear(reduction, None)?)
}

/// `[N, H, W, C]` with even sides to `[N, H/2, W/2, 4C]`: `x[0::2, 0::2] | x[1::2, 0::2] | x[0::2, 1::2] | x[1::2, 1::2]`.
pub(crate) fn gather_2x2(x: &Tensor) -> Result<Tensor> {
    let (n, h, w, c) = (x.shape()[0], x.shape()[1] / 2, x.shape()[2] / 2, x.shape()[3]);
    let cells = x.reshape(&[n * h, 2, w, 2, c])?.permute(&[0, 2, 3, 1, 4])?;
    Ok(cells.reshape(&[n, h, w, 4 * c])?)
}
