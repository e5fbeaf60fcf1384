//! Sums, means and maxima over axes, in a fixed order.

use cubecl::prelude::{ComputeClient, Runtime};
use rayon::prelude::*;

use crate::{
    Result, Scalar, Tensor, TensorError,
    cube::{self, CubeArg},
    kernel::{Kernel, launch},
    simd,
};

/// What is computed over the reduced axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReduceOp {
    /// Σ x.
    Sum,
    /// max x.
    Max,
}

/// Reduces the middle axis of `[outer, length, inner]`; the result is `[outer, inner]`.
///
/// Long axes are cut into blocks whose partial results are combined in order: the result does not depend on the threads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reduce {
    /// Sum or maximum.
    pub op: ReduceOp,
    /// Rows before the reduced axis.
    pub outer: usize,
    /// Length of the reduced axis.
    pub length: usize,
    /// Elements after the reduced axis.
    pub inner: usize,
}

/// Rows of one partial sum: short enough that f32 rounding stays near that of a pairwise sum.
const BLOCK_ROWS: usize = 256;

impl Kernel for Reduce {
    fn name(&self) -> &'static str {
        match self.op {
            ReduceOp::Sum => "sum",
            ReduceOp::Max => "max",
        }
    }

    fn output_shapes(&self) -> Vec<Vec<usize>> {
        vec![vec![self.outer, self.inner]]
    }

    fn host<T: Scalar>(&self, inputs: &[&[T]], outputs: &mut [&mut [T]]) -> Result<()> {
        match self.op {
            ReduceOp::Sum => self.run(
                inputs[0],
                outputs[0],
                T::ZERO,
                #[inline(always)]
                |a, b| a + b,
            ),
            ReduceOp::Max => self.run(inputs[0], outputs[0], T::from_f64(f64::NEG_INFINITY), T::maximum),
        }
        Ok(())
    }

    fn cube<R: Runtime>(&self, client: &ComputeClient<R>, inputs: &[CubeArg], outputs: &[CubeArg]) -> Result<()> {
        cube::reduce::reduce(client, self, &inputs[0], &outputs[0])
    }

    fn flops(&self) -> u64 {
        (self.outer * self.length * self.inner) as u64
    }
}

impl Reduce {
    fn run<T: Scalar>(&self, x: &[T], y: &mut [T], start: T, f: impl Fn(T, T) -> T + Sync + Copy) {
        let Self { length, inner, .. } = *self;
        if y.is_empty() {
            return;
        }
        if length == 0 {
            return y.fill(start);
        }
        let row = |x: &[T], y: &mut [T]| {
            if inner == 1 {
                // Blocks hold as many elements as a block of rows would of a vector's width.
                let block = BLOCK_ROWS * 16;
                y[0] = if length <= block {
                    simd::dispatch(
                        #[inline(always)]
                        || fold_lanes(x, start, f),
                    )
                } else {
                    let partial: Vec<T> = x
                        .par_chunks(block)
                        .map(|c| {
                            simd::dispatch(
                                #[inline(always)]
                                || fold_lanes(c, start, f),
                            )
                        })
                        .collect();
                    fold_lanes(&partial, start, f)
                };
            } else if length <= BLOCK_ROWS {
                simd::dispatch(
                    #[inline(always)]
                    || fold_rows(x, y, inner, start, f),
                );
            } else {
                let partial: Vec<T> = x
                    .par_chunks(BLOCK_ROWS * inner)
                    .flat_map_iter(|c| {
                        let mut p = vec![start; inner];
                        simd::dispatch(
                            #[inline(always)]
                            || fold_rows(c, &mut p, inner, start, f),
                        );
                        p
                    })
                    .collect();
                fold_rows(&partial, y, inner, start, f);
            }
        };
        if self.outer > 1 && x.len() >= super::PARALLEL_MIN {
            y.par_chunks_mut(inner).zip(x.par_chunks(length * inner)).with_min_len(1).for_each(|(y, x)| row(x, y));
        } else {
            for (y, x) in y.chunks_mut(inner).zip(x.chunks(length * inner)) {
                row(x, y);
            }
        }
    }
}

