//! The exponential moving average.

use cubecl::prelude::{ComputeClient, Runtime};

use super::for_blocks;
use crate::{
    Result, Scalar, Tensor, TensorError,
    cube::{self, CubeArg},
    kernel::{Kernel, launch},
};

/// `decay · average + (1 − decay) · x` in one pass, of two tensors of one shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Average {
    /// Shape of both.
    pub shape: Vec<usize>,
    /// Share of the average that stays.
    pub decay: f64,
}

impl Kernel for Average {
    fn name(&self) -> &'static str {
        "average"
    }

    fn output_shapes(&self) -> Vec<Vec<usize>> {
        vec![self.shape.clone()]
    }

    fn host<T: Scalar>(&self, inputs: &[&[T]], outputs: &mut [&mut [T]]) -> Result<()> {
        let (keep, take) = (T::from_f64(self.decay), T::from_f64(1.0 - self.decay));
        let (old, x) = (inputs[0], inputs[1]);
        for_blocks(
            outputs[0],
            #[inline(always)]
            |start, block| {
                let (old, x) = (&old[start..start + block.len()], &x[start..start + block.len()]);
                for (y, (&a, &b)) in block.iter_mut().zip(old.iter().zip(x)) {
                    *y = a * keep + b * take;
                }
            },
        );
        Ok(())
    }

    fn cube<R: Runtime>(&self, client: &ComputeClient<R>, inputs: &[CubeArg], outputs: &[CubeArg]) -> Result<()> {
        cube::update::average(client, self, &inputs[0], &inputs[1], &outputs[0])
    }

    fn flops(&self) -> u64 {
        3 * self.shape.iter().product::<usize>() as u64
    }
}

impl Tensor {
    /// `decay · self + (1 − decay) · x`, without history. PyTorch: `x.lerp(self, decay)` in exact arithmetic.
    ///
    /// Errors: another shape, device or type.
    pub fn average(&self, x: &Tensor, decay: f64) -> Result<Tensor> {
        if self.shape() != x.shape() {
            return Err(TensorError::shape("average", format!("{:?} and {:?}", self.shape(), x.shape())));
        }
        Ok(launch(&Average { shape: self.shape().to_vec(), decay }, &[self, x])?.remove(0))
    }
}

#[cfg(test)]
mod tests {
    use crate::{Device, rng::Philox};

    #[test]
    fn an_average_is_that_of_its_parts_on_every_device() {
        for n in [1, 7, 40_003] {
            let [a, b] = [1, 2].map(|seed| Philox::new(seed, 0).normal(&[n], Device::Cpu).unwrap());
            let expected = a.scale(0.75).unwrap().add(&b.scale(0.25).unwrap()).unwrap().to_vec().unwrap();
            assert_eq!(a.average(&b, 0.75).unwrap().to_vec().unwrap(), expected);
            let [a, b] = [a, b].map(|t| t.to_device(Device::Wgpu(0)).unwrap());
            let on_device = a.average(&b, 0.75).unwrap().to_vec().unwrap();
            // The device may round the two products and the sum once.
            let near = |(x, y): (&f32, &f32)| (x - y).abs() <= 2e-7 * (1.0 + y.abs());
            assert!(on_device.iter().zip(&expected).all(near));
            assert!(a.average(&a.reshape(&[1, n]).unwrap(), 0.5).unwrap_err().to_string().contains("average"));
        }
    }
}
