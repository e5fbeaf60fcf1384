//! Affine warps of images with bilinear interpolation, and their adjoint.

use std::sync::Arc;

use cubecl::prelude::{ComputeClient, Runtime};
use rayon::prelude::*;

use crate::{
    Result, Scalar, Tensor, TensorError,
    cube::{self, CubeArg},
    kernel::{Kernel, launch},
};

/// Room for rounding where the outputs that read an input pixel are bounded; they are then tested one by one.
pub(crate) const MARGIN: f64 = 0.01;

/// Where the pixels of an output lie in its input: `(x, y) ↦ (m₀x + m₁y + m₂, m₃x + m₄y + m₅)` in pixels, a pixel's centre at
/// its index.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Affine(pub [f64; 6]);

impl Affine {
    /// The input position of an output position.
    #[inline(always)]
    pub fn apply(&self, x: f64, y: f64) -> (f64, f64) {
        let m = &self.0;
        (m[0] * x + m[1] * y + m[2], m[3] * x + m[4] * y + m[5])
    }

    /// The map from the input to the output; `None` where there is none.
    pub fn inverse(&self) -> Option<Self> {
        let [a, b, c, d, e, f] = self.0;
        let det = a * e - b * d;
        let m = [e, -b, b * f - c * e, -d, a, c * d - a * f].map(|v| v / det);
        m.iter().all(|v| v.is_finite()).then_some(Self(m))
    }
}

/// Bilinear reading of `[N, H, W, C]` at affine positions, zeros outside; or, with `adjoint`, the transposed map.
#[derive(Debug, Clone, PartialEq)]
pub struct Warp {
    /// Channels.
    pub channels: usize,
    /// Rows and columns of the images that are read (the adjoint's output).
    pub input: [usize; 2],
    /// Rows and columns of the images that are made (the adjoint's input).
    pub output: [usize; 2],
    /// For each image its map from the output to the input, and the inverse.
    pub maps: Arc<[(Affine, Affine)]>,
    /// Whether this is the transposed map.
    pub adjoint: bool,
}

impl Warp {
    fn image(&self, made: bool) -> usize {
        let [h, w] = if made { self.output } else { self.input };
        h * w * self.channels
    }
}

/// The two pixels between which `at` lies, with their shares; a pixel outside `0..count` has none.
#[inline(always)]
fn neighbours(at: f64, count: usize) -> [(usize, f64); 2] {
    let low = at.floor();
    let part = at - low;
    let share = |i: f64, share: f64| if i >= 0.0 && i < count as f64 { (i as usize, share) } else { (0, 0.0) };
    [share(low, 1.0 - part), share(low + 1.0, part)]
}

/// The pixels of `0..count` within `reach` of `at`.
#[inline(always)]
fn within(at: f64, reach: f64, count: usize) -> std::ops::Range<usize> {
    let end = count as f64;
    let [from, to] = [(at - reach).ceil(), (at + reach).floor() + 1.0].map(|v| v.clamp(0.0, end) as usize);
    from..to
}

impl Kernel for Warp {
    fn name(&self) -> &'static str {
        if self.adjoint { "warp_adjoint" } else { "warp" }
    }

    fn output_shapes(&self) -> Vec<Vec<usize>> {
        let [h, w] = if self.adjoint { self.input } else { self.output };
        vec![vec![self.maps.len(), h, w, self.channels]]
    }

    fn host<T: Scalar>(&self, inputs: &[&[T]], outputs: &mut [&mut [T]]) -> Result<()> {
        if outputs[0].is_empty() {
            return Ok(());
        }
        let (c, [h, w], [oh, ow]) = (self.channels, self.input, self.output);
        let (rows, columns) = if self.adjoint { (h, w) } else { (oh, ow) };
        outputs[0].par_chunks_mut(columns * c).enumerate().for_each(|(line, out)| {
            let (n, row) = (line / rows, line % rows);
            let (map, inverse) = &self.maps[n];
            let x = &inputs[0][n * self.image(self.adjoint)..][..self.image(self.adjoint)];
            out.fill(T::ZERO);
            for (column, cell) in out.chunks_exact_mut(c).enumerate() {
                let mut add = |y: usize, at: usize, width: usize, share: f64| {
                    let from = &x[(y * width + at) * c..][..c];
                    let share = T::from_f64(share);
                    for (o, &v) in cell.iter_mut().zip(from) {
                        *o = v.mul_add(share, *o);
                    }
                };
                if !self.adjoint {
                    let (sx, sy) = map.apply(column as f64, row as f64);
                    for (y, wy) in neighbours(sy, h) {
                        for (at, wx) in neighbours(sx, w) {
                            if wx * wy != 0.0 {
                                add(y, at, w, wx * wy);
                            }
                        }
                    }
                    continue;
                }
                // What reads this pixel lies in the preimage of the square of 1 around it, a parallelogram.
                let (ox, oy) = inverse.apply(column as f64, row as f64);
                let i = &inverse.0;
                let reach = [i[0].abs() + i[1].abs() + MARGIN, i[3].abs() + i[4].abs() + MARGIN];
                for y in within(oy, reach[1], oh) {
                    for at in within(ox, reach[0], ow) {
                        let (sx, sy) = map.apply(at as f64, y as f64);
                        let [wx, wy] = [1.0 - (sx - column as f64).abs(), 1.0 - (sy - row as f64).abs()];
                        if wx > 0.0 && wy > 0.0 {
                            add(y, at, ow, wx * wy);
                        }
                    }
                }
            }
        });
        Ok(())
    }

    fn cube<R: Runtime>(&self, client: &ComputeClient<R>, inputs: &[CubeArg], outputs: &[CubeArg]) -> Result<()> {
        cube::warp::warp(client, self, &inputs[0], &outputs[0])
    }

    fn flops(&self) -> u64 {
        8 * (self.maps.len() * self.image(true)) as u64
    }
}

