//! Reshape, permute, slice, concatenate and pad.

use cubecl::prelude::{ComputeClient, Runtime};
use rayon::prelude::*;

use crate::{
    Result, Scalar, Tensor, TensorError,
    cube::{self, CubeArg},
    kernel::{Kernel, checked_len, launch},
    shape::strides,
};

/// Reorders axes: axis `i` of the output is axis `axes[i]` of the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permute {
    /// Shape of the output.
    pub shape: Vec<usize>,
    /// Stride in the input of each output axis.
    pub strides: Vec<usize>,
}

impl Kernel for Permute {
    fn name(&self) -> &'static str {
        "permute"
    }

    fn output_shapes(&self) -> Vec<Vec<usize>> {
        vec![self.shape.clone()]
    }

    fn host<T: Scalar>(&self, inputs: &[&[T]], outputs: &mut [&mut [T]]) -> Result<()> {
        let (x, y) = (inputs[0], &mut *outputs[0]);
        let Some((&inner, outer)) = self.shape.split_last() else {
            y.copy_from_slice(x);
            return Ok(());
        };
        if y.is_empty() {
            return Ok(());
        }
        let step = self.strides[outer.len()];
        let rows = (super::PARALLEL_MIN / inner).max(1);
        y.par_chunks_mut(rows * inner).enumerate().for_each(|(i, block)| {
            for (j, out) in block.chunks_mut(inner).enumerate() {
                let mut rest = i * rows + j;
                let mut offset = 0;
                for a in (0..outer.len()).rev() {
                    offset += rest % outer[a] * self.strides[a];
                    rest /= outer[a];
                }
                if step == 1 {
                    out.copy_from_slice(&x[offset..offset + inner]);
                } else {
                    for (k, o) in out.iter_mut().enumerate() {
                        *o = x[offset + k * step];
                    }
                }
            }
        });
        Ok(())
    }

    fn cube<R: Runtime>(&self, client: &ComputeClient<R>, inputs: &[CubeArg], outputs: &[CubeArg]) -> Result<()> {
        cube::layout::permute(client, self, &inputs[0], &outputs[0])
    }
}

/// Takes `take` of `length` positions from `start` on, on the middle axis of `[outer, length, inner]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// Rows before the axis.
    pub outer: usize,
    /// Length of the axis.
    pub length: usize,
    /// Elements after the axis.
    pub inner: usize,
    /// First position.
    pub start: usize,
    /// Number of positions.
    pub take: usize,
}

impl Kernel for Slice {
    fn name(&self) -> &'static str {
        "slice"
    }

    fn output_shapes(&self) -> Vec<Vec<usize>> {
        vec![vec![self.outer, self.take, self.inner]]
    }

    fn host<T: Scalar>(&self, inputs: &[&[T]], outputs: &mut [&mut [T]]) -> Result<()> {
        let n = self.take * self.inner;
        if n == 0 {
            return Ok(());
        }
        let (skip, row) = (self.start * self.inner, self.length * self.inner);
        for (y, x) in outputs[0].chunks_mut(n).zip(inputs[0].chunks(row)) {
            y.copy_from_slice(&x[skip..skip + n]);
        }
        Ok(())
    }

    fn cube<R: Runtime>(&self, client: &ComputeClient<R>, inputs: &[CubeArg], outputs: &[CubeArg]) -> Result<()> {
        cube::layout::slice(client, self, &inputs[0], &outputs[0])
    }
}

/// Zero-pads the middle axis of `[outer, length, inner]`: the adjoint of [`Slice`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pad {
    /// Rows before the axis.
    pub outer: usize,
    /// Length of the axis in the input.
    pub length: usize,
    /// Elements after the axis.
    pub inner: usize,
    /// Zeros before.
    pub before: usize,
    /// Zeros after.
    pub after: usize,
}

impl Kernel for Pad {
    fn name(&self) -> &'static str {
        "pad"
    }

    fn output_shapes(&self) -> Vec<Vec<usize>> {
        vec![vec![self.outer, self.before + self.length + self.after, self.inner]]
    }

    fn host<T: Scalar>(&self, inputs: &[&[T]], outputs: &mut [&mut [T]]) -> Result<()> {
        let n = (self.before + self.length + self.after) * self.inner;
        if n == 0 {
            return Ok(());
        }
        let (from, to) = (self.before * self.inner, (self.before + self.length) * self.inner);
        for (i, y) in outputs[0].chunks_mut(n).enumerate() {
            y[..from].fill(T::ZERO);
            y[from..to].copy_from_slice(&inputs[0][i * (to - from)..(i + 1) * (to - from)]);
            y[to..].fill(T::ZERO);
        }
        Ok(())
    }

    fn cube<R: Runtime>(&self, client: &ComputeClient<R>, inputs: &[CubeArg], outputs: &[CubeArg]) -> Result<()> {
        cube::layout::pad(client, self, &inputs[0], &outputs[0])
    }
}

