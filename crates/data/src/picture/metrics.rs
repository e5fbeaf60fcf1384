//! How far two images are apart: MSE and PSNR of `[-1, 1]` images, SSIM of the same images in `[0, 1]`, summed in f64.

use super::check_length;
use crate::{DataError, Result};

/// The distance from the lowest to the highest value of a `[-1, 1]` image.
const PEAK: f64 = 2.0;

/// Mean squared error of two images or batches in `[-1, 1]`: the mean of `(a - b)^2` over all values.
///
/// Four times the error of the same images in `[0, 1]`. PyTorch: `F.mse_loss(a, b)`.
///
/// # Errors
/// [`DataError::InvalidArgument`] for different or zero lengths.
pub fn mse(a: &[f32], b: &[f32]) -> Result<f64> {
    if a.len() != b.len() || a.is_empty() {
        return Err(DataError::argument("second image's length", b.len(), format!("{}, and not 0", a.len())));
    }
    let sum: f64 = a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
    Ok(sum / a.len() as f64)
}

/// Peak signal-to-noise ratio of two images in `[-1, 1]`, in dB: `10 log10(2^2 / mse)`.
///
/// The same number as with a peak of 1 on `[0, 1]` or of 255 on bytes; infinite for equal images. Over a set of
/// images, report the mean of each image's value, not the value of the mean error.
///
/// # Errors
/// [`DataError::InvalidArgument`] for different or zero lengths.
pub fn psnr(a: &[f32], b: &[f32]) -> Result<f64> {
    Ok(psnr_from_mse(mse(a, b)?))
}

/// PSNR in dB of a mean squared error between `[-1, 1]` images.
pub fn psnr_from_mse(mse: f64) -> f64 {
    10.0 * (PEAK * PEAK / mse).log10()
}

/// Structural similarity (Wang, Bovik, Sheikh and Simoncelli 2004) of two images that are given in `[-1, 1]`; 1 for equal images.
///
/// ```text
/// SSIM = mean over channels and windows of (2 ma mb + C1)(2 sab + C2) / ((ma^2 + mb^2 + C1)(sa^2 + sb^2 + C2))
/// ```
/// of the images in `[0, 1]`, `(x + 1) / 2`: the luminance term is not invariant to an offset, and the literature's intensities begin
/// at 0. Gaussian windows of 11 x 11, sigma 1.5, that lie inside the image; population covariances; C1 = (0.01 L)^2,
/// C2 = (0.03 L)^2, L = 1. Each colour channel counts alike. scikit-image on bytes: `structural_similarity(a, b, gaussian_weights=True,
/// sigma=1.5, use_sample_covariance=False, data_range=255, channel_axis=2)`.
///
/// # Errors
/// [`DataError::InvalidArgument`] for wrong lengths or a side below 11.
pub fn ssim(
    a: &[f32], // [H, W, C] in [-1, 1]
    b: &[f32], // [H, W, C] in [-1, 1]
    height: usize,
    width: usize,
    channels: usize,
) -> Result<f64> {
    if height < WINDOW || width < WINDOW || channels == 0 {
        let size = format!("{height} x {width} x {channels}");
        return Err(DataError::argument("image size", size, format!("at least {WINDOW} x {WINDOW} x 1 for SSIM")));
    }
    check_length("first image's length", a.len(), &[height, width, channels])?;
    check_length("second image's length", b.len(), &[height, width, channels])?;
    let (c1, c2) = (0.01_f64.powi(2), 0.03_f64.powi(2));
    let mut total = 0.0;
    for channel in 0..channels {
        let intensity = |x: &f32| (f64::from(*x) + 1.0) / 2.0;
        let plane = |image: &[f32]| image.iter().skip(channel).step_by(channels).map(intensity).collect::<Vec<_>>();
        let (a, b) = (plane(a), plane(b));
        let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).collect::<Vec<_>>();
        let blurred = |plane: &[f64]| blur(plane, height, width);
        let (mean_a, mean_b) = (blurred(&a), blurred(&b));
        let (square_a, square_b, cross) =
            (blurred(&product(&a, &a)), blurred(&product(&b, &b)), blurred(&product(&a, &b)));
        let similarity = |i: usize| {
            let (ma, mb) = (mean_a[i], mean_b[i]);
            let (var_a, var_b, cov) = (square_a[i] - ma * ma, square_b[i] - mb * mb, cross[i] - ma * mb);
            (2.0 * ma * mb + c1) * (2.0 * cov + c2) / ((ma * ma + mb * mb + c1) * (var_a + var_b + c2))
        };
        total += (0..mean_a.len()).map(similarity).sum::<f64>() / mean_a.len() as f64;
    }
    Ok(total / channels as f64)
}

const WINDOW: usize = 11;

/// The Gaussian of sigma 1.5 at 11 points, summing to 1.
fn gaussian() -> [f64; WINDOW] {
    let mut taps: [f64; WINDOW] = std::array::from_fn(|i| (-(i as f64 - 5.0).powi(2) / (2.0 * 1.5 * 1.5)).exp());
    let sum: f64 = taps.iter().sum();
    taps.iter_mut().for_each(|tap| *tap /= sum);
    taps
}

