//! Run-time choice of SIMD for host loops.

pub mod math;

/// Runs `f` compiled for the widest instruction set that this processor has.
///
/// The closure is inlined into a function with those target features, so plain loops over slices
/// inside it are vectorised for AVX-512, AVX2 or NEON in a binary built for the baseline. Only if it is inlined: a closure
/// with more than a line, and every closure that it calls, wants `#[inline(always)]`, without which it is compiled for the baseline and
/// called, each fused multiply-add of it a call into the C library.
#[inline(always)]
pub fn dispatch<R>(f: impl FnOnce() -> R) -> R {
    ARCH.with(|arch| *arch).dispatch(f)
}

thread_local! {
    // Detection reads atomics; once a thread is enough.
    static ARCH: pulp::Arch = pulp::Arch::new();
}
