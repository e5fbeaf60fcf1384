//! Shifted-window attention with both projections.

use anyhow::Result;
use swinstyle_models::Layout;
use swinstyle_window_attention::{WindowAttention, shifted_window_attention};

use super::{
    Fixture, Results,
    case::{self, Inputs, Named},
};

pub(super) fn run(f: &Fixture) -> Result<Results> {
    let inputs = Inputs::read(f, |_| Layout::Plain)?;
    let channels = inputs.get("x")?.shape().last().copied().unwrap_or_default();
    let mut attention = WindowAttention::new(f.get("window")?, f.get("shift")?, f.get("heads")?, channels);
    attention.scale = f.find("scale")?.unwrap_or(attention.scale);
    case::run(f, &inputs, |x| {
        let y = shifted_window_attention(
            x.get("x")?,
            x.get("qkv_w")?,
            x.find("qkv_b"),
            x.get("proj_w")?,
            x.find("proj_b"),
            x.get("rel_bias_table")?,
            &attention,
        )?;
        Ok(vec![Named::new("y", y, Layout::Plain)])
    })
}
