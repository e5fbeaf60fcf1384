//! The contract between a kernel and the runtime, and the launch that dispatches it.
//!
//! A kernel is a plain-data value (shapes and parameters) with a host twin and a CubeCL launch. [`launch`] checks
//! devices and types, allocates the outputs, counts the work and calls the right form: nothing above it
//! knows a backend.

use cubecl::prelude::{ComputeClient, Runtime};

use crate::{
    Buffer, DType, Device, HostBuffer, Result, Scalar, Tensor, TensorError, counters,
    cube::{self, CubeArg, CubeBuffer, with_client},
    ops::round,
    probe,
};

/// One launchable operation on untaped tensors.
pub trait Kernel {
    /// Name in profiles and errors.
    fn name(&self) -> &'static str;
    /// Shapes of the outputs, in order.
    fn output_shapes(&self) -> Vec<Vec<usize>>;
    /// Type of the input of an index where that of the first is given.
    fn input_dtype(&self, input: usize, first: DType) -> DType {
        let _ = input;
        first
    }
    /// Type of the output of an index where that of the first input is given. What a kernel leaves on the cpu is rounded to it.
    fn output_dtype(&self, output: usize, inputs: DType) -> DType {
        let _ = output;
        inputs
    }
    /// Computes the outputs on the cpu. Output slices hold arbitrary values on entry and must be written whole.
    fn host<T: Scalar>(&self, inputs: &[&[T]], outputs: &mut [&mut [T]]) -> Result<()>;
    /// Launches on a CubeCL device. Output buffers hold arbitrary values on entry and must be written whole.
    fn cube<R: Runtime>(&self, client: &ComputeClient<R>, inputs: &[CubeArg], outputs: &[CubeArg]) -> Result<()>;
    /// Floating-point operations, a multiply-add as two.
    fn flops(&self) -> u64 {
        0
    }
    /// Where the first output is that of an activation with kinks.
    fn kinks(&self) -> Option<Kinks> {
        None
    }
}

/// Kinks of a piecewise linear activation, at 0 and at ±`bound` of its output. On which side a value lies its gradient reads from the output.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kinks {
    /// Infinite where nothing is clamped.
    pub bound: f64,
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
    for (input, t) in inputs.iter().enumerate() {
        if t.device() != device {
            return Err(TensorError::MixedDevices { op, first: device, second: t.device() });
        }
        if t.dtype() != kernel.input_dtype(input, dtype) {
            return Err(TensorError::MixedDTypes { op, first: dtype, second: t.dtype() });
        }
    }
    let shapes = kernel.output_shapes();
    let made: Vec<DType> = (0..shapes.len()).map(|output| kernel.output_dtype(output, dtype)).collect();
    let mut moved: usize = inputs.iter().map(|t| t.len() * t.dtype().size()).sum();
    for (s, made) in shapes.iter().zip(&made) {
        moved = moved.saturating_add(checked_len(op, s)?.saturating_mul(made.size()));
    }
    let (moved, flops) = (moved as u64, kernel.flops());
    counters::launched(op, moved, flops);
    let traced = counters::traced();
    let outputs = match probe::stand_in(kernel, inputs, device, dtype) {
        Some(made) => made?,
        None => dispatch(kernel, inputs, device, dtype)?,
    };
    if let Some(started) = traced {
        device.settle()?;
        counters::record(started, op, moved, flops, kernel.output_shapes());
    }
    probe::visit(kernel, inputs, device, dtype);
    Ok(outputs)
}

/// Runs the form of a kernel that a device and a type call for.
pub(crate) fn dispatch<K: Kernel>(kernel: &K, inputs: &[&Tensor], device: Device, dtype: DType) -> Result<Vec<Tensor>> {
    let shapes = kernel.output_shapes();
    let made: Vec<DType> = (0..shapes.len()).map(|output| kernel.output_dtype(output, dtype)).collect();
    match (device, dtype) {
        (Device::Cpu, DType::F64) => host::<f64, K>(kernel, inputs, shapes, &made, |b, _| Buffer::F64(b)),
        (Device::Cpu, _) => host::<f32, K>(kernel, inputs, shapes, &made, |mut b, made| {
            round(&mut b, made);
            Buffer::F32(b)
        }),
        (_, DType::F64) => Err(TensorError::UnsupportedDType { op: kernel.name(), dtype, device }),
        _ => on_cube(kernel, inputs, shapes, device, &made),
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
    made: &[DType],
    wrap: impl Fn(HostBuffer<T>, DType) -> Buffer,
) -> Result<Vec<Tensor>> {
    let op = kernel.name();
    let ins = inputs.iter().map(|t| t.host::<T>()).collect::<Result<Vec<_>>>()?;
    let mut outs =
        shapes.iter().map(|s| HostBuffer::<T>::uninit(op, s.iter().product())).collect::<Result<Vec<_>>>()?;
    {
        let mut slices: Vec<&mut [T]> = outs.iter_mut().map(|b| &mut b[..]).collect();
        kernel.host(&ins, &mut slices)?;
    }
    let tensor = |((b, s), &made)| Tensor::from_buffer(wrap(b, made), s, Device::Cpu, made);
    Ok(outs.into_iter().zip(shapes).zip(made).map(tensor).collect())
}

fn on_cube<K: Kernel>(
    kernel: &K,
    inputs: &[&Tensor],
    shapes: Vec<Vec<usize>>,
    device: Device,
    made: &[DType],
) -> Result<Vec<Tensor>> {
    let op = kernel.name();
    let client = cube::client(device)?;
    let ins = inputs.iter().map(|t| t.cube_arg()).collect::<Result<Vec<_>>>()?;
    let outs = shapes
        .iter()
        .zip(made)
        .map(|(s, &made)| CubeBuffer::empty(op, &client, device, s.iter().product(), made))
        .collect::<Result<Vec<_>>>()?;
    let out_args: Vec<CubeArg> = outs.iter().map(CubeBuffer::arg).collect();
    // Empty outputs need no launch, and no device accepts an empty grid.
    if out_args.iter().any(|o| o.len > 0) {
        let launched: Result<()> = with_client!(&client, |c| kernel.cube(c, &ins, &out_args));
        launched.map_err(|e| e.on(device))?;
    }
    let tensor = |((b, s), &made)| Tensor::from_buffer(Buffer::Cube(b), s, device, made);
    Ok(outs.into_iter().zip(shapes).zip(made).map(tensor).collect())
}
