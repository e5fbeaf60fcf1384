//! The activation in the element type, by vectors and by elements, and its slope as the output tells it.

use pulp::Simd;
use swinstyle_tensor::Scalar;

use super::vector::Real;
use crate::LeakyRelu;

/// [`LeakyRelu`] in the element type.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Activation<T> {
    slope: T,
    gain: T,
    /// Infinite without a clamp.
    bound: T,
}

impl<T: Scalar> Activation<T> {
    pub(crate) fn new(a: &LeakyRelu) -> Self {
        Self { slope: T::from_f64(a.slope), gain: T::from_f64(a.gain), bound: T::from_f64(a.bound()) }
    }

    /// The function.
    #[inline(always)]
    pub(crate) fn scalar(&self, z: T) -> T {
        // Comparisons and not min or max, which lose a NaN.
        let y = self.gain * if z > T::ZERO { z } else { z * self.slope };
        let y = if y > self.bound { self.bound } else { y };
        if y < -self.bound { -self.bound } else { y }
    }

    /// The derivative where the output is y; 0 where it is clamped.
    #[inline(always)]
    pub(crate) fn slope_at(&self, y: T) -> T {
        let slope = if y > T::ZERO { self.gain } else { self.gain * self.slope };
        let slope = if y >= self.bound { T::ZERO } else { slope };
        if y <= -self.bound { T::ZERO } else { slope }
    }
}

impl<T: Real> Activation<T> {
    /// The function, lane by lane.
    #[inline(always)]
    pub(crate) fn vector<S: Simd>(&self, simd: S, z: T::Vector<S>) -> T::Vector<S> {
        let negative = T::times(simd, z, T::splat(simd, self.slope));
        let y = T::if_greater(simd, z, T::splat(simd, T::ZERO), z, negative);
        let y = T::times(simd, y, T::splat(simd, self.gain));
        let (high, low) = (T::splat(simd, self.bound), T::splat(simd, -self.bound));
        let y = T::if_greater(simd, y, high, high, y);
        T::if_greater(simd, low, y, low, y)
    }
}
