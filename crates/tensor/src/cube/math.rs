//! Transcendental functions of kernels, by the formulas of the host ([`crate::simd::math`]).
//!
//! Devices differ in the precision of their own: SPIR-V allows exp and ln errors that grow with the argument, and Mesa's
//! tanh cancels near 0. Negation is written as a subtraction: cubecl 0.10 emits CUDA's unary minus, which its vectors lack.

// `#[cube]` generates public items beside each function that cannot carry documentation.
#![allow(missing_docs)]

use cubecl::prelude::*;

/// eˣ.
#[cube]
pub fn exp<N: Size>(x: Vector<f32, N>) -> Vector<f32, N> {
    x.exp()
}

/// Natural logarithm.
#[cube]
pub fn ln<N: Size>(x: Vector<f32, N>) -> Vector<f32, N> {
    x.ln()
}

/// tanh x: an odd polynomial below 0.625, 1 − 2/(e²ˣ + 1) above.
#[cube]
pub fn tanh<N: Size>(x: Vector<f32, N>) -> Vector<f32, N> {
    let zero = Vector::<f32, N>::new(0.0);
    let one = Vector::<f32, N>::new(1.0);
    let two = Vector::<f32, N>::new(2.0);
    let a = x.abs();
    let z = x * x;
    let mut p = Vector::<f32, N>::new(-5.704_988_7e-3);
    p = p * z + Vector::new(2.063_908_9e-2);
    p = p * z + Vector::new(-5.373_971_5e-2);
    p = p * z + Vector::new(1.333_144_2e-1);
    p = p * z + Vector::new(-3.333_328_2e-1);
    let small = p * z * x + x;
    // tanh is 1 in f32 from 9.02 on; clamped there e²ˣ stays finite.
    let limit = Vector::<f32, N>::new(10.0);
    let bounded = select_many(a.less_than(limit), a, limit);
    let big = one - two / (exp::<N>(two * bounded) + one);
    let big = select_many(x.less_than(zero), zero - big, big);
    let y = select_many(a.less_than(Vector::new(0.625)), small, big);
    // The comparisons above drop NaN.
    select_many(x.equal(x), y, x)
}

/// 1/(1 + e⁻ˣ), by e^−|x| so that nothing overflows.
#[cube]
pub fn sigmoid<N: Size>(x: Vector<f32, N>) -> Vector<f32, N> {
    let zero = Vector::<f32, N>::new(0.0);
    let one = Vector::<f32, N>::new(1.0);
    let e = exp::<N>(zero - x.abs());
    let positive = one / (one + e);
    select_many(x.less_than(zero), e * positive, positive)
}

/// ln(1 + eˣ) = max(x, 0) + ln(1 + e^−|x|).
#[cube]
pub fn softplus<N: Size>(x: Vector<f32, N>) -> Vector<f32, N> {
    let zero = Vector::<f32, N>::new(0.0);
    let e = exp::<N>(zero - x.abs());
    // ln(1 + e) loses small e; e − e²/2 keeps it.
    let series = e - e * e * Vector::new(0.5);
    let log = ln::<N>(Vector::new(1.0) + e);
    let log1p = select_many(e.less_than(Vector::new(1e-4)), series, log);
    select_many(x.greater_than(zero), x, zero) + log1p
}

/// x within ±bound; NaN stays NaN.
#[cube]
pub fn clamp<N: Size>(x: Vector<f32, N>, bound: f32) -> Vector<f32, N> {
    // The scalar is negated: CubeCL's CUDA C++ has no negation of vectors.
    let (high, low) = (Vector::<f32, N>::new(bound), Vector::<f32, N>::new(-bound));
    let x = select_many(x.greater_than(high), high, x);
    select_many(x.less_than(low), low, x)
}
