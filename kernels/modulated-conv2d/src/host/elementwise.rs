//! The memory-bound kernels: epilogues and sums over pixels.

use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;
use swinstyle_tensor::{Scalar, simd};

use super::activation::Activation;
use crate::launch::{ChannelDot, Channels, Epilogue, EpilogueGradient, TapEnergy};

/// Elements of a block that a thread handles at once.
const CHUNK: usize = 1 << 14;
/// Pixels of a partial sum: one long f32 sum over a whole image loses several times more digits than a sum of short ones.
const RUN: usize = 128;

/// What a thread does with a run of pixels.
///
/// A trait and no closure: [`ForPixels::run`] is to be inlined into a function with the target's vector instructions,
/// and a closure that is called from another is not, once it is large.
trait ForPixels<T>: Sync {
    /// Treats `count` pixels from `first`, counted over all images, into their part of the image and their sums `[K, C]`.
    fn run(&self, first: usize, count: usize, image: &mut [T], sums: &mut [T]);
}

/// One call of [`ForPixels::run`].
struct Run<'a, T, F> {
    f: &'a F,
    first: usize,
    count: usize,
    image: &'a mut [T],
    sums: &'a mut [T],
}

impl<T, F: ForPixels<T>> NullaryFnOnce for Run<'_, T, F> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.f.run(self.first, self.count, self.image, self.sums);
    }
}

/// Runs `f` over the pixels in parallel and adds the sums `[K, C]` of each image's runs in order.
///
/// `image` is `[N, pixels, C]`, or empty where nothing but sums is wanted; `sums[k]` is `[N, C]`.
fn for_pixels<T: Scalar>(extent: Channels, image: &mut [T], sums: &mut [&mut [T]], f: &impl ForPixels<T>) {
    let Channels { batch, pixels, channels } = extent;
    let chunk = (CHUNK / channels).clamp(1, if sums.is_empty() { pixels } else { pixels.min(RUN) });
    let chunks = pixels.div_ceil(chunk);
    let kinds = sums.len().max(1) * channels;
    let mut partial = vec![T::ZERO; batch * chunks * kinds];
    let arch = Arch::new();
    let work = |n: usize, i: usize, image: &mut [T], sums: &mut [T]| {
        let (first, count) = (n * pixels + i * chunk, chunk.min(pixels - i * chunk));
        arch.dispatch(Run { f, first, count, image, sums });
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

/// Σ a·b a channel.
struct Dot<'a, T> {
    a: &'a [T],
    b: &'a [T],
    channels: usize,
}

impl<T: Scalar> ForPixels<T> for Dot<'_, T> {
    #[inline(always)]
    fn run(&self, first: usize, count: usize, _: &mut [T], dot: &mut [T]) {
        let c = self.channels;
        let (a, b) = (&self.a[first * c..][..count * c], &self.b[first * c..][..count * c]);
        let dot = &mut dot[..c];
        for (a, b) in a.chunks_exact(c).zip(b.chunks_exact(c)) {
            for i in 0..c {
                dot[i] = a[i].mul_add(b[i], dot[i]);
            }
        }
    }
}

/// Σ a·b a channel, and a times each image's scale `[N, C]`.
struct ScaledDot<'a, T> {
    dot: Dot<'a, T>,
    scale: &'a [T],
    pixels: usize,
}

impl<T: Scalar> ForPixels<T> for ScaledDot<'_, T> {
    #[inline(always)]
    fn run(&self, first: usize, count: usize, scaled: &mut [T], dot: &mut [T]) {
        let c = self.dot.channels;
        let scale = &self.scale[first / self.pixels * c..][..c];
        let (a, b) = (&self.dot.a[first * c..][..count * c], &self.dot.b[first * c..][..count * c]);
        let dot = &mut dot[..c];
        for ((a, b), scaled) in a.chunks_exact(c).zip(b.chunks_exact(c)).zip(scaled.chunks_exact_mut(c)) {
            for i in 0..c {
                dot[i] = a[i].mul_add(b[i], dot[i]);
                scaled[i] = a[i] * scale[i];
            }
        }
    }
}

pub(crate) fn channel_dot<T: Scalar>(kernel: &ChannelDot, inputs: &[&[T]], outputs: &mut [&mut [T]]) {
    let Channels { pixels, channels, .. } = kernel.extent;
    let dot = Dot { a: inputs[0], b: inputs[1], channels };
    let (sums, scaled) = outputs.split_at_mut(1);
    match scaled {
        [scaled] => for_pixels(kernel.extent, scaled, sums, &ScaledDot { dot, scale: inputs[2], pixels }),
        _ => for_pixels(kernel.extent, &mut [], sums, &dot),
    }
}

