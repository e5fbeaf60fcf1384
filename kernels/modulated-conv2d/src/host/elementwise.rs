//! The memory-bound kernels: epilogues and sums over pixels.

use rayon::prelude::*;
use swinstyle_tensor::{Scalar, simd};

use super::activation::Activation;
use crate::launch::{ChannelDot, Channels, Epilogue, EpilogueGradient, TapEnergy};

/// Elements of a block that a thread handles at once.
const CHUNK: usize = 1 << 14;
/// Pixels of a partial sum: one long f32 sum over a whole image loses several times more digits than a sum of short ones.
const RUN: usize = 128;

/// Calls `f(first pixel, count, their part of the image, their sums)` for runs of pixels in parallel, counted over all images, and adds the sums `[K, C]` of each image's runs in order.
///
/// `image` is `[N, pixels, C]`, or empty where nothing but sums is wanted; `sums[k]` is `[N, C]`.
///
/// `f` wants `#[inline(always)]`: see [`simd::dispatch`].
fn for_pixels<T: Scalar>(
    extent: Channels,
    image: &mut [T],
    sums: &mut [&mut [T]],
    f: impl Fn(usize, usize, &mut [T], &mut [T]) + Sync,
) {
    let Channels { batch, pixels, channels } = extent;
    let chunk = (CHUNK / channels).clamp(1, if sums.is_empty() { pixels } else { pixels.min(RUN) });
    let chunks = pixels.div_ceil(chunk);
    let kinds = sums.len().max(1) * channels;
    let mut partial = vec![T::ZERO; batch * chunks * kinds];
    let work = |n: usize, i: usize, image: &mut [T], sums: &mut [T]| {
        let (first, count) = (n * pixels + i * chunk, chunk.min(pixels - i * chunk));
        simd::dispatch(
            #[inline(always)]
            || f(first, count, image, sums),
        );
    };
    // Threads take several runs at a time: one is short where there are sums.
    let together = (CHUNK / (chunk * channels)).max(1);
    if image.is_empty() {
        let each = |(at, partial): (usize, &mut [T])| work(at / chunks, at % chunks, &mut [], partial);
        partial.par_chunks_mut(kinds).with_min_len(together).enumerate().for_each(each);
    } else {
        let images = image.par_chunks_mut(pixels * channels).zip(partial.par_chunks_mut(chunks * kinds));
        images.with_min_len((together / chunks).max(1)).enumerate().for_each(|(n, (image, partial))| {
            let parts = image.par_chunks_mut(chunk * channels).zip(partial.par_chunks_mut(kinds));
            parts.with_min_len(together).enumerate().for_each(|(i, (image, partial))| work(n, i, image, partial));
        });
    }
    for (n, partial) in partial.chunks(chunks * kinds).enumerate() {
        for (k, sums) in sums.iter_mut().enumerate() {
            let sums = &mut sums[n * channels..][..channels];
            sums.fill(T::ZERO);
            for partial in partial.chunks(kinds) {
                sums.iter_mut().zip(&partial[k * channels..]).for_each(|(s, &p)| *s += p);
            }
        }
    }
}

pub(crate) fn channel_dot<T: Scalar>(kernel: &ChannelDot, inputs: &[&[T]], outputs: &mut [&mut [T]]) {
    let Channels { pixels, channels: c, .. } = kernel.extent;
    let (a, b) = (inputs[0], inputs[1]);
    let (sums, scaled) = outputs.split_at_mut(1);
    match scaled {
        [scaled] => for_pixels(
            kernel.extent,
            scaled,
            sums,
            #[inline(always)]
            |first, n, scaled, dot| {
                let scale = &inputs[2][first / pixels * c..][..c];
                let (a, b, dot) = (&a[first * c..][..n * c], &b[first * c..][..n * c], &mut dot[..c]);
                for ((a, b), scaled) in a.chunks_exact(c).zip(b.chunks_exact(c)).zip(scaled.chunks_exact_mut(c)) {
                    for i in 0..c {
                        dot[i] = a[i].mul_add(b[i], dot[i]);
                        scaled[i] = a[i] * scale[i];
                    }
                }
            },
        ),
        _ => for_pixels(
            kernel.extent,
            &mut [],
            sums,
            #[inline(always)]
            |first, n, _, dot| {
                let (a, b, dot) = (&a[first * c..][..n * c], &b[first * c..][..n * c], &mut dot[..c]);
                for (a, b) in a.chunks_exact(c).zip(b.chunks_exact(c)) {
                    for i in 0..c {
                        dot[i] = a[i].mul_add(b[i], dot[i]);
                    }
                }
            },
        ),
    }
}

