//! Transformations of place: one affine map an image, resampled with little aliasing and loss.

use std::f64::consts::PI;

use swinstyle_tensor::{DType, Device, Tensor, ops::Affine};
use swinstyle_upfirdn2d::{Upfirdn2d, separable_filter, upfirdn2d, upsample2d};

use super::{Chance, Group};
use crate::Result;

/// Largest shift by whole pixels and deviation of the fractional one, in image sizes.
const SHIFT: f64 = 0.125;
/// Deviation of the logarithms to base 2 of the scales.
const SCALE: f64 = 0.2;

/// The low-pass filter of the wavelet sym6 (Daubechies' least asymmetric one with six vanishing moments), of length 1.
pub(super) const SYM6: [f64; 12] = [
    0.015404109327027373,
    0.0034907120842174702,
    -0.11799011114819057,
    -0.048311742585633,
    0.4910559419267466,
    0.787641141030194,
    0.3379294217276218,
    -0.07263752278646252,
    -0.021060292512300564,
    0.04472490177066578,
    0.0017677118642428036,
    -0.007800708325034148,
];
/// Pixels by which the filter reaches beyond a border.
const REACH: usize = 3;

pub(super) const IDENTITY: Affine = Affine([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);

/// `first ∘ second`: the position that `first` gives to what `second` gives.
fn compose(first: &Affine, second: &Affine) -> Affine {
    let (a, b) = (&first.0, &second.0);
    let row = |i: usize| {
        [a[i] * b[0] + a[i + 1] * b[3], a[i] * b[1] + a[i + 1] * b[4], a[i] * b[2] + a[i + 1] * b[5] + a[i + 2]]
    };
    let [x, y] = [row(0), row(3)];
    Affine([x[0], x[1], x[2], y[0], y[1], y[2]])
}

fn scale(x: f64, y: f64) -> Affine {
    Affine([x, 0.0, 0.0, 0.0, y, 0.0])
}

fn rotation(angle: f64) -> Affine {
    let (s, c) = angle.sin_cos();
    Affine([c, -s, 0.0, s, c, 0.0])
}

fn shift(x: f64, y: f64) -> Affine {
    Affine([1.0, 0.0, x, 0.0, 1.0, y])
}

/// From where in the image each place of the transformed image comes: both in pixels from their centre, x to the right and y
/// down.
///
/// Every transformation is given by its inverse, the first to be applied stands leftmost.
pub(super) fn draw(groups: &[Group], [height, width]: [usize; 2], chance: &mut Chance) -> Affine {
    let (height, width) = (height as f64, width as f64);
    let mut map = IDENTITY;
    let mut apply = |chosen: bool, inverse: Affine| {
        if chosen {
            map = compose(&map, &inverse);
        }
    };
    if groups.contains(&Group::Blit) {
        let (chosen, mirrored) = (chance.chosen(), chance.below(2) == 1);
        apply(chosen && mirrored, scale(-1.0, 1.0));
        let (chosen, turns) = (chance.chosen(), chance.below(4));
        // Whole quarters, so that pixels fall on pixels.
        let quarters = [
            IDENTITY,
            Affine([0.0, -1.0, 0.0, 1.0, 0.0, 0.0]),
            scale(-1.0, -1.0),
            Affine([0.0, 1.0, 0.0, -1.0, 0.0, 0.0]),
        ];
        apply(chosen && turns > 0, quarters[turns]);
        let (chosen, x, y) = (chance.chosen(), chance.uniform(SHIFT), chance.uniform(SHIFT));
        let [x, y] = [(x * width).round(), (y * height).round()];
        apply(chosen && (x != 0.0 || y != 0.0), shift(-x, -y));
    }
    if groups.contains(&Group::Geometric) {
        let (chosen, s) = (chance.chosen(), chance.log_normal(SCALE));
        apply(chosen, scale(1.0 / s, 1.0 / s));
        // Two rotations, of which at least one happens with probability p.
        let rotated = 1.0 - (1.0 - chance.p).max(0.0).sqrt();
        let (chosen, angle) = (chance.happens(rotated), chance.uniform(PI));
        apply(chosen, rotation(angle));
        let (chosen, s) = (chance.chosen(), chance.log_normal(SCALE));
        apply(chosen, scale(1.0 / s, s));
        let (chosen, angle) = (chance.happens(rotated), chance.uniform(PI));
        apply(chosen, rotation(angle));
        let (chosen, x, y) = (chance.chosen(), chance.normal(SHIFT), chance.normal(SHIFT));
        apply(chosen, shift(-x * width, -y * height));
    }
    map
}

/// The resampling of place.
#[derive(Debug, Clone)]
pub(super) struct Geometry {
    /// sym6, of sum 1, for both axes.
    filter: Tensor,
}

impl Geometry {
    pub(super) fn new(device: Device) -> Result<Self> {
        Ok(Self { filter: separable_filter(&SYM6, DType::F32, device)? })
    }

    /// Images `[N, H, W, C]` under their maps; those whose map is the identity keep their bits.
    pub(super) fn apply(&self, images: &Tensor, maps: &[Affine]) -> Result<Tensor> {
        let (moved, kept): (Vec<usize>, Vec<usize>) = (0..maps.len()).partition(|&i| maps[i] != IDENTITY);
        if moved.is_empty() {
            return Ok(images.clone());
        }
        let chosen: Vec<Affine> = moved.iter().map(|&i| maps[i]).collect();
        let warped = self.resample(&images.index_select(0, &moved)?, &chosen)?;
        if kept.is_empty() {
            return Ok(warped);
        }
        // Back in order: where each image of the batch lies among the moved ones and the kept ones after them.
        let joined = Tensor::concat(&[&warped, &images.index_select(0, &kept)?], 0)?;
        let mut places = vec![0; maps.len()];
        for (place, &i) in moved.iter().chain(&kept).enumerate() {
            places[i] = place;
        }
        Ok(joined.index_select(0, &places)?)
    }

    /// Reflection at the borders, twice as many pixels, bilinear reading, half as many pixels.
    ///
    /// The filter of the second half is the first's turned around: for the identity the wavelet's orthogonality gives the image
    /// back. What lies further outside than a reflection reaches is 0.
    fn resample(&self, images: &Tensor, maps: &[Affine]) -> Result<Tensor> {
        let filter = self.filter.to_dtype(images.dtype())?;
        let (height, width) = (images.shape()[1], images.shape()[2]);
        let [my, mx] = margins(maps, [height, width]);
        let padded = images.index_select(1, &reflected(height, my))?.index_select(2, &reflected(width, mx))?;
        let fine = upsample2d(&padded, &filter, 2)?;
        // Fine samples around the image that the filter of the second half reads.
        let around = 2 * REACH;
        // Distance of fine sample 0 of the result from the centre, in pixels.
        let start = |size: usize| 0.25 - 0.5 * (size + around) as f64 + 0.5 * lead();
        let (x0, y0) = (start(width), start(height));
        let positions: Vec<Affine> = maps
            .iter()
            .map(|map| {
                let m = &map.0;
                let (x, y) = map.apply(x0, y0);
                let to_fine =
                    |at: f64, size: usize, margin: usize| 2.0 * at + (size + 2 * margin) as f64 - 0.5 - lead();
                Affine([m[0], m[1], to_fine(x, width, mx), m[3], m[4], to_fine(y, height, my)])
            })
            .collect();
        let warped = fine.warp(&positions, 2 * (height + around), 2 * (width + around))?;
        let crop = 5 - around as isize;
        let down = Upfirdn2d { down: [2; 2], pad: [crop; 4], flip: true, ..Upfirdn2d::default() };
        Ok(upfirdn2d(&warped, &filter, &down)?)
    }
}

/// Fine samples by which the picture leads the grid between the two filters, whose centre of mass is not their middle: 0.4017 for sym6.
///
/// The published code resamples as if it were the middle, so that what it turns and scales also moves by 0.2 pixels.
fn lead() -> f64 {
    let [sum, moment] = [0, 1].map(|m| SYM6.iter().enumerate().map(|(i, h)| h * (i as f64).powi(m)).sum::<f64>());
    0.5 * (SYM6.len() - 1) as f64 - moment / sum
}

/// Pixels of reflection that the maps and the filter need on each axis, as far as an image holds them.
fn margins(maps: &[Affine], [height, width]: [usize; 2]) -> [usize; 2] {
    let [half_y, half_x] = [height, width].map(|n| 0.5 * n as f64);
    let reach = REACH as f64;
    let (mut far_x, mut far_y) = (0.0_f64, 0.0_f64);
    for map in maps {
        for (sx, sy) in [(-1.0, -1.0), (-1.0, 1.0), (1.0, -1.0), (1.0, 1.0)] {
            let (x, y) = map.apply(sx * (half_x + reach), sy * (half_y + reach));
            (far_x, far_y) = (far_x.max(x.abs()), far_y.max(y.abs()));
        }
    }
    let margin = |far: f64, half: f64, size: usize| (((far - half).ceil().max(0.0) as usize) + REACH).min(size - 1);
    [margin(far_y, half_y, height), margin(far_x, half_x, width)]
}

/// Positions of an axis with `margin` more on both sides, the outermost pixel being the mirror.
fn reflected(size: usize, margin: usize) -> Vec<usize> {
    let (size, margin) = (size as isize, margin as isize);
    (-margin..size + margin).map(|i| (if i >= size { 2 * (size - 1) - i } else { i.abs() }) as usize).collect()
}