/// Joins `[outer, lengths[i], inner]` along the middle axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concat {
    /// Rows before the axis.
    pub outer: usize,
    /// Length of the axis in each input.
    pub lengths: Vec<usize>,
    /// Elements after the axis.
    pub inner: usize,
}

impl Kernel for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }

    fn output_shapes(&self) -> Vec<Vec<usize>> {
        vec![vec![self.outer, self.lengths.iter().sum(), self.inner]]
    }

    fn host<T: Scalar>(&self, inputs: &[&[T]], outputs: &mut [&mut [T]]) -> Result<()> {
        let row = self.lengths.iter().sum::<usize>() * self.inner;
        if row == 0 {
            return Ok(());
        }
        for (i, y) in outputs[0].chunks_mut(row).enumerate() {
            let mut at = 0;
            for (x, &l) in inputs.iter().zip(&self.lengths) {
                let n = l * self.inner;
                y[at..at + n].copy_from_slice(&x[i * n..(i + 1) * n]);
                at += n;
            }
        }
        Ok(())
    }

    fn cube<R: Runtime>(&self, client: &ComputeClient<R>, inputs: &[CubeArg], outputs: &[CubeArg]) -> Result<()> {
        cube::layout::concat(client, self, inputs, &outputs[0])
    }
}

impl Tensor {
    /// The same elements under another shape; free. PyTorch: `reshape`.
    ///
    /// ```
    /// # use swinstyle_tensor::{Device::Cpu, Tensor};
    /// let x = Tensor::from_slice(&[1.0_f32, 2.0, 3.0, 4.0], &[2, 2], Cpu)?;
    /// assert_eq!(x.reshape(&[4])?.shape(), [4]);
    /// assert!(x.reshape(&[3]).is_err());
    /// # Ok::<(), swinstyle_tensor::TensorError>(())
    /// ```
    pub fn reshape(&self, shape: &[usize]) -> Result<Tensor> {
        if checked_len("reshape", shape)? != self.len() {
            return Err(TensorError::shape("reshape", format!("{:?} to {shape:?}", self.shape())));
        }
        if self.shape() == shape {
            return Ok(self.clone());
        }
        let y = self.with_shape(shape.to_vec());
        Ok(y.taped("reshape", &[self], |b| Ok(vec![Some(b.grad.reshape(b.inputs[0].shape())?)])))
    }

    /// Reorders the axes, copying. PyTorch: `permute(axes).contiguous()`.
    ///
    /// ```
    /// # use swinstyle_tensor::{Device::Cpu, Tensor};
    /// let x = Tensor::from_slice(&[1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3], Cpu)?;
    /// assert_eq!(x.permute(&[1, 0])?.to_vec()?, [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    /// # Ok::<(), swinstyle_tensor::TensorError>(())
    /// ```
    pub fn permute(&self, axes: &[usize]) -> Result<Tensor> {
        let rank = self.shape().len();
        let mut inverse = vec![usize::MAX; rank];
        for (i, &a) in axes.iter().enumerate() {
            if axes.len() != rank || a >= rank || inverse[a] != usize::MAX {
                return Err(TensorError::shape("permute", format!("axes {axes:?} for shape {:?}", self.shape())));
            }
            inverse[a] = i;
        }
        if axes.len() != rank {
            return Err(TensorError::shape("permute", format!("axes {axes:?} for shape {:?}", self.shape())));
        }
        let own = strides(self.shape());
        let kernel = Permute {
            shape: axes.iter().map(|&a| self.shape()[a]).collect(),
            strides: axes.iter().map(|&a| own[a]).collect(),
        };
        let y = launch(&kernel, &[self])?.remove(0);
        Ok(y.taped("permute", &[self], move |b| Ok(vec![Some(b.grad.permute(&inverse)?)])))
    }

    /// Swaps the last two axes, copying. PyTorch: `mT.contiguous()`.
    pub fn transpose(&self) -> Result<Tensor> {
        let rank = self.shape().len();
        if rank < 2 {
            return Err(TensorError::shape("transpose", format!("shape {:?}", self.shape())));
        }
        let mut axes: Vec<usize> = (0..rank).collect();
        axes.swap(rank - 2, rank - 1);
        self.permute(&axes)
    }

    fn split_at_axis(&self, op: &'static str, axis: usize) -> Result<(usize, usize, usize)> {
        let s = self.shape();
        match s.get(axis) {
            Some(&d) => Ok((s[..axis].iter().product(), d, s[axis + 1..].iter().product())),
            None => Err(TensorError::shape(op, format!("axis {axis} of shape {s:?}"))),
        }
    }

