//! How far two images are apart: MSE, PSNR and SSIM of `[-1, 1]` images, summed in f64.

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

/// Structural similarity of two images in `[-1, 1]` (Wang, Bovik, Sheikh and Simoncelli 2004), 1 for equal images.
///
/// ```text
/// SSIM = mean over channels and windows of (2 ma mb + C1)(2 sab + C2) / ((ma^2 + mb^2 + C1)(sa^2 + sb^2 + C2))
/// ```
/// with Gaussian windows of 11 x 11, sigma 1.5, that lie inside the image; C1 = (0.01 L)^2, C2 = (0.03 L)^2, L = 2.
/// Each colour channel counts alike. scikit-image: `structural_similarity(a, b, gaussian_weights=True, sigma=1.5,
/// use_sample_covariance=False, data_range=2, channel_axis=2)`.
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
    let (c1, c2) = ((0.01 * PEAK).powi(2), (0.03 * PEAK).powi(2));
    let mut total = 0.0;
    for channel in 0..channels {
        let plane =
            |image: &[f32]| image.iter().skip(channel).step_by(channels).map(|&x| f64::from(x)).collect::<Vec<_>>();
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

    /// A fixed picture with detail: sixteenths in [-1, 1], exact in f32.
    fn pattern(length: usize, step: usize) -> Vec<f32> {
        (0..length).map(|i| ((i * step + i * i / 7) % 33) as f32 / 16.0 - 1.0).collect()
    }

    /// The definition of SSIM with one loop for each sum, for the test below.
    fn naive_ssim(a: &[f32], b: &[f32], height: usize, width: usize, channels: usize) -> f64 {
        let (c1, c2) = (0.0004, 0.0036);
        let (mut total, mut count) = (0.0, 0.0);
        for (top, left, channel) in
            (0..=height - 11).flat_map(|y| (0..=width - 11).flat_map(move |x| (0..channels).map(move |c| (y, x, c))))
        {
            let mut windows = Vec::new();
            for (i, j) in (0..11).flat_map(|i| (0..11).map(move |j| (i, j))) {
                let weight = (-((i as f64 - 5.0).powi(2) + (j as f64 - 5.0).powi(2)) / 4.5).exp();
                let at = ((top + i) * width + left + j) * channels + channel;
                windows.push((weight, f64::from(a[at]), f64::from(b[at])));
            }
            let sum: f64 = windows.iter().map(|w| w.0).sum();
            let mean = |f: &dyn Fn(f64, f64) -> f64| windows.iter().map(|&(w, a, b)| w * f(a, b)).sum::<f64>() / sum;
            let (ma, mb) = (mean(&|a, _| a), mean(&|_, b| b));
            let (va, vb) = (mean(&|a, _| (a - ma).powi(2)), mean(&|_, b| (b - mb).powi(2)));
            let cov = mean(&|a, b| (a - ma) * (b - mb));
            total += (2.0 * ma * mb + c1) * (2.0 * cov + c2) / ((ma * ma + mb * mb + c1) * (va + vb + c2));
            count += 1.0;
        }
        total / count
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
        let (a, b) = (pattern(20 * 17 * 3, 5), pattern(20 * 17 * 3, 11));
        assert!((ssim(&a, &a, 20, 17, 3).unwrap() - 1.0).abs() < 1e-12);
        assert!((ssim(&a, &b, 20, 17, 3).unwrap() - ssim(&b, &a, 20, 17, 3).unwrap()).abs() < 1e-12);
    }

    #[test]
    fn ssim_of_flat_images_is_the_luminance_term() {
        let (a, b) = (vec![0.5f32; 11 * 11], vec![0.25f32; 11 * 11]);
        let expected = (2.0 * 0.125 + 0.0004) / (0.25 + 0.0625 + 0.0004);
        assert!((ssim(&a, &b, 11, 11, 1).unwrap() - expected).abs() < 1e-12);
    }

    #[test]
    fn ssim_equals_its_definition() {
        let (a, b) = (pattern(14 * 19 * 3, 5), pattern(14 * 19 * 3, 11));
        let half: Vec<f32> = a.iter().zip(&b).map(|(a, b)| 0.75 * a + 0.25 * b).collect();
        for other in [&b, &half] {
            let (fast, naive) = (ssim(&a, other, 14, 19, 3).unwrap(), naive_ssim(&a, other, 14, 19, 3));
            assert!((fast - naive).abs() < 1e-10, "{fast} {naive}");
        }
    }

    #[test]
    fn images_of_different_lengths_cannot_be_compared() {
        assert!(mse(&[0.0], &[0.0, 1.0]).is_err());
        assert!(mse(&[], &[]).is_err());
        assert!(ssim(&[0.0; 300], &[0.0; 300], 10, 10, 3).is_err());
        assert!(ssim(&[0.0; 363], &[0.0; 360], 11, 11, 3).is_err());
    }
}
