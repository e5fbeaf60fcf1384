//! The operations as kernels: from a problem to its host twin or its CubeCL launch.

use cubecl::prelude::*;
use swinstyle_kit::{
    Blueprint as _, Problem as _, glue,
    tuning::{Place, choose},
};
use swinstyle_tensor::{
    CubeArg, DType, Kernel, Result, Scalar, TensorError,
    cube::{scratch, storage_type},
};

use crate::{
    cube::{
        self, GeometryLaunch,
        slide::{self, StripsLaunch},
    },
    host,
    problem::Problem,
    tune::{Blueprint, GatherTile, SlideTile},
};

/// Image `[N, H, W, C]` and filter `[fh, fw]`, or its column `[fh]` and row `[fw]`, to image `[N, OH, OW, C]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Forward(pub(crate) Problem);

impl Kernel for Forward {
    fn name(&self) -> &'static str {
        "upfirdn2d"
    }

    fn output_shapes(&self) -> Vec<Vec<usize>> {
        vec![self.0.output_shape().to_vec()]
    }

    fn host<T: Scalar>(&self, inputs: &[&[T]], outputs: &mut [&mut [T]]) -> Result<()> {
        host::forward(&self.0, inputs[0], &inputs[1..], outputs[0]);
        Ok(())
    }

    fn cube<R: Runtime>(&self, client: &ComputeClient<R>, inputs: &[CubeArg], outputs: &[CubeArg]) -> Result<()> {
        let default = Blueprint::default_for(&self.0);
        let blueprint = choose(Place::Cube, "upfirdn2d", &self.0, &glue::limits(client), default);
        forward(client, &self.0, &blueprint, inputs, outputs)
    }

    fn flops(&self) -> u64 {
        self.0.flops()
    }
}

/// Image `[N, H, W, C]` and output gradient `[N, OH, OW, C]` to filter gradient `[fh, fw]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct FilterGradient(pub(crate) Problem);

impl Kernel for FilterGradient {
    fn name(&self) -> &'static str {
        "upfirdn2d_filter_grad"
    }

    fn output_shapes(&self) -> Vec<Vec<usize>> {
        vec![self.0.filter_shape().to_vec()]
    }

    fn host<T: Scalar>(&self, inputs: &[&[T]], outputs: &mut [&mut [T]]) -> Result<()> {
        host::filter_gradient(&self.0, inputs[0], inputs[1], outputs[0]);
        Ok(())
    }

    fn cube<R: Runtime>(&self, client: &ComputeClient<R>, inputs: &[CubeArg], outputs: &[CubeArg]) -> Result<()> {
        filter_gradient(client, &self.0, inputs, outputs)
    }

    fn flops(&self) -> u64 {
        self.0.flops()
    }
}

/// Geometry with channels in vectors of `width`.
fn geometry<R: Runtime>(p: &Problem, width: usize) -> GeometryLaunch<R> {
    let [y, x] = p.axes;
    // `Problem` keeps every extent, pad and factor below 2^29.
    GeometryLaunch::new(
        y.inputs as i32,
        x.inputs as i32,
        (p.channels / width) as u32,
        y.outputs() as u32,
        x.outputs() as u32,
        y.taps as i32,
        x.taps as i32,
        y.up as i32,
        x.up as i32,
        y.down as i32,
        x.down as i32,
        y.pad[0] as i32,
        x.pad[0] as i32,
        u32::from(p.flip),
        p.gain as f32,
    )
}

/// Element indices on devices are 32-bit.
fn check_length(op: &'static str, buffers: &[&CubeArg]) -> Result<()> {
    match buffers.iter().find(|b| b.len > i32::MAX as usize) {
        Some(b) => Err(TensorError::shape(op, format!("{} elements exceed the 2^31 of one device buffer", b.len))),
        None => Ok(()),
    }
}

/// y from `[x, filter]` or `[x, column, row]` with the given blueprint.
pub(crate) fn forward<R: Runtime>(
    client: &ComputeClient<R>,
    p: &Problem,
    blueprint: &Blueprint,
    inputs: &[CubeArg],
    outputs: &[CubeArg],
) -> Result<()> {
    let (x, filter, row, y) = match (inputs, outputs) {
        // A filter that is whole has no row; the kernel does not read it then.
        ([x, filter], [y]) if !p.separable => (x, filter, filter, y),
        ([x, column, row], [y]) if p.separable => (x, column, row, y),
        _ => {
            return Err(TensorError::shape(
                "upfirdn2d",
                "an image, a filter or its two factors, and one output expected",
            ));
        }
    };
    check_length("upfirdn2d", &[x, y])?;
    match blueprint {
        Blueprint::Gather(tile) => gather(client, p, tile, x, [filter, row], y),
        Blueprint::Slide(tile) => slide(client, p, tile, x, [filter, row], y),
    }
}