    /// Positions `start .. start + take` of an axis, copied. PyTorch: `narrow(axis, start, take)`.
    ///
    /// ```
    /// # use swinstyle_tensor::{Device::Cpu, Tensor};
    /// let x = Tensor::from_slice(&[1.0_f32, 2.0, 3.0, 4.0], &[2, 2], Cpu)?;
    /// assert_eq!(x.slice(1, 1, 1)?.to_vec()?, [2.0, 4.0]);
    /// # Ok::<(), swinstyle_tensor::TensorError>(())
    /// ```
    pub fn slice(&self, axis: usize, start: usize, take: usize) -> Result<Tensor> {
        let (outer, length, inner) = self.split_at_axis("slice", axis)?;
        if start.checked_add(take).is_none_or(|end| end > length) {
            let detail = format!("{take} positions from {start} on axis {axis} of shape {:?}", self.shape());
            return Err(TensorError::shape("slice", detail));
        }
        if take == length {
            return Ok(self.clone());
        }
        let mut shape = self.shape().to_vec();
        shape[axis] = take;
        let y = launch(&Slice { outer, length, inner, start, take }, &[self])?.remove(0).with_shape(shape);
        Ok(y.taped("slice", &[self], move |b| Ok(vec![Some(b.grad.pad(axis, start, length - start - take)?)])))
    }

    /// Zeros before and after an axis. PyTorch: `F.pad` on one axis.
    ///
    /// ```
    /// # use swinstyle_tensor::{Device::Cpu, Tensor};
    /// let x = Tensor::from_slice(&[1.0_f32, 2.0], &[2], Cpu)?;
    /// assert_eq!(x.pad(0, 1, 2)?.to_vec()?, [0.0, 1.0, 2.0, 0.0, 0.0]);
    /// # Ok::<(), swinstyle_tensor::TensorError>(())
    /// ```
    pub fn pad(&self, axis: usize, before: usize, after: usize) -> Result<Tensor> {
        let (outer, length, inner) = self.split_at_axis("pad", axis)?;
        if before == 0 && after == 0 {
            return Ok(self.clone());
        }
        let mut shape = self.shape().to_vec();
        let Some(padded) = before.checked_add(length).and_then(|l| l.checked_add(after)) else {
            let detail = format!("{before} and {after} zeros around {:?} are too large", self.shape());
            return Err(TensorError::shape("pad", detail));
        };
        shape[axis] = padded;
        let y = launch(&Pad { outer, length, inner, before, after }, &[self])?.remove(0).with_shape(shape);
        Ok(y.taped("pad", &[self], move |b| Ok(vec![Some(b.grad.slice(axis, before, length)?)])))
    }

    /// Joins tensors along an axis. PyTorch: `torch.cat`.
    ///
    /// ```
    /// # use swinstyle_tensor::{Device::Cpu, Tensor};
    /// let x = Tensor::from_slice(&[1.0_f32, 2.0, 3.0, 4.0], &[2, 2], Cpu)?;
    /// assert_eq!(Tensor::concat(&[&x, &x], 1)?.to_vec()?, [1.0, 2.0, 1.0, 2.0, 3.0, 4.0, 3.0, 4.0]);
    /// # Ok::<(), swinstyle_tensor::TensorError>(())
    /// ```
    pub fn concat(tensors: &[&Tensor], axis: usize) -> Result<Tensor> {
        let Some(first) = tensors.first() else {
            return Err(TensorError::shape("concat", "no tensors"));
        };
        let (outer, _, inner) = first.split_at_axis("concat", axis)?;
        let mut shape = first.shape().to_vec();
        let mut lengths = Vec::with_capacity(tensors.len());
        for t in tensors {
            let mut s = t.shape().to_vec();
            if s.len() == shape.len() {
                lengths.push(s[axis]);
                s[axis] = shape[axis];
            }
            if s != shape {
                let detail = format!("{:?} and {:?} on axis {axis}", first.shape(), t.shape());
                return Err(TensorError::shape("concat", detail));
            }
        }
        shape[axis] = lengths.iter().sum();
        let kernel = Concat { outer, lengths: lengths.clone(), inner };
        let y = launch(&kernel, tensors)?.remove(0).with_shape(shape);
        Ok(y.taped("concat", tensors, move |b| {
            let mut at = 0;
            lengths
                .iter()
                .zip(b.needs)
                .map(|(&l, &need)| {
                    at += l;
                    need.then(|| b.grad.slice(axis, at - l, l)).transpose()
                })
                .collect()
        }))
    }
}
