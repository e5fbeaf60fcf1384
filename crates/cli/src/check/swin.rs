//! Swin: a small network with its weights and all gradients in the file, and torchvision's with weights by formula.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};
use swinstyle_kit::testing::hash_uniform;
use swinstyle_models::{
    Layout, Params,
    swin::{Swin, SwinConfig, Window},
};
use swinstyle_weights::{Archive, Array};

use super::{
    Fixture, Results,
    case::{self, Inputs, Named},
};

/// Shape, base and scale of a procedural weight.
type Described = (Vec<usize>, f64, f64);

pub(super) fn run(f: &Fixture) -> Result<Results> {
    let depths: Vec<usize> = f.get("depths")?;
    let embed_dim: usize = f.get("embed_dim")?;
    let window: [usize; 2] = f.get("window")?;
    let stages = depths.len();
    let channels = f.shape("in.image")?.get(1).copied();
    let swin = Swin::new(SwinConfig {
        in_channels: channels.ok_or_else(|| anyhow!("in.image is not [N, C, H, W]"))?,
        patch: f.get("patch")?,
        dims: (0..stages).map(|stage| embed_dim << stage.min(16)).collect(),
        depths,
        heads: f.get("heads")?,
        windows: vec![Window::Rectangle(window); stages],
        mlp_ratio: f.find("mlp_ratio")?.unwrap_or(4.0),
        classes: f.find("classes")?,
        stochastic_depth: 0.0,
    })?;
    let image = [("image", Layout::Nchw)];
    // Weights of 30 million values are described, not stored.
    let described: Option<BTreeMap<String, Described>> = f.find("weights")?;
    let (inputs, fixed) = match described {
        None => (Inputs::of_network(f, &swin.specs(), &image)?, None),
        Some(described) => {
            let archive = procedural(described)?;
            let params = Params::from_archive(&archive, "", &swin.specs(), f.device)?.to_dtype(f.dtype, |_| false)?;
            (Inputs::of_network(f, &[], &image)?, Some((archive, params)))
        }
    };
    let mut results = case::run(f, &inputs, |x| {
        let params = fixed.as_ref().map_or_else(|| x.params(), |(_, params)| params.clone());
        let out = swin.forward(&params, x.get("image")?, None)?;
        let mut outputs = vec![
            Named::new("embed", out.embed, Layout::Plain),
            Named::new("norm", out.norm, Layout::Plain),
            Named::new("pooled", out.pooled, Layout::Plain),
        ];
        outputs.extend(out.logits.map(|logits| Named::new("logits", logits, Layout::Plain)));
        let stages = out.stages.into_iter().enumerate();
        outputs.extend(stages.map(|(i, stage)| Named::new(format!("stage{i}"), stage, Layout::Plain)));
        Ok(outputs)
    })?;
    // The first values of some parameters show that the formula was understood.
    for name in f.under("probe.") {
        let shape = f.shape(&format!("probe.{name}"))?.to_vec();
        let count = shape.iter().product();
        let made = fixed.as_ref().and_then(|(archive, _)| archive.arrays.get(name)?.data.get(..count));
        let values = made.ok_or_else(|| anyhow!("probe.{name} is no part of a described parameter"))?;
        results.0.insert(format!("probe.{name}"), Array::new(shape, values.to_vec())?.into());
    }
    Ok(results)
}

/// Parameters `u·scale + base` with u = [`hash_uniform`] of the name, rounded to f32 after each of the two operations.
fn procedural(described: BTreeMap<String, (Vec<usize>, f64, f64)>) -> Result<Archive> {
    let mut archive = Archive::new();
    for (name, (shape, base, scale)) in described {
        let len = shape.iter().try_fold(1_usize, |n, &d| n.checked_mul(d)).filter(|&n| n <= 1 << 30);
        let len = len.ok_or_else(|| anyhow!("the described weight `{name}` of shape {shape:?} is too large"))?;
        let (base, scale) = (base as f32, scale as f32);
        let data = hash_uniform(&name, len).into_iter().map(|u| u * scale + base).collect();
        archive.arrays.insert(name, Array::new(shape, data)?);
    }
    Ok(archive)
}