fn gather<R: Runtime>(
    client: &ComputeClient<R>,
    p: &Problem,
    tile: &GatherTile,
    x: &CubeArg,
    [filter, row]: [&CubeArg; 2],
    y: &CubeArg,
) -> Result<()> {
    let GatherTile { vector_width: width, units } = *tile;
    let dtype = storage_type("upfirdn2d", client, y.dtype)?;
    let cubes = (y.len / width).div_ceil(units as usize);
    // SAFETY: the kernel returns beyond `y`, reads x only at rows and columns that it has checked, and the filter or its factors below
    // their lengths.
    unsafe {
        cube::gather::launch_unchecked::<R>(
            client,
            glue::grid(cubes),
            CubeDim::new_1d(units),
            width,
            x.array(),
            filter.array(),
            row.array(),
            y.array(),
            geometry(p, width),
            p.separable,
            dtype,
        );
    }
    Ok(())
}

fn slide<R: Runtime>(
    client: &ComputeClient<R>,
    p: &Problem,
    tile: &SlideTile,
    x: &CubeArg,
    [column, row]: [&CubeArg; 2],
    y: &CubeArg,
) -> Result<()> {
    let hardware = &client.properties().hardware;
    let Some(plan) = tile.plan(p, y.dtype.size(), hardware.max_vector_size) else {
        return Err(TensorError::shape("upfirdn2d", format!("{tile:?} is not legal for {p:?}")));
    };
    let dtype = storage_type("upfirdn2d", client, y.dtype)?;
    let [ay, ax] = p.axes;
    let [oy, ox] = plan.origins;
    let channels = p.channels / plan.vector_width;
    let [down, across] = plan.strips;
    let units = p.batch * down * across * channels;
    let strips = StripsLaunch::new(
        p.batch as u32,
        ay.inputs as i32,
        ax.inputs as i32,
        channels as u32,
        line(channels) as u32,
        ay.outputs() as i32,
        ax.outputs() as i32,
        across as u32,
        down as u32,
        plan.periods as i32,
        oy.first as i32,
        ox.first as i32,
        oy.shift as i32,
        ox.shift as i32,
        oy.tap as i32,
        ox.tap as i32,
        oy.tap_step as i32,
        ox.tap_step as i32,
        p.gain as f32,
    );
    // SAFETY: units beyond the last image return; strips that do not lie inside of x and y test each row and column; `Pattern` keeps the
    // taps inside of the factors.
    unsafe {
        slide::slide::launch_unchecked::<R>(
            client,
            glue::grid(units.div_ceil(tile.units as usize)),
            CubeDim::new_1d(tile.units),
            plan.vector_width,
            x.array(),
            column.array(),
            row.array(),
            y.array(),
            strips,
            plan.shape,
            dtype,
        );
    }
    Ok(())
}

/// Neighbouring vectors of channels that a cube of strips takes: about a cache line, so that it holds many strips side by side and reads
/// few columns that belong to others.
fn line(channels: usize) -> usize {
    (4..=8).rev().find(|&l| channels.is_multiple_of(l)).unwrap_or(channels)
}

/// Gradient elements that one cube of the first stage sums at the least.
const SPAN: usize = 4096;
/// Cubes a tap at most: enough to fill a device, few enough for the second stage to be short.
const MAX_BLOCKS: usize = 256;
/// Units of a cube of the first stage.
const UNITS: usize = 256;

/// Filter gradient from `[x, gradient]`.
pub(crate) fn filter_gradient<R: Runtime>(
    client: &ComputeClient<R>,
    p: &Problem,
    inputs: &[CubeArg],
    outputs: &[CubeArg],
) -> Result<()> {
    let ([x, gradient], [out]) = (inputs, outputs) else {
        return Err(TensorError::shape("upfirdn2d_filter_grad", "two inputs and one output expected"));
    };
    check_length("upfirdn2d_filter_grad", &[x, gradient])?;
    let dtype = storage_type("upfirdn2d_filter_grad", client, out.dtype)?;
    let span = gradient.len.div_ceil(MAX_BLOCKS).max(SPAN);
    let blocks = gradient.len.div_ceil(span);
    let len = blocks * out.len;
    // Partial sums stay in f32 whatever the storage.
    let partial = scratch(client, len, DType::F32);
    // SAFETY: the first stage checks cube, element, row and column against the buffers; the second its tap.
    unsafe {
        cube::filter_gradient_blocks::launch_unchecked::<R>(
            client,
            glue::grid(len),
            CubeDim::new_1d(UNITS as u32),
            x.array(),
            gradient.array(),
            partial.array(),
            geometry(p, 1),
            span as u32,
            UNITS,
            dtype,
        );
        cube::filter_gradient_sum::launch_unchecked::<R>(
            client,
            glue::grid(out.len.div_ceil(UNITS)),
            CubeDim::new_1d(UNITS as u32),
            partial.array(),
            out.array(),
            blocks as u32,
            u32::from(p.flip),
            p.gain as f32,
            dtype,
        );
    }
    Ok(())
}
