//! From picks to pixels: each layer is rasterised once per size and colour, then portraits are composited from layers.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg;

use super::BACKGROUND;
use super::portrait::{Layer, Portrait, Split};
use super::style::Style;
use crate::picture::Picture;
use crate::{DataError, LabelMap, Result};

/// Layers beyond this many bytes are drawn anew each time instead of being kept.
const CACHE_BYTES: usize = 256 << 20;

/// Draws portraits of one style at one size; cheap to share between threads.
///
/// A layer is `resvg`'s rasterisation on a transparent ground; the picture is the layers put over [`BACKGROUND`] in
/// order, `out = layer + (1 - alpha) * below` in 8 bits. This equals rasterising the whole SVG up to rounding, and
/// makes the label map agree with the picture pixel by pixel.
pub struct Renderer {
    style: Arc<Style>,
    size: usize,
    cache: RwLock<Cache>,
}

#[derive(Default)]
struct Cache {
    layers: HashMap<Layer, Arc<Raster>>,
    bytes: usize,
}

/// The pixels of a layer inside the smallest box that holds them all.
struct Raster {
    left: usize,
    top: usize,
    width: usize,
    label: u8,
    rgba: Vec<u8>, // [height, width, 4], colours multiplied by alpha
}

impl Renderer {
    /// The sides that a portrait can have, in pixels.
    pub const SIZES: std::ops::RangeInclusive<usize> = 8..=4096;

    /// # Errors
    /// [`DataError::InvalidArgument`] for a size outside [`Self::SIZES`].
    pub fn new(style: &Arc<Style>, size: usize) -> Result<Self> {
        if !Self::SIZES.contains(&size) {
            let allowed = format!("between {} and {} pixels", Self::SIZES.start(), Self::SIZES.end());
            return Err(DataError::argument("portrait size", size, allowed));
        }
        Ok(Self { style: Arc::clone(style), size, cache: RwLock::default() })
    }

    /// The style that is drawn.
    pub fn style(&self) -> &Arc<Style> {
        &self.style
    }

    /// The side in pixels.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The portrait's picture.
    ///
    /// # Errors
    /// [`DataError::BadStyle`] where the style's SVG cannot be parsed.
    pub fn render(&self, portrait: &Portrait) -> Result<Picture> {
        let size = self.size;
        let mut rgb = BACKGROUND.repeat(size * size);
        for layer in portrait.layers() {
            let raster = self.raster(layer)?;
            raster.for_each_row(|top, left, row| {
                let below = rgb[(top * size + left) * 3..].chunks_exact_mut(3);
                for (below, above) in below.zip(row.chunks_exact(4)) {
                    let hidden = u32::from(255 - above[3]);
                    for channel in 0..3 {
                        below[channel] =
                            above[channel].saturating_add(divide_by_255(u32::from(below[channel]) * hidden));
                    }
                }
            });
        }
        Ok(Picture { width: size, height: size, rgb })
    }

    /// The portrait's label map: the label of the top-most layer whose alpha is at least 128, else background.
    ///
    /// # Errors
    /// [`DataError::BadStyle`] where the style's SVG cannot be parsed.
    pub fn mask(&self, portrait: &Portrait) -> Result<LabelMap> {
        let size = self.size;
        let mut labels = vec![0; size * size];
        for layer in portrait.layers() {
            let raster = self.raster(layer)?;
            raster.for_each_row(|top, left, row| {
                for (label, pixel) in labels[top * size + left..].iter_mut().zip(row.chunks_exact(4)) {
                    if pixel[3] >= 128 {
                        *label = raster.label;
                    }
                }
            });
        }
        Ok(LabelMap { size, labels })
    }

    fn raster(&self, layer: Layer) -> Result<Arc<Raster>> {
        // A poisoned lock is harmless: a layer is inserted whole or not at all.
        let known = self.cache.read().unwrap_or_else(PoisonError::into_inner).layers.get(&layer).cloned();
        if let Some(raster) = known {
            return Ok(raster);
        }
        let raster = Arc::new(self.rasterise(&layer)?);
        let mut cache = self.cache.write().unwrap_or_else(PoisonError::into_inner);
        if cache.bytes + raster.rgba.len() <= CACHE_BYTES {
            cache.bytes += raster.rgba.len();
            cache.layers.insert(layer, Arc::clone(&raster));
        }
        Ok(raster)
    }

    fn rasterise(&self, layer: &Layer) -> Result<Raster> {
        let pixmap = rasterise(&self.style, &layer.svg(&self.style), self.size)?;
        let label = self.style.fragments[layer.fragment].label;
        Ok(Raster::crop(&pixmap, self.size, label))
    }
}

