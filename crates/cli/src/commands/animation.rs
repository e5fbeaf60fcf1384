//! Animated GIF files.

use anyhow::{Context, Result};
use gif::{Encoder, Frame, Repeat};
use swinstyle_data::Picture;

/// How thoroughly colours are chosen, from 1 (best) to 30 (fastest).
const SPEED: i32 = 10;

/// The pictures, all of one size, as a GIF that repeats for ever, in at most 256 colours a picture.
///
/// A GIF counts time in hundredths of a second: single pictures are shown longer or shorter so that the whole has the rate.
pub(super) fn gif(pictures: &[Picture], frames_per_second: u16) -> Result<Vec<u8>> {
    let first = pictures.first().context("no pictures for the animation")?;
    let side = |side: usize| u16::try_from(side).context("a GIF has at most 65535 pixels a side");
    let (width, height) = (side(first.width)?, side(first.height)?);
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, width, height, &[])?;
    encoder.set_repeat(Repeat::Infinite)?;
    let hundredths = |frame: usize| (frame as f64 * 100.0 / f64::from(frames_per_second.max(1))).round() as u64;
    for (i, picture) in pictures.iter().enumerate() {
        let mut frame = Frame::from_rgb_speed(width, height, &picture.rgb, SPEED);
        frame.delay = u16::try_from(hundredths(i + 1) - hundredths(i)).unwrap_or(u16::MAX);
        encoder.write_frame(&frame)?;
    }
    drop(encoder);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gif_holds_its_frames_at_their_rate() {
        let colors = [[9, 8, 7], [200, 100, 50], [0, 0, 255]];
        let bytes = gif(&colors.map(|c| Picture::filled(5, 4, c)), 12).unwrap();
        let mut options = gif::DecodeOptions::new();
        options.set_color_output(gif::ColorOutput::RGBA);
        let mut decoder = options.read_info(bytes.as_slice()).unwrap();
        assert_eq!((decoder.width(), decoder.height()), (5, 4));
        let mut delays = Vec::new();
        for color in colors {
            let frame = decoder.read_next_frame().unwrap().unwrap();
            assert_eq!(frame.buffer[..3], color);
            delays.push(frame.delay);
        }
        // A quarter of a second in all.
        assert_eq!((delays, decoder.read_next_frame().unwrap().is_none()), (vec![8, 9, 8], true));
    }
}
