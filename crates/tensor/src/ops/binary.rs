//! Elementwise operations of two operands with broadcasting.

use cubecl::prelude::{ComputeClient, Runtime};

use super::for_blocks;
use crate::{
    Result, Scalar, Tensor, TensorError,
    cube::{self, CubeArg},
    kernel::{Kernel, launch},
    shape::{BroadcastPlan, broadcast},
};

/// A function of two elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    /// a + b.
    Add,
    /// a − b.
    Sub,
    /// a · b.
    Mul,
    /// a / b.
    Div,
    /// max(a, b).
    Maximum,
    /// 1 where a > b, ½ where equal, else 0: the gradient of max.
    Greater,
}

/// [`BinaryOp`] with NumPy broadcasting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binary {
    /// The function.
    pub op: BinaryOp,
    /// Shape of the output.
    pub shape: Vec<usize>,
    /// How both operands are walked.
    pub plan: BroadcastPlan,
}

impl Kernel for Binary {
    fn name(&self) -> &'static str {
        match self.op {
            BinaryOp::Add => "add",
            BinaryOp::Sub => "sub",
            BinaryOp::Mul => "mul",
            BinaryOp::Div => "div",
            BinaryOp::Maximum => "maximum",
            BinaryOp::Greater => "greater",
        }
    }

    fn output_shapes(&self) -> Vec<Vec<usize>> {
        vec![self.shape.clone()]
    }

    fn host<T: Scalar>(&self, inputs: &[&[T]], outputs: &mut [&mut [T]]) -> Result<()> {
        let (a, b, y) = (inputs[0], inputs[1], &mut *outputs[0]);
        match self.op {
            BinaryOp::Add => zip(&self.plan, a, b, y, |a, b| a + b),
            BinaryOp::Sub => zip(&self.plan, a, b, y, |a, b| a - b),
            BinaryOp::Mul => zip(&self.plan, a, b, y, |a, b| a * b),
            BinaryOp::Div => zip(&self.plan, a, b, y, |a, b| a / b),
            BinaryOp::Maximum => zip(&self.plan, a, b, y, T::maximum),
            BinaryOp::Greater => zip(&self.plan, a, b, y, |a, b| {
                let equal = if a == b { T::from_f64(0.5) } else { T::ZERO };
                if a > b { T::ONE } else { equal }
            }),
        }
        Ok(())
    }

    fn cube<R: Runtime>(&self, client: &ComputeClient<R>, inputs: &[CubeArg], outputs: &[CubeArg]) -> Result<()> {
        cube::elementwise::binary(client, self, &inputs[0], &inputs[1], &outputs[0])
    }

    fn flops(&self) -> u64 {
        self.shape.iter().product::<usize>() as u64
    }
}

fn zip<T: Scalar>(plan: &BroadcastPlan, a: &[T], b: &[T], y: &mut [T], f: impl Fn(T, T) -> T + Sync + Copy) {
    let last = plan.dims.len() - 1;
    let inner = plan.dims[last];
    let (sa, sb) = (plan.a_strides[last], plan.b_strides[last]);
    if y.is_empty() {
        return;
    }
    for_blocks(
        y,
        #[inline(always)]
        |start, block| {
            let mut done = 0;
            let mut row = start / inner;
            let mut at = start % inner;
            while done < block.len() {
                // Offsets of this row from the outer axes.
                let (mut rest, mut oa, mut ob) = (row, 0, 0);
                for i in (0..last).rev() {
                    let k = rest % plan.dims[i];
                    rest /= plan.dims[i];
                    oa += k * plan.a_strides[i];
                    ob += k * plan.b_strides[i];
                }
                let n = (inner - at).min(block.len() - done);
                let out = &mut block[done..done + n];
                match (sa, sb) {
                    (1, 1) => {
                        let (a, b) = (&a[oa + at..][..n], &b[ob + at..][..n]);
                        for i in 0..n {
                            out[i] = f(a[i], b[i]);
                        }
                    }
                    (1, 0) => {
                        let (a, b) = (&a[oa + at..][..n], b[ob]);
                        for i in 0..n {
                            out[i] = f(a[i], b);
                        }
                    }
                    (0, 1) => {
                        let (a, b) = (a[oa], &b[ob + at..][..n]);
                        for i in 0..n {
                            out[i] = f(a, b[i]);
                        }
                    }
                    _ => {
                        for (i, o) in out.iter_mut().enumerate() {
                            *o = f(a[oa + (at + i) * sa], b[ob + (at + i) * sb]);
                        }
                    }
                }
                done += n;
                at = 0;
                row += 1;
            }
        },
    );
}

impl Tensor {
    fn binary(&self, other: &Tensor, op: BinaryOp) -> Result<Tensor> {
        let name = Binary { op, shape: Vec::new(), plan: BroadcastPlan::new(&[], &[], &[]) }.name();
        let shape = broadcast(name, self.shape(), other.shape())?;
        let plan = BroadcastPlan::new(&shape, self.shape(), other.shape());
        Ok(launch(&Binary { op, shape, plan }, &[self, other])?.remove(0))
    }

