//! The operations as kernels: from a problem to its host twin or its CubeCL launch.

use cubecl::prelude::*;
use swinstyle_kit::{
    Blueprint as _, Problem as _, glue,
    tuning::{Place, choose},
};
use swinstyle_tensor::{CubeArg, Kernel, Kinks, Result, Scalar, TensorError, cube::storage_type};

use crate::{
    cube::{self, Function},
    host,
    problem::Problem,
    tune::Blueprint,
};

/// x `[.., C]` and, if there is one, the bias `[C]` to y `[.., C]`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Forward(pub(crate) Problem);

/// The output's gradient, the reference and, if it is added to that, the bias, to the input's gradient.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Gradient(pub(crate) Problem);

impl Kernel for Forward {
    fn name(&self) -> &'static str {
        "bias_act"
    }

    fn output_shapes(&self) -> Vec<Vec<usize>> {
        vec![self.0.shape.clone()]
    }

    fn host<T: Scalar>(&self, inputs: &[&[T]], outputs: &mut [&mut [T]]) -> Result<()> {
        host::forward(&self.0, inputs[0], inputs.get(1).copied(), outputs[0]);
        Ok(())
    }

    fn cube<R: Runtime>(&self, client: &ComputeClient<R>, inputs: &[CubeArg], outputs: &[CubeArg]) -> Result<()> {
        let [x, bias @ ..] = inputs else { return Err(wrong_count("bias_act")) };
        let [y] = outputs else { return Err(wrong_count("bias_act")) };
        let l = Launch::new("bias_act", client, &self.0, y)?;
        let bias = bias.first().unwrap_or(x);
        // SAFETY: units beyond y return; x has its length, and the bias is read below `channels` vectors.
        unsafe {
            cube::forward::launch_unchecked::<R>(
                client,
                l.grid,
                CubeDim::new_1d(l.units),
                l.width,
                x.padded(l.width),
                bias.padded(l.width),
                y.padded(l.width),
                l.channels,
                l.slope,
                self.0.gain as f32,
                self.0.bound() as f32,
                l.function,
                self.0.bias,
                self.0.clamp.is_some(),
                l.dtype,
            );
        }
        Ok(())
    }

    fn flops(&self) -> u64 {
        self.0.flops()
    }

    fn kinks(&self) -> Option<Kinks> {
        self.0.kinks()
    }
}

impl Kernel for Gradient {
    fn name(&self) -> &'static str {
        "bias_act_grad"
    }

    fn output_shapes(&self) -> Vec<Vec<usize>> {
        vec![self.0.shape.clone()]
    }

    fn host<T: Scalar>(&self, inputs: &[&[T]], outputs: &mut [&mut [T]]) -> Result<()> {
        host::gradient(&self.0, inputs[0], inputs[1], inputs.get(2).copied(), outputs[0]);
        Ok(())
    }

    fn cube<R: Runtime>(&self, client: &ComputeClient<R>, inputs: &[CubeArg], outputs: &[CubeArg]) -> Result<()> {
        let [grad, reference, bias @ ..] = inputs else { return Err(wrong_count("bias_act_grad")) };
        let [out] = outputs else { return Err(wrong_count("bias_act_grad")) };
        let l = Launch::new("bias_act_grad", client, &self.0, out)?;
        let bias = bias.first().unwrap_or(reference);
        // SAFETY: units beyond `out` return; the inputs have its length, and the bias is read below `channels` vectors.
        unsafe {
            cube::gradient::launch_unchecked::<R>(
                client,
                l.grid,
                CubeDim::new_1d(l.units),
                l.width,
                grad.padded(l.width),
                reference.padded(l.width),
                bias.padded(l.width),
                out.padded(l.width),
                l.channels,
                l.slope,
                self.0.gain as f32,
                self.0.bound() as f32,
                l.function,
                self.0.bias,
                self.0.clamp.is_some(),
                l.dtype,
            );
        }
        Ok(())
    }

    fn flops(&self) -> u64 {
        2 * self.0.flops()
    }
}

fn wrong_count(op: &'static str) -> TensorError {
    TensorError::shape(op, "a wrong number of inputs or outputs")
}

/// What both launches share.
struct Launch {
    grid: CubeCount,
    units: u32,
    width: usize,
    /// Vectors of one row.
    channels: usize,
    function: Function,
    slope: f32,
    dtype: StorageType,
}

impl Launch {
    fn new<R: Runtime>(op: &'static str, client: &ComputeClient<R>, p: &Problem, y: &CubeArg) -> Result<Self> {
        if u32::try_from(y.len).is_err() {
            return Err(TensorError::shape(op, format!("{} elements are more than 32-bit indices reach", y.len)));
        }
        let default = Blueprint::default_for(p);
        let Blueprint { vector_width: width, units } = choose(Place::Cube, op, p, &glue::limits(client), default);
        let (function, slope) = Function::of(p.activation);
        Ok(Self {
            grid: glue::grid(y.len.div_ceil(width).div_ceil(units as usize)),
            units,
            width,
            channels: (p.channels() / width).max(1),
            function,
            slope,
            dtype: storage_type(op, client, y.dtype)?,
        })
    }
}
