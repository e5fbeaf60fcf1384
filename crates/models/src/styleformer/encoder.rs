//! The encoder: its parameters and the path from an image to W+.

use swinstyle_tensor::{Tensor, TensorError, rng::Philox};

use super::{Codes, Head, StyleformerConfig, Trunk, conv_head, map2style, pyramid};
use crate::{
    Params, Result, Spec,
    psp::{IrSe, Statistics},
    swin::{Swin, SwinOutput},
};

/// Prefix of the backbone's parameters.
const BACKBONE: &str = "backbone.";

/// A SwinStyleformer.
#[derive(Debug, Clone, PartialEq)]
pub struct Styleformer {
    /// Its sizes and switches.
    pub config: StyleformerConfig,
    backbone: Backbone,
}

#[derive(Debug, Clone, PartialEq)]
enum Backbone {
    Swin(Swin),
    IrSe(IrSe),
}

/// What differs in a pass of training.
#[derive(Debug)]
pub struct Training {
    /// Random numbers of the stochastic depth.
    pub rng: Philox,
    /// Styles, from the first on, that have a value of their own; the others take style 0's (e4e's progressive stages).
    pub free_styles: usize,
    /// Batch statistics that the pass leaves for the running ones (convolutional trunk), under the parameters' names.
    pub statistics: Statistics,
}

/// What a forward pass computes.
#[derive(Debug, Clone)]
pub struct StyleformerOutput {
    /// Offsets from w_avg: `[N, n_styles, style_dim]`, f32 where the network computes in a half type.
    pub offsets: Tensor,
    /// The maps that the heads read, coarse first: `[N, S, S, width]`.
    pub maps: Vec<Tensor>,
    /// The backbone's maps; [`SwinOutput::pooled`] is the feature of the alignment loss.
    pub backbone: SwinOutput,
}

impl Styleformer {
    /// An encoder of these sizes. Errors: sizes that make no network.
    pub fn new(config: StyleformerConfig) -> Result<Self> {
        config.validate()?;
        let backbone = match config.trunk {
            Trunk::Swin => Backbone::Swin(Swin::new(config.backbone.clone())?),
            Trunk::IrSe => Backbone::IrSe(IrSe::new(config.backbone.clone())),
        };
        Ok(Self { config, backbone })
    }

    /// Its parameters: `backbone.*` with torchvision's names (pSp's for the convolutional trunk), `lateral.{stage}.*`, and `heads.{level}.*` with the weights of
    /// a level's heads stacked on the first axis (with convolutional heads `styles.{i}.*`).
    pub fn specs(&self) -> Vec<Spec> {
        let c = &self.config;
        let mut specs = match &self.backbone {
            Backbone::Swin(swin) => swin.specs(),
            Backbone::IrSe(net) => net.specs(),
        };
        for s in &mut specs {
            s.name.insert_str(0, BACKBONE);
        }
        specs.extend(pyramid::specs(c));
        for level in c.levels() {
            specs.extend(match c.map2style.head {
                Head::Convolution => conv_head::specs(c.map2style.width, &level, c.style_dim),
                _ => map2style::specs(&c.map2style, &level, c.style_dim),
            });
        }
        specs
    }

    /// Runs the encoder.
    ///
    /// `training` is given in training alone; without it no branch is dropped, every style is free and running statistics are used.
    /// Errors: images of another size, missing parameters.
    pub fn forward(
        &self,
        p: &Params,
        images: &Tensor, // [N, H, W, C] in [−1, 1]
        mut training: Option<&mut Training>,
    ) -> Result<StyleformerOutput> {
        let c = &self.config;
        let expected = [c.image_size, c.image_size, c.backbone.in_channels];
        if images.shape().len() != 4 || images.shape()[1..] != expected {
            let detail =
                format!("images {:?}, [N, {}, {}, {}] expected", images.shape(), expected[0], expected[1], expected[2]);
            return Err(TensorError::shape("styleformer", detail).into());
        }
        let own = p.under(BACKBONE);
        let backbone = match &self.backbone {
            Backbone::Swin(swin) => swin.forward(&own, images, training.as_deref_mut().map(|t| &mut t.rng))?,
            Backbone::IrSe(net) => {
                let mut statistics = Statistics::new();
                let output = net.forward(&own, images, training.is_some().then_some(&mut statistics))?;
                if let Some(t) = training.as_deref_mut() {
                    t.statistics.extend(statistics.into_iter().map(|(name, v)| (format!("{BACKBONE}{name}"), v)));
                }
                output
            }
        };
        let maps = pyramid::maps(c, p, &backbone)?;
        let mut offsets = Vec::new();
        for (level, map) in c.levels().iter().zip(&maps) {
            match c.map2style.head {
                Head::Convolution => {
                    for style in level.styles.clone() {
                        offsets.push(conv_head::forward(p, style, map)?);
                    }
                }
                _ => offsets.push(map2style::forward(&c.map2style, p, level, map)?),
            }
        }
        let heads = Tensor::concat(&offsets.iter().collect::<Vec<_>>(), 1)?;
        let heads = heads.to_dtype(heads.dtype().wide())?;
        let offsets = self.compose(heads, training.map_or(usize::MAX, |t| t.free_styles))?;
        Ok(StyleformerOutput { offsets, maps, backbone })
    }

    /// Offsets of the styles from the heads' outputs: `o_i = o_0 + d_i`, with d the heads' own outputs for [`Codes::Delta`] and their
    /// differences from head 0 otherwise; d_i = 0 for the styles that are not free.
    fn compose(
        &self,
        heads: Tensor, // [N, n_styles, style_dim]
        free: usize,
    ) -> Result<Tensor> {
        let styles = self.config.n_styles();
        let delta = self.config.codes == Codes::Delta;
        if !delta && free >= styles {
            return Ok(heads);
        }
        let first = heads.slice(1, 0, 1)?;
        let free = free.clamp(1, styles);
        let own = heads.slice(1, 1, free - 1)?;
        let own = if delta { own.add(&first)? } else { own };
        let shape = [first.shape()[0], styles - free, first.shape()[2]];
        let parts = [first.clone(), own, first.broadcast_to(&shape)?];
        Ok(Tensor::concat(&parts.iter().filter(|p| !p.is_empty()).collect::<Vec<_>>(), 1)?)
    }

    /// W+ of images: `E(x) + w_avg`, `[N, n_styles, style_dim]`.
    pub fn encode(
        &self,
        p: &Params,
        images: &Tensor, // [N, H, W, C] in [−1, 1]
        w_avg: &Tensor,  // [style_dim] or [n_styles, style_dim]
    ) -> Result<Tensor> {
        self.add_average(&self.forward(p, images, None)?.offsets, w_avg)
    }

    /// `offsets + w_avg`.
    pub fn add_average(
        &self,
        offsets: &Tensor, // [N, n_styles, style_dim]
        w_avg: &Tensor,   // [style_dim] or [n_styles, style_dim]
    ) -> Result<Tensor> {
        let (n, d) = (self.config.n_styles(), self.config.style_dim);
        if w_avg.shape() != [d] && w_avg.shape() != [n, d] {
            let detail = format!("w_avg {:?}, [{d}] or [{n}, {d}] expected", w_avg.shape());
            return Err(TensorError::shape("styleformer", detail).into());
        }
        Ok(offsets.add(w_avg)?)
    }
}
