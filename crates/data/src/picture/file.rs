//! PNG files that are there whole or not at all.

use std::path::Path;

use swinstyle_files::Durability;

use super::Picture;
use crate::{DataError, Label, LabelMap, Result};

/// Writes a file so that a reader never sees half of it, by the rules of [`swinstyle_files::write_atomic`].
///
/// This holds against a killed process and a full disk; against a power failure only as far as the file system orders
/// a rename after the data.
///
/// # Errors
/// [`DataError::Write`] names `path`; an older `path` is untouched then.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    swinstyle_files::write_atomic(path, Durability::Unsynced, |out| out.write_all(bytes))
        .map_err(|source| DataError::write(path, source))
}

/// The picture as the bytes of an 8-bit RGB PNG file.
///
/// # Errors
/// [`DataError::InvalidArgument`] for a picture without pixels or with a wrong number of bytes.
pub fn encode_png(picture: &Picture) -> Result<Vec<u8>> {
    super::check_length("picture length", picture.rgb.len(), &[picture.height, picture.width, 3])?;
    encode(picture.width, picture.height, &picture.rgb, png::ColorType::Rgb, None)
}

/// Writes the picture as a PNG file, whole or not at all.
///
/// # Errors
/// [`DataError::Write`] names the file; [`DataError::InvalidArgument`] as for [`encode_png`].
pub fn write_png(path: &Path, picture: &Picture) -> Result<()> {
    write_atomic(path, &encode_png(picture)?)
}

/// The label map as the bytes of an indexed PNG file: a pixel's index is its label, the palette is the labels' colours.
///
/// # Errors
/// [`DataError::InvalidArgument`] for a map without pixels, with a wrong number of them, or with a label that is not among `labels`.
pub fn encode_label_png(map: &LabelMap, labels: &[Label]) -> Result<Vec<u8>> {
    super::check_length("label map length", map.labels.len(), &[map.size, map.size])?;
    if let Some(label) = map.labels.iter().find(|&&label| usize::from(label) >= labels.len()) {
        return Err(DataError::argument("label", label, format!("below {}", labels.len())));
    }
    let palette = labels.iter().flat_map(|label| label.color).collect();
    encode(map.size, map.size, &map.labels, png::ColorType::Indexed, Some(palette))
}

/// Writes the label map as an indexed PNG file, whole or not at all.
///
/// # Errors
/// [`DataError::Write`] names the file; [`DataError::InvalidArgument`] as for [`encode_label_png`].
pub fn write_label_png(path: &Path, map: &LabelMap, labels: &[Label]) -> Result<()> {
    write_atomic(path, &encode_label_png(map, labels)?)
}

/// The pictures, all of one size, as an animated PNG that repeats for ever.
///
/// # Errors
/// [`DataError::InvalidArgument`] for no pictures, different sizes, or what [`encode_png`] refuses.
pub fn encode_animation(pictures: &[Picture], frames_per_second: u16) -> Result<Vec<u8>> {
    let Some(Picture { width, height, .. }) = pictures.first() else {
        return Err(DataError::argument("animation", "no pictures", "at least one"));
    };
    for picture in pictures {
        super::check_length("frame length", picture.rgb.len(), &[*height, *width, 3])?;
        if (picture.width, picture.height) != (*width, *height) {
            let size = format!("a frame of {} x {}", picture.width, picture.height);
            return Err(DataError::argument("animation", size, format!("{width} x {height} like the first")));
        }
    }
    let error = |_: png::EncodingError| {
        DataError::argument("animation", format!("{width} x {height}"), "a size that PNG can hold")
    };
    let number = |n: usize| u32::try_from(n).map_err(|_| DataError::argument("animation", n, "below 2^32"));
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, number(*width)?, number(*height)?);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_animated(number(pictures.len())?, 0).map_err(error)?;
    encoder.set_frame_delay(1, frames_per_second.max(1)).map_err(error)?;
    let mut writer = encoder.write_header().map_err(error)?;
    for picture in pictures {
        writer.write_image_data(&picture.rgb).map_err(error)?;
    }
    writer.finish().map_err(error)?;
    Ok(bytes)
}

fn encode(
    width: usize,
    height: usize,
    pixels: &[u8],
    color: png::ColorType,
    palette: Option<Vec<u8>>,
) -> Result<Vec<u8>> {
    let error = |_: png::EncodingError| {
        DataError::argument("picture", format!("{width} x {height}"), "a size that PNG can hold")
    };
    let side = |side: usize| u32::try_from(side).map_err(|_| DataError::argument("picture side", side, "below 2^32"));
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, side(width)?, side(height)?);
    encoder.set_color(color);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Fast);
    if let Some(palette) = palette {
        encoder.set_palette(palette);
    }
    let mut writer = encoder.write_header().map_err(error)?;
    writer.write_image_data(pixels).map_err(error)?;
    writer.finish().map_err(error)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_failed_write_leaves_nothing_behind_and_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken.png");
        fs::create_dir_all(path.join("inside")).unwrap();
        let error = write_png(&path, &Picture::filled(2, 2, [1, 2, 3])).unwrap_err().to_string();
        assert!(error.contains("taken.png: cannot be written"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_animation_holds_its_frames_in_order_and_wants_one_size() {
        let frames = [[9, 8, 7], [1, 2, 3], [200, 100, 50]].map(|c| Picture::filled(5, 4, c));
        let bytes = encode_animation(&frames, 12).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(&bytes)).read_info().unwrap();
        assert_eq!(reader.info().animation_control().map(|a| (a.num_frames, a.num_plays)), Some((3, 0)));
        for frame in &frames {
            let mut pixels = vec![0; 5 * 4 * 3];
            reader.next_frame(&mut pixels).unwrap();
            assert_eq!(pixels, frame.rgb);
            let control = reader.info().frame_control().unwrap();
            assert_eq!((control.delay_num, control.delay_den), (1, 12));
        }
        assert!(encode_animation(&[], 12).is_err());
        let odd = [Picture::filled(5, 4, [0; 3]), Picture::filled(4, 5, [0; 3])];
        assert!(encode_animation(&odd, 12).unwrap_err().to_string().contains("5 x 4"));
    }

    #[test]
    fn a_picture_without_pixels_is_an_error() {
        assert!(encode_png(&Picture::filled(0, 4, [0; 3])).is_err());
    }
}
