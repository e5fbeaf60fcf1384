//! The vector arithmetic of the register tiles, for both element types and every instruction set that pulp knows.

use pulp::Simd;
use swinstyle_tensor::Scalar;

/// An element type with vectors: f32, the product type, and f64, in which tests differentiate the same code.
pub(crate) trait Real: Scalar {
    /// A register of elements.
    type Vector<S: Simd>: Copy;

    /// Elements of a register.
    fn lanes<S: Simd>() -> usize {
        size_of::<Self::Vector<S>>() / size_of::<Self>()
    }

    /// One value in every lane.
    fn splat<S: Simd>(simd: S, value: Self) -> Self::Vector<S>;

    /// `a · b + c`, fused where the target fuses.
    fn fused<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>, c: Self::Vector<S>) -> Self::Vector<S>;

    /// `a · b`.
    fn times<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;

    /// `a + b`.
    fn plus<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;

    /// `a − b`.
    fn minus<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;

    /// `a > b ? yes : no`, lane by lane.
    fn if_greater<S: Simd>(
        simd: S,
        a: Self::Vector<S>,
        b: Self::Vector<S>,
        yes: Self::Vector<S>,
        no: Self::Vector<S>,
    ) -> Self::Vector<S>;

    /// Sum of the lanes, in an order fixed by the instruction set.
    fn reduce<S: Simd>(simd: S, a: Self::Vector<S>) -> Self;

    /// Loads a register; any alignment.
    ///
    /// # Safety
    /// `p` must be readable for a register's elements.
    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const Self) -> Self::Vector<S> {
        // SAFETY: the caller's.
        unsafe { p.cast::<Self::Vector<S>>().read_unaligned() }
    }

    /// Stores a register; any alignment.
    ///
    /// # Safety
    /// `p` must be writable for a register's elements.
    #[inline(always)]
    unsafe fn store<S: Simd>(p: *mut Self, v: Self::Vector<S>) {
        // SAFETY: the caller's.
        unsafe { p.cast::<Self::Vector<S>>().write_unaligned(v) }
    }
}

macro_rules! real {
    ($t:ty, $vector:ident, $splat:ident, $mul_add:ident, $mul:ident, $add:ident, $sub:ident, $greater:ident, $select:ident, $sum:ident) => {
        impl Real for $t {
            type Vector<S: Simd> = S::$vector;

            #[inline(always)]
            fn splat<S: Simd>(simd: S, value: Self) -> S::$vector {
                simd.$splat(value)
            }

            #[inline(always)]
            fn fused<S: Simd>(simd: S, a: S::$vector, b: S::$vector, c: S::$vector) -> S::$vector {
                simd.$mul_add(a, b, c)
            }

            #[inline(always)]
            fn times<S: Simd>(simd: S, a: S::$vector, b: S::$vector) -> S::$vector {
                simd.$mul(a, b)
            }

            #[inline(always)]
            fn plus<S: Simd>(simd: S, a: S::$vector, b: S::$vector) -> S::$vector {
                simd.$add(a, b)
            }

            #[inline(always)]
            fn minus<S: Simd>(simd: S, a: S::$vector, b: S::$vector) -> S::$vector {
                simd.$sub(a, b)
            }

            #[inline(always)]
            fn if_greater<S: Simd>(
                simd: S,
                a: S::$vector,
                b: S::$vector,
                yes: S::$vector,
                no: S::$vector,
            ) -> S::$vector {
                simd.$select(simd.$greater(a, b), yes, no)
            }

            #[inline(always)]
            fn reduce<S: Simd>(simd: S, a: S::$vector) -> Self {
                simd.$sum(a)
            }
        }
    };
}

real!(
    f32,
    f32s,
    splat_f32s,
    mul_add_e_f32s,
    mul_f32s,
    add_f32s,
    sub_f32s,
    greater_than_f32s,
    select_f32s,
    reduce_sum_f32s
);
real!(
    f64,
    f64s,
    splat_f64s,
    mul_add_e_f64s,
    mul_f64s,
    add_f64s,
    sub_f64s,
    greater_than_f64s,
    select_f64s,
    reduce_sum_f64s
);
