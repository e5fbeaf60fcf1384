//! One file to one RGB picture, within limits, with one line of explanation when it cannot be done.

use std::fs;
use std::io::{BufRead, BufReader, Cursor, Read, Seek};
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};
use swinstyle_files::read_stream;

use super::complaint::complaint;
use super::fit::{Fit, fit_square};
use super::format::{SNIFFED, refusal};
use super::truncation::is_truncated;
use crate::picture::Picture;
use crate::{DataError, Result};

/// The most pixels that an image may have: 256 Mi, as many as 16384 x 16384.
pub const MAX_PIXELS: u64 = 256 << 20;
/// The most bytes that they may take as the file has them: 1 GiB, which is [`MAX_PIXELS`] in four channels of 8 bits. An image
/// takes as much again while it becomes RGB, and the size of its file.
const MAX_DECODED_BYTES: u64 = 1 << 30;
/// No image within the limits has a larger file.
const MAX_FILE_BYTES: u64 = 1 << 30;
/// The most that is read of a pipe or a device, whose length nobody knows.
const MAX_STREAM_BYTES: usize = 64 << 20;

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
    fit_square(&decode_image(path)?, size, Fit::Crop)
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
    let (mut decoder, format) = open_decoder(path, Cursor::new(bytes.as_slice()))?;
    let bad = |error: ImageError| bad(path, &error, format);
    let orientation = decoder.orientation().map_err(bad)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(bad)?;
    image.apply_orientation(orientation);
    let (width, height) = (image.width() as usize, image.height() as usize);
    let rgb = if image.color().has_alpha() { on_white(image.into_rgba8()) } else { image.into_rgb8().into_raw() };
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

/// The whole of an image's file; of a pipe or a device what comes through it, within bounds.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>> {
    let error = |source| DataError::read(path, source);
    let metadata = fs::metadata(path).map_err(error)?;
    if metadata.is_file() || metadata.is_dir() {
        check_file(path)?;
        return fs::read(path).map_err(error);
    }
    let bytes = read_stream(path, MAX_STREAM_BYTES + 1).map_err(error)?;
    match bytes.len() {
        0 => Err(DataError::bad_image(path, "nothing came through this pipe or device")),
        length if length > MAX_STREAM_BYTES => {
            let limit = MAX_STREAM_BYTES >> 20;
            Err(DataError::bad_image(path, format!("more than {limit} MiB came through this pipe or device")))
        }
        _ => Ok(bytes),
    }
}

/// A decoder that has read the header of an image within the limits.
fn open_decoder<'a>(
    path: &Path,
    mut bytes: impl BufRead + Seek + 'a,
) -> Result<(impl ImageDecoder + 'a, &'static str)> {
    let unread = |source| DataError::read(path, source);
    let mut first = Vec::with_capacity(SNIFFED);
    bytes.by_ref().take(SNIFFED as u64).read_to_end(&mut first).map_err(unread)?;
    bytes.rewind().map_err(unread)?;
    let mut reader = ImageReader::new(bytes).with_guessed_format().map_err(unread)?;
    let format = match reader.format() {
        Some(ImageFormat::Png) => "PNG",
        Some(ImageFormat::Jpeg) => "JPEG",
        Some(ImageFormat::WebP) => "WebP",
        _ => return Err(DataError::bad_image(path, refusal(path, &first))),
    };
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(|error| bad(path, &error, format))?;
    let (width, height) = decoder.dimensions();
    let size = format!("{width} x {height} pixels");
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        let limit = MAX_PIXELS / 1_000_000;
        return Err(DataError::bad_image(
            path,
            format!("{size} are too many, the limit is {limit} million: make it smaller first"),
        ));
    }
    if decoder.total_bytes() > MAX_DECODED_BYTES {
        let [needed, limit] = [decoder.total_bytes(), MAX_DECODED_BYTES].map(|bytes| bytes >> 20);
        let kind = format!("{size} of {} bits each", decoder.color_type().bits_per_pixel());
        let way_out = "save it with 8 bits a channel, or make it smaller first";
        return Err(DataError::bad_image(
            path,
            format!("{kind} need {needed} MiB, the limit is {limit} MiB: {way_out}"),
        ));
    }
    Ok((decoder, format))
}

fn bad(path: &Path, error: &ImageError, format: &str) -> DataError {
    DataError::bad_image(path, complaint(error, format, MAX_DECODED_BYTES))
}

/// Puts a transparent image on white, in place: `out = alpha * colour + (1 - alpha) * 255`, rounded.
fn on_white(image: image::RgbaImage) -> Vec<u8> {
    let blend = |color: u8, alpha: u8| {
        let (color, alpha) = (u32::from(color), u32::from(alpha));
        ((color * alpha + 255 * (255 - alpha) + 127) / 255) as u8
    };
    let mut pixels = image.into_raw();
    let count = pixels.len() / 4;
    for i in 0..count {
        for channel in 0..3 {
            // A pixel of three bytes never lies behind the one of four that it comes from.
            pixels[3 * i + channel] = blend(pixels[4 * i + channel], pixels[4 * i + 3]);
        }
    }
    pixels.truncate(3 * count);
    pixels
}
