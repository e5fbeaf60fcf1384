//! The CPU twins: register-tiled convolutions over packed rows, and the memory-bound kernels around them.

mod activation;
mod elementwise;
mod forward;
mod narrow;
mod pack;
mod scratch;
mod tile;
mod to_rgb;
mod vector;
mod weight_gradient;
mod winograd;

use pulp::Arch;
use swinstyle_kit::{
    Blueprint as _, Limits,
    tuning::{Place, choose},
};
use swinstyle_tensor::{DType, Result, Scalar, TensorError};

pub(crate) use elementwise::{channel_dot, epilogue, epilogue_gradient, tap_energy};
pub(crate) use to_rgb::to_rgb;

use crate::{
    launch::{Conv, ConvInputs, WeightGradient},
    tune::HostBlueprint,
};
use vector::Real;
pub(crate) use winograd::{fits as winograd_pays, is_legal as winograd_is_legal};

/// Computes a [`Conv`].
pub(crate) fn conv<T: Scalar>(kernel: &Conv, inputs: &[&[T]], y: &mut [T]) -> Result<()> {
    match T::DTYPE {
        DType::F64 => conv_as::<f64>(kernel, &cast(inputs), bytemuck::cast_slice_mut(y)),
        _ => conv_as::<f32>(kernel, &cast(inputs), bytemuck::cast_slice_mut(y)),
    }
}

fn conv_as<T: Real>(kernel: &Conv, inputs: &[&[T]], output: &mut [T]) -> Result<()> {
    let Some(inputs) = ConvInputs::new(&kernel.fusion, inputs.iter().copied()) else {
        return Err(TensorError::shape("conv2d", "an input is missing"));
    };
    if narrow::fits(&kernel.problem) {
        Arch::new().dispatch(narrow::Narrow { kernel, inputs: &inputs, output });
        return Ok(());
    }
    let p = &kernel.problem;
    let form = choose(Place::Host, "conv2d", p, &Limits::WEBGPU, HostBlueprint::default_for(p));
    if form.winograd {
        return Arch::new().dispatch(winograd::Winograd { kernel, inputs: &inputs, output });
    }
    Arch::new().dispatch(forward::Forward { kernel, inputs: &inputs, output })
}

/// Computes a [`WeightGradient`].
pub(crate) fn weight_gradient<T: Scalar>(kernel: &WeightGradient, inputs: &[&[T]], dw: &mut [T]) -> Result<()> {
    match T::DTYPE {
        DType::F64 => weight_gradient_as::<f64>(kernel, &cast(inputs), bytemuck::cast_slice_mut(dw)),
        _ => weight_gradient_as::<f32>(kernel, &cast(inputs), bytemuck::cast_slice_mut(dw)),
    }
}

fn weight_gradient_as<T: Real>(kernel: &WeightGradient, inputs: &[&[T]], output: &mut [T]) -> Result<()> {
    let (pre, post) = kernel.scales(inputs);
    let (p, x, grad) = (&kernel.problem, inputs[0], inputs[1]);
    // Vectors run along the output channels: where these are few (to RGB) the images change roles.
    if p.out_channels <= 4 && p.in_channels > p.out_channels {
        let (problem, pre, post) = (&p.adjoint(), post, pre);
        return Arch::new().dispatch(weight_gradient::Gradient { problem, x: grad, grad: x, pre, post, output });
    }
    Arch::new().dispatch(weight_gradient::Gradient { problem: p, x, grad, pre, post, output })
}

/// The same slices under the element type that the tag has named.
fn cast<'a, T: Scalar, U: Real>(inputs: &[&'a [T]]) -> Vec<&'a [U]> {
    inputs.iter().map(|s| bytemuck::cast_slice(s)).collect()
}
