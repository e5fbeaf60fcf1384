//! What is fused around the sum: factors, noise, bias and activation.

use cubecl::prelude::*;

use super::activate;

/// Decided at run time: none of it is in the inner loop, and each choice made at compile time would double the kernels that a
/// network compiles.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(crate) struct Around {
    /// 1 with a factor on the input.
    pub(crate) pre: u32,
    /// 1 with a factor on the sum.
    pub(crate) post: u32,
    /// Pixels of the noise, of which the images repeat one or have their own; 0 without noise.
    pub(crate) noise: u32,
    /// 1 with a bias.
    pub(crate) bias: u32,
    /// Slope and gain of the activation, and its bound or 0.
    pub(crate) slope: f32,
    pub(crate) gain: f32,
    pub(crate) bound: f32,
}

/// `act(post ⊙ sum + noise + bias)` for the n-th vector of channels of a pixel; absent operands are not read.
#[cube]
pub(crate) fn finish<F: Float, O: Size>(
    sum: Vector<f32, O>,
    image: u32,
    pixel: u32,
    n: u32,
    out_vectors: u32,
    post: &Array<Vector<F, O>>, // [N, O]
    noise: &Array<F>,           // [N or 1, OH, OW]
    bias: &Array<Vector<F, O>>, // [O]
    a: &Around,
) -> Vector<f32, O> {
    let mut z = sum;
    if a.post > 0 {
        z *= Vector::<f32, O>::cast_from(post[(image * out_vectors + n) as usize]);
    }
    if a.noise > 0 {
        z += Vector::<f32, O>::new(f32::cast_from(noise[(pixel % a.noise) as usize]));
    }
    if a.bias > 0 {
        z += Vector::<f32, O>::cast_from(bias[n as usize]);
    }
    activate::<O>(z, a.slope, a.gain, a.bound)
}