/// The values of the noise image that a run of pixels meets, however the image repeats over the batch.
#[inline(always)]
fn noise_at<T: Scalar>(noise: &[T], first: usize) -> impl Iterator<Item = &T> {
    noise[first % noise.len()..].iter().chain(noise.iter().cycle())
}

pub(crate) fn epilogue<T: Scalar>(kernel: &Epilogue, inputs: &[&[T]], y: &mut [T]) {
    let c = kernel.extent.channels;
    let activation = Activation::new(&kernel.activation);
    let zeros = vec![T::ZERO; c];
    let bias = if kernel.bias { inputs[inputs.len() - 1] } else { &zeros };
    // Without noise one zero, which repeats.
    let (noise, strength) = kernel.noise.map_or((&zeros[..1], T::ZERO), |_| (inputs[1], inputs[2][0]));
    for_pixels(
        kernel.extent,
        y,
        &mut [],
        #[inline(always)]
        move |first, n, y, _| {
            let (x, bias) = (&inputs[0][first * c..][..n * c], &bias[..c]);
            for ((x, y), &noise) in x.chunks_exact(c).zip(y.chunks_exact_mut(c)).zip(noise_at(noise, first)) {
                let noise = noise * strength;
                for i in 0..c {
                    y[i] = activation.scalar(x[i] + noise + bias[i]);
                }
            }
        },
    );
}

pub(crate) fn epilogue_gradient<T: Scalar>(kernel: &EpilogueGradient, inputs: &[&[T]], outputs: &mut [&mut [T]]) {
    let c = kernel.extent.channels;
    let activation = Activation::new(&kernel.activation);
    let (g, y) = (inputs[0], inputs[1]);
    let noise = kernel.noise.map(|_| inputs[2]);
    let (dz, sums) = outputs.split_at_mut(1);
    if !kernel.sums {
        return for_pixels(
            kernel.extent,
            dz[0],
            sums,
            #[inline(always)]
            move |first, n, dz, _| {
                let (g, y) = (&g[first * c..][..n * c], &y[first * c..][..n * c]);
                for i in 0..n * c {
                    dz[i] = activation.slope_at(y[i]) * g[i];
                }
            },
        );
    }
    for_pixels(
        kernel.extent,
        dz[0],
        sums,
        #[inline(always)]
        move |first, n, dz, sums| {
            let (g, y) = (&g[first * c..][..n * c], &y[first * c..][..n * c]);
            let (grad, rest) = sums.split_at_mut(c);
            let (product, by_noise) = rest.split_at_mut(c);
            for ((g, y), dz) in g.chunks_exact(c).zip(y.chunks_exact(c)).zip(dz.chunks_exact_mut(c)) {
                for i in 0..c {
                    let slope = activation.slope_at(y[i]);
                    let inside = if slope == T::ZERO { T::ZERO } else { g[i] };
                    dz[i] = slope * g[i];
                    grad[i] += dz[i];
                    product[i] = inside.mul_add(y[i], product[i]);
                }
            }
            if let Some(noise) = noise {
                for (dz, &noise) in dz.chunks_exact(c).zip(noise_at(noise, first)) {
                    for i in 0..c {
                        by_noise[i] = dz[i].mul_add(noise, by_noise[i]);
                    }
                }
            }
        },
    );
}

pub(crate) fn tap_energy<T: Scalar>(kernel: &TapEnergy, weight: &[T], energy: &mut [T]) {
    const CHUNK: usize = 1 << 12;
    let len = energy.len();
    energy.par_chunks_mut(CHUNK).enumerate().for_each(|(i, energy)| {
        simd::dispatch(
            #[inline(always)]
            || {
                energy.fill(T::ZERO);
                for tap in 0..kernel.taps {
                    for (e, &w) in energy.iter_mut().zip(&weight[tap * len + i * CHUNK..]) {
                        *e = w.mul_add(w, *e);
                    }
                }
            },
        );
    });
}
