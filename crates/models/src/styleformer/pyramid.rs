//! Multi-scale connections [paper]: from the backbone's stages to the maps that the heads read.
//!
//! Form [ours] after pSp's feature pyramid: each stage (its output normalised) is projected to the heads' width, and from the
//! last stage on each map is the stage's projection plus the next coarser map, enlarged bilinearly.
//! Stages beyond the coarse map's join it the same way, so no stage goes unread.

use swinstyle_layer_norm::layer_norm;
use swinstyle_tensor::Tensor;

use super::StyleformerConfig;
use crate::{
    Init, Params, Result, Spec,
    swin::{EPSILON, SwinOutput},
};

/// Parameters of the connections.
pub(super) fn specs(config: &StyleformerConfig) -> Vec<Spec> {
    let dims = &config.backbone.dims;
    let (last, width) = (dims.len() - 1, config.map2style.width);
    let levels = config.levels();
    let finest = levels.iter().map(|l| l.stage).min().unwrap_or(0);
    let stages: Vec<usize> = match config.multi_scale {
        true => (finest..=last).collect(),
        false => levels.iter().map(|l| l.stage).collect(),
    };
    let mut specs = Vec::new();
    for stage in stages {
        let at = format!("lateral.{stage}");
        let inputs = dims[if config.multi_scale { stage } else { last }];
        if config.multi_scale && stage < last {
            specs.push(Spec::new(format!("{at}.norm.weight"), &[inputs], Init::Constant(1.0)));
            specs.push(Spec::new(format!("{at}.norm.bias"), &[inputs], Init::Constant(0.0)));
        }
        let init = Init::Uniform { bound: 1.0 / (inputs as f64).sqrt() };
        specs.push(Spec::new(format!("{at}.weight"), &[width, inputs], init));
        specs.push(Spec::new(format!("{at}.bias"), &[width], Init::Constant(0.0)));
    }
    specs
}

/// The levels' maps `[N, S, S, width]`, in the order of [`StyleformerConfig::levels`].
pub(super) fn maps(config: &StyleformerConfig, p: &Params, backbone: &SwinOutput) -> Result<Vec<Tensor>> {
    let project = |stage: usize, x: &Tensor| -> Result<Tensor> {
        let (weight, bias) = (p.get(&format!("lateral.{stage}.weight"))?, p.get(&format!("lateral.{stage}.bias"))?);
        Ok(x.linear(weight, Some(bias))?)
    };
    let levels = config.levels();
    if !config.multi_scale {
        let map = |l: &super::Level| Ok(project(l.stage, &backbone.norm)?.resize_bilinear(l.side, l.side, false)?);
        return levels.iter().map(map).collect();
    }
    let last = config.backbone.dims.len() - 1;
    let mut map = project(last, &backbone.norm)?;
    let mut maps = Vec::new();
    for stage in (0..=last).rev() {
        if stage < last {
            if maps.len() == levels.len() {
                break;
            }
            let at = |key: &str| p.get(&format!("lateral.{stage}.norm.{key}"));
            let own = project(stage, &layer_norm(&backbone.stages[stage], at("weight")?, at("bias")?, EPSILON)?)?;
            map = own.add(&map.resize_bilinear(own.shape()[1], own.shape()[2], false)?)?;
        }
        if levels.iter().any(|l| l.stage == stage) {
            maps.push(map.clone());
        }
    }
    Ok(maps)
}
