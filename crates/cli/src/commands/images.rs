//! How commands read the images that users give: of any shape, to the square that an encoder reads.

use std::path::Path;

use anyhow::Result;
use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser as _},
};
use swinstyle_data::{
    Picture,
    folder::{Fit, decode_image, fit_square},
};

/// What becomes of images that are no squares.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Fitting {
    /// What becomes of an image that is no square: `crop` keeps the middle, `pad` puts white beside it, `stretch` bends it.
    #[arg(long, default_value_t = Fit::Crop, value_parser = PossibleValuesParser::new(Fit::NAMES).try_map(|s| s.parse::<Fit>()))]
    fit: Fit,
}

/// An image at the encoder's size.
#[derive(Debug)]
pub(super) struct Fitted {
    pub(super) picture: Picture,
    /// What was done to an image that is no square.
    pub(super) remark: Option<String>,
}

impl Fitting {
    /// Reads an image, by its content, and brings it to `size` x `size`.
    pub(super) fn load(self, path: &Path, size: usize) -> Result<Fitted> {
        let own = decode_image(path)?;
        Ok(Fitted { picture: fit_square(&own, size, self.fit)?, remark: self.remark(own.width, own.height) })
    }

    /// What is done to an image of that shape, if it is no square.
    pub(super) fn remark(self, width: usize, height: usize) -> Option<String> {
        let side = width.min(height);
        (width != height).then(|| match self.fit {
            Fit::Crop => format!("cropped to the middle {side} x {side} of {width} x {height} pixels"),
            Fit::Pad => format!("{width} x {height} pixels padded to a square"),
            Fit::Stretch => format!("{width} x {height} pixels stretched to a square"),
        })
    }

    /// Brings an image that has been read to a square.
    pub(super) fn square(self, picture: &Picture, size: usize) -> Result<Picture> {
        Ok(fit_square(picture, size, self.fit)?)
    }
}
