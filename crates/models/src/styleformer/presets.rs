//! Named sizes [ours]; all of them can be changed in a configuration file.

use super::{Codes, Head, MapToStyleConfig, StyleformerConfig, Trunk};
use crate::{
    ModelError, Result,
    swin::{SwinConfig, Window},
};

/// Names that [`StyleformerConfig::preset`] knows.
pub const PRESETS: [&str; 4] = ["avatar64", "avatar64-cpu", "face256", "face1024"];

impl StyleformerConfig {
    /// A preset by name.
    ///
    /// | preset | image | patch | dims | depths | heads | windows | width | w | generator |
    /// |---|---|---|---|---|---|---|---|---|---|
    /// | `avatar64` | 64 | 2 | 64, 128, 256 | 2, 2, 4 | 2, 4, 8 | 4, 4, 8 | 128 | 512 | 64 px, 10 styles |
    /// | `avatar64-cpu` | 64 | 2 | 48, 96, 192 | 2, 2, 2 | 3, 6, 12 | 4, 4, 8 | 64 | 64 | 64 px, 10 styles |
    /// | `face256` | 256 | 4 | 96, 192, 384, 768 | 2, 2, 6, 2 | 3, 6, 12, 24 | 4, 4, 8, 8 | 256 | 512 | 256 px, 14 styles |
    /// | `face1024` | 256 | 4 | 128, 256, 512, 1024 | 2, 2, 18, 2 | 4, 8, 16, 32 | 4, 4, 8, 8 | 512 | 512 | 1024 px, 18 styles |
    ///
    /// `avatar64-cpu` is `avatar64` made small enough (3.2 million parameters) for two CPU cores to train it.
    pub fn preset(name: &str) -> Result<Self> {
        let config = match name {
            "avatar64" => avatar(&[64, 128, 256], &[2, 2, 4], &[2, 4, 8], 128, 512),
            "avatar64-cpu" => avatar(&[48, 96, 192], &[2, 2, 2], &[3, 6, 12], 64, 64),
            "face256" => face(256, &[96, 192, 384, 768], &[2, 2, 6, 2], &[3, 6, 12, 24], 256),
            "face1024" => face(1024, &[128, 256, 512, 1024], &[2, 2, 18, 2], &[4, 8, 16, 32], 512),
            _ => {
                let detail = format!("`{name}` is not one of {}", PRESETS.join(", "));
                return Err(ModelError::config("styleformer preset", detail));
            }
        };
        Ok(config)
    }

    /// The name of the preset with exactly these sizes.
    pub fn preset_name(&self) -> Option<&'static str> {
        PRESETS.into_iter().find(|name| Self::preset(name).is_ok_and(|preset| preset == *self))
    }
}

fn avatar(dims: &[usize], depths: &[usize], heads: &[usize], width: usize, style_dim: usize) -> StyleformerConfig {
    let backbone = swin(2, dims, depths, heads, &[4, 4, 8], 0.0);
    StyleformerConfig {
        image_size: 64,
        generator_size: 64,
        style_dim,
        multi_scale: true,
        trunk: Trunk::Swin,
        codes: Codes::Independent,
        refine_steps: 1,
        backbone,
        map2style: head(width),
    }
}

fn face(generator_size: usize, dims: &[usize], depths: &[usize], heads: &[usize], width: usize) -> StyleformerConfig {
    let backbone = swin(4, dims, depths, heads, &[4, 4, 8, 8], 0.1);
    StyleformerConfig {
        image_size: 256,
        generator_size,
        style_dim: 512,
        multi_scale: true,
        trunk: Trunk::Swin,
        codes: Codes::Independent,
        refine_steps: 1,
        backbone,
        map2style: head(width),
    }
}

fn swin(
    patch: usize,
    dims: &[usize],
    depths: &[usize],
    heads: &[usize],
    windows: &[usize],
    stochastic_depth: f64,
) -> SwinConfig {
    SwinConfig {
        in_channels: 3,
        patch,
        dims: dims.to_vec(),
        depths: depths.to_vec(),
        heads: heads.to_vec(),
        windows: windows.iter().map(|&w| Window::Square(w)).collect(),
        mlp_ratio: 4.0,
        classes: None,
        stochastic_depth,
    }
}

fn head(width: usize) -> MapToStyleConfig {
    MapToStyleConfig {
        head: Head::LearnableQuery,
        width,
        heads: width / 32,
        window: 4,
        mlp_ratio: 2.0,
        shared_trunk: false,
    }
}
