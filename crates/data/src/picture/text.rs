//! Lines of text on pictures: a small smooth face, sharp at its own size.

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster};

use super::Picture;

/// Height of a line of text in pixels.
pub const LINE_HEIGHT: usize = 16;
/// From one character to the next, in pixels.
pub const ADVANCE: usize = 7;
/// The colour of text.
pub const INK: [u8; 3] = [0x1d, 0x27, 0x33];
/// The colour of text beside what matters more.
pub const FADED: [u8; 3] = [0x5b, 0x66, 0x74];

/// Where characters stand on their line, in pixels from its top.
const BASELINE: usize = 12;
/// What a shortened text has in the place of what was left out.
const ELLIPSIS: char = '…';

/// What the face draws for a character: typographic ones that it lacks as their plain siblings.
fn drawn(character: char) -> char {
    match character {
        '\u{2212}' | '\u{2010}'..='\u{2015}' => '-',
        '\u{2018}' | '\u{2019}' => '\'',
        '\u{201c}' | '\u{201d}' => '"',
        other => other,
    }
}

/// The ink of a character, from 0 to 255, `[LINE_HEIGHT, ADVANCE]`; those that the face does not have look like `�`.
fn ink(character: char, weight: FontWeight) -> [[u8; ADVANCE]; LINE_HEIGHT] {
    let mut ink = [[0; ADVANCE]; LINE_HEIGHT];
    if character == ELLIPSIS {
        for x in [1, 3, 5] {
            ink[BASELINE - 1][x] = 220;
        }
        return ink;
    }
    let raster = |c: char| get_raster(c, weight, RasterHeight::Size16);
    // Control characters have no picture either.
    let known = Some(drawn(character)).filter(|c| !c.is_control()).and_then(raster);
    if let Some(raster) = known.or_else(|| raster(char::REPLACEMENT_CHARACTER)) {
        for (row, of_glyph) in ink.iter_mut().zip(raster.rows()) {
            row.iter_mut().zip(of_glyph).for_each(|(ink, value)| *ink = *value);
        }
    }
    ink
}

/// Width of a line of text in pixels.
pub fn text_width(text: &str) -> usize {
    ADVANCE * text.chars().count()
}

/// A text that fits into so many pixels: where it is too long, its middle is left out, because names differ at their ends.
pub fn shortened(text: &str, width: usize) -> String {
    let (length, room) = (text.chars().count(), width / ADVANCE);
    if length <= room {
        return text.to_string();
    }
    if room == 0 {
        return String::new();
    }
    let end = (room - 1) / 2;
    let begin = room - 1 - end;
    let (first, last) = (text.chars().take(begin), text.chars().skip(length - end));
    first.chain([ELLIPSIS]).chain(last).collect()
}

impl Picture {
    /// Writes a line of text; what does not fit is cut off.
    pub fn write_text(&mut self, left: usize, top: usize, text: &str, color: [u8; 3]) {
        self.write(left, top, text, color, FontWeight::Regular);
    }

    /// Writes a line of text in bold.
    pub fn write_bold(&mut self, left: usize, top: usize, text: &str, color: [u8; 3]) {
        self.write(left, top, text, color, FontWeight::Bold);
    }

    fn write(&mut self, left: usize, top: usize, text: &str, color: [u8; 3], weight: FontWeight) {
        for (i, character) in text.chars().enumerate() {
            let left = left + i * ADVANCE;
            if left >= self.width {
                break;
            }
            for (y, row) in ink(character, weight).iter().enumerate() {
                for (x, &alpha) in row.iter().enumerate().filter(|(_, alpha)| **alpha > 0) {
                    self.blend(left + x, top + y, color, alpha);
                }
            }
        }
    }

    /// Mixes a colour into a pixel, where there is one.
    fn blend(&mut self, x: usize, y: usize, color: [u8; 3], alpha: u8) {
        if x < self.width && y < self.height {
            let pixel = &mut self.rgb[(y * self.width + x) * 3..][..3];
            for (value, ink) in pixel.iter_mut().zip(color) {
                let mixed = u32::from(*value) * u32::from(255 - alpha) + u32::from(ink) * u32::from(alpha);
                *value = ((mixed + 127) / 255) as u8;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_digits_and_accents_are_inked_and_unlike_each_other() {
        let all: Vec<char> = ('!'..='~').chain("äöüßéèçñøåłžőÄÖÜ·×°µ…�".chars()).collect();
        for (i, &a) in all.iter().enumerate() {
            let glyph = ink(a, FontWeight::Regular);
            assert!(glyph.iter().flatten().any(|&v| v > 100), "{a}");
            // The two look the same in most faces without serifs.
            let unlike = |&&b: &&char| glyph != ink(b, FontWeight::Regular);
            assert_eq!(all[..i].iter().filter(unlike).count(), i, "{a}");
        }
        assert!(ink('a', FontWeight::Regular) != ink('a', FontWeight::Bold));
        assert!(ink(' ', FontWeight::Regular).iter().flatten().all(|&v| v == 0));
    }

    #[test]
    fn characters_that_the_face_lacks_have_a_sign_of_their_own_or_a_plain_sibling() {
        let unknown = ink('\u{fffd}', FontWeight::Regular);
        for lacking in ['顔', 'Ж', '🙂', '\u{1b}', '\n', '\u{7f}', '\u{85}'] {
            assert_eq!(ink(lacking, FontWeight::Regular), unknown, "{lacking:?}");
        }
        assert_eq!(ink('−', FontWeight::Bold), ink('-', FontWeight::Bold));
    }

    #[test]
    fn text_beyond_the_edge_is_cut_off() {
        let mut picture = Picture::filled(10, 14, [255; 3]);
        picture.write_text(0, 0, "ll", INK);
        assert!(picture.rgb.iter().any(|&v| v < 100));
        let before = picture.clone();
        picture.write_text(100, 100, "l", INK);
        assert_eq!(picture, before);
    }

    #[test]
    fn long_names_lose_their_middle() {
        let cases = [
            ("portrait.png", 12 * ADVANCE, "portrait.png"),
            ("portrait.png", 12 * ADVANCE - 1, "portr…t.png"),
            ("portrait.png", 7 * ADVANCE, "por…png"),
            ("端から端まで.png", 7 * ADVANCE, "端から…png"),
            ("ab", ADVANCE, "…"),
            ("ab", 3, ""),
            ("", 0, ""),
        ];
        for (text, width, expected) in cases {
            assert_eq!(shortened(text, width), expected);
            assert!(text_width(&shortened(text, width)) <= width);
        }
    }
}
