//! CubeCL.
use crate::launch::*;
use cubecl::prelude::*;
use swinstyle_tensor::{CubeArg, Device, Result, TensorError};
fn missing(op: &'static str) -> Result<()> {
    Err(TensorError::Backend { op, device: Device::Wgpu(0), detail: "no kernel".into() })
}
pub(crate) fn conv<R: Runtime>(_: &ComputeClient<R>, _: &Conv, _: &[CubeArg], _: &CubeArg) -> Result<()> {
    missing("conv2d")
}
pub(crate) fn weight_gradient<R: Runtime>(
    _: &ComputeClient<R>,
    _: &WeightGradient,
    _: &[CubeArg],
    _: &CubeArg,
) -> Result<()> {
    missing("conv2d")
}
pub(crate) fn channel_dot<R: Runtime>(
    _: &ComputeClient<R>,
    _: &ChannelDot,
    _: &[CubeArg],
    _: &[CubeArg],
) -> Result<()> {
    missing("conv2d")
}
pub(crate) fn epilogue<R: Runtime>(_: &ComputeClient<R>, _: &Epilogue, _: &[CubeArg], _: &CubeArg) -> Result<()> {
    missing("conv2d")
}
pub(crate) fn epilogue_gradient<R: Runtime>(
    _: &ComputeClient<R>,
    _: &EpilogueGradient,
    _: &[CubeArg],
    _: &[CubeArg],
) -> Result<()> {
    missing("conv2d")
}
pub(crate) fn tap_energy<R: Runtime>(_: &ComputeClient<R>, _: &TapEnergy, _: &[CubeArg], _: &CubeArg) -> Result<()> {
    missing("conv2d")
}
