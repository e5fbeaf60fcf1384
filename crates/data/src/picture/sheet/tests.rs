//! Sheets: where pictures and texts are, how large, and what is left out.

use super::*;
use crate::picture::text::ADVANCE;

const RED: [u8; 3] = [200, 0, 0];

fn square(side: usize, color: [u8; 3]) -> Picture {
    Picture::filled(side, side, color)
}

fn pixel(sheet: &Picture, [x, y]: [usize; 2]) -> [u8; 3] {
    sheet.rgb[(y * sheet.width + x) * 3..][..3].try_into().unwrap()
}

/// Whether anything but the ground is within left, top, width, height.
fn inked(sheet: &Picture, [left, top, width, height]: [usize; 4]) -> bool {
    (top..top + height).any(|y| (left..left + width).any(|x| pixel(sheet, [x, y]) != GROUND))
}

#[test]
fn few_small_pictures_stand_enlarged_under_their_headings_with_their_names_below() {
    let mut sheet = Sheet::new(["source", "inverted"]);
    let colors = [RED, [0, 200, 0], [0, 0, 200], [9, 9, 9]];
    sheet.row("a.png", colors[..2].iter().map(|c| square(64, *c)));
    sheet.row("b.png", colors[2..].iter().map(|c| square(64, *c)));
    let drawn = sheet.render().unwrap();
    // Two rows of two side by side would be a strip: they stand below each other.
    let (cell, heading, name) = (192, LINE_HEIGHT + GAP, LINE_HEIGHT + GAP);
    let height = 2 * MARGIN + heading + 2 * (cell + name) + ROW_GAP;
    assert_eq!((drawn.width, drawn.height), (2 * MARGIN + 2 * cell + GAP, height));
    let top = |row: usize| MARGIN + heading + row * (cell + name + ROW_GAP);
    for (i, color) in colors.into_iter().enumerate() {
        let (left, top) = (MARGIN + i % 2 * (cell + GAP), top(i / 2));
        for corner in [[left, top], [left + cell - 1, top + cell - 1]] {
            assert_eq!(pixel(&drawn, corner), color, "{i}");
        }
    }
    for left in [MARGIN, MARGIN + cell + GAP] {
        assert!(inked(&drawn, [left, MARGIN, cell, LINE_HEIGHT]), "no heading at {left}");
    }
    for row in 0..2 {
        assert!(inked(&drawn, [MARGIN, top(row) + cell + GAP, 5 * ADVANCE, LINE_HEIGHT]), "no name below row {row}");
    }
    assert!(!inked(&drawn, [0, 0, drawn.width, MARGIN]) && !inked(&drawn, [0, 0, MARGIN, drawn.height]));
}

#[test]
fn pixels_become_squares_of_one_whole_factor() {
    for (side, pictures, expected) in [
        (64, 4, 192),
        (64, 400, 128),
        (48, 4, 192),
        (48, 400, 144),
        (1, 4, 192),
        (100, 4, 200),
        (100, 400, 200),
        (128, 4, 128),
        (200, 4, 200),
        (300, 400, 300),
    ] {
        assert_eq!(side * enlargement(side, pictures), expected, "{side} px, {pictures} pictures");
    }
    let mut dots = square(2, [0; 3]);
    dots.rgb[..3].copy_from_slice(&RED);
    let drawn = Sheet::default().row("", [dots]).render().unwrap();
    assert_eq!((drawn.width, drawn.height), (192 + 2 * MARGIN, 192 + 2 * MARGIN));
    let at = |x: usize, y: usize| pixel(&drawn, [MARGIN + x, MARGIN + y]);
    assert_eq!([at(0, 0), at(95, 95), at(96, 95), at(95, 96), at(191, 191)], [RED, RED, [0; 3], [0; 3], [0; 3]]);
}

#[test]
fn pictures_of_different_sizes_fill_places_of_one_size() {
    let sizes = [(16, 16), (64, 64), (48, 48), (64, 32)];
    let drawn = Sheet::default().row("", sizes.map(|(w, h)| Picture::filled(w, h, RED))).render().unwrap();
    for (j, shown) in [[192, 192], [192, 192], [192, 192], [192, 96]].into_iter().enumerate() {
        let left = MARGIN + j * (192 + GAP);
        let wide = (left..left + 192).filter(|&x| pixel(&drawn, [x, MARGIN + 96]) == RED).count();
        let high = (MARGIN..MARGIN + 192).filter(|&y| pixel(&drawn, [left + 96, y]) == RED).count();
        assert_eq!([wide, high], shown, "{j}");
    }
}

#[test]
fn large_pictures_are_reduced_to_means_of_their_pixels() {
    let mut fine = square(1024, [0; 3]);
    for pixel in fine.rgb.chunks_exact_mut(6) {
        pixel[..3].copy_from_slice(&[200, 100, 50]);
    }
    let drawn = Sheet::default().row("", [fine, square(64, RED)]).render().unwrap();
    assert_eq!(drawn.height, 512 + 2 * MARGIN);
    assert_eq!(pixel(&drawn, [MARGIN + 300, MARGIN + 300]), [100, 50, 25]);
    // 64 px go eight times into 512.
    assert_eq!(pixel(&drawn, [MARGIN + 512 + GAP, MARGIN]), RED);
    // Three does not divide the side: the last pixels are means of what is there.
    let reduced = square(1025, RED).reduced(3);
    assert_eq!((reduced.width, reduced.height, reduced.rgb[reduced.rgb.len() - 3]), (342, 342, 200));
}

