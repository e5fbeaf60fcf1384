//! The encoder: its parameters and the path from an image to W+.

use swinstyle_tensor::{Tensor, TensorError, rng::Philox};

use super::{Head, StyleformerConfig, conv_head, map2style, pyramid};
use crate::{
    Params, Result, Spec,
    swin::{Swin, SwinOutput},
};

/// A SwinStyleformer.
#[derive(Debug, Clone, PartialEq)]
pub struct Styleformer {
    /// Its sizes and switches.
    pub config: StyleformerConfig,
    backbone: Swin,
}

/// What a forward pass computes.
#[derive(Debug, Clone)]
pub struct StyleformerOutput {
    /// Offsets from w_avg: `[N, n_styles, style_dim]`.
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
        let backbone = Swin::new(config.backbone.clone())?;
        Ok(Self { config, backbone })
    }

    /// Its parameters: `backbone.*` with torchvision's names, `lateral.{stage}.*`, and `heads.{level}.*` with the weights of
    /// a level's heads stacked on the first axis (with convolutional heads `styles.{i}.*`).
    pub fn specs(&self) -> Vec<Spec> {
        let c = &self.config;
        let mut specs = self.backbone.specs();
        for s in &mut specs {
            s.name.insert_str(0, "backbone.");
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
    /// `stochastic_depth` gives the random numbers of a training pass; without them no branch is dropped.
    /// Errors: images of another size, missing parameters.
    pub fn forward(
        &self,
        p: &Params,
        images: &Tensor, // [N, H, W, C] in [−1, 1]
        stochastic_depth: Option<&mut Philox>,
    ) -> Result<StyleformerOutput> {
        let c = &self.config;
        let expected = [c.image_size, c.image_size, c.backbone.in_channels];
        if images.shape().len() != 4 || images.shape()[1..] != expected {
            let detail =
                format!("images {:?}, [N, {}, {}, {}] expected", images.shape(), expected[0], expected[1], expected[2]);
            return Err(TensorError::shape("styleformer", detail).into());
        }
        let backbone = self.backbone.forward(&p.under("backbone."), images, stochastic_depth)?;
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
        let offsets = Tensor::concat(&offsets.iter().collect::<Vec<_>>(), 1)?;
        Ok(StyleformerOutput { offsets, maps, backbone })
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
