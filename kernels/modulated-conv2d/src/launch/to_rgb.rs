//! The layer to RGB as a kernel: its host twin and its launch.

use cubecl::prelude::*;
use swinstyle_kit::{Problem as _, glue};
use swinstyle_tensor::{CubeArg, DType, Kernel, Result, Scalar, cube::storage_type};
use swinstyle_upfirdn2d::Problem as Resampling;

use super::shared::{check_length, wrong_count};
use crate::{
    Problem,
    cube::to_rgb::{RgbLaunch, RgbTile, to_rgb},
    host,
};

const OP: &str = "to_rgb";

/// Units of a cube: with eight pixels each, their sums take at most 16 KiB.
const UNITS: usize = 128;
/// Pixels of a group of units, which share its loads of the weights.
const PIXELS: usize = 8;
/// Units of a group at most.
const LANES: usize = 32;

/// x, weight, style, bias, [skip, filter] to y, f32 for half types.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ToRgb {
    /// The convolution.
    pub(crate) problem: Problem,
    /// How the image of the level below is doubled.
    pub(crate) skip: Option<Resampling>,
}

impl Kernel for ToRgb {
    fn name(&self) -> &'static str {
        OP
    }

    fn output_shapes(&self) -> Vec<Vec<usize>> {
        vec![self.problem.output_shape().to_vec()]
    }

    /// x, weight and style have the type of the layer, and what is added to their product that of the image.
    fn input_dtype(&self, input: usize, first: DType) -> DType {
        if input < 3 { first } else { first.wide() }
    }

    fn output_dtype(&self, _output: usize, inputs: DType) -> DType {
        inputs.wide()
    }

    fn host<T: Scalar>(&self, inputs: &[&[T]], outputs: &mut [&mut [T]]) -> Result<()> {
        host::to_rgb(self, inputs, outputs[0])
    }

    fn cube<R: Runtime>(&self, client: &ComputeClient<R>, inputs: &[CubeArg], outputs: &[CubeArg]) -> Result<()> {
        let ([x, weight, style, bias, skip @ ..], [y]) = (inputs, outputs) else { return Err(wrong_count(OP)) };
        check_length(OP, x.len.max(y.len))?;
        let dtypes = [storage_type(OP, client, x.dtype)?, storage_type(OP, client, y.dtype)?];
        let p = &self.problem;
        let [height, pixels_x] = p.input;
        // Vectors of 128 bits.
        let widest = 16 / x.dtype.size();
        let width = if p.in_channels.is_multiple_of(widest) { widest } else { glue::vector_width(&[p.in_channels]) };
        let vectors = p.in_channels / width;
        let lanes = vectors.next_power_of_two().min(LANES);
        let separable = self.skip.is_some_and(|s| s.separable);
        let [(taps_y, pad_y), (taps_x, pad_x)] =
            self.skip.map_or([(0, 0); 2], |s| s.axes.map(|a| (a.taps as i32, a.pad[0] as i32)));
        let tile = RgbTile { pixels: PIXELS, channels: p.out_channels, units: UNITS, separable };
        let blocks = (height * pixels_x).div_ceil(PIXELS);
        let (skip, filter) = match skip {
            [skip, filter] => (skip, filter),
            // Any buffer stands for an absent one, which is not read.
            _ => (bias, bias),
        };
        let groups = p.batch * blocks;
        // SAFETY: groups beyond the images, pixels beyond an image and vectors beyond the channels are skipped; taps read the skip image inside it.
        unsafe {
            to_rgb::launch_unchecked::<R>(
                client,
                glue::grid(groups.div_ceil(UNITS / lanes)),
                CubeDim::new_1d(UNITS as u32),
                width,
                x.array(),
                weight.array(),
                style.array(),
                bias.array(),
                skip.array(),
                filter.array(),
                y.array(),
                RgbLaunch::new(
                    (height * pixels_x) as u32,
                    pixels_x as u32,
                    blocks as u32,
                    groups as u32,
                    vectors as u32,
                    lanes as u32,
                    (height / 2) as i32,
                    (pixels_x / 2) as i32,
                    taps_y,
                    taps_x,
                    pad_y,
                    pad_x,
                    self.skip.map_or(0.0, |s| s.gain as f32),
                ),
                tile,
                dtypes,
            );
        }
        Ok(())
    }

    fn flops(&self) -> u64 {
        let bias = self.problem.output_shape().iter().product::<usize>();
        self.problem.flops() + self.skip.map_or(0, |s| s.flops()) + bias as u64
    }
}
