//! map2style [paper]: from a map to one style a head, all heads of a level as one batched network.
//!
//! A step is a block and a 2×2 token merge. A map of S² tokens takes N1 = log₂(S) − 2 steps to 16 tokens and N2 = 2 more to one
//! [paper]; then an equalised linear layer A gives the style. Token merging is Swin's, at constant width [ours].
//!
//! With `shared_trunk` [ours] the N1 steps are one network for all styles of a level: they hold nearly all of the tokens, and with
//! them nearly all of the multiplications.

use swinstyle_tensor::Tensor;

use super::{Level, MapToStyleConfig, block, grouped};
use crate::{Init, Params, Result, Spec};

/// Tokens of an edge where the N2 steps begin.
const N2_SIDE: usize = 4;
/// Standard deviation of A's fresh weights: small, so that training starts near w_avg [ours].
const OUTPUT_STD: f64 = 0.1;

/// Parameters of a level's heads.
pub(super) fn specs(config: &MapToStyleConfig, level: &Level, style_dim: usize) -> Vec<Spec> {
    let width = config.width;
    let mut specs = Vec::new();
    for step in 0..steps(level) {
        let at = format!("heads.{}.{step}", level.name);
        let groups = groups(config, level, step);
        specs.extend(block::specs(config, &at, groups, level.side >> step));
        specs.extend(grouped::merge_specs(&at, groups, width));
    }
    specs.extend(output_specs(&format!("heads.{}", level.name), &[level.styles.len()], width, style_dim));
    specs
}

/// Networks side by side in a step: one for each style, or one for all of them.
pub(super) fn groups(config: &MapToStyleConfig, level: &Level, step: usize) -> usize {
    if config.shared_trunk && level.side >> step > N2_SIDE { 1 } else { level.styles.len() }
}

/// N1 + N2.
fn steps(level: &Level) -> usize {
    level.side.ilog2() as usize
}

/// The offsets of a level's styles, `[N, styles, style_dim]`.
pub(super) fn forward(
    config: &MapToStyleConfig,
    p: &Params,
    level: &Level,
    map: &Tensor, // [N, S, S, width]
) -> Result<Tensor> {
    let images = map.shape()[0];
    let mut x = map.reshape(&[images * level.side * level.side, config.width])?;
    for step in 0..steps(level) {
        let at = format!("heads.{}.{step}", level.name);
        let side = level.side >> step;
        if x.shape().len() == 3 && x.shape()[0] != groups(config, level, step) {
            // What the styles shared is read by all of them.
            x = x.reshape(&[images * side * side, config.width])?;
        }
        x = block::forward(config, p, &at, images, side, &x)?;
        x = grouped::merge(&x, side, p.get(&format!("{at}.reduction.weight"))?)?;
    }
    // [G, N, style_dim]
    let at = format!("heads.{}.linear", level.name);
    let weight = p.get(&format!("{at}.weight"))?.scale(output_scale(config.width))?;
    Ok(grouped::linear(&x, &weight, Some(p.get(&format!("{at}.bias"))?))?.permute(&[1, 0, 2])?)
}

/// Parameters of A: equalised, that is stored without the factor 1/√width, which is applied when they are used [ref].
pub(super) fn output_specs(at: &str, lead: &[usize], width: usize, style_dim: usize) -> Vec<Spec> {
    let weight = [lead, &[style_dim, width]].concat();
    let bias = [lead, &[style_dim]].concat();
    let specs = [
        Spec::new(format!("{at}.linear.weight"), &weight, Init::Normal { std: OUTPUT_STD }),
        Spec::new(format!("{at}.linear.bias"), &bias, Init::Constant(0.0)),
    ];
    specs.into_iter().map(|spec| if lead.is_empty() { spec } else { spec.stacked() }).collect()
}

/// 1/√width.
pub(super) fn output_scale(width: usize) -> f64 {
    1.0 / (width as f64).sqrt()
}
