//! The memory-bound kernels: the end of a convolution in parts, epilogue and its gradient, dots over pixels, sums of parts, small changes of weights and noise.

use cubecl::prelude::*;

use super::{
    activate,
    around::{Around, finish},
};

/// `act(x + noise + bias)`, one vector of channels a unit.
#[cube(launch_unchecked)]
pub(crate) fn epilogue<F: Float, N: Size>(
    x: &Array<Vector<F, N>>,     // [N, pixels, C]
    noise: &Array<F>,            // [N or 1, pixels], scaled
    bias: &Array<Vector<F, N>>,  // [C]
    y: &mut Array<Vector<F, N>>, // [N, pixels, C]
    vectors: u32,
    noise_len: u32,
    has_bias: u32,
    slope: f32,
    gain: f32,
    bound: f32, // 0 without a clamp
    #[define(F)] _dtype: StorageType,
) {
    let index = ABSOLUTE_POS;
    if index >= y.len() {
        terminate!();
    }
    let mut z = Vector::<f32, N>::cast_from(x[index]);
    if noise_len > 0 {
        let pixel = index as u32 / vectors;
        z += Vector::<f32, N>::new(f32::cast_from(noise[(pixel % noise_len) as usize]));
    }
    if has_bias > 0 {
        z += Vector::<f32, N>::cast_from(bias[index % vectors as usize]);
    }
    y[index] = Vector::cast_from(activate::<N>(z, slope, gain, bound));
}

/// dz, and with `sums` the partial sums of dz, of `g·y` where y is not clamped and of `dz·noise` over `span` pixels a unit.
#[cube(launch_unchecked)]
pub(crate) fn epilogue_gradient<F: Float, N: Size>(
    grad: &Array<Vector<F, N>>,          // [N, pixels, C]
    y: &Array<Vector<F, N>>,             // [N, pixels, C]
    noise: &Array<F>,                    // [N or 1, pixels]
    dz: &mut Array<Vector<F, N>>,        // [N, pixels, C]
    partial: &mut Array<Vector<f32, N>>, // [3, N, blocks, C], if sums
    images: u32,
    pixels: u32,
    vectors: u32,
    blocks: u32,
    span: u32,
    noise_len: u32,
    slope: f32,
    gain: f32,
    bound: f32, // 0 without a clamp
    #[comptime] sums: bool,
    #[define(F)] _dtype: StorageType,
) {
    let index = ABSOLUTE_POS as u32;
    let kind = images * blocks * vectors;
    if index >= kind {
        terminate!();
    }
    let c = index % vectors;
    let block = index / vectors % blocks;
    let image = index / vectors / blocks;
    let zero = Vector::<f32, N>::new(0.0);
    let (mut by_grad, mut by_output, mut by_noise) = (zero, zero, zero);
    let limit = select(bound > 0.0, bound, f32::MAX);
    let first = block * span;
    for pixel in first..u32::min(first + span, pixels) {
        let pixel = image * pixels + pixel;
        let at = (pixel * vectors + c) as usize;
        let g = Vector::<f32, N>::cast_from(grad[at]);
        let out = Vector::<f32, N>::cast_from(y[at]);
        let inside = out.abs().less_than(Vector::new(limit));
        let up = select_many(out.greater_than(zero), Vector::new(gain), Vector::new(gain * slope));
        let d = select_many(inside, g * up, zero);
        dz[at] = Vector::cast_from(d);
        if sums {
            by_grad += d;
            by_output += select_many(inside, g * out, zero);
            if noise_len > 0 {
                by_noise += d * Vector::new(f32::cast_from(noise[(pixel % noise_len) as usize]));
            }
        }
    }
    if sums {
        partial[index as usize] = by_grad;
        partial[(kind + index) as usize] = by_output;
        if noise_len > 0 {
            partial[(2 * kind + index) as usize] = by_noise;
        }
    }
}

/// y of a convolution from the sums of its parts over input channels, which are added in order.
#[cube(launch_unchecked)]
pub(crate) fn finish_parts<F: Float, N: Size>(
    sums: &Array<Vector<f32, N>>, // [parts, N, pixels, O]
    post: &Array<Vector<F, N>>,   // [N, O], if there is one
    noise: &Array<F>,             // [N or 1, pixels], scaled by its strength, if there is one
    bias: &Array<Vector<F, N>>,   // [O], if there is one
    y: &mut Array<Vector<F, N>>,  // [N, pixels, O]
    a: &Around,
    vectors: u32,
    out_vectors: u32,
    pixels: u32,
    parts: u32,
    #[define(F)] _dtype: StorageType,
) {
    let at = ABSOLUTE_POS as u32;
    if at >= vectors {
        terminate!();
    }
    let mut sum = Vector::<f32, N>::new(0.0);
    for part in 0..parts {
        sum += sums[(part * vectors + at) as usize];
    }
    let pixel = at / out_vectors;
    let v = finish::<F, N>(sum, pixel / pixels, pixel, at % out_vectors, out_vectors, post, noise, bias, a);
    y[at as usize] = Vector::cast_from(v);
}

