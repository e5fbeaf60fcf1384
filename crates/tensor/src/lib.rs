#![doc = include_str!("../README.md")]
#![cfg_attr(not(all(feature = "wgpu", feature = "cuda")), allow(unused, reason = "what only a left-out backend calls"))]

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

// Kernels of other crates are written with the version that this one launches.
pub use cubecl;

pub use autograd::{Backward, grad, is_recording, no_grad};
pub use buffer::{Buffer, HostBuffer};
pub use cube::CubeArg;
pub use device::Device;
pub use dtype::{DType, Scalar};
pub use error::{Result, TensorError};
pub use kernel::{Kernel, Kinks, launch, launch_on};
pub use tensor::{Tensor, available};
