//! The layer to RGB as a kernel: its host twin and its launch.

use cubecl::prelude::*;
use swinstyle_kit::{Problem as _, glue};
use swinstyle_tensor::{CubeArg, DType, Kernel, Result, Scalar, cube::storage_type};

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

/// The image that is doubled and added.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Skip {
    /// Taps of the filter on y and x.
    pub(crate) taps: [usize; 2],
    /// The filter is the outer product of its taps with themselves.
    pub(crate) separable: bool,
    /// Zeros before the first sample of the zero-inserted image.
    pub(crate) pad: [isize; 2],
    /// Factor on the filter.
    pub(crate) gain: f64,
}

/// x, weight, style, bias, [skip, filter] to y, f32 for half types.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ToRgb {
    /// The convolution.
    pub(crate) problem: Problem,
    pub(crate) skip: Option<Skip>,
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
        let s = self.skip.unwrap_or(Skip { taps: [0; 2], separable: false, pad: [0; 2], gain: 0.0 });
        let tile = RgbTile { pixels: PIXELS, channels: p.out_channels, units: UNITS, separable: s.separable };
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
                    s.taps[0] as i32,
                    s.taps[1] as i32,
                    s.pad[0] as i32,
                    s.pad[1] as i32,
                    s.gain as f32,
                ),
                tile,
                dtypes,
            );
        }
        Ok(())
    }

    fn flops(&self) -> u64 {
        let taps = self.skip.map_or(0, |s| s.taps[0].div_ceil(2) * s.taps[1].div_ceil(2));
        let added = self.problem.output_shape().iter().product::<usize>() * (2 * taps + 1);
        self.problem.flops() + added as u64
    }
}
