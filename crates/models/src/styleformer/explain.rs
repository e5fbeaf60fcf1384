//! Where the encoder looks [paper: its heat maps]: how much attention each token gets, by stage and by head.
//!
//! The attention kernels are fused and give no probabilities. Here they are computed anew from the same q, k and bias table,
//! window by window on the host, for pictures of a few images; nothing trains or inverts through this.

use swinstyle_kit::attention::{MASK, Windows};
use swinstyle_tensor::{Tensor, no_grad};

use super::{Head, Level, Styleformer, StyleformerConfig, Trunk, block, grouped, map2style};
use crate::{Params, Result, swin};

/// How much attention the tokens of a map get from the queries of their window.
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionMap {
    /// Maps of an image: the attention heads, or styles · heads, style by style.
    pub maps: usize,
    /// Attention heads side by side in one network: `maps` is a multiple of it where each style has its own.
    pub heads: usize,
    /// Tokens of an edge.
    pub side: usize,
    /// Mean over the window's queries of the probability, times the window's cells: 1 is an equal share.
    pub values: Vec<f32>, // [N, maps, side, side]
}

/// The attention of one pass.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// Self-attention in the last block of each stage of the backbone; none for the convolutional trunk.
    pub backbone: Vec<AttentionMap>,
    /// Attention in the first block of each level's heads, where a token is still a place in the image; none for convolutional heads.
    pub heads: Vec<(Level, AttentionMap)>,
}

/// The probabilities of all windows: `[sets, heads, cells, cells]`, rows are queries.
pub(crate) fn probabilities(
    windows: &Windows,
    heads: usize,
    head_dim: usize,
    query: impl Fn(usize, usize) -> f32, // (set · cells + cell, channel)
    key: impl Fn(usize, usize) -> f32,   // (set · cells + cell, channel)
    table: &[f32],                       // [(2wh − 1)(2ww − 1), heads]
) -> Vec<f32> {
    let n = windows.cells();
    let scale = (head_dim as f64).powf(-0.5);
    let mut all = Vec::with_capacity(windows.count() * heads * n * n);
    let mut row = vec![0.0_f64; n];
    for set in 0..windows.count() {
        for head in 0..heads {
            for q in 0..n {
                for (k, logit) in row.iter_mut().enumerate() {
                    let channels = head * head_dim..(head + 1) * head_dim;
                    let dot: f64 =
                        channels.map(|c| f64::from(query(set * n + q, c)) * f64::from(key(set * n + k, c))).sum();
                    let bias = f64::from(table[windows.table_index(q, k) * heads + head]);
                    let mask = if windows.region(set, q) == windows.region(set, k) { 0.0 } else { MASK };
                    *logit = dot * scale + bias + mask;
                }
                let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                row.iter_mut().for_each(|v| *v = (*v - top).exp());
                let sum: f64 = row.iter().sum();
                all.extend(row.iter().map(|v| (v / sum) as f32));
            }
        }
    }
    all
}

/// The attention that each token gets, `[N, heads, H, W]`: the windows' columns' means, put back where the tokens are.
fn received(windows: &Windows, heads: usize, probabilities: &[f32]) -> Vec<f32> {
    let (n, area) = (windows.cells(), windows.height * windows.width);
    let mut values = vec![0.0; windows.batch * heads * area];
    for set in 0..windows.count() {
        for cell in 0..n {
            // Padding is nowhere in the picture.
            let Some(token) = windows.token(set, cell) else { continue };
            for head in 0..heads {
                let matrix = &probabilities[(set * heads + head) * n * n..][..n * n];
                // The mean over n queries times n cells.
                let sum: f32 = matrix.iter().skip(cell).step_by(n).sum();
                values[(token / area * heads + head) * area + token % area] = sum;
            }
        }
    }
    values
}

/// Values of a map's tokens by window cell; padded cells hold `pad`.
pub(crate) fn by_window(
    windows: &Windows,
    x: &[f32], // [N, H, W, C]
    channels: usize,
    pad: &[f32], // [C]
) -> Vec<f32> {
    let mut out = Vec::with_capacity(windows.count() * windows.cells() * channels);
    for set in 0..windows.count() {
        for cell in 0..windows.cells() {
            out.extend_from_slice(windows.token(set, cell).map_or(pad, |t| &x[t * channels..(t + 1) * channels]));
        }
    }
    out
}

impl Styleformer {
    /// The attention of a pass over images `[N, H, W, C]`. Errors: as [`Styleformer::forward`].
    pub fn explain(&self, p: &Params, images: &Tensor) -> Result<Explanation> {
        no_grad(|| {
            let c = &self.config;
            let output = self.forward(p, images, None)?;
            let stages = 0..if c.trunk == Trunk::Swin { c.backbone.dims.len() } else { 0 };
            let of_stage = |stage| backbone(c, &p.under("backbone."), stage, &output.backbone);
            let backbone = stages.map(of_stage).collect::<Result<Vec<_>>>()?;
            let mut heads = Vec::new();
            for (level, map) in c.levels().into_iter().zip(&output.maps) {
                if c.map2style.head != Head::Convolution {
                    let attention = of_level(c, p, &level, map)?;
                    heads.push((level, attention));
                }
            }
            Ok(Explanation { backbone, heads })
        })
    }
}