impl Tensor {
    /// Reads each image at the positions that its map gives, bilinearly and with zeros outside: `[N, H, W, C]` → `[N, height, width, C]`.
    ///
    /// Linear: its gradient is the transposed map, which gathers too, and whose gradient is the warp again. PyTorch:
    /// `F.grid_sample(mode="bilinear", padding_mode="zeros")` with a grid of positions in pixels.
    /// Errors: another rank, another number of maps than images, an empty image, a map without inverse.
    pub fn warp(&self, maps: &[Affine], height: usize, width: usize) -> Result<Tensor> {
        let wrong = |detail: String| Err(TensorError::shape("warp", detail));
        let &[n, h, w, channels] = self.shape() else {
            return wrong(format!("{:?}: [N, H, W, C] expected", self.shape()));
        };
        if maps.len() != n || [h, w, height, width].contains(&0) {
            return wrong(format!("{} maps from {:?} to {height}×{width}", maps.len(), self.shape()));
        }
        let pairs: Option<Vec<_>> = maps.iter().map(|m| Some((*m, m.inverse()?))).collect();
        let Some(pairs) = pairs else {
            return wrong(format!("a map without inverse among {maps:?}"));
        };
        warp_taped(self, Warp { channels, input: [h, w], output: [height, width], maps: pairs.into(), adjoint: false })
    }
}

fn warp_taped(x: &Tensor, warp: Warp) -> Result<Tensor> {
    let y = launch(&warp, &[x])?.remove(0);
    Ok(y.taped(warp.name(), &[x], move |b| {
        let transposed = Warp { adjoint: !warp.adjoint, ..warp.clone() };
        Ok(vec![Some(warp_taped(b.grad, transposed)?)])
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Device, grad, rng::Philox};

    fn normal(shape: &[usize], stream: u64) -> Tensor {
        Philox::new(11, stream).normal(shape, Device::Cpu).unwrap().to_dtype(DType::F64).unwrap()
    }

    fn dot(a: &Tensor, b: &Tensor) -> f64 {
        a.mul(b).unwrap().sum_all().unwrap().item().unwrap()
    }

    /// Rotations, shears, shrinking, magnifying, mirrors and what lies partly outside.
    fn maps() -> Vec<Affine> {
        vec![
            Affine([0.6, -0.8, 3.1, 0.8, 0.6, -1.7]),
            Affine([2.3, 0.4, -2.0, -0.3, 1.9, 0.5]),
            Affine([0.21, 0.05, 1.0, -0.02, 0.34, 2.5]),
            Affine([-1.0, 0.0, 6.0, 0.0, 1.0, 0.0]),
        ]
    }

    #[test]
    fn the_gradient_is_the_transposed_map_and_its_gradient_the_warp() {
        let maps = maps();
        let (x, y) = (normal(&[4, 5, 7, 3], 0).as_leaf(), normal(&[4, 6, 4, 3], 1).as_leaf());
        let warped = x.warp(&maps, 6, 4).unwrap();
        let back = grad(&[(&warped, Some(&y))], &[&x], true).unwrap().remove(0).unwrap();
        assert!(dot(&back, &back) > 1.0);
        assert!((dot(&warped, &y) - dot(&x, &back)).abs() < 1e-12);
        let v = normal(&[4, 5, 7, 3], 2);
        let again = grad(&[(&back, Some(&v))], &[&y], false).unwrap().remove(0).unwrap();
        let expected = v.warp(&maps, 6, 4).unwrap();
        assert_eq!(again.to_vec_f64().unwrap(), expected.to_vec_f64().unwrap());
    }

    #[test]
    fn the_identity_a_shift_and_a_mirror_move_pixels_exactly() {
        let x = normal(&[1, 4, 6, 2], 3);
        let warp = |m: [f64; 6]| x.warp(&[Affine(m)], 4, 6).unwrap().to_vec_f64().unwrap();
        let pixel = |y: usize, at: usize| &x.host::<f64>().unwrap()[(y * 6 + at) * 2..][..2];
        assert_eq!(warp([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]), x.to_vec_f64().unwrap());
        let shifted = warp([1.0, 0.0, 2.0, 0.0, 1.0, -1.0]);
        let mirrored = warp([-1.0, 0.0, 5.0, 0.0, 1.0, 0.0]);
        for (y, at) in (0..4).flat_map(|y| (0..6).map(move |at| (y, at))) {
            let got = &shifted[(y * 6 + at) * 2..][..2];
            assert_eq!(got, if y > 0 && at + 2 < 6 { pixel(y - 1, at + 2) } else { &[0.0; 2] });
            assert_eq!(&mirrored[(y * 6 + at) * 2..][..2], pixel(y, 5 - at));
        }
    }

    #[test]
    fn what_makes_no_warp_is_an_error() {
        let x = normal(&[2, 3, 3, 1], 4);
        let unit = Affine([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
        assert!(x.warp(&[unit], 3, 3).is_err());
        assert!(x.warp(&[unit, Affine([1.0, 2.0, 0.0, 2.0, 4.0, 0.0])], 3, 3).is_err());
        assert!(x.warp(&[unit, Affine([f64::NAN; 6])], 3, 3).is_err());
        assert!(x.warp(&[unit, unit], 0, 3).is_err());
        assert!(x.reshape(&[18]).unwrap().warp(&[], 3, 3).is_err());
    }
}
