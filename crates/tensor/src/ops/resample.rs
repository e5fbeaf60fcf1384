//! Separable resampling of images: bilinear and area, and their adjoints, as one operation.

use std::sync::Arc;

use cubecl::prelude::{ComputeClient, Runtime};
use rayon::prelude::*;

use crate::{
    Result, Scalar, Tensor, TensorError,
    cube::{self, CubeArg},
    kernel::{Kernel, launch},
    simd,
};

/// Longest side of a resampled image: the taps of a row and of a column are listed, and stay small next to the image.
const MAX_SIDE: usize = 1 << 20;
/// Elements of a pixel from which it is worth a task of its own.
const LONG_PIXEL: usize = 256;

/// A sparse matrix `[outputs, inputs]` in row form: which inputs an output position reads, with what weight.
#[derive(Debug, Clone, PartialEq)]
pub struct Taps {
    /// Input positions.
    pub inputs: usize,
    /// Row `i` owns entries `starts[i] .. starts[i + 1]`.
    pub starts: Vec<u32>,
    /// Input position of each entry.
    pub index: Vec<u32>,
    /// Weight of each entry.
    pub weight: Vec<f64>,
}

impl Taps {
    fn from_rows(inputs: usize, rows: Vec<Vec<(usize, f64)>>) -> Self {
        let mut taps = Self { inputs, starts: vec![0], index: Vec::new(), weight: Vec::new() };
        for row in rows {
            for (i, w) in row {
                taps.index.push(i as u32);
                taps.weight.push(w);
            }
            taps.starts.push(taps.index.len() as u32);
        }
        taps
    }

    /// Output positions.
    pub fn outputs(&self) -> usize {
        self.starts.len() - 1
    }

    /// Bilinear interpolation. PyTorch: `F.interpolate(mode="bilinear", align_corners=…, antialias=False)`.
    ///
    /// Source position `i·(n−1)/(m−1)` with aligned corners, else `max((i + ½)·n/m − ½, 0)`.
    pub fn bilinear(inputs: usize, outputs: usize, align_corners: bool) -> Self {
        let rows = (0..outputs).map(|i| {
            let at = match align_corners {
                true if outputs > 1 => i as f64 * (inputs - 1) as f64 / (outputs - 1) as f64,
                true => 0.0,
                false => ((i as f64 + 0.5) * inputs as f64 / outputs as f64 - 0.5).max(0.0),
            };
            let low = (at as usize).min(inputs - 1);
            let part = at - low as f64;
            match low + 1 < inputs && part > 0.0 {
                true => vec![(low, 1.0 - part), (low + 1, part)],
                false => vec![(low, 1.0)],
            }
        });
        Self::from_rows(inputs, rows.collect())
    }

    /// Mean over the cells that an output covers. PyTorch: `F.adaptive_avg_pool2d`.
    pub fn area(inputs: usize, outputs: usize) -> Self {
        let rows = (0..outputs).map(|i| {
            let (from, to) = (i * inputs / outputs, ((i + 1) * inputs).div_ceil(outputs));
            (from..to).map(|j| (j, 1.0 / (to - from) as f64)).collect()
        });
        Self::from_rows(inputs, rows.collect())
    }

    /// Output `i` is input `positions[i]`.
    fn positions(inputs: usize, positions: &[usize]) -> Self {
        Self::from_rows(inputs, positions.iter().map(|&p| vec![(p, 1.0)]).collect())
    }

    /// The adjoint: the transposed matrix, again in row form, so that it gathers too.
    pub fn transposed(&self) -> Self {
        let mut rows = vec![Vec::new(); self.inputs];
        for o in 0..self.outputs() {
            for e in self.starts[o] as usize..self.starts[o + 1] as usize {
                rows[self.index[e] as usize].push((o, self.weight[e]));
            }
        }
        Self::from_rows(self.outputs(), rows)
    }
}

/// `Y = R_y X R_xᵀ` on every channel of `[N, H, W, C]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Resample {
    /// Images.
    pub batch: usize,
    /// Channels.
    pub channels: usize,
    /// Rows' matrix.
    pub y: Arc<Taps>,
    /// Columns' matrix.
    pub x: Arc<Taps>,
}

impl Kernel for Resample {
    fn name(&self) -> &'static str {
        "resample"
    }

    fn output_shapes(&self) -> Vec<Vec<usize>> {
        vec![vec![self.batch, self.y.outputs(), self.x.outputs(), self.channels]]
    }

    fn host<T: Scalar>(&self, inputs: &[&[T]], outputs: &mut [&mut [T]]) -> Result<()> {
        let (c, w) = (self.channels, self.x.inputs);
        let (oh, ow) = (self.y.outputs(), self.x.outputs());
        let x = inputs[0];
        if outputs[0].is_empty() {
            return Ok(());
        }
        outputs[0].par_chunks_mut(ow * c).enumerate().for_each(|(row, out)| {
            let (n, oy) = (row / oh, row % oh);
            let image = &x[n * self.y.inputs * w * c..][..self.y.inputs * w * c];
            simd::dispatch(
                #[inline(always)]
                || {
                    out.fill(T::ZERO);
                    for ey in self.y.starts[oy] as usize..self.y.starts[oy + 1] as usize {
                        let line = &image[self.y.index[ey] as usize * w * c..][..w * c];
                        for (ox, cell) in out.chunks_exact_mut(c).enumerate() {
                            for ex in self.x.starts[ox] as usize..self.x.starts[ox + 1] as usize {
                                let k = T::from_f64(self.y.weight[ey] * self.x.weight[ex]);
                                let from = &line[self.x.index[ex] as usize * c..][..c];
                                for (o, &v) in cell.iter_mut().zip(from) {
                                    *o = v.mul_add(k, *o);
                                }
                            }
                        }
                    }
                },
            );
        });
        Ok(())
    }

    fn cube<R: Runtime>(&self, client: &ComputeClient<R>, inputs: &[CubeArg], outputs: &[CubeArg]) -> Result<()> {
        cube::resample::resample(client, self, &inputs[0], &outputs[0])
    }

    fn flops(&self) -> u64 {
        2 * (self.batch * self.channels * self.y.index.len() * self.x.index.len()) as u64
    }
}

