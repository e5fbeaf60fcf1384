//! A boundary by a linear support vector machine, as InterFaceGAN's.

use swinstyle_tensor::rng::Philox;

use super::{Boundary, Samples, dot};
use crate::Result;

/// Cost of a code on the wrong side of its margin; scikit-learn's default, which InterFaceGAN uses.
const C: f64 = 1.0;
/// Rounds over all codes at most.
const ROUNDS: usize = 5_000;
/// It stops when the projected gradients of a round lie within this of each other, as LIBSVM does, and the offset rests.
const TOLERANCE: f64 = 1e-3;

impl Boundary {
    /// The linear support vector machine of `codes` `[N, F]` with a label each: the normal that minimises
    /// `½‖w‖² + C Σ max(0, 1 − yᵢ(w·xᵢ − b))` with C = 1, on the codes as they are. Its way is that normal.
    ///
    /// Found by dual coordinate descent (C.-J. Hsieh et al., ICML 2008) on centred codes with a constant number for the offset, which
    /// costs nothing in the end: what it holds after a round moves into a shift (the method of multipliers for `Σ αᵢyᵢ = 0`).
    /// scikit-learn: `SVC(kernel="linear")`.
    ///
    /// Errors: one class only, lengths that do not fit.
    pub fn svm(
        codes: &[f32], // [N, F]
        labels: &[bool],
    ) -> Result<Self> {
        let samples = Samples::new(codes, labels)?;
        let (n, f) = (labels.len(), samples.features);
        let mut mean = vec![0.0; f];
        for i in 0..n {
            mean.iter_mut().zip(samples.row(i)).for_each(|(m, x)| *m += f64::from(*x) / n as f64);
        }
        let centred = |i: usize| samples.row(i).iter().zip(&mean).map(|(x, m)| f64::from(*x) - m);
        let squares: Vec<f64> = (0..n).map(|i| centred(i).map(|x| x * x).sum()).collect();
        // The constant number that carries what the offset still has to move.
        let constant = (squares.iter().sum::<f64>() / n as f64).sqrt().max(f64::MIN_POSITIVE);

        let sign = |i: usize| if labels[i] { 1.0 } else { -1.0 };
        let (mut normal, mut bias, mut alpha) = (vec![0.0; f], 0.0, vec![0.0; n]);
        let mut shift = 0.0;
        let mut order: Vec<usize> = (0..n).collect();
        let mut rng = Philox::new(0, 0);
        for _ in 0..ROUNDS {
            for i in (1..n).rev() {
                order.swap(i, rng.below(i + 1));
            }
            let (mut most, mut least) = (f64::NEG_INFINITY, f64::INFINITY);
            for &i in &order {
                let y = sign(i);
                let score: f64 = centred(i).zip(&normal).map(|(x, w)| x * w).sum::<f64>() + constant * bias + shift;
                let gradient = y * score - 1.0;
                // A multiplier at its bound does not move beyond it.
                let projected = match alpha[i] {
                    a if a <= 0.0 => gradient.min(0.0),
                    a if a >= C => gradient.max(0.0),
                    _ => gradient,
                };
                (most, least) = (most.max(projected), least.min(projected));
                if projected != 0.0 {
                    let new = (alpha[i] - gradient / (squares[i] + constant * constant)).clamp(0.0, C);
                    let step = (new - alpha[i]) * y;
                    alpha[i] = new;
                    normal.iter_mut().zip(centred(i)).for_each(|(w, x)| *w += step * x);
                    bias += step * constant;
                }
            }
            let moved = constant * bias;
            if most - least < TOLERANCE && moved.abs() < TOLERANCE {
                break;
            }
            shift += moved;
        }
        let offset = dot(&normal, &mean) - shift - constant * bias;
        Ok(Self::new(&samples, "svm", normal.clone(), offset, normal))
    }
}
