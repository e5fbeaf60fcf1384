//! Short captions in a small bitmap face of our own, for pictures that say what is on them.

use super::Picture;

/// Height of a line of text in pixels.
pub const GLYPH_HEIGHT: usize = 8;
/// From one character to the next, in pixels.
pub const GLYPH_ADVANCE: usize = 6;

/// The characters there are, sixteen a bank, `#` where they are inked: five columns each and one between them.
const BANKS: [(&str, [&str; GLYPH_HEIGHT]); 3] = [
    (
        "abcdefghijklmnop",
        [
            "......#...............#.........##........#.......#......#..#......##..........................",
            "......#...............#........#..........#.................#.......#..........................",
            ".###..####...####..####..###..####...####.####...##.....##..#..#....#...##.#..####...###..####.",
            "....#.#...#.#.....#...#.#...#..#....#...#.#...#...#......#..#.#.....#...#.#.#.#...#.#...#.#...#",
            ".####.#...#.#.....#...#.#####..#....#...#.#...#...#......#..##......#...#.#.#.#...#.#...#.#...#",
            "#...#.#...#.#.....#...#.#......#.....####.#...#...#......#..#.#.....#...#.#.#.#...#.#...#.####.",
            ".####.####...####..####..####..#........#.#...#..###.....#..#..#...###..#.#.#.#...#..###..#....",
            ".....................................###...............##.................................#....",
        ],
    ),
    (
        "qrstuvwxyz012345",
        [
            ".............................................................###....#....###..####.....#..#####",
            "...................#........................................#...#..##...#...#.....#...##..#....",
            ".####.#.##...####.####..#...#.#...#.#.#.#.#...#.#...#.#####.#...#...#.......#.....#..#.#..####.",
            "#...#.##..#.#......#....#...#.#...#.#.#.#..#.#..#...#....#..#...#...#......#...###..#..#......#",
            "#...#.#......###...#....#...#.#...#.#.#.#...#...#...#...#...#...#...#.....#.......#.#####.....#",
            ".####.#.........#..#....#...#..#.#..#.#.#..#.#...####..#....#...#...#....#........#....#......#",
            "....#.#.....####....##...####...#....#.#..#...#.....#.#####..###...###..#####.####.....#..####.",
            "....#............................................###...........................................",
        ],
    ),
    (
        "6789.,-:()/+%?",
        [
            ".###..#####..###...###.............................#...#........#.......#...#..###.",
            "#.........#.#...#.#...#...........................#.....#.......#.......#..#..#...#",
            "#........#..#...#.#...#.....................#.....#.....#......#....#......#......#",
            "####.....#...###...####...........................#.....#.....#.....#.....#......#.",
            "#...#...#...#...#.....#..............###..........#.....#....#....#####..#......#..",
            "#...#...#...#...#.....#...........................#.....#...#.......#....#..#......",
            ".###....#....###...###....#.....#...........#......#...#....#.......#...#...#...#..",
            "...............................#...................................................",
        ],
    ),
];

/// Whether the character is inked at a place; characters that are not there look like `?`.
fn inked(character: char, x: usize, y: usize) -> bool {
    let character = character.to_ascii_lowercase();
    let find = |c: char| BANKS.iter().find_map(|(known, rows)| known.find(c).map(|i| (rows, i)));
    let (rows, i) = match find(character).or_else(|| find('?')) {
        Some(found) if character != ' ' => found,
        _ => return false,
    };
    rows[y].as_bytes().get(i * GLYPH_ADVANCE + x) == Some(&b'#')
}

impl Picture {
    /// Writes a line of text; what does not fit is cut off.
    pub fn write_text(&mut self, left: usize, top: usize, text: &str, color: [u8; 3]) {
        for (i, character) in text.chars().enumerate() {
            for (y, x) in (0..GLYPH_HEIGHT).flat_map(|y| (0..GLYPH_ADVANCE - 1).map(move |x| (y, x))) {
                let (px, py) = (left + i * GLYPH_ADVANCE + x, top + y);
                if inked(character, x, y) && px < self.width && py < self.height {
                    self.rgb[(py * self.width + px) * 3..][..3].copy_from_slice(&color);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_of_the_face_is_inked_and_unlike_the_others() {
        let glyph =
            |c: char| -> Vec<bool> { (0..GLYPH_HEIGHT).flat_map(|y| (0..5).map(move |x| inked(c, x, y))).collect() };
        let all: Vec<char> = BANKS.iter().flat_map(|(known, _)| known.chars()).collect();
        for (i, &a) in all.iter().enumerate() {
            assert!(glyph(a).contains(&true), "{a}");
            assert!(all[..i].iter().all(|&b| glyph(a) != glyph(b)), "{a}");
        }
        assert_eq!(glyph('A'), glyph('a'));
        assert!(glyph('\u{e9}') == glyph('?') && !glyph(' ').contains(&true));
    }

    #[test]
    fn text_beyond_the_edge_is_cut_off() {
        let mut picture = Picture::filled(8, 5, [255; 3]);
        picture.write_text(0, 0, "ll", [0; 3]);
        assert!(picture.rgb.contains(&0));
        picture.write_text(100, 100, "l", [0; 3]);
    }
}
