//! The layer to RGB: the convolution to few channels, then the doubled image on top while its rows are in cache.

use rayon::prelude::*;
use swinstyle_tensor::{Result, Scalar, TensorError};
use swinstyle_upfirdn2d::Problem as Resampling;

use crate::{
    launch::{Conv, to_rgb::ToRgb},
    problem::Fusion,
};

/// Computes a [`ToRgb`].
pub(crate) fn to_rgb<T: Scalar>(kernel: &ToRgb, inputs: &[&[T]], y: &mut [T]) -> Result<()> {
    let [x, weight, style, bias, rest @ ..] = inputs else {
        return Err(TensorError::shape("to_rgb", "a wrong number of inputs"));
    };
    let conv = Conv { problem: kernel.problem, fusion: Fusion { pre: true, bias: true, ..Fusion::default() } };
    super::conv(&conv, &[x, weight, style, bias], y)?;
    if let (Some(skip), [image, filter]) = (&kernel.skip, rest) {
        add_doubled(skip, image, filter, y);
    }
    Ok(())
}

/// Adds the doubled image, output row by output row: each tap of a row adds to every other pixel.
fn add_doubled<T: Scalar>(skip: &Resampling, image: &[T], filter: &[T], y: &mut [T]) {
    let ([_, h, w, o], [_, sh, sw, _]) = (skip.output_shape(), skip.input_shape());
    let [taps_y, taps_x] = skip.filter_shape();
    let [before_y, before_x] = skip.axes.map(|a| a.pad[0]);
    let sh = sh as isize;
    // A true convolution turns the filter.
    let tap = |ky: usize, kx: usize| match skip.separable {
        true => filter[taps_y - 1 - ky] * filter[taps_x - 1 - kx],
        false => filter[(taps_y - 1 - ky) * taps_x + taps_x - 1 - kx],
    };
    let gain = T::from_f64(skip.gain);
    y.par_chunks_mut((w * o).max(1)).with_min_len(8).enumerate().for_each(|(row, y)| {
        let (n, at) = (row / h, (row % h) as isize - before_y);
        for ky in (at.rem_euclid(2) as usize..taps_y).step_by(2) {
            let iy = (at + ky as isize) / 2;
            if at + (ky as isize) < 0 || iy >= sh {
                continue;
            }
            let source = &image[(n * sh as usize + iy as usize) * sw * o..][..sw * o];
            for kx in 0..taps_x {
                let k = tap(ky, kx) * gain;
                // Pixel 2q + parity reads sample q + shift.
                let parity = (before_x - kx as isize).rem_euclid(2);
                let shift = (parity - before_x + kx as isize) / 2;
                let first = (-shift).max(0);
                let last = (sw as isize - shift).min((w as isize - parity + 1) / 2);
                for q in first..last {
                    let (to, from) = ((2 * q + parity) as usize * o, (q + shift) as usize * o);
                    for c in 0..o {
                        y[to + c] += k * source[from + c];
                    }
                }
            }
        }
    });
}