/// Draws an SVG document of a style's canvas on a transparent square of `size` pixels.
fn rasterise(style: &Style, svg: &str, size: usize) -> Result<Pixmap> {
    let bad = |reason: String| DataError::BadStyle { style: style.name().to_owned(), reason };
    let tree = usvg::Tree::from_str(svg, &usvg::Options::default()).map_err(|error| bad(error.to_string()))?;
    let side = size as u32;
    let mut pixmap = Pixmap::new(side, side).ok_or_else(|| bad(format!("no memory for {side} x {side} pixels")))?;
    let scale = size as f32 / style.side;
    resvg::render(&tree, Transform::from_scale(scale, scale), &mut pixmap.as_mut());
    Ok(pixmap)
}

impl Raster {
    fn crop(pixmap: &Pixmap, size: usize, label: u8) -> Self {
        let covered = |x: usize, y: usize| pixmap.data()[(y * size + x) * 4 + 3] > 0;
        let mut rows = (0..size).filter(|&y| (0..size).any(|x| covered(x, y)));
        let mut columns = (0..size).filter(|&x| (0..size).any(|y| covered(x, y)));
        let (Some(top), Some(left)) = (rows.next(), columns.next()) else {
            return Self { left: 0, top: 0, width: 1, label, rgba: Vec::new() };
        };
        let (bottom, right) = (rows.next_back().unwrap_or(top), columns.next_back().unwrap_or(left));
        let mut rgba = Vec::with_capacity((bottom + 1 - top) * (right + 1 - left) * 4);
        for y in top..=bottom {
            rgba.extend_from_slice(&pixmap.data()[(y * size + left) * 4..(y * size + right + 1) * 4]);
        }
        Self { left, top, width: right + 1 - left, label, rgba }
    }

    /// Calls `f(y, x, pixels)` for each row of the box.
    fn for_each_row(&self, mut f: impl FnMut(usize, usize, &[u8])) {
        for (row, pixels) in self.rgba.chunks_exact(self.width * 4).enumerate() {
            f(self.top + row, self.left, pixels);
        }
    }
}

/// x / 255 rounded to nearest, exact for x <= 255 * 255.
fn divide_by_255(x: u32) -> u8 {
    let x = x + 128;
    ((x + (x >> 8)) >> 8) as u8
}

/// Portraits by number: an endless or finite data set that is drawn when it is asked for.
pub struct PortraitSet {
    renderer: Renderer,
    seed: u64,
    split: Split,
    count: u64,
}

impl PortraitSet {
    /// The portraits `0..count` of a seed and split.
    ///
    /// # Errors
    /// [`DataError::InvalidArgument`] for a count of zero.
    pub fn new(renderer: Renderer, seed: u64, split: Split, count: u64) -> Result<Self> {
        if count == 0 {
            return Err(DataError::argument("portrait count", count, "at least 1"));
        }
        Ok(Self { renderer, seed, split, count })
    }

    /// How many portraits there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// What the same portraits are known by.
    pub fn fingerprint(&self) -> String {
        format!("avatars:{}:{}:{}:{}", self.renderer.style().name(), self.split, self.seed, self.count)
    }

    /// What draws them.
    pub fn renderer(&self) -> &Renderer {
        &self.renderer
    }

    /// The picks of portrait number `index`.
    pub fn portrait(&self, index: u64) -> Portrait {
        Portrait::sample(self.renderer.style(), self.seed, index, self.split)
    }

    /// The picture of portrait number `index`.
    ///
    /// # Errors
    /// [`DataError::BadStyle`] where the style's SVG cannot be parsed.
    pub fn picture(&self, index: u64) -> Result<Picture> {
        self.renderer.render(&self.portrait(index))
    }

    /// The label map of portrait number `index`.
    ///
    /// # Errors
    /// [`DataError::BadStyle`] where the style's SVG cannot be parsed.
    pub fn mask(&self, index: u64) -> Result<LabelMap> {
        self.renderer.mask(&self.portrait(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dividing_by_255_rounds_to_nearest() {
        for x in 0..=255 * 255u32 {
            assert_eq!(u32::from(divide_by_255(x)), (2 * x + 255) / 510, "{x}");
        }
    }

    #[test]
    fn compositing_layers_equals_rasterising_the_whole_svg_up_to_rounding() {
        for name in Style::NAMES {
            let style = Style::named(name).unwrap();
            let renderer = Renderer::new(&style, 64).unwrap();
            for index in 0..40 {
                let portrait = Portrait::sample(&style, 11, index, Split::Heldout);
                let composed = renderer.render(&portrait).unwrap();
                let whole = rasterise(&style, &portrait.svg(), 64).unwrap();
                let pixels = composed.rgb.chunks_exact(3).zip(whole.data().chunks_exact(4));
                let worst = pixels.flat_map(|(a, b)| (0..3).map(|c| a[c].abs_diff(b[c]))).max().unwrap();
                assert!(worst <= 4, "{name} {index}: {worst} levels apart");
            }
        }
    }
}
