//! Launches of the weight gradient: a launch a phase into partial sums, which are added in order.

use cubecl::prelude::*;
use swinstyle_kit::glue;
use swinstyle_tensor::{
    CubeArg, DType, Result,
    cube::{
        fragments::{MatrixTile, WIDTH},
        scratch, storage_type,
    },
};

use super::{
    WeightGradient,
    shared::{check_length, fill_zero, phase, phases, sum_parts, wrong_count},
};
use crate::{
    cube::{
        matrix,
        weight_gradient::{self, SIDE},
    },
    tune::{Blueprint, width},
};

/// Cubes that fill a large device several times; more splits of a weight gradient would only cost memory.
const ENOUGH_CUBES: usize = 512;
/// Positions of a split at the least.
const LEAST_SPAN: usize = 256;

/// dW from the inputs of a [`WeightGradient`], on matrix units where a tile for them is given.
pub(crate) fn weight_gradient<R: Runtime>(
    client: &ComputeClient<R>,
    kernel: &WeightGradient,
    tile: Option<MatrixTile>,
    inputs: &[CubeArg],
    dw: &CubeArg,
) -> Result<()> {
    const OP: &str = "conv2d_weight_grad";
    let p = &kernel.problem;
    let [x, grad, ..] = inputs else { return Err(wrong_count(OP)) };
    let (pre, post) = kernel.scales(&inputs.iter().collect::<Vec<_>>());
    check_length(OP, x.len.max(grad.len))?;
    let dtype = storage_type(OP, client, dw.dtype)?;
    let taps: usize = p.geometry.kernel.iter().product();
    let (in_width, out_width) = (width(p.in_channels), width(p.out_channels));
    let (rows, columns) = tile.map_or((SIDE * in_width, SIDE * out_width), |t| (t.tile_rows(), t.tile_columns()));
    let blocks = p.in_channels.div_ceil(rows) * p.out_channels.div_ceil(columns);
    let phases = phases(p);
    let most = phases.iter().map(|(y, x)| p.batch * y.count * x.count).max().unwrap_or(0);
    let fit = (i32::MAX as usize / dw.len.max(1)).max(1);
    let splits = ENOUGH_CUBES.div_ceil(blocks * taps).min(most.div_ceil(LEAST_SPAN)).clamp(1, fit);
    let span = most.div_ceil(splits);
    let partial = scratch(client, splits * dw.len, DType::F32);
    // A tap without a phase meets no pixel; its part of the gradient is 0.
    let met: usize = phases.iter().map(|(y, x)| y.taps.len() * x.taps.len()).sum();
    if met < taps {
        fill_zero(client, &partial)?;
    }
    for pair in &phases {
        let phase_taps = pair.0.taps.len() * pair.1.taps.len();
        if phase_taps == 0 {
            continue;
        }
        let grid = glue::grid(blocks * phase_taps * splits);
        let (pre, post) = (pre.unwrap_or(x).array(), post.unwrap_or(grad).array());
        // SAFETY: the kernels read images at rows, columns and channels that they have checked, and write their split's part of
        // `partial` at channels that they have checked and taps of the kernel.
        match tile {
            None => unsafe {
                weight_gradient::weight_gradient::launch_unchecked::<R>(
                    client,
                    grid,
                    CubeDim::new_1d((SIDE * SIDE) as u32),
                    in_width,
                    out_width,
                    x.array(),
                    grad.array(),
                    pre,
                    post,
                    partial.array(),
                    phase(p, pair),
                    (p.in_channels / in_width) as u32,
                    (p.out_channels / out_width) as u32,
                    taps as u32,
                    span as u32,
                    splits as u32,
                    u32::from(kernel.pre),
                    u32::from(kernel.post),
                    in_width,
                    dtype,
                );
            },
            Some(tile) => unsafe {
                matrix::weight_gradient::weight_gradient_matrix::launch_unchecked::<R>(
                    client,
                    grid,
                    CubeDim::new_1d(tile.units() as u32),
                    WIDTH,
                    x.array(),
                    grad.array(),
                    pre,
                    post,
                    partial.array(),
                    phase(p, pair),
                    (p.in_channels / WIDTH) as u32,
                    (p.out_channels / WIDTH) as u32,
                    taps as u32,
                    span as u32,
                    splits as u32,
                    u32::from(kernel.pre),
                    u32::from(kernel.post),
                    tile,
                    dtype,
                );
            },
        }
    }
    sum_parts(client, &partial, dw, 0, splits, dw.len, dtype);
    Ok(())
}

/// [`weight_gradient`] in the best form that the device can run.
pub(crate) fn weight_gradient_default<R: Runtime>(
    client: &ComputeClient<R>,
    kernel: &WeightGradient,
    inputs: &[CubeArg],
    dw: &CubeArg,
) -> Result<()> {
    let limits = glue::limits_of(client, storage_type("conv2d_weight_grad", client, dw.dtype)?);
    weight_gradient(client, kernel, Blueprint::for_weight_gradient(&kernel.problem, &limits), inputs, dw)
}
