//! `--explain`: a sheet an image of where the encoder looked, by level and by head.

use anyhow::{Context as _, Result};
use swinstyle_data::{
    Picture,
    picture::{GAP, GLYPH_ADVANCE, GLYPH_HEIGHT, GROUND, difference},
};
use swinstyle_models::{
    Model,
    styleformer::{AttentionMap, Explanation, Head},
};
use swinstyle_tensor::Tensor;

use super::invert::DIFFERENCE_GAIN;

/// Least side of a picture on the sheet, in pixels.
const SIDE: usize = 128;
/// Pictures beside each other in a block.
const COLUMNS: usize = 6;
const INK: [u8; 3] = [0x1d, 0x27, 0x33];
/// Black, purple, orange, pale yellow: brighter is more, also in grey.
const RAMP: [[f32; 3]; 5] =
    [[0.0, 0.0, 8.0], [87.0, 16.0, 110.0], [188.0, 55.0, 84.0], [249.0, 142.0, 9.0], [252.0, 255.0, 164.0]];

/// A picture with a line under it.
struct Tile {
    picture: Picture,
    caption: String,
}

/// One sheet an image: source, reconstruction, difference; then a row a level, the backbone's heads beside the styles' heads.
pub(super) fn sheets(
    model: &Model,
    input: &Tensor,     // [N, S, S, C]
    shown: &[&Picture], // what was read, as pictures of S x S
    made: &[&Picture],  // what was made of it
) -> Result<Vec<Picture>> {
    let (encoder, params) = model.encoder.as_ref().context("the model has no encoder")?;
    let found = match encoder.config.refine_steps {
        1 => encoder.explain(params, input)?,
        // The first of ReStyle's passes.
        _ => encoder.explain(params, &model.with_inversion(input, &model.first_code()?)?)?,
    };
    let kind = match encoder.config.map2style.head {
        Head::SelfAttention => "self-attention",
        _ => "learnable queries",
    };
    let one = |i: usize| {
        let blocks = blocks(&found, i, shown[i], kind);
        sheet(shown[i], made[i], &blocks)
    };
    (0..shown.len()).map(one).collect()
}

/// A level's two blocks, each with its title.
type Level = [(String, Vec<Tile>); 2];

fn blocks(found: &Explanation, image: usize, shown: &Picture, kind: &str) -> Vec<Level> {
    let names = ["fine", "medium", "coarse"];
    // The coarsest first, as the styles are numbered.
    let last = found.heads.iter().map(|(level, _)| level.stage + 1).max().unwrap_or(0);
    let stages = (0..found.backbone.len().max(last)).rev();
    let level = |stage: usize| {
        let name = names.get(stage).copied().unwrap_or("coarsest");
        let own = found.backbone.get(stage).map_or((String::new(), Vec::new()), |map| {
            let title = format!("{name}: backbone stage {}, self-attention", stage + 1);
            (title, tiles(map, image, shown, |head| format!("head {head}")))
        });
        let heads = found.heads.iter().find(|(level, _)| level.stage == stage);
        let styles = heads.map_or((String::new(), Vec::new()), |(level, map)| {
            let (first, last) = (level.styles.start, level.styles.end - 1);
            let each = map.maps / level.styles.len();
            let caption = |i: usize| format!("style {} head {}", first + i / each, i % each);
            (format!("{name}: map2style, styles {first}-{last}, {kind}"), tiles(map, image, shown, caption))
        });
        [own, styles]
    };
    stages.map(level).collect()
}

fn tiles(map: &AttentionMap, image: usize, shown: &Picture, caption: impl Fn(usize) -> String) -> Vec<Tile> {
    let area = map.side * map.side;
    let values = map.values[image * map.maps * area..(image + 1) * map.maps * area].chunks(area);
    let tile = |(i, values): (usize, &[f32])| {
        let top = values.iter().copied().fold(0.0, f32::max).max(1e-6);
        Tile { picture: overlay(shown, values, map.side, top), caption: format!("{}: {top:.1}", caption(i)) }
    };
    values.enumerate().map(tile).collect()
}

