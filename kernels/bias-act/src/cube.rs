//! The CubeCL kernels: one vector a unit, arithmetic in f32 whatever the storage.

use cubecl::prelude::*;
use swinstyle_tensor::cube::math;

use crate::problem::Activation;

/// [`Activation`] without its parameter, which stays a run-time value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Function {
    Linear,
    LeakyRelu,
    Relu,
    Gelu,
    Silu,
    Tanh,
    Sigmoid,
}

impl Function {
    /// The function and its slope.
    pub(crate) fn of(activation: Activation) -> (Self, f32) {
        match activation {
            Activation::Linear => (Self::Linear, 1.0),
            Activation::LeakyRelu { slope } => (Self::LeakyRelu, slope as f32),
            Activation::Relu => (Self::Relu, 0.0),
            Activation::Gelu => (Self::Gelu, 0.0),
            Activation::Silu => (Self::Silu, 0.0),
            Activation::Tanh => (Self::Tanh, 0.0),
            Activation::Sigmoid => (Self::Sigmoid, 0.0),
        }
    }
}

/// Φ(z) = ½(1 + erf(z/√2)).
#[cube]
fn normal_cdf<N: Size>(z: Vector<f32, N>) -> Vector<f32, N> {
    let half = Vector::<f32, N>::new(0.5);
    half + half * (z * Vector::new(std::f32::consts::FRAC_1_SQRT_2)).erf()
}

/// φ(z) = e^(−z²/2) / √(2π).
#[cube]
fn normal_pdf<N: Size>(z: Vector<f32, N>) -> Vector<f32, N> {
    math::exp::<N>(z * z * Vector::new(-0.5)) * Vector::new(0.398_942_3)
}

#[cube]
fn activate<N: Size>(z: Vector<f32, N>, slope: f32, #[comptime] function: Function) -> Vector<f32, N> {
    let zero = Vector::<f32, N>::new(0.0);
    match function {
        Function::Linear => z,
        Function::LeakyRelu => select_many(z.greater_than(zero), z, z * Vector::new(slope)),
        // The other way round NaN would become 0.
        Function::Relu => select_many(z.less_equal(zero), zero, z),
        Function::Gelu => z * normal_cdf::<N>(z),
        Function::Silu => z * math::sigmoid::<N>(z),
        Function::Tanh => math::tanh::<N>(z),
        Function::Sigmoid => math::sigmoid::<N>(z),
    }
}

/// The vector at `index` plus its channels' bias; `channels` counts vectors.
#[cube]
fn with_bias<F: Float, N: Size>(
    x: &Array<Vector<F, N>>,
    bias: &Array<Vector<F, N>>,
    index: usize,
    channels: usize,
    #[comptime] has_bias: bool,
) -> Vector<f32, N> {
    let mut z = Vector::<f32, N>::cast_from(x[index]);
    if has_bias {
        z += Vector::<f32, N>::cast_from(bias[index % channels]);
    }
    z
}

#[cube(launch_unchecked)]
pub(crate) fn forward<F: Float, N: Size>(
    x: &Array<Vector<F, N>>,     // [.., C]
    bias: &Array<Vector<F, N>>,  // [C]; x again where there is none
    y: &mut Array<Vector<F, N>>, // [.., C]
    channels: usize,
    slope: f32,
    gain: f32,
    bound: f32,
    #[comptime] function: Function,
    #[comptime] has_bias: bool,
    #[comptime] clamped: bool,
    #[define(F)] _dtype: StorageType,
) {
    let index = ABSOLUTE_POS;
    if index >= y.len() {
        terminate!();
    }
    let z = with_bias::<F, N>(x, bias, index, channels, has_bias);
    let mut v = activate::<N>(z, slope, function) * Vector::new(gain);
    if clamped {
        v = math::clamp::<N>(v, bound);
    }
    y[index] = Vector::cast_from(v);
}

/// `grad · gain · activation′`, from the output or (GELU, SiLU) from x and the bias; 0 where the result was clamped.
#[cube(launch_unchecked)]
pub(crate) fn gradient<F: Float, N: Size>(
    grad: &Array<Vector<F, N>>,      // [.., C]
    reference: &Array<Vector<F, N>>, // [.., C]
    bias: &Array<Vector<F, N>>,      // [C]; the reference again where there is none
    out: &mut Array<Vector<F, N>>,   // [.., C]
    channels: usize,
    slope: f32,
    gain: f32,
    bound: f32,
    #[comptime] function: Function,
    #[comptime] has_bias: bool,
    #[comptime] clamped: bool,
    #[define(F)] _dtype: StorageType,
) {
    let index = ABSOLUTE_POS;
    if index >= out.len() {
        terminate!();
    }
    let zero = Vector::<f32, N>::new(0.0);
    let one = Vector::<f32, N>::new(1.0);
    let gain = Vector::<f32, N>::new(gain);
    // What the derivative is told from: the output over its gain, or the activation's input.
    let z = with_bias::<F, N>(reference, bias, index, channels, has_bias);
    let t = z / gain;
    let derivative = match function {
        Function::Linear => one,
        Function::LeakyRelu => select_many(t.greater_than(zero), one, Vector::new(slope)),
        Function::Relu => select_many(t.greater_than(zero), one, zero),
        Function::Gelu => normal_cdf::<N>(z) + z * normal_pdf::<N>(z),
        Function::Silu => {
            let s = math::sigmoid::<N>(z);
            s + z * s * (one - s)
        }
        Function::Tanh => one - t * t,
        Function::Sigmoid => t - t * t,
    };
    let mut d = Vector::<f32, N>::cast_from(grad[index]) * gain * derivative;
    if clamped {
        let bound = Vector::<f32, N>::new(bound);
        let y = match function {
            Function::Gelu => activate::<N>(z, slope, function) * gain,
            Function::Silu => activate::<N>(z, slope, function) * gain,
            _ => z,
        };
        d = select_many(y.abs().less_than(bound), d, zero);
    }
    out[index] = Vector::cast_from(d);
}
