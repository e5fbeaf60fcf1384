//! Tensors, automatic differentiation to any order, and devices for SwinStyle.
//!
//! A [`Tensor`] is immutable, contiguous and row-major; activations are NHWC. Operations are methods that return
//! [`Result`]; they run natively on the cpu and through CubeCL on wgpu and CUDA. [`grad`] differentiates to any order.
//! Kernels of other crates implement [`Kernel`] and run by [`launch`].

mod autograd;
mod buffer;
pub mod counters;
pub mod cube;
mod device;
mod dtype;
mod error;
mod kernel;
pub mod ops;
pub mod probe;
pub mod rng;
pub mod shape;
pub mod simd;
mod tensor;

pub use autograd::{Backward, grad, is_recording, no_grad};
pub use buffer::{Buffer, HostBuffer};
pub use cube::CubeArg;
pub use device::Device;
pub use dtype::{DType, Scalar};
pub use error::{Result, TensorError};
pub use kernel::{Kernel, launch, launch_on};
pub use tensor::{Tensor, available};