/// Self-attention in the last block of a stage.
fn backbone(c: &StyleformerConfig, p: &Params, stage: usize, output: &swin::SwinOutput) -> Result<AttentionMap> {
    let config = &c.backbone;
    let (last, heads, channels) = (config.depths[stage] - 1, config.heads[stage], config.dims[stage]);
    let x = swin::block_input(config, p, stage, last, output)?;
    let (qkv, bias, table, attention) = swin::block_qkv(config, p, stage, last, &x)?;
    let (n, h, w) = (x.shape()[0], x.shape()[1], x.shape()[2]);
    let windows = Windows::new([n, h, w], attention.window, attention.shift);
    // A padded token is zero before the linear layer: its qkv is the bias.
    let qkv = by_window(&windows, &qkv.to_vec()?, 3 * channels, &bias.to_vec()?);
    let at = |cell: usize, channel: usize| qkv[cell * 3 * channels + channel];
    let key = |cell, channel| at(cell, channels + channel);
    let all = probabilities(&windows, heads, channels / heads, at, key, &table.to_vec()?);
    Ok(AttentionMap { maps: heads, heads, side: h, values: received(&windows, heads, &all) })
}

/// Attention in the first block of a level's heads.
fn of_level(c: &StyleformerConfig, p: &Params, level: &Level, map: &Tensor) -> Result<AttentionMap> {
    let config = &c.map2style;
    let (side, channels, heads) = (level.side, config.width, config.heads);
    let groups = map2style::groups(config, level, 0);
    let images = map.shape()[0];
    let at = format!("heads.{}.0.attn", level.name);
    let h = grouped::normalize(&map.reshape(&[images * side * side, channels])?)?;
    let windows = Windows::new([images, side, side], [block::window(config, side); 2], [0, 0]);
    let table = p.get(&format!("{at}.relative_position_bias_table"))?;
    let learned = config.head == Head::LearnableQuery;
    let (name, parts) = if learned { ("kv", 2) } else { ("qkv", 3) };
    let bias = if learned { None } else { Some(p.get(&format!("{at}.qkv.bias"))?) };
    // [G, N·S·S, parts · C]
    let projected = grouped::linear(&h, p.get(&format!("{at}.{name}.weight"))?, bias)?;
    let mut groups_of_images = Vec::new();
    for group in 0..groups {
        let values = projected.slice(0, group, 1)?.to_vec()?;
        let values = by_window(&windows, &values, parts * channels, &vec![0.0; parts * channels]);
        let table = table.slice(0, group, 1)?.to_vec()?;
        let key = |cell: usize, channel: usize| values[cell * parts * channels + (parts - 2) * channels + channel];
        let all = if learned {
            let queries = p.get(&format!("{at}.queries"))?.slice(0, group, 1)?.to_vec()?;
            let cells = windows.cells();
            let query = |cell: usize, channel: usize| queries[cell % cells * channels + channel];
            probabilities(&windows, heads, channels / heads, query, key, &table)
        } else {
            let query = |cell: usize, channel: usize| values[cell * parts * channels + channel];
            probabilities(&windows, heads, channels / heads, query, key, &table)
        };
        groups_of_images.push(received(&windows, heads, &all));
    }
    // [G][N, heads, S, S] to [N, G · heads, S, S].
    let each = heads * side * side;
    let image = |i: usize| groups_of_images.iter().flat_map(move |g| g[i * each..(i + 1) * each].iter().copied());
    Ok(AttentionMap { maps: groups * heads, heads, side, values: (0..images).flat_map(image).collect() })
}

#[cfg(test)]
mod tests {
    use swinstyle_kit::testing::uniform;
    use swinstyle_query_attention::{Bias, WindowQueryAttention, window_query_attention};
    use swinstyle_tensor::{DType, Device};
    use swinstyle_window_attention::{WindowAttention, window_attention};

    use super::*;
    use crate::styleformer::tests::{HEADS, fresh, images, miniature};

    /// Probabilities times v, put back where the tokens are: `[N, H, W, C]`.
    fn apply(
        windows: &Windows,
        heads: usize,
        probabilities: &[f32],
        v: impl Fn(usize, usize) -> f32,
        c: usize,
    ) -> Vec<f32> {
        let n = windows.cells();
        let mut y = vec![0.0; windows.tokens() * c];
        for set in 0..windows.count() {
            for q in 0..n {
                let Some(token) = windows.token(set, q) else { continue };
                for channel in 0..c {
                    let row = &probabilities[((set * heads + channel / (c / heads)) * n + q) * n..][..n];
                    let sum: f64 =
                        row.iter().enumerate().map(|(k, &p)| f64::from(p) * f64::from(v(set * n + k, channel))).sum();
                    y[token * c + channel] = sum as f32;
                }
            }
        }
        y
    }

