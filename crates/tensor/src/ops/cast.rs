//! Conversions between element types, and how half types live on the cpu.

use cubecl::prelude::{ComputeClient, Runtime};
use half::{bf16, f16};

use super::for_blocks;
use crate::{
    DType, Device, Result, Scalar, Tensor, TensorError,
    cube::{self, CubeArg},
    kernel::{Kernel, launch},
};

/// The same values in another type: f32, f16 and bf16 in any direction, rounded to nearest, ties to even.
#[derive(Debug, Clone, PartialEq)]
pub struct Cast {
    /// Shape of input and output.
    pub shape: Vec<usize>,
    /// Type of the output.
    pub to: DType,
}

impl Kernel for Cast {
    fn name(&self) -> &'static str {
        "cast"
    }

    fn output_shapes(&self) -> Vec<Vec<usize>> {
        vec![self.shape.clone()]
    }

    fn output_dtype(&self, _output: usize, _inputs: DType) -> DType {
        self.to
    }

    fn host<T: Scalar>(&self, inputs: &[&[T]], outputs: &mut [&mut [T]]) -> Result<()> {
        // The launch rounds what a kernel leaves.
        let x = inputs[0];
        for_blocks(outputs[0], |start, block| block.copy_from_slice(&x[start..start + block.len()]));
        Ok(())
    }

    fn cube<R: Runtime>(&self, client: &ComputeClient<R>, inputs: &[CubeArg], outputs: &[CubeArg]) -> Result<()> {
        cube::cast::cast(client, &inputs[0], &outputs[0])
    }
}

/// Rounds f32 numbers to those of a half type, which is what a tensor of that type holds on the cpu.
pub(crate) fn round(values: &mut [f32], dtype: DType) {
    match dtype {
        DType::F16 => for_blocks(values, |_, block| block.iter_mut().for_each(|v| *v = f16::from_f32(*v).to_f32())),
        DType::BF16 => for_blocks(values, |_, block| block.iter_mut().for_each(|v| *v = bf16::from_f32(*v).to_f32())),
        DType::F32 | DType::F64 => {}
    }
}

impl Tensor {
    /// The same values in another type, rounded to nearest. PyTorch: `x.to(dtype)`.
    ///
    /// Differentiable: the gradient is brought back to the type of `self`. Errors: a type that the device does not have.
    ///
    /// ```
    /// # use swinstyle_tensor::{DType, Device::Cpu, Tensor};
    /// let x = Tensor::from_slice(&[1.0_f32, 0.1], &[2], Cpu)?;
    /// let half = x.to_dtype(DType::BF16)?;
    /// assert_eq!(half.to_vec()?, [1.0, 0.10009765625]);
    /// # Ok::<(), swinstyle_tensor::TensorError>(())
    /// ```
    pub fn to_dtype(&self, dtype: DType) -> Result<Tensor> {
        let from = self.dtype();
        let y = match (self.device(), from, dtype) {
            (_, from, to) if from == to => return Ok(self.clone()),
            (Device::Cpu, _, DType::F64) => Tensor::from_host(self.values_f64()?, self.shape(), Device::Cpu)?,
            (Device::Cpu, DType::F64, DType::F32) => Tensor::from_host(self.values()?, self.shape(), Device::Cpu)?,
            (Device::Cpu, DType::F64, _) => self.detach().to_dtype(DType::F32)?.to_dtype(dtype)?,
            (device, _, DType::F64) => return Err(TensorError::UnsupportedDType { op: "to_dtype", dtype, device }),
            _ => launch(&Cast { shape: self.shape().to_vec(), to: dtype }, &[self])?.remove(0),
        };
        Ok(y.taped("to_dtype", &[self], move |b| Ok(vec![Some(b.grad.to_dtype(from)?)])))
    }
}