/// The Gaussian mean of each window that lies inside the plane: `[H, W]` to `[H - 10, W - 10]`, rows first, then columns.
fn blur(plane: &[f64], height: usize, width: usize) -> Vec<f64> {
    let taps = gaussian();
    let (out_height, out_width) = (height + 1 - WINDOW, width + 1 - WINDOW);
    let mut rows = Vec::with_capacity(height * out_width);
    for row in plane.chunks_exact(width) {
        rows.extend(row.windows(WINDOW).map(|window| window.iter().zip(&taps).map(|(x, tap)| x * tap).sum::<f64>()));
    }
    let mut out = vec![0.0; out_height * out_width];
    for (y, out) in out.chunks_exact_mut(out_width).enumerate() {
        for (i, tap) in taps.iter().enumerate() {
            for (out, x) in out.iter_mut().zip(&rows[(y + i) * out_width..]) {
                *out += tap * x;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes with detail as an image in [-1, 1]; `quarters` of it come from `of(step)`, the others from `of(11)`.
    fn pattern(length: usize, step: usize, quarters: usize) -> Vec<f32> {
        let of = |i: usize, step: usize| (i * step + i * i / 7) % 256;
        let byte = |i: usize| (quarters * of(i, step) + (4 - quarters) * of(i, 11)) / 4;
        (0..length).map(|i| byte(i) as f32 / 127.5 - 1.0).collect()
    }

    fn grey(byte: u8, length: usize) -> Vec<f32> {
        vec![f32::from(byte) / 127.5 - 1.0; length]
    }

    #[test]
    fn psnr_on_minus_one_to_one_equals_psnr_on_bytes() {
        // 16 levels of 255 apart everywhere: 20 log10(255 / 16).
        let (a, b) = (vec![0.0; 12], vec![16.0 / 127.5; 12]);
        assert!((psnr(&a, &b).unwrap() - 24.0485).abs() < 1e-4);
        assert_eq!(psnr(&a, &a).unwrap(), f64::INFINITY);
        assert!((mse(&[-1.0], &[1.0]).unwrap() - 4.0).abs() < 1e-12);
        assert!(psnr(&[-1.0], &[1.0]).unwrap().abs() < 1e-12);
    }

    #[test]
    fn ssim_is_one_for_equal_images_and_symmetric() {
        let (a, b) = (pattern(20 * 17 * 3, 5, 4), pattern(20 * 17 * 3, 11, 4));
        assert!((ssim(&a, &a, 20, 17, 3).unwrap() - 1.0).abs() < 1e-12);
        assert!((ssim(&a, &b, 20, 17, 3).unwrap() - ssim(&b, &a, 20, 17, 3).unwrap()).abs() < 1e-12);
    }

    // What scikit-image 0.26 gives for the same bytes, called as the documentation of `ssim` says.

    #[test]
    fn ssim_of_flat_greys_is_scikit_images() {
        for (a, b, expected) in [
            (127, 128, 0.9999692492219389),
            (120, 136, 0.9922194368042366),
            (10, 26, 0.6728444957044863),
            (255, 254, 0.9999922808237849),
            (0, 255, 9.999000099990004e-5),
            (0, 0, 1.0),
        ] {
            let found = ssim(&grey(a, 16 * 16 * 3), &grey(b, 16 * 16 * 3), 16, 16, 3).unwrap();
            assert!((found - expected).abs() < 1e-6, "{a} {b}: {found} {expected}");
        }
    }

    #[test]
    fn ssim_of_pictures_of_odd_sizes_is_scikit_images() {
        for (height, width, far, near) in [
            (11, 11, -0.05770388643165436, 0.917202822127857),
            (12, 37, 0.005693419786218387, 0.9209488154083935),
            (33, 17, -0.0005043083919022805, 0.919045621129836),
            (64, 64, 0.016512103045386792, 0.9227005752563772),
        ] {
            let length = height * width * 3;
            let a = pattern(length, 5, 4);
            for (b, expected) in [(pattern(length, 11, 4), far), (pattern(length, 5, 3), near)] {
                let found = ssim(&a, &b, height, width, 3).unwrap();
                assert!((found - expected).abs() < 1e-6, "{height} x {width}: {found} {expected}");
            }
        }
        // One channel of the smallest image.
        let first = |image: Vec<f32>| image.into_iter().step_by(3).collect::<Vec<_>>();
        let (a, b) = (first(pattern(11 * 11 * 3, 5, 4)), first(pattern(11 * 11 * 3, 5, 3)));
        assert!((ssim(&a, &b, 11, 11, 1).unwrap() - 0.9210557686657097).abs() < 1e-6);
    }

    #[test]
    fn images_of_different_lengths_cannot_be_compared() {
        assert!(mse(&[0.0], &[0.0, 1.0]).is_err());
        assert!(mse(&[], &[]).is_err());
        assert!(ssim(&[0.0; 300], &[0.0; 300], 10, 10, 3).is_err());
        assert!(ssim(&[0.0; 363], &[0.0; 360], 11, 11, 3).is_err());
    }
}
