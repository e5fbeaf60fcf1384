//! Several pictures on one sheet, and the difference of two.

use super::Picture;
use crate::{DataError, Result};

/// Between the pictures of a sheet, in pixels.
pub const GAP: usize = 2;
/// The sheet's ground: lighter than a portrait's background, darker than paper.
pub const GROUND: [u8; 3] = [0xf2, 0xf2, 0xf2];

/// Puts pictures of one size on a sheet, row by row, with small gaps; a short last row stays empty at its end.
///
/// # Errors
/// [`DataError::InvalidArgument`] for no pictures, no columns, or pictures of different sizes.
pub fn grid(pictures: &[Picture], columns: usize) -> Result<Picture> {
    if columns == 0 {
        return Err(DataError::argument("grid columns", columns, "at least 1"));
    }
    let rows: Vec<&[Picture]> = pictures.chunks(columns).collect();
    sheet(&rows)
}

/// Puts rows of pictures of one size on a sheet, with small gaps: a row a sample, say source, reconstruction, difference.
///
/// # Errors
/// [`DataError::InvalidArgument`] for no pictures or pictures of different sizes.
pub fn sheet<R: AsRef<[Picture]>>(rows: &[R]) -> Result<Picture> {
    let Some(first) = rows.iter().find_map(|row| row.as_ref().first()) else {
        return Err(DataError::argument("grid pictures", 0, "at least 1"));
    };
    let (width, height) = (first.width, first.height);
    let columns = rows.iter().map(|row| row.as_ref().len()).max().unwrap_or(0);
    let sheet_width = columns * (width + GAP) + GAP;
    let mut sheet = Picture::filled(sheet_width, rows.len() * (height + GAP) + GAP, GROUND);
    for (i, row) in rows.iter().enumerate() {
        for (j, picture) in row.as_ref().iter().enumerate() {
            if (picture.width, picture.height) != (width, height) || picture.rgb.len() != width * height * 3 {
                let size = format!("{} x {} with {} bytes", picture.width, picture.height, picture.rgb.len());
                return Err(DataError::argument("grid picture", size, format!("{width} x {height} like the first")));
            }
            sheet.paste(picture, GAP + j * (width + GAP), GAP + i * (height + GAP));
        }
    }
    Ok(sheet)
}

/// The amplified difference of two pictures, `min(255, gain * |a - b|)` in each channel: black where they agree.
///
/// # Errors
/// [`DataError::InvalidArgument`] for pictures of different sizes.
pub fn difference(a: &Picture, b: &Picture, gain: f32) -> Result<Picture> {
    if (a.width, a.height, a.rgb.len()) != (b.width, b.height, b.rgb.len()) {
        let size = format!("{} x {}", b.width, b.height);
        return Err(DataError::argument("second picture", size, format!("{} x {} like the first", a.width, a.height)));
    }
    // `as` saturates at 255.
    let rgb = a.rgb.iter().zip(&b.rgb).map(|(&a, &b)| (f32::from(a.abs_diff(b)) * gain).round() as u8).collect();
    Ok(Picture { width: a.width, height: a.height, rgb })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_has_every_picture_in_its_place_and_gaps_between() {
        let pictures: Vec<Picture> = (0..5).map(|i| Picture::filled(3, 2, [i * 10, 0, 0])).collect();
        let sheet = grid(&pictures, 3).unwrap();
        assert_eq!((sheet.width, sheet.height), (3 * 5 + 2, 2 * 4 + 2));
        let pixel = |x: usize, y: usize| sheet.rgb[(y * sheet.width + x) * 3];
        assert_eq!((pixel(2, 2), pixel(7, 3), pixel(12, 2), pixel(2, 6), pixel(9, 7)), (0, 10, 20, 30, 40));
        assert_eq!((pixel(0, 0), pixel(5, 2), pixel(12, 6)), (GROUND[0], GROUND[0], GROUND[0]));
    }

    #[test]
    fn pictures_of_different_sizes_do_not_make_a_grid() {
        let error = grid(&[Picture::filled(3, 2, [0; 3]), Picture::filled(2, 3, [0; 3])], 2).unwrap_err();
        assert!(error.to_string().contains("3 x 2 like the first"), "{error}");
        assert!(grid(&[], 2).is_err());
    }

    #[test]
    fn a_difference_is_black_where_the_pictures_agree_and_saturates() {
        let a = Picture { width: 1, height: 1, rgb: vec![10, 100, 255] };
        let b = Picture { width: 1, height: 1, rgb: vec![10, 90, 0] };
        assert_eq!(difference(&a, &b, 4.0).unwrap().rgb, [0, 40, 255]);
    }
}
