//! Maximum pooling of images, in a form that is closed under differentiation.

use cubecl::prelude::{ComputeClient, Runtime};
use rayon::prelude::*;

use crate::{
    Result, Scalar, Tensor, TensorError,
    cube::{self, CubeArg},
    kernel::{Kernel, launch},
};

/// Windows of `size × size` pixels, `stride` apart, over `[N, H, W, C]`; all lie inside the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// Images.
    pub batch: usize,
    /// Rows of the image.
    pub height: usize,
    /// Columns of the image.
    pub width: usize,
    /// Channels.
    pub channels: usize,
    /// Edge of a window.
    pub size: usize,
    /// Step from one window to the next.
    pub stride: usize,
}

impl Windows {
    /// Rows and columns of windows.
    pub fn outputs(&self) -> [usize; 2] {
        [self.height, self.width].map(|n| (n - self.size) / self.stride + 1)
    }

    /// Where in the image of `x` the maximum of a window lies: the first in row-major order, and a NaN before all.
    #[inline(always)]
    fn argmax<T: Scalar>(&self, x: &[T], row: usize, column: usize, channel: usize) -> usize {
        let at = |y: usize, x: usize| (y * self.width + x) * self.channels + channel;
        let mut best = at(row * self.stride, column * self.stride);
        for y in row * self.stride..row * self.stride + self.size {
            for c in column * self.stride..column * self.stride + self.size {
                let candidate = at(y, c);
                // NaN is unequal to itself; one that is found stays.
                let better = x[candidate] > x[best] || x[candidate].partial_cmp(&x[candidate]).is_none();
                if better && x[best].partial_cmp(&x[best]).is_some() {
                    best = candidate;
                }
            }
        }
        best
    }

    /// The windows of an axis of `count` that hold position `at`.
    #[inline(always)]
    fn holding(&self, at: usize, count: usize) -> std::ops::Range<usize> {
        let first = (at + 1).saturating_sub(self.size).div_ceil(self.stride);
        first..(at / self.stride + 1).min(count)
    }
}

/// Two maps between images and windows, adjoint to each other, that the maxima of an image x choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pool {
    /// Of (x, v), both `[N, H, W, C]`: v where x has the maximum of a window, `[N, OH, OW, C]`.
    Select(Windows),
    /// Of x `[N, H, W, C]` and g `[N, OH, OW, C]`: each g added where x has the maximum of its window, `[N, H, W, C]`.
    Spread(Windows),
}

impl Kernel for Pool {
    fn name(&self) -> &'static str {
        match self {
            Self::Select(_) => "max_pool2d",
            Self::Spread(_) => "max_pool2d_grad",
        }
    }

    fn output_shapes(&self) -> Vec<Vec<usize>> {
        let (Self::Select(w) | Self::Spread(w)) = self;
        let [rows, columns] = match self {
            Self::Select(w) => w.outputs(),
            Self::Spread(w) => [w.height, w.width],
        };
        vec![vec![w.batch, rows, columns, w.channels]]
    }

    fn host<T: Scalar>(&self, inputs: &[&[T]], outputs: &mut [&mut [T]]) -> Result<()> {
        let (Self::Select(w) | Self::Spread(w)) = *self;
        let (c, [rows, columns]) = (w.channels, w.outputs());
        let (image, pooled) = (w.height * w.width * c, rows * columns * c);
        if outputs[0].is_empty() {
            return Ok(());
        }
        match self {
            Self::Select(_) => outputs[0].par_chunks_mut(columns * c).enumerate().for_each(|(line, out)| {
                let (n, row) = (line / rows, line % rows);
                let [x, v] = [inputs[0], inputs[1]].map(|t| &t[n * image..][..image]);
                for (i, o) in out.iter_mut().enumerate() {
                    *o = v[w.argmax(x, row, i / c, i % c)];
                }
            }),
            Self::Spread(_) => outputs[0].par_chunks_mut(w.width * c).enumerate().for_each(|(line, out)| {
                let (n, y) = (line / w.height, line % w.height);
                let (x, g) = (&inputs[0][n * image..][..image], &inputs[1][n * pooled..][..pooled]);
                for (i, o) in out.iter_mut().enumerate() {
                    let (column, channel) = (i / c, i % c);
                    let mut total = T::ZERO;
                    for row in w.holding(y, rows) {
                        for q in w.holding(column, columns) {
                            if w.argmax(x, row, q, channel) == y * w.width * c + i {
                                total += g[(row * columns + q) * c + channel];
                            }
                        }
                    }
                    *o = total;
                }
            }),
        }
        Ok(())
    }

    fn cube<R: Runtime>(&self, client: &ComputeClient<R>, inputs: &[CubeArg], outputs: &[CubeArg]) -> Result<()> {
        cube::pool::pool(client, self, [&inputs[0], &inputs[1]], &outputs[0])
    }
}

