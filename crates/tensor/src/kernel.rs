//! The contract between a kernel and the runtime, and the launch that dispatches it.
//!
//! A kernel is a plain-data value (shapes and parameters) with a host twin and a CubeCL launch. [`launch`] checks
//! devices and types, allocates the outputs, counts the work and calls the right form: nothing above it
//! knows a backend.

use cubecl::prelude::{ComputeClient, Runtime};

use crate::{
    Buffer, DType, Device, HostBuffer, Result, Scalar, Tensor, TensorError, counters,
    cube::{self, CubeArg, CubeBuffer, CubeClient},
    probe,
};

/// One launchable operation on untaped tensors.
pub trait Kernel {
    /// Name in profiles and errors.
    fn name(&self) -> &'static str;
    /// Shapes of the outputs, in order.
    fn output_shapes(&self) -> Vec<Vec<usize>>;
    /// Computes the outputs on the cpu. Output slices hold arbitrary values on entry and must be written whole.
    fn host<T: Scalar>(&self, inputs: &[&[T]], outputs: &mut [&mut [T]]) -> Result<()>;
    /// Launches on a CubeCL device. Output buffers hold arbitrary values on entry and must be written whole.
    fn cube<R: Runtime>(&self, client: &ComputeClient<R>, inputs: &[CubeArg], outputs: &[CubeArg]) -> Result<()>;
    /// Floating-point operations, a multiply-add as two.
    fn flops(&self) -> u64 {
        0
    }
}

/// Runs a kernel on the device of its inputs and returns its outputs as untaped tensors.
///
/// Errors: no input, mixed devices or types, a type without implementation on the device, out of memory, a failed launch.
pub fn launch<K: Kernel>(kernel: &K, inputs: &[&Tensor]) -> Result<Vec<Tensor>> {
    let op = kernel.name();
    let Some(first) = inputs.first() else {
        return Err(TensorError::shape(op, "a kernel needs at least one input"));
    };
    launch_on(kernel, inputs, first.device(), first.dtype())
}

/// [`launch`] for kernels that may have no input: the device and the type of the outputs are given.
pub fn launch_on<K: Kernel>(kernel: &K, inputs: &[&Tensor], device: Device, dtype: DType) -> Result<Vec<Tensor>> {
    let op = kernel.name();
    for t in inputs {
        if t.device() != device {
            return Err(TensorError::MixedDevices { op, first: device, second: t.device() });
        }
        if t.dtype() != dtype {
            return Err(TensorError::MixedDTypes { op, first: dtype, second: t.dtype() });
        }
    }
    let shapes = kernel.output_shapes();
    let mut moved: usize = inputs.iter().map(|t| t.len()).sum();
    for s in &shapes {
        moved = moved.saturating_add(checked_len(op, s)?);
    }
    let (moved, flops) = ((moved * dtype.size()) as u64, kernel.flops());
    counters::launched(op, moved, flops);
    let traced = counters::traced();
    let outputs = dispatch(kernel, inputs, device, dtype)?;
    if let Some(started) = traced {
        device.synchronize()?;
        counters::record(started, op, moved, flops, kernel.output_shapes());
    }
    probe::visit(kernel, inputs, device, dtype);
    Ok(outputs)
}

/// Runs the form of a kernel that a device and a type call for.
pub(crate) fn dispatch<K: Kernel>(kernel: &K, inputs: &[&Tensor], device: Device, dtype: DType) -> Result<Vec<Tensor>> {
    let shapes = kernel.output_shapes();
    match (device, dtype) {
        (Device::Cpu, DType::F32) => host::<f32, K>(kernel, inputs, shapes, Buffer::F32),
        (Device::Cpu, DType::F64) => host::<f64, K>(kernel, inputs, shapes, Buffer::F64),
        (Device::Cpu, _) | (_, DType::F64) => Err(TensorError::UnsupportedDType { op: kernel.name(), dtype, device }),
        _ => on_cube(kernel, inputs, shapes, device, dtype),
    }
}

/// Product of a shape, refusing what does not fit memory arithmetic.
pub(crate) fn checked_len(op: &'static str, shape: &[usize]) -> Result<usize> {
    shape
        .iter()
        .try_fold(1_usize, |n, &d| n.checked_mul(d))
        .filter(|&n| n <= (isize::MAX as usize) / 8)
        .ok_or_else(|| TensorError::shape(op, format!("shape {shape:?} is too large")))
}

pub(crate) fn host<T: Scalar, K: Kernel>(
    kernel: &K,
    inputs: &[&Tensor],
    shapes: Vec<Vec<usize>>,
    wrap: impl Fn(HostBuffer<T>) -> Buffer,
) -> Result<Vec<Tensor>> {
    let op = kernel.name();
    let ins = inputs.iter().map(|t| t.host::<T>()).collect::<Result<Vec<_>>>()?;
    let mut outs =
        shapes.iter().map(|s| HostBuffer::<T>::uninit(op, s.iter().product())).collect::<Result<Vec<_>>>()?;
    {
        let mut slices: Vec<&mut [T]> = outs.iter_mut().map(|b| &mut b[..]).collect();
        kernel.host(&ins, &mut slices)?;
    }
    Ok(outs.into_iter().zip(shapes).map(|(b, s)| Tensor::from_buffer(wrap(b), s, Device::Cpu, T::DTYPE)).collect())
}

fn on_cube<K: Kernel>(
    kernel: &K,
    inputs: &[&Tensor],
    shapes: Vec<Vec<usize>>,
    device: Device,
    dtype: DType,
) -> Result<Vec<Tensor>> {
    let op = kernel.name();
    let client = cube::client(device)?;
    let ins = inputs.iter().map(|t| t.cube_arg()).collect::<Result<Vec<_>>>()?;
    let outs = shapes
        .iter()
        .map(|s| CubeBuffer::empty(op, &client, device, s.iter().product(), dtype))
        .collect::<Result<Vec<_>>>()?;
    let out_args: Vec<CubeArg> = outs.iter().map(CubeBuffer::arg).collect();
    // Empty outputs need no launch, and no device accepts an empty grid.
    if out_args.iter().any(|o| o.len > 0) {
        let launched = match &client {
            CubeClient::Wgpu(c) => kernel.cube(c, &ins, &out_args),
            CubeClient::Cuda(c) => kernel.cube(c, &ins, &out_args),
            CubeClient::Dry(c) => kernel.cube(c, &ins, &out_args),
        };
        launched.map_err(|e| e.on(device))?;
    }
    Ok(outs.into_iter().zip(shapes).map(|(b, s)| Tensor::from_buffer(Buffer::Cube(b), s, device, dtype)).collect())
}