    /// a + b with broadcasting.
    ///
    /// ```
    /// # use swinstyle_tensor::{Device::Cpu, Tensor};
    /// let x = Tensor::from_slice(&[1.0_f32, 2.0, 3.0, 4.0], &[2, 2], Cpu)?;
    /// let row = Tensor::from_slice(&[10.0_f32, 20.0], &[2], Cpu)?;
    /// assert_eq!(x.add(&row)?.to_vec()?, [11.0, 22.0, 13.0, 24.0]);
    /// # Ok::<(), swinstyle_tensor::TensorError>(())
    /// ```
    pub fn add(&self, other: &Tensor) -> Result<Tensor> {
        Ok(self.binary(other, BinaryOp::Add)?.taped("add", &[self, other], |b| {
            let to = |i: usize| b.needs[i].then(|| b.grad.sum_to(b.inputs[i].shape())).transpose();
            Ok(vec![to(0)?, to(1)?])
        }))
    }

    /// a − b with broadcasting.
    pub fn sub(&self, other: &Tensor) -> Result<Tensor> {
        Ok(self.binary(other, BinaryOp::Sub)?.taped("sub", &[self, other], |b| {
            let da = b.needs[0].then(|| b.grad.sum_to(b.inputs[0].shape())).transpose()?;
            let db = b.needs[1].then(|| b.grad.sum_to(b.inputs[1].shape())?.neg()).transpose()?;
            Ok(vec![da, db])
        }))
    }

    /// a · b with broadcasting.
    pub fn mul(&self, other: &Tensor) -> Result<Tensor> {
        Ok(self.binary(other, BinaryOp::Mul)?.taped("mul", &[self, other], |b| {
            let to =
                |i: usize| b.needs[i].then(|| b.grad.mul(&b.inputs[1 - i])?.sum_to(b.inputs[i].shape())).transpose();
            Ok(vec![to(0)?, to(1)?])
        }))
    }

    /// a / b with broadcasting.
    pub fn div(&self, other: &Tensor) -> Result<Tensor> {
        Ok(self.binary(other, BinaryOp::Div)?.taped("div", &[self, other], |b| {
            let g = b.grad.div(&b.inputs[1])?;
            let da = b.needs[0].then(|| g.sum_to(b.inputs[0].shape())).transpose()?;
            let db = b.needs[1].then(|| g.mul(b.output)?.neg()?.sum_to(b.inputs[1].shape())).transpose()?;
            Ok(vec![da, db])
        }))
    }

    /// max(a, b) with broadcasting; where equal each side gets half of the gradient. PyTorch: `torch.maximum`.
    ///
    /// ```
    /// # use swinstyle_tensor::{Device::Cpu, Tensor};
    /// let x = Tensor::from_slice(&[-1.0_f32, 2.0], &[2], Cpu)?;
    /// assert_eq!(x.maximum(&x.neg()?)?.to_vec()?, [1.0, 2.0]);
    /// # Ok::<(), swinstyle_tensor::TensorError>(())
    /// ```
    pub fn maximum(&self, other: &Tensor) -> Result<Tensor> {
        Ok(self.binary(other, BinaryOp::Maximum)?.taped("maximum", &[self, other], |b| {
            let first = b.inputs[0].detach().binary(&b.inputs[1].detach(), BinaryOp::Greater)?;
            let da = b.needs[0].then(|| b.grad.mul(&first)?.sum_to(b.inputs[0].shape())).transpose()?;
            let second = first.affine(-1.0, 1.0)?;
            let db = b.needs[1].then(|| b.grad.mul(&second)?.sum_to(b.inputs[1].shape())).transpose()?;
            Ok(vec![da, db])
        }))
    }

    /// Repeats axes of length 1 (and new leading ones) up to `shape`. PyTorch: `expand(...).contiguous()`.
    ///
    /// ```
    /// # use swinstyle_tensor::{Device::Cpu, Tensor};
    /// let x = Tensor::from_slice(&[1.0_f32, 2.0], &[2], Cpu)?;
    /// assert_eq!(x.broadcast_to(&[2, 2])?.to_vec()?, [1.0, 2.0, 1.0, 2.0]);
    /// # Ok::<(), swinstyle_tensor::TensorError>(())
    /// ```
    pub fn broadcast_to(&self, shape: &[usize]) -> Result<Tensor> {
        if self.shape() == shape {
            return Ok(self.clone());
        }
        if broadcast("broadcast_to", self.shape(), shape)? != shape {
            return Err(TensorError::shape(
                "broadcast_to",
                format!("{:?} does not broadcast to {shape:?}", self.shape()),
            ));
        }
        let zeros = Tensor::full(0.0, &[1], self.dtype(), self.device())?;
        let plan = BroadcastPlan::new(shape, self.shape(), &[1]);
        let kernel = Binary { op: BinaryOp::Add, shape: shape.to_vec(), plan };
        let y = launch(&kernel, &[self, &zeros])?.remove(0);
        Ok(y.taped("broadcast_to", &[self], |b| Ok(vec![Some(b.grad.sum_to(b.inputs[0].shape())?)])))
    }
}
