//! Rows of pictures without names, and the difference of two pictures.

use super::{Picture, Sheet};
use crate::{DataError, Result};

/// Rows of pictures without names, as [`Sheet`] draws them.
///
/// # Errors
/// As [`Sheet::render`].
pub fn sheet<R: AsRef<[Picture]>>(rows: &[R]) -> Result<Picture> {
    let mut sheet = Sheet::default();
    for row in rows {
        sheet.row("", row.as_ref().iter().cloned());
    }
    sheet.render()
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
    fn rows_without_names_make_a_sheet() {
        let rows = [[1, 2], [3, 4]].map(|row| row.map(|i| Picture::filled(64, 64, [i; 3])));
        let mut named = Sheet::default();
        for row in &rows {
            named.row("", row.to_vec());
        }
        assert_eq!(sheet(&rows).unwrap(), named.render().unwrap());
        assert!(sheet::<[Picture; 0]>(&[]).is_err());
    }

    #[test]
    fn a_difference_is_black_where_the_pictures_agree_and_saturates() {
        let a = Picture { width: 1, height: 1, rgb: vec![10, 100, 255] };
        let b = Picture { width: 1, height: 1, rgb: vec![10, 90, 0] };
        assert_eq!(difference(&a, &b, 4.0).unwrap().rgb, [0, 40, 255]);
    }
}
