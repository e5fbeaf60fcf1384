//! Pictures on their way in and out: bytes, `[-1, 1]` floats, PNG files, grids, differences and metrics.
//!
//! A network's image is `f32` in `[-1, 1]`, `[H, W, 3]`, with `x = byte / 127.5 - 1`; a batch is `[N, H, W, 3]`.

mod file;
mod grid;
mod metrics;
mod sheet;
mod text;

pub use file::{encode_animation, encode_label_png, encode_png, write_atomic, write_label_png, write_png};
pub use grid::{difference, sheet};
pub use metrics::{mse, psnr, psnr_from_mse, ssim};
pub use sheet::{GROUND, Sheet};
pub use text::{ADVANCE, FADED, INK, LINE_HEIGHT, shortened, text_width};

use crate::{DataError, Result};

/// An RGB picture of 8 bits a channel, sRGB as in the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// In pixels.
    pub width: usize,
    /// In pixels.
    pub height: usize,
    /// The pixels, row by row.
    pub rgb: Vec<u8>, // [H, W, 3]
}

impl Picture {
    /// A picture of one colour.
    pub fn filled(width: usize, height: usize, color: [u8; 3]) -> Self {
        Self { width, height, rgb: color.repeat(width * height) }
    }

    /// From a network's image: values outside `[-1, 1]` are clamped, NaN becomes black.
    ///
    /// # Errors
    /// [`DataError::InvalidArgument`] when `image` does not hold `height * width * 3` values.
    pub fn from_f32(
        image: &[f32], // [H, W, 3] in [-1, 1]
        height: usize,
        width: usize,
    ) -> Result<Self> {
        check_length("image length", image.len(), &[height, width, 3])?;
        // `as` saturates and turns NaN into 0.
        let rgb = image.iter().map(|&x| ((x + 1.0) * 127.5).round() as u8).collect();
        Ok(Self { width, height, rgb })
    }

    /// The pictures of a network's batch.
    ///
    /// # Errors
    /// [`DataError::InvalidArgument`] when `images` does not hold a whole number of `height * width * 3` images.
    pub fn from_batch(
        images: &[f32], // [N, H, W, 3] in [-1, 1]
        height: usize,
        width: usize,
    ) -> Result<Vec<Self>> {
        let length = (height * width * 3).max(1);
        check_length("batch length", images.len(), &[images.len() / length, height, width, 3])?;
        images.chunks_exact(length).map(|image| Self::from_f32(image, height, width)).collect()
    }

    /// Every pixel as a square of `factor` x `factor`.
    pub fn enlarged(&self, factor: usize) -> Self {
        let row = |row: &[u8]| row.chunks_exact(3).flat_map(|pixel| pixel.repeat(factor)).collect::<Vec<u8>>();
        let rgb = self.rgb.chunks_exact((self.width * 3).max(1)).flat_map(|r| row(r).repeat(factor)).collect();
        Self { width: self.width * factor, height: self.height * factor, rgb }
    }

