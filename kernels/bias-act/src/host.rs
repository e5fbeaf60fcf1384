//! The CPU twin: one pass over memory, vectorised whatever the number of channels.

use rayon::prelude::*;
use swinstyle_tensor::{Scalar, simd};

use crate::problem::{Activation, Problem};

/// Elements that one task handles: large enough to hide its start, small enough to even out the load.
const BLOCK: usize = 1 << 14;
/// Elements of the repeated bias at the least, so that few channels still make long inner loops.
const TILE: usize = 512;

/// The bias repeated to whole rows: zeros without one.
fn tile<T: Scalar>(p: &Problem, bias: Option<&[T]>) -> Vec<T> {
    let repeats = TILE.div_ceil(p.channels().max(1));
    match bias {
        Some(b) => b.repeat(repeats),
        None => vec![T::ZERO; repeats * p.channels().max(1)],
    }
}

/// `y[i] = f(a[i], x[i] + bias)` in blocks over the threads; f captures by value.
fn map<T: Scalar>(tile: &[T], a: &[T], x: &[T], y: &mut [T], f: impl Fn(T, T) -> T + Sync + Copy) {
    let block = BLOCK.div_ceil(tile.len()) * tile.len();
    let work = |(i, y): (usize, &mut [T])| {
        let (a, x) = (&a[i * block..][..y.len()], &x[i * block..][..y.len()]);
        // Without the attribute the body, and f with it, stays a function of the baseline instruction set.
        simd::dispatch(
            // And f by value: constants behind a reference might alias y, and the loop would read them again each time.
            #[inline(always)]
            move || {
                for ((y, a), x) in y.chunks_mut(tile.len()).zip(a.chunks(tile.len())).zip(x.chunks(tile.len())) {
                    let n = y.len();
                    let (a, x, tile) = (&a[..n], &x[..n], &tile[..n]);
                    for i in 0..n {
                        y[i] = f(a[i], x[i] + tile[i]);
                    }
                }
            },
        );
    };
    if y.len() <= block {
        y.chunks_mut(block).enumerate().for_each(work);
    } else {
        y.par_chunks_mut(block).enumerate().for_each(work);
    }
}

/// min(max(v, −bound), bound), which keeps NaN.
#[inline(always)]
fn clamp<T: Scalar>(v: T, bound: T) -> T {
    let v = if v > bound { bound } else { v };
    if v < -bound { -bound } else { v }
}

/// d, or 0 where y was clamped: nothing flows there.
#[inline(always)]
fn inside<T: Scalar>(y: T, bound: T, d: T) -> T {
    if y < bound && y > -bound { d } else { T::ZERO }
}

#[inline(always)]
fn sigmoid<T: Scalar>(z: T) -> T {
    T::ONE / (T::ONE + (-z).exp())
}

/// Φ(z).
#[inline(always)]
fn normal_cdf<T: Scalar>(z: T) -> T {
    let half = T::from_f64(0.5);
    half.mul_add((z * T::from_f64(std::f64::consts::FRAC_1_SQRT_2)).erf(), half)
}

/// φ(z) = e^(−z²/2) / √(2π).
#[inline(always)]
fn normal_pdf<T: Scalar>(z: T) -> T {
    const FRAC_1_SQRT_2PI: f64 = 0.398_942_280_401_432_7;
    (z * z * T::from_f64(-0.5)).exp() * T::from_f64(FRAC_1_SQRT_2PI)
}