    fn assert_near(a: &[f32], b: &[f32]) {
        let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(a.len() == b.len() && worst < 2e-5, "{worst}");
    }

    #[test]
    fn probabilities_times_v_are_the_fused_window_attention() {
        // Shifted and padded on both axes, a rectangular window, and one window that covers the map.
        for (shape, window, shift) in
            [([2, 10, 7], [4, 4], [2, 2]), ([1, 7, 9], [3, 5], [1, 0]), ([1, 4, 4], [8, 8], [4, 4])]
        {
            let ([b, h, w], heads, c) = (shape, 2, 6);
            let windows = Windows::new(shape, window, shift);
            let qkv = uniform("qkv", &[b, h, w, 3 * c], DType::F32, Device::Cpu).unwrap().scale(3.0).unwrap();
            let pad = uniform("pad", &[3 * c], DType::F32, Device::Cpu).unwrap();
            let table = uniform("table", &[windows.table_len(), heads], DType::F32, Device::Cpu).unwrap();
            let attention = WindowAttention::new(window, shift, heads, c);
            let fused = window_attention(&qkv, Some(&pad), &table, &attention).unwrap();
            let cells = by_window(&windows, &qkv.to_vec().unwrap(), 3 * c, &pad.to_vec().unwrap());
            let part = |i: usize| move |cell: usize, channel: usize, x: &[f32]| x[cell * 3 * c + i * c + channel];
            let (q, k, v) = (part(0), part(1), part(2));
            let table = table.to_vec().unwrap();
            let all = probabilities(&windows, heads, c / heads, |a, b| q(a, b, &cells), |a, b| k(a, b, &cells), &table);
            assert_near(&apply(&windows, heads, &all, |a, b| v(a, b, &cells), c), &fused.to_vec().unwrap());
        }
    }

    #[test]
    fn probabilities_of_learned_queries_times_v_are_the_fused_query_attention() {
        let (n, side, window, heads, c) = (2, 8, 4, 2, 6);
        let windows = Windows::new([n, side, side], [window; 2], [0, 0]);
        let kv = uniform("kv", &[1, n, side, side, 2 * c], DType::F32, Device::Cpu).unwrap().scale(3.0).unwrap();
        let queries =
            uniform("queries", &[1, window * window, c], DType::F32, Device::Cpu).unwrap().scale(3.0).unwrap();
        let table = uniform("table", &[1, windows.table_len(), heads], DType::F32, Device::Cpu).unwrap();
        let attention = WindowQueryAttention::new([window; 2], heads, c);
        let fused = window_query_attention(&queries, &kv, None, Bias::Table(&table), &attention).unwrap();
        let cells = by_window(&windows, &kv.to_vec().unwrap(), 2 * c, &[0.0; 12]);
        let (queries, table) = (queries.to_vec().unwrap(), table.to_vec().unwrap());
        let query = |cell: usize, channel: usize| queries[cell % 16 * c + channel];
        let key = |cell: usize, channel: usize| cells[cell * 2 * c + channel];
        let all = probabilities(&windows, heads, c / heads, query, key, &table);
        let v = |cell: usize, channel: usize| cells[cell * 2 * c + c + channel];
        assert_near(&apply(&windows, heads, &all, v, c), &fused.to_vec().unwrap());
    }

    #[test]
    fn every_head_is_explained_by_maps_whose_mean_is_an_equal_share() {
        for head in HEADS {
            let encoder = Styleformer::new(miniature(head, true)).unwrap();
            let x = images(2, &encoder.config, DType::F32);
            let found = encoder.explain(&fresh(&encoder), &x).unwrap();
            let backbone = &encoder.config.backbone;
            assert_eq!(found.backbone.iter().map(|m| m.maps).collect::<Vec<_>>(), backbone.heads);
            assert_eq!(found.heads.len(), if head == Head::Convolution { 0 } else { encoder.config.levels().len() });
            for map in found.backbone.iter().chain(found.heads.iter().map(|(_, map)| map)) {
                assert_eq!(map.values.len(), 2 * map.maps * map.side * map.side);
                for values in map.values.chunks(map.side * map.side) {
                    let mean = values.iter().sum::<f32>() / values.len() as f32;
                    // No window of these maps is padded, so nothing is lost.
                    assert!((mean - 1.0).abs() < 1e-4 && values.iter().all(|v| *v >= 0.0), "{head:?}: {mean}");
                }
            }
        }
    }
}
