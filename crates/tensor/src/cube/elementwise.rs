//! Elementwise kernels: unary, binary with broadcasting, fill, Adam.

use cubecl::prelude::{ComputeClient, Runtime};

use super::CubeArg;
use crate::{
    Device, Result, TensorError,
    ops::{AdamStep, Binary, Unary},
};

pub(crate) fn missing(op: &'static str) -> TensorError {
    TensorError::Backend { op, device: Device::Wgpu(0), detail: "no kernel".to_string() }
}

/// Launches a [`Unary`].
pub fn unary<R: Runtime>(_client: &ComputeClient<R>, _op: &Unary, _x: &CubeArg, _y: &CubeArg) -> Result<()> {
    Err(missing("unary"))
}

/// Launches a [`Binary`].
pub fn binary<R: Runtime>(
    _client: &ComputeClient<R>,
    _op: &Binary,
    _a: &CubeArg,
    _b: &CubeArg,
    _y: &CubeArg,
) -> Result<()> {
    Err(missing("binary"))
}

/// Fills with one value.
pub fn fill<R: Runtime>(_client: &ComputeClient<R>, _value: f64, _y: &CubeArg) -> Result<()> {
    Err(missing("fill"))
}

/// Launches an [`AdamStep`].
pub fn adam<R: Runtime>(
    _client: &ComputeClient<R>,
    _op: &AdamStep,
    _inputs: &[CubeArg],
    _outputs: &[CubeArg],
) -> Result<()> {
    Err(missing("adam"))
}
