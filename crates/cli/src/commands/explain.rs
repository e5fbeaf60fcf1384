//! `--explain`: a sheet an image of where the encoder looked, by level and by head.

use anyhow::{Context as _, Result};
use swinstyle_data::{
    Picture,
    picture::{FADED, GROUND, INK, LINE_HEIGHT, difference, shortened, text_width},
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
/// Around the sheet, between its two halves and above a level; between pictures, and between a picture and its text; in pixels.
const MARGIN: usize = 16;
const GAP: usize = 4;
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
            let each = map.heads;
            // Styles that share their first block share its attention.
            let caption = |i: usize| {
                if map.maps == each && level.styles.len() > 1 {
                    format!("head {i}")
                } else {
                    format!("style {} head {}", first + i / each, i % each)
                }
            };
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

/// Where the tiles of a sheet are, in pixels.
struct Layout {
    /// Side of a tile's picture; from a tile to the one beside it, and to the one below it.
    side: usize,
    across: usize,
    down: usize,
    /// Tiles beside each other in a block, and blocks beside each other.
    columns: usize,
    blocks: usize,
}

impl Layout {
    const HEADING: usize = LINE_HEIGHT + GAP;

    fn of(first: &[Tile], levels: &[Level]) -> Self {
        let side = first[0].picture.width;
        let tiles = || levels.iter().flatten().flat_map(|(_, tiles)| tiles).chain(first);
        let longest = tiles().map(|tile| text_width(&tile.caption)).max().unwrap_or(0);
        let used = levels.iter().flatten().map(|(_, tiles)| tiles.len().min(COLUMNS));
        let both = levels.iter().any(|[_, (_, heads)]| !heads.is_empty());
        Self {
            side,
            across: side.max(longest) + 2 * GAP,
            down: side + LINE_HEIGHT + 3 * GAP,
            columns: used.max().unwrap_or(0).max(first.len()),
            blocks: if both { 2 } else { 1 },
        }
    }

    /// The left edge of a block.
    fn left(&self, block: usize) -> usize {
        MARGIN + block * (self.columns * self.across + MARGIN)
    }

    fn width(&self) -> usize {
        self.left(self.blocks) - 2 * GAP
    }

    /// From a level to the one below it.
    fn height_of(&self, level: &Level) -> usize {
        let rows = level.iter().map(|(_, tiles)| tiles.len().div_ceil(self.columns)).max().unwrap_or(0);
        MARGIN + Self::HEADING + rows * self.down
    }

    fn put(&self, sheet: &mut Picture, tiles: &[Tile], [left, top]: [usize; 2]) {
        for (i, tile) in tiles.iter().enumerate() {
            let (x, y) = (left + i % self.columns * self.across, top + i / self.columns * self.down);
            sheet.paste(&tile.picture, x, y);
            sheet.write_text(x, y + self.side + GAP, &tile.caption, FADED);
        }
    }
}

fn sheet(shown: &Picture, made: &Picture, levels: &[Level]) -> Result<Picture> {
    let tile = |picture: &Picture, caption: String| Tile { picture: picture.enlarged(factor(picture)), caption };
    let first = [
        tile(shown, "source".into()),
        tile(made, "inverted".into()),
        tile(&difference(shown, made, DIFFERENCE_GAIN)?, format!("difference x{DIFFERENCE_GAIN}")),
    ];
    let layout = Layout::of(&first, levels);
    let below: usize = levels.iter().map(|level| layout.height_of(level)).sum();
    let mut sheet = Picture::filled(layout.width(), 2 * MARGIN + layout.down + below, GROUND);
    layout.put(&mut sheet, &first, [MARGIN, MARGIN]);
    let notes = [
        "The attention that each token gets from its window:",
        "dark is 0, bright the greatest of the map.",
        "The number is that greatest: 1 is an equal share.",
    ];
    let left = layout.left(0) + first.len() * layout.across + MARGIN;
    for (i, note) in notes.iter().enumerate() {
        let fitting = shortened(note, layout.width().saturating_sub(left));
        sheet.write_text(left, MARGIN + i * LINE_HEIGHT, &fitting, FADED);
    }
    let mut top = MARGIN + layout.down;
    for level in levels {
        for (block, (name, tiles)) in level.iter().enumerate() {
            let (left, top) = (layout.left(block), top + MARGIN);
            sheet.write_bold(left, top, name, INK);
            layout.put(&mut sheet, tiles, [left, top + Layout::HEADING]);
        }
        top += layout.height_of(level);
    }
    Ok(sheet)
}