/// The values of the noise image that a run of pixels meets, however the image repeats over the batch.
#[inline(always)]
fn noise_at<T: Scalar>(noise: &[T], first: usize) -> impl Iterator<Item = &T> {
    noise[first % noise.len()..].iter().chain(noise.iter().cycle())
}

/// activation(x + noise · strength + bias).
struct Activate<'a, T> {
    x: &'a [T],
    noise: Option<(&'a [T], T)>,
    bias: &'a [T],
    activation: Activation<T>,
}

impl<T: Scalar> ForPixels<T> for Activate<'_, T> {
    #[inline(always)]
    fn run(&self, first: usize, count: usize, y: &mut [T], _: &mut [T]) {
        let c = self.bias.len();
        let (bias, activation) = (self.bias, self.activation);
        let pixels = self.x[first * c..][..count * c].chunks_exact(c).zip(y.chunks_exact_mut(c));
        match self.noise {
            Some((noise, strength)) => {
                for ((x, y), &noise) in pixels.zip(noise_at(noise, first)) {
                    let noise = noise * strength;
                    for i in 0..c {
                        y[i] = activation.scalar(x[i] + noise + bias[i]);
                    }
                }
            }
            None => {
                for (x, y) in pixels {
                    for i in 0..c {
                        y[i] = activation.scalar(x[i] + bias[i]);
                    }
                }
            }
        }
    }
}

pub(crate) fn epilogue<T: Scalar>(kernel: &Epilogue, inputs: &[&[T]], y: &mut [T]) {
    let zeros = vec![T::ZERO; kernel.extent.channels];
    let activate = Activate {
        x: inputs[0],
        noise: kernel.noise.map(|_| (inputs[1], inputs[2][0])),
        bias: if kernel.bias { inputs[inputs.len() - 1] } else { &zeros },
        activation: Activation::new(&kernel.activation),
    };
    for_pixels(kernel.extent, y, &mut [], &activate);
}

/// g times the slope of the activation whose output is y.
struct Slope<'a, T> {
    g: &'a [T],
    y: &'a [T],
    channels: usize,
    activation: Activation<T>,
}

impl<T: Scalar> ForPixels<T> for Slope<'_, T> {
    #[inline(always)]
    fn run(&self, first: usize, count: usize, dz: &mut [T], _: &mut [T]) {
        let (at, n, activation) = (first * self.channels, count * self.channels, self.activation);
        let (g, y) = (&self.g[at..][..n], &self.y[at..][..n]);
        for i in 0..n {
            dz[i] = activation.slope_at(y[i]) * g[i];
        }
    }
}

/// [`Slope`] with the sums of dz, of g·y where the activation is not clamped, and of dz·noise.
struct SlopeSums<'a, T> {
    slope: Slope<'a, T>,
    noise: Option<&'a [T]>,
}

impl<T: Scalar> ForPixels<T> for SlopeSums<'_, T> {
    #[inline(always)]
    fn run(&self, first: usize, count: usize, dz: &mut [T], sums: &mut [T]) {
        let Slope { g, y, channels: c, activation } = self.slope;
        let (g, y) = (&g[first * c..][..count * c], &y[first * c..][..count * c]);
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
        if let Some(noise) = self.noise {
            for (dz, &noise) in dz.chunks_exact(c).zip(noise_at(noise, first)) {
                for i in 0..c {
                    by_noise[i] = dz[i].mul_add(noise, by_noise[i]);
                }
            }
        }
    }
}

pub(crate) fn epilogue_gradient<T: Scalar>(kernel: &EpilogueGradient, inputs: &[&[T]], outputs: &mut [&mut [T]]) {
    let slope = Slope {
        g: inputs[0],
        y: inputs[1],
        channels: kernel.extent.channels,
        activation: Activation::new(&kernel.activation),
    };
    let (dz, sums) = outputs.split_at_mut(1);
    if kernel.sums {
        let noise = kernel.noise.map(|_| inputs[2]);
        for_pixels(kernel.extent, dz[0], sums, &SlopeSums { slope, noise });
    } else {
        for_pixels(kernel.extent, dz[0], sums, &slope);
    }
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
