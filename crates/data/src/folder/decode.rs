//! One file to one RGB picture, within limits, with one line of explanation when it cannot be done.

use std::fs;
use std::io::{BufRead, BufReader, Cursor, Seek};
use std::path::Path;

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, Limits};

use super::truncation::is_truncated;
use crate::picture::Picture;
use crate::{DataError, Result};

/// The most pixels that an image may have: 64 Mi, about 8192 x 8192.
pub const MAX_PIXELS: u64 = 64 << 20;
/// The most memory that a decoder may ask for.
const MAX_DECODER_BYTES: u64 = 512 << 20;
/// No image within the limits has a larger file.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// Decodes an image and brings it to `size` x `size` pixels.
///
/// The shorter side is resized to `size` with an antialiasing filter (Catmull-Rom, its support widened when
/// shrinking) and the middle of the longer side is kept. The format is found from the content; grey, 16-bit and CMYK become 8-bit
/// RGB; transparency is put on white; an EXIF orientation is applied; colour profiles are ignored.
///
/// # Errors
/// [`DataError::Read`], or [`DataError::BadImage`] for a truncated, empty or huge image or another format.
pub fn load_image(path: &Path, size: usize) -> Result<Picture> {
    check_size(size)?;
    let picture = decode_image(path)?;
    if (picture.width, picture.height) == (size, size) {
        return Ok(picture);
    }
    let bad = |reason: String| DataError::bad_image(path, format!("cannot be resized: {reason}"));
    // Both sides are below 2^32: the decoder counts them in u32, and `check_size` bounds the other.
    let (width, height) = (picture.width as u32, picture.height as u32);
    let mut rgb = vec![0; 3 * size * size];
    let source =
        TypedImageRef::<U8x3>::from_buffer(width, height, &picture.rgb).map_err(|error| bad(error.to_string()))?;
    let mut target =
        TypedImage::<U8x3>::from_buffer(size as u32, size as u32, &mut rgb).map_err(|error| bad(error.to_string()))?;
    let options =
        ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom)).fit_into_destination(None);
    // The method that finds the pixels' type at run time brings the code of all thirteen, almost five MiB.
    Resizer::new().resize_typed(&source, &mut target, &options).map_err(|error| bad(error.to_string()))?;
    Ok(Picture { width: size, height: size, rgb })
}

/// Decodes an image at its own size; what [`load_image`] says of formats holds here too.
///
/// # Errors
/// As [`load_image`].
pub fn decode_image(path: &Path) -> Result<Picture> {
    let bytes = read_file(path)?;
    if is_truncated(&bytes) {
        return Err(DataError::bad_image(path, "the file is truncated"));
    }
    let mut decoder = open_decoder(path, Cursor::new(bytes.as_slice()))?;
    let bad = |error: ImageError| DataError::bad_image(path, explain(&error));
    let orientation = decoder.orientation().map_err(bad)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(bad)?;
    image.apply_orientation(orientation);
    let (width, height) = (image.width() as usize, image.height() as usize);
    let rgb = if image.color().has_alpha() { on_white(&image.into_rgba8()) } else { image.into_rgb8().into_raw() };
    Ok(Picture { width, height, rgb })
}

/// Reads an image's header only: is this a format and a size that can be decoded?
pub(super) fn probe(path: &Path) -> Result<()> {
    check_file(path)?;
    let file = fs::File::open(path).map_err(|source| DataError::read(path, source))?;
    open_decoder(path, BufReader::new(file)).map(|_| ())
}

pub(crate) fn check_size(size: usize) -> Result<()> {
    match size {
        1..=16384 => Ok(()),
        _ => Err(DataError::argument("image size", size, "between 1 and 16384 pixels")),
    }
}

/// Errs for what cannot be an image: a pipe or a device could be read for ever.
fn check_file(path: &Path) -> Result<()> {
    let metadata = fs::metadata(path).map_err(|source| DataError::read(path, source))?;
    match metadata.len() {
        _ if !metadata.is_file() => Err(DataError::bad_image(path, "not a file")),
        0 => Err(DataError::bad_image(path, "the file is empty")),
        1..=MAX_FILE_BYTES => Ok(()),
        bytes => {
            Err(DataError::bad_image(path, format!("{} MiB is more than any image that can be used", bytes >> 20)))
        }
    }
}

pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>> {
    check_file(path)?;
    fs::read(path).map_err(|source| DataError::read(path, source))
}

fn open_decoder<'a>(path: &Path, bytes: impl BufRead + Seek + 'a) -> Result<impl ImageDecoder + 'a> {
    let bad = |error: ImageError| DataError::bad_image(path, explain(&error));
    let reader = ImageReader::new(bytes).with_guessed_format();
    let mut reader = reader.map_err(|source| DataError::read(path, source))?;
    let Some(format) = reader.format() else {
        return Err(DataError::bad_image(path, "not a PNG, JPEG or WebP image"));
    };
    if !format.reading_enabled() {
        let format = format!("{format:?}").to_uppercase();
        return Err(DataError::bad_image(path, format!("a {format} image; only PNG, JPEG and WebP are read")));
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_DECODER_BYTES);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(bad)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        let reason = format!("{width} x {height} pixels is too large; the limit is {} million", MAX_PIXELS / 1_000_000);
        return Err(DataError::bad_image(path, reason));
    }
    Ok(decoder)
}

/// The decoder's complaint in one line.
fn explain(error: &ImageError) -> String {
    let text = match error {
        ImageError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            "the file is truncated".to_owned()
        }
        ImageError::Limits(_) => format!("needs more than {} MiB to decode", MAX_DECODER_BYTES >> 20),
        error => format!("cannot be decoded: {error}"),
    };
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Puts a transparent image on white: `out = alpha * colour + (1 - alpha) * 255`, rounded.
fn on_white(image: &image::RgbaImage) -> Vec<u8> {
    let blend = |color: u8, alpha: u8| {
        let (color, alpha) = (u32::from(color), u32::from(alpha));
        ((color * alpha + 255 * (255 - alpha) + 127) / 255) as u8
    };
    image.pixels().flat_map(|pixel| [0, 1, 2].map(|channel| blend(pixel[channel], pixel[3]))).collect()
}
