//! A fused kernel of one's own: SiLU, y = x · σ(x), for the CPU and for GPUs, with its gradient.

use swinstyle_tensor::{
    CubeArg, Device, Kernel, Result, Scalar, Tensor,
    cube::{UNITS, grid},
    cubecl::{self, prelude::*},
    grad, launch,
};

/// Plain data: what the kernel must know beside its inputs.
struct Silu {
    shape: Vec<usize>,
}

#[cube(launch_unchecked)]
fn silu_kernel(x: &Array<f32>, y: &mut Array<f32>, len: usize) {
    if ABSOLUTE_POS < len {
        let v = x[ABSOLUTE_POS];
        y[ABSOLUTE_POS] = v / (1.0f32 + (0.0f32 - v).exp());
    }
}

impl Kernel for Silu {
    fn name(&self) -> &'static str {
        "silu"
    }

    fn output_shapes(&self) -> Vec<Vec<usize>> {
        vec![self.shape.clone()]
    }

    fn host<T: Scalar>(&self, inputs: &[&[T]], outputs: &mut [&mut [T]]) -> Result<()> {
        for (y, &x) in outputs[0].iter_mut().zip(inputs[0]) {
            *y = x / (T::ONE + (-x).exp());
        }
        Ok(())
    }

    fn cube<R: Runtime>(&self, client: &ComputeClient<R>, inputs: &[CubeArg], outputs: &[CubeArg]) -> Result<()> {
        let (x, y) = (&inputs[0], &outputs[0]);
        let (cubes, cube) = (grid(y.len.div_ceil(UNITS as usize)), CubeDim::new_1d(UNITS));
        // SAFETY: a unit beyond `len` touches nothing.
        unsafe { silu_kernel::launch_unchecked::<R>(client, cubes, cube, x.array(), y.array(), y.len) };
        Ok(())
    }
}

/// y = x · σ(x). The gradient, σ(x)·(1 + x·(1 − σ(x))), is made of taped operations, so every order exists.
fn silu(x: &Tensor) -> Result<Tensor> {
    let y = launch(&Silu { shape: x.shape().to_vec() }, &[x])?.remove(0);
    Ok(y.taped("silu", &[x], |b| {
        let (x, s) = (&b.inputs[0], b.inputs[0].sigmoid()?);
        let slope = s.mul(&x.mul(&s.affine(-1.0, 1.0)?)?.add_scalar(1.0)?)?;
        Ok(vec![Some(b.grad.mul(&slope)?)])
    }))
}

fn main() -> Result<()> {
    let values = [-2.0_f32, -0.5, 0.0, 1.0, 3.0];
    for device in [Device::Cpu, Device::best()] {
        let x = Tensor::from_slice(&values, &[5], device)?.as_leaf();
        let y = silu(&x)?;
        let slope = grad(&[(&y, None)], &[&x], false)?.remove(0);
        println!("{device}: y  {:?}", y.to_vec()?);
        println!("{device}: y' {:?}", slope.map(|s| s.to_vec()).transpose()?);
    }
    Ok(())
}