/// Folds a contiguous run in 32 independent lanes, which vectorise, then the lanes in order.
#[inline(always)]
fn fold_lanes<T: Scalar>(x: &[T], start: T, f: impl Fn(T, T) -> T) -> T {
    let mut lanes = [start; 32];
    let chunks = x.chunks_exact(32);
    let tail = chunks.remainder();
    for c in chunks {
        for i in 0..32 {
            lanes[i] = f(lanes[i], c[i]);
        }
    }
    for (l, &v) in lanes.iter_mut().zip(tail) {
        *l = f(*l, v);
    }
    let mut width = 16;
    while width > 0 {
        for i in 0..width {
            lanes[i] = f(lanes[i], lanes[i + width]);
        }
        width /= 2;
    }
    lanes[0]
}

#[inline(always)]
fn fold_rows<T: Scalar>(x: &[T], y: &mut [T], inner: usize, start: T, f: impl Fn(T, T) -> T) {
    y.fill(start);
    for row in x.chunks_exact(inner) {
        for (o, &v) in y.iter_mut().zip(row) {
            *o = f(*o, v);
        }
    }
}

impl Tensor {
    /// Reduces one axis, keeping it with length 1, without history.
    fn reduce_axis(&self, op: ReduceOp, axes: std::ops::Range<usize>) -> Result<Tensor> {
        let s = self.shape();
        let kernel = Reduce {
            op,
            outer: s[..axes.start].iter().product(),
            length: s[axes.clone()].iter().product(),
            inner: s[axes.end..].iter().product(),
        };
        let mut shape = s.to_vec();
        shape[axes].fill(1);
        Ok(launch(&kernel, &[self])?.remove(0).with_shape(shape))
    }

    /// Reduces every axis marked in `reduced`, runs of neighbours at once, innermost first.
    fn reduce_axes(&self, op: ReduceOp, reduced: &[bool]) -> Result<Tensor> {
        let mut x = self.detach();
        let mut end = reduced.len();
        while end > 0 {
            if !reduced[end - 1] {
                end -= 1;
                continue;
            }
            let mut start = end - 1;
            while start > 0 && reduced[start - 1] {
                start -= 1;
            }
            if x.shape()[start..end].iter().any(|&d| d != 1) {
                x = x.reduce_axis(op, start..end)?;
            }
            end = start;
        }
        Ok(x)
    }

    fn mark(&self, op: &'static str, axes: &[usize]) -> Result<Vec<bool>> {
        let mut marks = vec![false; self.shape().len()];
        for &a in axes {
            match marks.get_mut(a) {
                Some(true) => {
                    return Err(TensorError::shape(op, format!("axis {a} of shape {:?} given twice", self.shape())));
                }
                Some(m) => *m = true,
                None => return Err(TensorError::shape(op, format!("axis {a} of shape {:?}", self.shape()))),
            }
        }
        Ok(marks)
    }

    /// Σ over `axes`, which stay with length 1. PyTorch: `sum(axes, keepdim=True)`.
    ///
    /// ```
    /// # use swinstyle_tensor::{Device::Cpu, Tensor};
    /// let x = Tensor::from_slice(&[1.0_f32, 2.0, 3.0, 4.0], &[2, 2], Cpu)?;
    /// assert_eq!(x.sum(&[0])?.to_vec()?, [4.0, 6.0]);
    /// # Ok::<(), swinstyle_tensor::TensorError>(())
    /// ```
    pub fn sum(&self, axes: &[usize]) -> Result<Tensor> {
        let marks = self.mark("sum", axes)?;
        let y = self.reduce_axes(ReduceOp::Sum, &marks)?;
        Ok(y.taped("sum", &[self], |b| Ok(vec![Some(b.grad.broadcast_to(b.inputs[0].shape())?)])))
    }