impl Windows {
    fn select(self, x: &Tensor, values: &Tensor) -> Result<Tensor> {
        let x = x.detach();
        let y = launch(&Pool::Select(self), &[&x, values])?.remove(0);
        Ok(y.taped("max_pool2d", &[values], move |b| Ok(vec![Some(self.spread(&x, b.grad)?)])))
    }

    fn spread(self, x: &Tensor, grad: &Tensor) -> Result<Tensor> {
        let x = x.detach();
        let y = launch(&Pool::Spread(self), &[&x, grad])?.remove(0);
        Ok(y.taped("max_pool2d_grad", &[grad], move |b| Ok(vec![Some(self.select(&x, b.grad)?)])))
    }
}

impl Tensor {
    /// Maximum over windows of `size × size`, `stride` apart, without padding: `[N, H, W, C]` → `[N, ⌊(H − size)/stride⌋ + 1, .., C]`.
    ///
    /// The gradient goes to the first maximum of a window. Differentiable to any order. PyTorch: `F.max_pool2d(x, size, stride)`.
    /// Errors: another rank, a size or stride of 0, windows that are larger than the image.
    ///
    /// ```
    /// # use swinstyle_tensor::{Device::Cpu, Tensor};
    /// let x = Tensor::from_slice(&[1.0_f32, 2.0, 3.0, 4.0], &[1, 2, 2, 1], Cpu)?;
    /// assert_eq!(x.max_pool2d(2, 2)?.to_vec()?, [4.0]);
    /// # Ok::<(), swinstyle_tensor::TensorError>(())
    /// ```
    pub fn max_pool2d(&self, size: usize, stride: usize) -> Result<Tensor> {
        match *self.shape() {
            [batch, height, width, channels] if size > 0 && stride > 0 && height.min(width) >= size => {
                Windows { batch, height, width, channels, size, stride }.select(self, self)
            }
            _ => {
                let detail = format!("windows of {size} every {stride} pixels over {:?} (NHWC)", self.shape());
                Err(TensorError::shape("max_pool2d", detail))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Device, grad};

    #[test]
    fn the_first_maximum_of_each_window_gets_the_gradient() {
        // Windows of 3 every 2 share the middle column; the second row repeats the maximum of the first window.
        let x = [[1.0, 5.0, 2.0, 0.0, 2.0], [5.0, 3.0, 2.0, 1.0, 1.0], [0.0, 0.0, 2.0, 1.0, 1.0]].concat();
        let x = Tensor::from_vec::<f32>(x, &[1, 3, 5, 1], Device::Cpu).unwrap().as_leaf();
        let y = x.max_pool2d(3, 2).unwrap();
        assert_eq!((y.shape(), y.to_vec().unwrap()), (&[1, 1, 2, 1][..], vec![5.0, 2.0]));
        let g = grad(&[(&y, None)], &[&x], false).unwrap().remove(0).unwrap().to_vec().unwrap();
        let found: Vec<usize> = (0..15).filter(|&i| g[i] != 0.0).collect();
        assert_eq!((found, g[1], g[2]), (vec![1, 2], 1.0, 1.0));
    }

    #[test]
    fn a_nan_in_a_window_comes_out() {
        let x = Tensor::from_vec(vec![1.0, f32::NAN, 3.0, 9.0], &[1, 2, 2, 1], Device::Cpu).unwrap();
        assert!(x.max_pool2d(2, 2).unwrap().item().unwrap().is_nan());
    }

    #[test]
    fn gradients_sum_where_windows_overlap_and_the_adjoint_is_exact() {
        let x = crate::rng::Philox::new(1, 0).normal(&[2, 9, 8, 3], Device::Cpu).unwrap().as_leaf();
        let y = x.max_pool2d(3, 2).unwrap();
        let t = crate::rng::Philox::new(1, 1).normal(y.shape(), Device::Cpu).unwrap().as_leaf();
        let g = grad(&[(&y, Some(&t))], &[&x], true).unwrap().remove(0).unwrap();
        // Linear in t: its adjoint reads x's own values back, so ⟨g, x⟩ = ⟨t, max x⟩.
        let dot = |a: &Tensor, b: &Tensor| a.mul(b).unwrap().sum_all().unwrap().item().unwrap();
        assert!((dot(&g, &x) - dot(&t, &y)).abs() < 1e-4);
        let back = grad(&[(&g, Some(&x.detach()))], &[&t], false).unwrap().remove(0).unwrap();
        assert_eq!(back.to_vec().unwrap(), y.to_vec().unwrap());
    }

    #[test]
    fn windows_larger_than_the_image_are_an_error() {
        let x = Tensor::full(0.0, &[1, 2, 5, 1], crate::DType::F32, Device::Cpu).unwrap();
        for (size, stride) in [(3, 1), (0, 1), (2, 0)] {
            assert!(x.max_pool2d(size, stride).is_err());
        }
        assert!(x.reshape(&[10]).unwrap().max_pool2d(1, 1).is_err());
    }
}