/// Partial sums of `a·b` over `span` pixels a unit, and with `scaled` `a ⊙ s`.
#[cube(launch_unchecked)]
pub(crate) fn channel_dot<F: Float, N: Size>(
    a: &Array<Vector<F, N>>,             // [N, pixels, C]
    b: &Array<Vector<F, N>>,             // [N, pixels, C]
    s: &Array<Vector<F, N>>,             // [N, C], if scaled
    y: &mut Array<Vector<F, N>>,         // [N, pixels, C], if scaled
    partial: &mut Array<Vector<f32, N>>, // [N, blocks, C]
    images: u32,
    pixels: u32,
    vectors: u32,
    blocks: u32,
    span: u32,
    #[comptime] scaled: bool,
    #[define(F)] _dtype: StorageType,
) {
    let index = ABSOLUTE_POS as u32;
    if index >= images * blocks * vectors {
        terminate!();
    }
    let c = index % vectors;
    let block = index / vectors % blocks;
    let image = index / vectors / blocks;
    let mut sum = Vector::<f32, N>::new(0.0);
    let first = block * span;
    for pixel in first..u32::min(first + span, pixels) {
        let at = ((image * pixels + pixel) * vectors + c) as usize;
        let v = Vector::<f32, N>::cast_from(a[at]);
        sum += v * Vector::cast_from(b[at]);
        if scaled {
            y[at] = Vector::cast_from(v * Vector::<f32, N>::cast_from(s[(image * vectors + c) as usize]));
        }
    }
    partial[index as usize] = sum;
}

/// Sums the middle axis of `[outer, length, inner]` in order, from `first` on, one result a unit.
#[cube(launch_unchecked)]
pub(crate) fn sum_parts<F: Float>(
    parts: &Array<f32>,
    y: &mut Array<F>, // [outer, inner]
    first: u32,
    length: u32,
    inner: u32,
    #[define(F)] _dtype: StorageType,
) {
    let index = ABSOLUTE_POS as u32;
    if index as usize >= y.len() {
        terminate!();
    }
    let start = first + index / inner * length * inner + index % inner;
    let mut sum = 0.0f32;
    for part in 0..length {
        sum += parts[(start + part * inner) as usize];
    }
    y[index as usize] = F::cast_from(sum);
}

/// `[taps, rows, columns]` to `[taps, columns, rows]`.
#[cube(launch_unchecked)]
pub(crate) fn transpose<F: Float>(
    x: &Array<F>,
    y: &mut Array<F>,
    rows: u32,
    columns: u32,
    #[define(F)] _dtype: StorageType,
) {
    let index = ABSOLUTE_POS as u32;
    if index as usize >= y.len() {
        terminate!();
    }
    let row = index % rows;
    let column = index / rows % columns;
    let tap = index / rows / columns;
    y[index as usize] = x[((tap * rows + row) * columns + column) as usize];
}

/// `x · factor[0]`.
#[cube(launch_unchecked)]
pub(crate) fn scale<F: Float>(x: &Array<F>, factor: &Array<F>, y: &mut Array<F>, #[define(F)] _dtype: StorageType) {
    let index = ABSOLUTE_POS;
    if index >= y.len() {
        terminate!();
    }
    y[index] = F::cast_from(f32::cast_from(x[index]) * f32::cast_from(factor[0]));
}

/// `Σ_taps W²`.
#[cube(launch_unchecked)]
pub(crate) fn tap_energy<F: Float, G: Float>(
    weight: &Array<F>, // [taps, I·O]
    y: &mut Array<G>,  // [I·O]
    taps: u32,
    #[define(F, G)] _dtypes: [StorageType; 2],
) {
    let index = ABSOLUTE_POS;
    if index >= y.len() {
        terminate!();
    }
    let mut sum = 0.0f32;
    for tap in 0..taps {
        let w = f32::cast_from(weight[tap as usize * y.len() + index]);
        sum += w * w;
    }
    y[index] = G::cast_from(sum);
}