/// y `[.., C]` from x `[.., C]` and the bias `[C]`.
pub(crate) fn forward<T: Scalar>(p: &Problem, x: &[T], bias: Option<&[T]>, y: &mut [T]) {
    let tile = tile(p, bias);
    let (gain, bound) = (T::from_f64(p.gain), T::from_f64(p.bound()));
    match p.activation {
        Activation::Linear => map(
            &tile,
            x,
            x,
            y,
            #[inline(always)]
            move |_, z| clamp(z * gain, bound),
        ),
        Activation::LeakyRelu { slope } => {
            let below = T::from_f64(slope * p.gain);
            map(
                &tile,
                x,
                x,
                y,
                #[inline(always)]
                move |_, z| clamp(if z > T::ZERO { z * gain } else { z * below }, bound),
            )
        }
        // The other way round NaN would become 0.
        Activation::Relu => map(
            &tile,
            x,
            x,
            y,
            #[inline(always)]
            move |_, z| clamp(if z <= T::ZERO { T::ZERO } else { z * gain }, bound),
        ),
        Activation::Gelu => map(
            &tile,
            x,
            x,
            y,
            #[inline(always)]
            move |_, z| clamp(z * normal_cdf(z) * gain, bound),
        ),
        Activation::Silu => map(
            &tile,
            x,
            x,
            y,
            #[inline(always)]
            move |_, z| clamp(z * sigmoid(z) * gain, bound),
        ),
        Activation::Tanh => map(
            &tile,
            x,
            x,
            y,
            #[inline(always)]
            move |_, z| clamp(z.tanh() * gain, bound),
        ),
        Activation::Sigmoid => map(
            &tile,
            x,
            x,
            y,
            #[inline(always)]
            move |_, z| clamp(sigmoid(z) * gain, bound),
        ),
    }
}

/// Input gradient from the output's gradient and the output y, or, for [`Activation::needs_input`], x and the bias.
pub(crate) fn gradient<T: Scalar>(p: &Problem, grad: &[T], reference: &[T], bias: Option<&[T]>, out: &mut [T]) {
    let tile = tile(p, bias);
    let (gain, bound) = (T::from_f64(p.gain), T::from_f64(p.bound()));
    match p.activation {
        Activation::Linear => map(
            &tile,
            grad,
            reference,
            out,
            #[inline(always)]
            move |g, y| inside(y, bound, g * gain),
        ),
        Activation::LeakyRelu { slope } => leaky(p, &tile, grad, reference, out, slope),
        Activation::Relu => leaky(p, &tile, grad, reference, out, 0.0),
        Activation::Gelu => map(
            &tile,
            grad,
            reference,
            out,
            #[inline(always)]
            move |g, z| {
                let cdf = normal_cdf(z);
                inside(z * cdf * gain, bound, g * gain * z.mul_add(normal_pdf(z), cdf))
            },
        ),
        Activation::Silu => map(
            &tile,
            grad,
            reference,
            out,
            #[inline(always)]
            move |g, z| {
                let s = sigmoid(z);
                let y = z * s;
                inside(y * gain, bound, g * gain * (s + y * (T::ONE - s)))
            },
        ),
        Activation::Tanh => {
            let inverse = T::ONE / gain;
            map(
                &tile,
                grad,
                reference,
                out,
                #[inline(always)]
                move |g, y| {
                    let t = y * inverse;
                    inside(y, bound, g * gain * (T::ONE - t * t))
                },
            )
        }
        Activation::Sigmoid => {
            let inverse = T::ONE / gain;
            map(
                &tile,
                grad,
                reference,
                out,
                #[inline(always)]
                move |g, y| {
                    let s = y * inverse;
                    inside(y, bound, g * gain * (s - s * s))
                },
            )
        }
    }
}

fn leaky<T: Scalar>(p: &Problem, tile: &[T], grad: &[T], y: &[T], out: &mut [T], slope: f64) {
    let (bound, above, below) = (T::from_f64(p.bound()), T::from_f64(p.gain), T::from_f64(slope * p.gain));
    // The output's sign is the input's, turned around by a negative gain.
    let sign = if p.gain > 0.0 { T::ONE } else { -T::ONE };
    map(
        tile,
        grad,
        y,
        out,
        #[inline(always)]
        move |g, y| inside(y, bound, g * if y * sign > T::ZERO { above } else { below }),
    );
}