#[test]
fn many_rows_stand_side_by_side_and_the_sheet_is_no_strip() {
    for (rows, columns) in [(2, 1), (16, 1), (100, 1), (100, 3), (65, 3), (30, 7), (7, 2), (256, 1)] {
        let mut sheet = Sheet::new((0..columns).map(|j| format!("column {j}")));
        for i in 0..rows {
            sheet.row(format!("{i}.png"), vec![square(64, RED); columns]);
        }
        let drawn = sheet.render().unwrap();
        let aspect = drawn.width as f64 / drawn.height as f64;
        assert!((0.5..2.7).contains(&aspect), "{rows} x {columns}: {} x {}", drawn.width, drawn.height);
        assert_eq!(sheet.left_out(), None);
        let red = drawn.rgb.chunks_exact(3).filter(|p| **p == RED).count();
        let cell = 64 * enlargement(64, rows * columns);
        assert_eq!(red, rows * columns * cell * cell);
    }
}

#[test]
fn rows_go_from_left_to_right_and_a_full_table_has_no_holes() {
    let mut sheet = Sheet::default();
    for i in 0..16 {
        sheet.row("", [square(64, [i, 0, 0])]);
    }
    let drawn = sheet.render().unwrap();
    for i in 0..16_usize {
        let at = [i % 4, i / 4].map(|k| MARGIN + k * (192 + ROW_GAP));
        assert_eq!(pixel(&drawn, at), [i as u8, 0, 0], "{i}");
    }
}

#[test]
fn rows_beyond_the_limit_are_counted_below_the_others() {
    let mut sheet = Sheet::new(["source", "inverted", "difference"]);
    while sheet.has_room() {
        sheet.row("x", vec![square(64, RED); 3]);
    }
    let shown = sheet.rows.len();
    assert!((100..1000).contains(&shown), "{shown}");
    let full = sheet.render().unwrap();
    for _ in 0..1000 {
        sheet.row("x", vec![square(64, RED); 3]);
    }
    assert_eq!(sheet.left_out().unwrap(), format!("{shown} of {} shown", shown + 1000));
    let counted = sheet.render().unwrap();
    assert_eq!((counted.width, counted.height), (full.width, full.height + ROW_GAP + LINE_HEIGHT));
    assert!(inked(&counted, [MARGIN, counted.height - MARGIN - LINE_HEIGHT, 20 * ADVANCE, LINE_HEIGHT]));
    assert!(counted.rgb.len() / 3 < 2 * MOST_PIXELS);
}

#[test]
fn long_and_foreign_names_stay_below_their_row() {
    let names = ["n".repeat(300), "肖像".repeat(100), "\u{1b}[31mred\n".into()];
    for name in names {
        let mut sheet = Sheet::new(["h".repeat(300)]).title("t".repeat(300));
        sheet.row(name, [square(64, RED)]);
        let drawn = sheet.render().unwrap();
        assert_eq!(drawn.width, 192 + 2 * MARGIN);
        assert!(!inked(&drawn, [drawn.width - MARGIN, 0, MARGIN, drawn.height]));
        let name = drawn.height - MARGIN - LINE_HEIGHT;
        for top in [MARGIN, MARGIN + LINE_HEIGHT + ROW_GAP, name] {
            assert!(inked(&drawn, [MARGIN, top, 192, LINE_HEIGHT]), "no text at {top}");
        }
    }
}

#[test]
fn empty_places_stay_empty_and_a_sheet_without_pictures_is_an_error() {
    let mut sheet = Sheet::default();
    sheet.row("", [None, Some(square(64, RED))]).row("", [square(64, RED)]);
    let drawn = sheet.render().unwrap();
    assert!(!inked(&drawn, [MARGIN, MARGIN, 192, 192]));
    assert_eq!(pixel(&drawn, [MARGIN + 192 + GAP, MARGIN]), RED);
    assert!(Sheet::new(["a"]).render().is_err());
    assert!(Sheet::default().row("", [None::<Picture>]).render().is_err());
    assert!(Sheet::default().row("", [square(0, RED)]).render().is_err());
    let cut = Picture { width: 4, height: 4, rgb: vec![0; 5] };
    let error = Sheet::default().row("", [cut]).render().unwrap_err().to_string();
    assert!(error.contains("4 x 4 x 3"), "{error}");
}

#[test]
fn a_table_of_many_columns_goes_on_below_with_its_headings_and_names() {
    let mut sheet = Sheet::new((0..30).map(|j| format!("{j}"))).title("strengths");
    for i in 0..2 {
        sheet.row(format!("row {i}"), (0..30).map(|j| square(64, [j as u8, i, 200])));
    }
    let drawn = sheet.render().unwrap();
    // Three parts of ten columns; twenty pictures each are few.
    let part = LINE_HEIGHT + GAP + 2 * (192 + LINE_HEIGHT + GAP) + ROW_GAP;
    let title = LINE_HEIGHT + ROW_GAP;
    let size = (2 * MARGIN + 10 * 196 - GAP, MARGIN + title + 3 * (part + MARGIN));
    assert_eq!((drawn.width, drawn.height), size);
    for (j, i) in (0..30).flat_map(|j| (0..2).map(move |i| (j, i))) {
        let top = MARGIN + title + j / 10 * (part + MARGIN) + LINE_HEIGHT + GAP;
        let at = [MARGIN + j % 10 * 196, top + i * (192 + LINE_HEIGHT + GAP + ROW_GAP)];
        assert_eq!(pixel(&drawn, at), [j as u8, i as u8, 200], "column {j}, row {i}");
        assert!(inked(&drawn, [at[0], top - GAP - LINE_HEIGHT, 192, LINE_HEIGHT]), "no heading above column {j}");
    }
}
