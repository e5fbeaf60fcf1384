//! A picture of any shape to a square of one size.

use std::fmt;
use std::str::FromStr;

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};

use crate::picture::Picture;
use crate::{DataError, Result};

/// What becomes of a picture that is no square.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fit {
    /// The middle of the longer side is kept.
    #[default]
    Crop,
    /// All of it is kept, with white beside it.
    Pad,
    /// All of it is kept, out of shape.
    Stretch,
}

impl Fit {
    /// The names, in the order of the variants.
    pub const NAMES: [&str; 3] = ["crop", "pad", "stretch"];
}

impl fmt::Display for Fit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::NAMES[*self as usize])
    }
}

impl FromStr for Fit {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Self> {
        let all = [Self::Crop, Self::Pad, Self::Stretch];
        let named = all.into_iter().find(|fit| fit.to_string() == text);
        named.ok_or_else(|| DataError::argument("fit", text, Self::NAMES.join(", ")))
    }
}

/// Brings a picture to `size` x `size` pixels with an antialiasing filter: Catmull-Rom, its support widened when shrinking.
///
/// # Errors
/// [`DataError::InvalidArgument`] for a size or a picture without pixels.
pub fn fit_square(picture: &Picture, size: usize, fit: Fit) -> Result<Picture> {
    super::check_size(size)?;
    if (picture.width, picture.height) == (size, size) {
        return Ok(picture.clone());
    }
    let long = picture.width.max(picture.height).max(1);
    let inner = |side: usize| ((side * size + long / 2) / long).max(1);
    match fit {
        Fit::Crop | Fit::Stretch => resize(picture, size, size, fit),
        Fit::Pad => {
            let (width, height) = (inner(picture.width), inner(picture.height));
            let mut square = Picture::filled(size, size, [255; 3]);
            square.paste(&resize(picture, width, height, Fit::Stretch)?, (size - width) / 2, (size - height) / 2);
            Ok(square)
        }
    }
}

fn resize(picture: &Picture, width: usize, height: usize, fit: Fit) -> Result<Picture> {
    let bad = |reason: String| {
        let shape = format!("{} x {}", picture.width, picture.height);
        DataError::argument("picture", shape, format!("one that can be resized ({reason})"))
    };
    let side = |side: usize| u32::try_from(side).map_err(|error| bad(error.to_string()));
    let mut rgb = vec![0; 3 * width * height];
    let source = TypedImageRef::<U8x3>::from_buffer(side(picture.width)?, side(picture.height)?, &picture.rgb);
    let source = source.map_err(|error| bad(error.to_string()))?;
    let target = TypedImage::<U8x3>::from_buffer(side(width)?, side(height)?, &mut rgb);
    let mut target = target.map_err(|error| bad(error.to_string()))?;
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom));
    let options = if fit == Fit::Crop { options.fit_into_destination(None) } else { options };
    // The method that finds the pixels' type at run time brings the code of all thirteen, almost five MiB.
    Resizer::new().resize_typed(&source, &mut target, &options).map_err(|error| bad(error.to_string()))?;
    Ok(Picture { width, height, rgb })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three bands side by side: red, green, blue.
    fn bands() -> Picture {
        let mut picture = Picture::filled(30, 10, [255, 0, 0]);
        picture.paste(&Picture::filled(10, 10, [0, 255, 0]), 10, 0);
        picture.paste(&Picture::filled(10, 10, [0, 0, 255]), 20, 0);
        picture
    }

    #[test]
    fn a_wide_picture_is_cropped_padded_or_stretched() {
        let pixel = |picture: &Picture, x: usize, y: usize| picture.rgb[(y * picture.width + x) * 3..][..3].to_vec();
        let fitted = |fit: Fit| fit_square(&bands(), 30, fit).unwrap();
        let (crop, pad, stretch) = (fitted(Fit::Crop), fitted(Fit::Pad), fitted(Fit::Stretch));
        assert_eq!((pixel(&crop, 4, 15), pixel(&crop, 26, 15)), (vec![0, 255, 0], vec![0, 255, 0]));
        assert_eq!((pixel(&pad, 15, 5), pixel(&pad, 15, 25)), (vec![255; 3], vec![255; 3]));
        assert_eq!((pixel(&pad, 5, 15), pixel(&pad, 25, 15)), (vec![255, 0, 0], vec![0, 0, 255]));
        assert_eq!((pixel(&stretch, 5, 2), pixel(&stretch, 25, 28)), (vec![255, 0, 0], vec![0, 0, 255]));
        for (fit, name) in [(Fit::Crop, "crop"), (Fit::Pad, "pad"), (Fit::Stretch, "stretch")] {
            assert_eq!((fit.to_string().as_str(), name.parse::<Fit>().unwrap()), (name, fit));
        }
        assert!("fill".parse::<Fit>().is_err());
    }

    #[test]
    fn a_line_of_pixels_can_be_padded() {
        assert_eq!(fit_square(&Picture::filled(1000, 1, [9; 3]), 8, Fit::Pad).unwrap().rgb.len(), 8 * 8 * 3);
    }
}