    /// Every square of `factor` x `factor` pixels as one pixel of their mean; at the right and lower edge of those there are.
    pub fn reduced(&self, factor: usize) -> Self {
        let factor = factor.max(1);
        let (width, height) = (self.width.div_ceil(factor), self.height.div_ceil(factor));
        let mut rgb = Vec::with_capacity(width * height * 3);
        for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
            let columns = x * factor..self.width.min((x + 1) * factor);
            let rows = y * factor..self.height.min((y + 1) * factor);
            let count = (columns.len() * rows.len()) as u64;
            let mut sums = [0_u64; 3];
            for row in rows {
                let pixels = &self.rgb[(row * self.width + columns.start) * 3..][..columns.len() * 3];
                pixels.chunks_exact(3).for_each(|p| (0..3).for_each(|c| sums[c] += u64::from(p[c])));
            }
            rgb.extend(sums.map(|sum| ((sum + count / 2) / count) as u8));
        }
        Self { width, height, rgb }
    }

    /// Puts another picture on this one; what does not fit is cut off.
    pub fn paste(&mut self, other: &Self, left: usize, top: usize) {
        let width = other.width.min(self.width.saturating_sub(left)) * 3;
        for y in 0..other.height.min(self.height.saturating_sub(top)) {
            let at = ((top + y) * self.width + left) * 3;
            self.rgb[at..at + width].copy_from_slice(&other.rgb[y * other.width * 3..][..width]);
        }
    }

    /// The picture as a network's image, `[H, W, 3]` in `[-1, 1]`.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut image = vec![0.0; self.rgb.len()];
        self.write_f32(false, &mut image);
        image
    }

    /// Writes the picture as a network's image, mirrored left to right where `flip` says so.
    ///
    /// `image` holds as many values as the picture; what is beyond the shorter one stays as it is.
    pub fn write_f32(
        &self,
        flip: bool,
        image: &mut [f32], // [H, W, 3]
    ) {
        let row = self.width * 3;
        for (source, target) in self.rgb.chunks_exact(row).zip(image.chunks_exact_mut(row)) {
            for (x, pixel) in target.chunks_exact_mut(3).enumerate() {
                let x = if flip { self.width - 1 - x } else { x };
                for channel in 0..3 {
                    pixel[channel] = f32::from(source[x * 3 + channel]) / 127.5 - 1.0;
                }
            }
        }
    }
}

/// Errs unless `length` is the product of `shape`.
fn check_length(what: &'static str, length: usize, shape: &[usize]) -> Result<()> {
    let expected: usize = shape.iter().product();
    if length == expected {
        return Ok(());
    }
    let shape: Vec<String> = shape.iter().map(usize::to_string).collect();
    Err(DataError::argument(what, length, format!("{expected} = {}", shape.join(" x "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_the_way_to_floats_and_back() {
        let picture = Picture { width: 16, height: 16, rgb: (0..16 * 16 * 3).map(|i| (i % 256) as u8).collect() };
        let image = picture.to_f32();
        assert_eq!(Picture::from_f32(&image, 16, 16).unwrap(), picture);
        assert_eq!((image[0], image[255]), (-1.0, 1.0));
    }

    #[test]
    fn flipping_mirrors_left_to_right_and_keeps_the_channels() {
        let picture = Picture { width: 2, height: 1, rgb: vec![0, 51, 102, 153, 204, 255] };
        let mut image = vec![0.0; 6];
        picture.write_f32(true, &mut image);
        assert_eq!(Picture::from_f32(&image, 1, 2).unwrap().rgb, [153, 204, 255, 0, 51, 102]);
    }

    #[test]
    fn enlarging_repeats_pixels_and_pasting_stays_inside() {
        let small = Picture { width: 2, height: 1, rgb: vec![1, 2, 3, 4, 5, 6] };
        let large = small.enlarged(2);
        assert_eq!((large.width, large.height), (4, 2));
        assert_eq!(large.rgb, [[1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6]; 2].concat());
        let mut ground = Picture::filled(2, 2, [0; 3]);
        ground.paste(&large, 1, 1);
        assert_eq!(ground.rgb, [[0; 9].as_slice(), &[1, 2, 3]].concat());
        ground.paste(&large, 5, 5);
    }

    #[test]
    fn values_outside_the_range_are_clamped_and_nan_is_black() {
        let picture = Picture::from_f32(&[-7.0, 7.0, f32::NAN], 1, 1).unwrap();
        assert_eq!(picture.rgb, [0, 255, 0]);
    }

    #[test]
    fn a_wrong_length_is_an_error_that_names_the_shape() {
        let error = Picture::from_f32(&[0.0; 5], 1, 2).unwrap_err();
        assert_eq!(error.to_string(), "image length is 5; it must be 6 = 1 x 2 x 3");
    }
}
