//! Pointwise convolutions to few channels (to RGB): dot products along the input channels, read once and in place.
//!
//! The register tiles would fill a vector of output channels for the sake of three and pack an image that is read once.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{activation::Activation, vector::Real};
use crate::{
    LeakyRelu, Problem,
    launch::{Conv, ConvInputs},
};

/// Output channels at most.
const MOST: usize = 4;
/// Pixels that share each load of the weights.
const PIXELS: usize = 4;
/// Pixels of a task.
const CHUNK: usize = 1 << 10;

/// Whether the convolution is one for this file.
pub(super) fn fits(p: &Problem) -> bool {
    let g = &p.geometry;
    let point = g.kernel == [1, 1] && g.up == 1 && g.down == 1 && g.pad == [0, 0] && g.output == p.input;
    point && p.out_channels <= MOST && p.in_channels >= 16
}

/// Computes a convolution that [`fits`].
pub(super) struct Narrow<'a, T: Real> {
    pub(super) kernel: &'a Conv,
    pub(super) inputs: &'a ConvInputs<'a, [T]>,
    pub(super) output: &'a mut [T],
}

impl<T: Real> WithSimd for Narrow<'_, T> {
    type Output = ();

    fn with_simd<S: Simd>(self, simd: S) {
        let Self { kernel, inputs, output } = self;
        let p = &kernel.problem;
        let (i, o, pixels) = (p.in_channels, p.out_channels, p.input[0] * p.input[1]);
        let activation = kernel.fusion.activation.unwrap_or(LeakyRelu::LINEAR);
        let images = output.par_chunks_mut(pixels * o).zip(inputs.x.par_chunks(pixels * i));
        images.enumerate().for_each(|(n, (y, x))| {
            // [O, I]: the style goes into the few weights.
            let weight: Vec<T> = (0..o * i)
                .map(|at| {
                    let (k, c) = (at / i, at % i);
                    let w = inputs.weight[if p.geometry.transpose { k * i + c } else { c * o + k }];
                    w * inputs.pre.map_or(T::ONE, |s| s[n * i + c])
                })
                .collect();
            y.par_chunks_mut(CHUNK * o).zip(x.par_chunks(CHUNK * i)).enumerate().for_each(|(chunk, (y, x))| {
                match o {
                    1 => simd.vectorize(Dots::<T, 1> { weight: &weight, x, y }),
                    2 => simd.vectorize(Dots::<T, 2> { weight: &weight, x, y }),
                    3 => simd.vectorize(Dots::<T, 3> { weight: &weight, x, y }),
                    _ => simd.vectorize(Dots::<T, MOST> { weight: &weight, x, y }),
                }
                if !kernel.fusion.post && !kernel.fusion.has_epilogue() {
                    return;
                }
                let activation = Activation::new(&activation);
                for (j, y) in y.chunks_exact_mut(o).enumerate() {
                    let pixel = n * pixels + chunk * CHUNK + j;
                    let noise =
                        inputs.noise.map_or(T::ZERO, |(noise, strength)| noise[pixel % noise.len()] * strength[0]);
                    for (k, y) in y.iter_mut().enumerate() {
                        let z = *y * inputs.post.map_or(T::ONE, |s| s[n * o + k]) + noise;
                        *y = activation.scalar(z + inputs.bias.map_or(T::ZERO, |b| b[k]));
                    }
                }
            });
        });
    }
}

/// `y[p, o] = Σ_i x[p, i]·weight[o, i]`.
struct Dots<'a, T, const O: usize> {
    weight: &'a [T],
    x: &'a [T],
    y: &'a mut [T],
}

impl<T: Real, const O: usize> WithSimd for Dots<'_, T, O> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { weight, x, y } = self;
        let i = weight.len() / O;
        let lanes = T::lanes::<S>();
        let whole = i / lanes * lanes;
        let mut pixels = x.chunks_exact(PIXELS * i);
        let mut to = y.chunks_exact_mut(PIXELS * O);
        for (x, y) in pixels.by_ref().zip(to.by_ref()) {
            let mut sums = [[T::splat(simd, T::ZERO); O]; PIXELS];
            for c in (0..whole).step_by(lanes) {
                let mut w = [T::splat(simd, T::ZERO); O];
                for k in 0..O {
                    // SAFETY: `c + lanes` is at most `whole`, which rows of x and of the weight have.
                    w[k] = unsafe { T::load::<S>(weight.as_ptr().add(k * i + c)) };
                }
                for p in 0..PIXELS {
                    // SAFETY: the same.
                    let x = unsafe { T::load::<S>(x.as_ptr().add(p * i + c)) };
                    for k in 0..O {
                        sums[p][k] = T::fused(simd, x, w[k], sums[p][k]);
                    }
                }
            }
            for p in 0..PIXELS {
                for k in 0..O {
                    let tail = dot(&x[p * i + whole..(p + 1) * i], &weight[k * i + whole..(k + 1) * i]);
                    y[p * O + k] = T::reduce(simd, sums[p][k]) + tail;
                }
            }
        }
        for (x, y) in pixels.remainder().chunks_exact(i).zip(to.into_remainder().chunks_exact_mut(O)) {
            for k in 0..O {
                y[k] = dot(x, &weight[k * i..(k + 1) * i]);
            }
        }
    }
}

#[inline(always)]
fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    a.iter().zip(b).map(|(&a, &b)| a * b).sum()
}
