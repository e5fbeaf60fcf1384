//! Element types, and the scalar arithmetic that host code is generic over.

use std::{fmt, str::FromStr};

/// Type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    /// 32-bit float: the product type on every device.
    F32,
    /// 64-bit float: cpu only, for tests.
    F64,
    /// IEEE half. On the cpu it is for the same results, not for speed: f32 numbers that are rounded after every kernel.
    F16,
    /// bfloat16, on the cpu as [`DType::F16`].
    BF16,
}

impl DType {
    /// The type that sums and small, sensitive quantities are kept in: f32 for the half types, else the type itself.
    pub fn wide(self) -> Self {
        match self {
            Self::F16 | Self::BF16 => Self::F32,
            Self::F32 | Self::F64 => self,
        }
    }

    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F64 => 8,
            Self::F16 | Self::BF16 => 2,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
        })
    }
}

impl FromStr for DType {
    type Err = String;

    /// From what a user writes: the types that networks compute in.
    fn from_str(s: &str) -> Result<Self, String> {
        let known = [Self::F32, Self::BF16, Self::F16];
        known.into_iter().find(|d| d.to_string() == s).ok_or_else(|| "the precisions are f32, bf16 and f16".to_string())
    }
}

/// Floating-point type that host kernels are generic over (f32 and f64).
///
/// The transcendental functions are branch-free where it matters, so that loops over them
/// vectorise inside [`crate::simd::dispatch`].
pub trait Scalar:
    bytemuck::Pod
    + Send
    + Sync
    + PartialOrd
    + fmt::Debug
    + Default
    + std::ops::Add<Output = Self>
    + std::ops::Sub<Output = Self>
    + std::ops::Mul<Output = Self>
    + std::ops::Div<Output = Self>
    + std::ops::Neg<Output = Self>
    + std::ops::AddAssign
    + std::ops::MulAssign
    + std::iter::Sum
    + 'static
{
    /// The run-time tag of this type.
    const DTYPE: DType;
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// Nearest value to an f64.
    fn from_f64(v: f64) -> Self;
    /// Exact widening.
    fn to_f64(self) -> f64;
    /// `self * a + b`, fused where the target fuses.
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// eˣ.
    fn exp(self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// |x|.
    fn abs(self) -> Self;
    /// Hyperbolic tangent.
    fn tanh(self) -> Self;
    /// Gauss error function.
    fn erf(self) -> Self;
    /// Larger of two; `other` if either is NaN.
    fn maximum(self, other: Self) -> Self;
    /// Smaller of two; `other` if either is NaN.
    fn minimum(self, other: Self) -> Self;
    /// `c[m,n] = a[m,k] · b[k,n]` (added to c if `accumulate`) with arbitrary strides (row, column), over all threads if `parallel`.
    ///
    /// # Safety
    /// Every element that shapes and strides reach must lie inside the allocations, and `c` must not overlap `a` or `b`.
    unsafe fn gemm(
        m: usize,
        n: usize,
        k: usize,
        c: *mut Self,
        c_strides: (isize, isize),
        accumulate: bool,
        a: *const Self,
        a_strides: (isize, isize),
        b: *const Self,
        b_strides: (isize, isize),
        parallel: bool,
    );
}

macro_rules! scalar {
    ($t:ty, $tag:ident, $exp:path, $ln:path, $tanh:path, $erf:path) => {
        impl Scalar for $t {
            const DTYPE: DType = DType::$tag;
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            #[inline(always)]
            fn from_f64(v: f64) -> Self {
                v as $t
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                self as f64
            }
            #[inline(always)]
            fn mul_add(self, a: Self, b: Self) -> Self {
                <$t>::mul_add(self, a, b)
            }
            #[inline(always)]
            fn exp(self) -> Self {
                $exp(self)
            }
            #[inline(always)]
            fn ln(self) -> Self {
                $ln(self)
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                <$t>::sqrt(self)
            }
            #[inline(always)]
            fn abs(self) -> Self {
                <$t>::abs(self)
            }
            #[inline(always)]
            fn tanh(self) -> Self {
                $tanh(self)
            }
            #[inline(always)]
            fn erf(self) -> Self {
                $erf(self)
            }
            #[inline(always)]
            fn maximum(self, other: Self) -> Self {
                if self > other { self } else { other }
            }
            #[inline(always)]
            fn minimum(self, other: Self) -> Self {
                if self < other { self } else { other }
            }
            #[inline]
            unsafe fn gemm(
                m: usize,
                n: usize,
                k: usize,
                c: *mut Self,
                cs: (isize, isize),
                accumulate: bool,
                a: *const Self,
                as_: (isize, isize),
                b: *const Self,
                bs: (isize, isize),
                parallel: bool,
            ) {
                let threads = if parallel { gemm::Parallelism::Rayon(0) } else { gemm::Parallelism::None };
                // SAFETY: the caller's contract is gemm's.
                unsafe {
                    gemm::gemm(
                        m, n, k, c, cs.1, cs.0, accumulate, a, as_.1, as_.0, b, bs.1, bs.0, 1.0, 1.0, false, false,
                        false, threads,
                    )
                }
            }
        }
    };
}

use crate::simd::math;
scalar!(f32, F32, math::exp_f32, math::ln_f32, math::tanh_f32, math::erf_f32);
scalar!(f64, F64, f64::exp, f64::ln, f64::tanh, math::erf_f64);
