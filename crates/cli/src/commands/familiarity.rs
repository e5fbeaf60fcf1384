//! Whether an image is something that a model knows: by how much of it the model's inversion holds.

/// The share of an image's variance below which its inversion has missed it. How it was found, and how often it errs, is in
/// `docs/unknown-images.md`.
const LEAST: f64 = 0.44;

/// What is said of such an image.
pub(super) const REMARK: &str = "nothing that the model knows";

/// The share of an image's variance that its reconstruction holds, at least −1:
/// `1 − Σ (a − b)² / Σ (a − mean of a's channel)²`, the coefficient of determination.
///
/// Unlike a PSNR it does not call a flat picture well inverted because most of it is like any other.
pub(super) fn explained(
    source: &[f32], // [H, W, 3]
    made: &[f32],   // [H, W, 3]
) -> f64 {
    let pixels = (source.len() / 3).max(1) as f64;
    let mut means = [0.0; 3];
    for pixel in source.chunks_exact(3) {
        means.iter_mut().zip(pixel).for_each(|(mean, value)| *mean += f64::from(*value) / pixels);
    }
    let square = |difference: f64| difference * difference;
    let of_pixel = |pixel: &[f32]| pixel.iter().zip(means).map(|(v, mean)| square(f64::from(*v) - mean)).sum::<f64>();
    let own: f64 = source.chunks_exact(3).map(of_pixel).sum();
    let left: f64 = source.iter().zip(made).map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum();
    // Of a picture of one colour there is nothing to hold.
    if own <= left * 0.5 { -1.0 } else { 1.0 - left / own }
}

/// Whether that share is one of images that the model does not know.
pub(super) fn is_unknown(explained: f64) -> bool {
    explained < LEAST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_one_for_the_image_itself_and_nothing_for_its_mean() {
        let image = [-1.0, 0.5, 0.0, 1.0, 0.5, 0.5];
        assert!((explained(&image, &image) - 1.0).abs() < 1e-12);
        assert!(explained(&image, &[0.0, 0.5, 0.25, 0.0, 0.5, 0.25]).abs() < 1e-12);
        // Half of each deviation is left: a quarter of the squares.
        assert!((explained(&image, &[-0.5, 0.5, 0.125, 0.5, 0.5, 0.375]) - 0.75).abs() < 1e-12);
        assert_eq!(explained(&[0.5; 6], &[0.4; 6]), -1.0);
        assert_eq!(explained(&[0.5; 6], &[0.5; 6]), -1.0);
        assert!(is_unknown(-1.0) && !is_unknown(1.0));
    }
}
