//! The contracts between a kernel room, its launches, its tuning and its benches.

use std::{fmt::Debug, hash::Hash};

use swinstyle_tensor::Result;

/// A fully specified piece of work: shapes and parameters, no data.
pub trait Problem: Clone + Debug {
    /// Checks that the shapes and parameters make sense together; the error names the operation and the values.
    fn validate(&self) -> Result<()>;
    /// Floating-point operations, a multiply-add as two.
    fn flops(&self) -> u64;
    /// Bytes that any implementation must move for elements of `element_size` bytes: each input read once, each output written once.
    fn min_bytes(&self, element_size: usize) -> u64;
}

/// Limits of a device that decide which blueprints are legal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Units (threads) of a cube at most.
    pub units_per_cube: u32,
    /// Bytes of shared memory of a cube at most.
    pub shared_memory: usize,
    /// Units of a plane (warp), 0 if plane operations are not supported.
    pub plane_size: u32,
    /// Whether planes of 32 units multiply fragments of 16×16×16 of the tensors' type with f32 sums.
    pub matrix_units: bool,
    /// Whether they multiply registers that `ldmatrix` fills, too.
    pub ldmatrix: bool,
}

impl Limits {
    /// What every WebGPU device guarantees.
    pub const WEBGPU: Self =
        Self { units_per_cube: 256, shared_memory: 16 << 10, plane_size: 0, matrix_units: false, ldmatrix: false };
}

/// The compile-time choices of a launch: one plain value whose fields are the variants.
pub trait Blueprint: Copy + Eq + Hash + Debug {
    /// The problem it serves.
    type Problem: Problem;
    /// A blueprint that is legal for the problem on every WebGPU device.
    fn default_for(problem: &Self::Problem) -> Self;
    /// The blueprint to launch on a device with these limits where nothing was tuned.
    fn best_for(problem: &Self::Problem, limits: &Limits) -> Self {
        let _ = limits;
        Self::default_for(problem)
    }
    /// Every blueprint worth timing for the problem on a device with these limits.
    fn space(problem: &Self::Problem, limits: &Limits) -> Vec<Self>;
}