/// Heat over the greyed picture, at the size of a tile.
fn overlay(
    shown: &Picture,
    values: &[f32], // [side, side]
    side: usize,
    top: f32,
) -> Picture {
    let mut picture = shown.enlarged(factor(shown));
    let (width, height) = (picture.width, picture.height);
    for (i, pixel) in picture.rgb.chunks_exact_mut(3).enumerate() {
        let (x, y) = (i % width * side / width, i / width * side / height);
        let heat = values[y * side + x] / top;
        let grey = pixel.iter().map(|&v| f32::from(v)).sum::<f32>() / 3.0;
        let alpha = 0.35 + 0.5 * heat;
        for (value, hot) in pixel.iter_mut().zip(ramp(heat)) {
            *value = ((1.0 - alpha) * grey + alpha * hot).round() as u8;
        }
    }
    picture
}

/// The colour of a heat from 0 to 1.
fn ramp(heat: f32) -> [f32; 3] {
    let at = heat.clamp(0.0, 1.0) * (RAMP.len() - 1) as f32;
    let i = (at as usize).min(RAMP.len() - 2);
    let t = at - i as f32;
    [0, 1, 2].map(|c| RAMP[i][c] * (1.0 - t) + RAMP[i + 1][c] * t)
}

fn factor(picture: &Picture) -> usize {
    SIDE.div_ceil(picture.width.max(1)).max(1)
}

fn sheet(shown: &Picture, made: &Picture, levels: &[Level]) -> Result<Picture> {
    let large = |picture: &Picture| picture.enlarged(factor(picture));
    let tile = |picture: Picture, caption: &str| Tile { picture, caption: caption.into() };
    let first = [
        tile(large(shown), "what was read"),
        tile(large(made), "what was made"),
        tile(large(&difference(shown, made, DIFFERENCE_GAIN)?), "difference, twice"),
    ];
    let side = first[0].picture.width;
    let (across, down) = (side + 2 * GAP, side + GLYPH_HEIGHT + 4 * GAP);
    let title = GLYPH_HEIGHT + 4 * GAP;
    let used = |block: &[Tile]| block.len().min(COLUMNS);
    let columns = levels.iter().flatten().map(|(_, b)| used(b)).max().unwrap_or(0).max(first.len());
    let blocks = if levels.iter().any(|[_, (_, heads)]| !heads.is_empty()) { 2 } else { 1 };
    let rows = |level: &Level| level.iter().map(|(_, b)| b.len().div_ceil(columns)).max().unwrap_or(0);
    let gutter = 8 * GAP;
    let width = blocks * columns * across + gutter * (blocks + 1);
    let levels_height: usize = levels.iter().map(|l| title + rows(l) * down).sum();
    let mut sheet = Picture::filled(width, gutter + down + 2 * title + levels_height, GROUND);
    let mut put = |block: &[Tile], left: usize, top: usize| {
        for (i, tile) in block.iter().enumerate() {
            let (x, y) = (left + i % columns * across, top + i / columns * down);
            sheet.paste(&tile.picture, x, y);
            sheet.write_text(x, y + side + GAP, &tile.caption, INK);
        }
    };
    let mut top = gutter;
    put(&first, gutter, top);
    top += down + GAP;
    let lines = [
        "the attention that each token gets from its window: dark is 0, bright the greatest of the map",
        "the number is that greatest: 1 is an equal share",
    ];
    let mut texts: Vec<(usize, usize, String)> = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let left = gutter + 3 * across + gutter;
        texts.push((left, gutter + i * (GLYPH_HEIGHT + GAP), fitting(line, width.saturating_sub(left))));
    }
    for level in levels {
        for (i, (name, block)) in level.iter().enumerate() {
            let left = gutter + i * (columns * across + gutter);
            texts.push((left, top + GAP, name.clone()));
            put(block, left, top + title);
        }
        top += title + rows(level) * down;
    }
    for (left, top, text) in texts {
        sheet.write_text(left, top, &text, INK);
    }
    Ok(sheet)
}

/// The beginning of a line that fits.
fn fitting(line: &str, width: usize) -> String {
    line.chars().take(width / GLYPH_ADVANCE).collect()
}