    /// Σ over everything: shape `[]`. PyTorch: `sum()`.
    pub fn sum_all(&self) -> Result<Tensor> {
        self.reshape(&[self.len()])?.sum(&[0])?.reshape(&[])
    }

    /// Mean over `axes`, which stay with length 1. PyTorch: `mean(axes, keepdim=True)`.
    pub fn mean(&self, axes: &[usize]) -> Result<Tensor> {
        let y = self.sum(axes)?;
        let n: usize = axes.iter().map(|&a| self.shape()[a]).product();
        y.scale(1.0 / n as f64)
    }

    /// Mean over everything: shape `[]`. PyTorch: `mean()`.
    ///
    /// ```
    /// # use swinstyle_tensor::{Device::Cpu, Tensor};
    /// let x = Tensor::from_slice(&[1.0_f32, 2.0, 3.0, 4.0], &[2, 2], Cpu)?;
    /// assert_eq!(x.mean_all()?.item()?, 2.5);
    /// # Ok::<(), swinstyle_tensor::TensorError>(())
    /// ```
    pub fn mean_all(&self) -> Result<Tensor> {
        self.sum_all()?.scale(1.0 / self.len() as f64)
    }

    /// Maximum over `axes`, which stay with length 1; without gradient (it serves to stabilise softmax). PyTorch: `amax(axes, keepdim=True).detach()`.
    pub fn max_detached(&self, axes: &[usize]) -> Result<Tensor> {
        let marks = self.mark("max", axes)?;
        self.reduce_axes(ReduceOp::Max, &marks)
    }

    /// Adjoint of [`Tensor::broadcast_to`]: sums what was repeated. PyTorch: `sum_to_size`.
    pub fn sum_to(&self, shape: &[usize]) -> Result<Tensor> {
        if self.shape() == shape {
            return Ok(self.clone());
        }
        let lead = self.shape().len().checked_sub(shape.len());
        let marks: Option<Vec<bool>> = lead.and_then(|lead| {
            self.shape()
                .iter()
                .enumerate()
                .map(|(i, &d)| match i.checked_sub(lead).map(|j| shape[j]) {
                    None => Some(true),
                    Some(s) if s == d => Some(false),
                    Some(1) => Some(true),
                    _ => None,
                })
                .collect()
        });
        let Some(marks) = marks else {
            return Err(TensorError::shape("sum_to", format!("{:?} cannot be summed to {shape:?}", self.shape())));
        };
        let y = self.reduce_axes(ReduceOp::Sum, &marks)?.with_shape(shape.to_vec());
        Ok(y.taped("sum_to", &[self], move |b| Ok(vec![Some(b.grad.broadcast_to(b.inputs[0].shape())?)])))
    }

    /// eˣ / Σ eˣ over the last axis. PyTorch: `softmax(-1)`.
    ///
    /// ```
    /// # use swinstyle_tensor::{Device::Cpu, Tensor};
    /// let x = Tensor::from_slice(&[0.0_f32, 0.0], &[1, 2], Cpu)?;
    /// assert_eq!(x.softmax()?.to_vec()?, [0.5, 0.5]);
    /// # Ok::<(), swinstyle_tensor::TensorError>(())
    /// ```
    pub fn softmax(&self) -> Result<Tensor> {
        self.log_softmax()?.exp()
    }

    /// x − ln Σ eˣ over the last axis. PyTorch: `log_softmax(-1)`.
    pub fn log_softmax(&self) -> Result<Tensor> {
        let Some(last) = self.shape().len().checked_sub(1) else {
            return Err(TensorError::shape("log_softmax", "a tensor without axes"));
        };
        let x = self.sub(&self.max_detached(&[last])?)?;
        x.sub(&x.exp()?.sum(&[last])?.ln()?)
    }
}