impl Tensor {
    fn resample(&self, y: Arc<Taps>, x: Arc<Taps>) -> Result<Tensor> {
        let kernel = Resample { batch: self.shape()[0], channels: self.shape()[3], y: y.clone(), x: x.clone() };
        let out = launch(&kernel, &[self])?.remove(0);
        Ok(out.taped("resample", &[self], move |b| {
            Ok(vec![Some(b.grad.resample(Arc::new(y.transposed()), Arc::new(x.transposed()))?)])
        }))
    }

    fn image_size(&self, op: &'static str, height: usize, width: usize) -> Result<(usize, usize)> {
        if height.max(width) > MAX_SIDE {
            return Err(TensorError::shape(op, format!("{height}×{width} is too large: a side is at most {MAX_SIDE}")));
        }
        match *self.shape() {
            [_, h, w, _] if h > 0 && w > 0 && height > 0 && width > 0 => Ok((h, w)),
            _ => Err(TensorError::shape(op, format!("{:?} (NHWC expected) to {height}×{width}", self.shape()))),
        }
    }

    /// Bilinear resize of `[N, H, W, C]`. PyTorch: `F.interpolate(mode="bilinear", align_corners=…)`.
    ///
    /// ```
    /// # use swinstyle_tensor::{Device::Cpu, Tensor};
    /// let x = Tensor::from_slice(&[0.0_f32, 1.0], &[1, 1, 2, 1], Cpu)?;
    /// assert_eq!(x.resize_bilinear(1, 4, false)?.to_vec()?, [0.0, 0.25, 0.75, 1.0]);
    /// # Ok::<(), swinstyle_tensor::TensorError>(())
    /// ```
    pub fn resize_bilinear(&self, height: usize, width: usize, align_corners: bool) -> Result<Tensor> {
        let (h, w) = self.image_size("resize_bilinear", height, width)?;
        self.resample(
            Arc::new(Taps::bilinear(h, height, align_corners)),
            Arc::new(Taps::bilinear(w, width, align_corners)),
        )
    }

    /// Position `positions[i]` of an axis at position `i`, each as often as it is named. PyTorch: `index_select(axis, positions)`.
    ///
    /// Errors: no such axis, no positions, positions beyond the axis.
    ///
    /// ```
    /// # use swinstyle_tensor::{Device::Cpu, Tensor};
    /// let x = Tensor::from_slice(&[1.0_f32, 2.0, 3.0, 4.0], &[2, 2], Cpu)?;
    /// assert_eq!(x.index_select(0, &[1, 1, 0])?.to_vec()?, [3.0, 4.0, 3.0, 4.0, 1.0, 2.0]);
    /// # Ok::<(), swinstyle_tensor::TensorError>(())
    /// ```
    pub fn index_select(&self, axis: usize, positions: &[usize]) -> Result<Tensor> {
        let shape = self.shape();
        let length = shape.get(axis).copied().unwrap_or(0);
        if positions.is_empty() || positions.len() > MAX_SIDE || positions.iter().any(|&p| p >= length) {
            let detail = format!("positions {positions:?} on axis {axis} of shape {shape:?}");
            return Err(TensorError::shape("index_select", detail));
        }
        let mut chosen = shape.to_vec();
        chosen[axis] = positions.len();
        let [outer, inner] = [&shape[..axis], &shape[axis + 1..]].map(|s| s.iter().product());
        let [taps, one] = [Taps::positions(length, positions), Taps::positions(1, &[0])].map(Arc::new);
        // A row is one task: short pixels are taken along rows, long ones a row each.
        let y = match inner < LONG_PIXEL {
            true => self.reshape(&[outer, 1, length, inner])?.resample(one, taps)?,
            false => self.reshape(&[outer, length, 1, inner])?.resample(taps, one)?,
        };
        y.reshape(&chosen)
    }

    /// Area pooling of `[N, H, W, C]` to `height × width`. PyTorch: `F.adaptive_avg_pool2d`.
    ///
    /// ```
    /// # use swinstyle_tensor::{Device::Cpu, Tensor};
    /// let x = Tensor::from_slice(&[1.0_f32, 2.0, 3.0, 4.0], &[1, 2, 2, 1], Cpu)?;
    /// assert_eq!(x.pool_area(1, 1)?.to_vec()?, [2.5]);
    /// # Ok::<(), swinstyle_tensor::TensorError>(())
    /// ```
    pub fn pool_area(&self, height: usize, width: usize) -> Result<Tensor> {
        let (h, w) = self.image_size("pool_area", height, width)?;
        if (h, w) == (height, width) {
            return Ok(self.clone());
        }
        self.resample(Arc::new(Taps::area(h, height)), Arc::new(Taps::area(w, width)))
    }
}
