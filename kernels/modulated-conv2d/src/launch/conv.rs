//! Launches of the convolution: a launch a phase, in the form of the blueprint.

use cubecl::prelude::*;
use swinstyle_kit::{
    Blueprint as _, glue,
    tuning::{Place, choose},
};
use swinstyle_tensor::{
    CubeArg, DType, Result,
    cube::{fragments::WIDTH, scratch, storage_type},
};

use super::{
    Conv, ConvInputs,
    shared::{bound, check_length, phase, phases, scaled_noise, units, wrong_count},
};
use crate::{
    LeakyRelu, Problem,
    cube::{around::AroundLaunch, conv, matrix, pointwise},
    tune::{Blueprint, width},
};

/// Cubes that give each multiprocessor of a large device two.
const ENOUGH_CUBES: usize = 256;
/// Slabs of a part at least.
const LEAST_SLABS: usize = 2;

/// y from the inputs of a [`Conv`] with the given blueprint.
pub(crate) fn conv<R: Runtime>(
    client: &ComputeClient<R>,
    kernel: &Conv,
    b: &Blueprint,
    inputs: &[CubeArg],
    y: &CubeArg,
) -> Result<()> {
    const OP: &str = "conv2d";
    let Conv { problem: p, fusion } = kernel;
    let t = ConvInputs::new(fusion, inputs).ok_or_else(|| wrong_count(OP))?;
    for t in [t.x, t.weight, y] {
        check_length(OP, t.len)?;
    }
    let dtype = storage_type(OP, client, y.dtype)?;
    let turned;
    let weight = if p.geometry.transpose {
        // One small copy, and the large kernel needs one way of reading weights only.
        turned = scratch(client, t.weight.len, t.weight.dtype);
        let (grid, dim) = units(turned.len);
        // SAFETY: units beyond the copy return; it is a permutation of the weight.
        unsafe {
            pointwise::transpose::launch_unchecked::<R>(
                client,
                grid,
                dim,
                t.weight.array(),
                turned.array(),
                p.out_channels as u32,
                p.in_channels as u32,
                dtype,
            );
        }
        &turned
    } else {
        t.weight
    };
    let scaled = t.noise.map(|n| scaled_noise(client, n, dtype));
    let around = |pre: bool, finishes: bool| {
        let a = fusion.activation.filter(|_| finishes).unwrap_or(LeakyRelu::LINEAR);
        AroundLaunch::new(
            u32::from(pre && fusion.pre),
            u32::from(finishes && fusion.post),
            scaled.as_ref().filter(|_| finishes).map_or(0, |n| n.len as u32),
            u32::from(finishes && fusion.bias),
            a.slope as f32,
            a.gain as f32,
            bound(&a),
        )
    };
    let post = || t.post.unwrap_or(weight).array();
    let noise = || scaled.as_ref().unwrap_or(t.x).array();
    let bias = || t.bias.unwrap_or(weight).array();
    let phases: Vec<_> = phases(p).into_iter().filter(|(rows, columns)| rows.count * columns.count > 0).collect();
    let most = phases.iter().map(|(rows, columns)| p.batch * rows.count * columns.count).max().unwrap_or(0);
    let parts = Parts::new(p, b, most);
    let sums;
    let (to, dtypes) = match parts.count {
        1 => (y, [dtype; 2]),
        count => {
            check_length(OP, count * y.len)?;
            sums = scratch(client, count * y.len, DType::F32);
            (&sums, [dtype, storage_type(OP, client, DType::F32)?])
        }
    };
    for pair in phases {
        let positions = p.batch * pair.0.count * pair.1.count;
        let cubes = parts.count * tiles(p, b, positions);
        let pre = t.pre.unwrap_or(t.x).array();
        let around = around(true, parts.count == 1);
        // SAFETY: the kernels read x, weights and scales at rows, columns and channels that they have checked, and write positions and
        // channels that they have checked; absent inputs are not read.
        match b {
            Blueprint::Units(tile) => unsafe {
                conv::conv::launch_unchecked::<R>(
                    client,
                    glue::grid(cubes),
                    CubeDim::new_1d(tile.units() as u32),
                    tile.in_width,
                    tile.out_width,
                    t.x.array(),
                    weight.array(),
                    pre,
                    post(),
                    noise(),
                    bias(),
                    to.array(),
                    phase(p, &pair),
                    around,
                    (p.in_channels / tile.in_width) as u32,
                    (p.out_channels / tile.out_width) as u32,
                    parts.share as u32,
                    *tile,
                    dtypes,
                );
            },
            Blueprint::Matrix(tile) => unsafe {
                matrix::conv::conv_matrix::launch_unchecked::<R>(
                    client,
                    glue::grid(cubes),
                    CubeDim::new_1d(tile.units() as u32),
                    WIDTH,
                    t.x.array(),
                    weight.array(),
                    pre,
                    post(),
                    noise(),
                    bias(),
                    to.array(),
                    phase(p, &pair),
                    around,
                    (p.in_channels / WIDTH) as u32,
                    (p.out_channels / WIDTH) as u32,
                    parts.share as u32,
                    *tile,
                    dtypes,
                );
            },
        }
    }
    if parts.count > 1 {
        let width = width(p.out_channels);
        let (grid, dim) = units(y.len / width);
        // SAFETY: units beyond y return; the sums hold as many images of y's size as there are parts.
        unsafe {
            pointwise::finish_parts::launch_unchecked::<R>(
                client,
                grid,
                dim,
                width,
                to.array(),
                post(),
                noise(),
                bias(),
                y.array(),
                around(false, true),
                (y.len / width) as u32,
                (p.out_channels / width) as u32,
                p.geometry.output.iter().product::<usize>() as u32,
                parts.count as u32,
                dtype,
            );
        }
    }
    Ok(())
}

/// Cubes of a phase of so many positions.
fn tiles(p: &Problem, b: &Blueprint, positions: usize) -> usize {
    match b {
        Blueprint::Units(t) => {
            positions.div_ceil(t.tile_pixels()) * (p.out_channels / t.out_width).div_ceil(t.channel_units)
        }
        Blueprint::Matrix(t) => positions.div_ceil(t.tile_rows()) * p.out_channels.div_ceil(t.tile_columns()),
    }
}

/// How the sum over input channels is cut where an image has few pixels for many channels: the weights are then most of what is read, and
/// a few cubes could not read them as fast as the device can.
struct Parts {
    count: usize,
    /// Slabs of input channels, of the blueprint's depth, in a part.
    share: usize,
}

impl Parts {
    /// Parts for a phase of so many positions, the largest: as many as give each multiprocessor of a large device two cubes.
    fn new(p: &Problem, b: &Blueprint, positions: usize) -> Self {
        let slabs = match b {
            Blueprint::Units(t) => (p.in_channels / t.in_width).div_ceil(t.depth),
            Blueprint::Matrix(t) => p.in_channels.div_ceil(t.depth),
        };
        let wanted = (ENOUGH_CUBES / tiles(p, b, positions).max(1)).min(slabs / LEAST_SLABS).max(1);
        let share = slabs.div_ceil(wanted).max(1);
        Self { count: slabs.div_ceil(share).max(1), share }
    }
}

/// [`conv`] with the tuned blueprint, or the best one that the device can run.
pub(crate) fn conv_default<R: Runtime>(
    client: &ComputeClient<R>,
    kernel: &Conv,
    inputs: &[CubeArg],
    y: &CubeArg,
) -> Result<()> {
    let p = &kernel.problem;
    let limits = glue::limits_of(client, storage_type("conv2d", client, y.dtype)?);
    let blueprint = choose(Place::Cube, "conv2d", p, &limits, Blueprint::best_for(p, &limits));
    conv(client, kernel, &blueprint, inputs, y)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ConvGeometry, MatrixTile};

    #[test]
    fn few_pixels_of_many_channels_are_cut_into_parts() {
        let parts = |batch, [i, o]: [usize; 2], size, tile: Option<MatrixTile>| {
            let g = ConvGeometry::same([3, 3], [size, size]);
            let p = Problem::new(&[batch, size, size, i], &[3, 3, i, o], &g).unwrap();
            let b = tile.map_or_else(|| Blueprint::default_for(&p), Blueprint::Matrix);
            let Parts { count, share } = Parts::new(&p, &b, batch * size * size);
            (count, share)
        };
        // 512 channels are 32 slabs of four vectors of four.
        assert_eq!(parts(1, [512, 512], 4, None), (16, 2));
        assert_eq!(parts(1, [512, 512], 64, None), (1, 32));
        assert_eq!(parts(64, [512, 512], 8, None), (1, 32));
        assert_eq!(parts(2, [76, 20], 3, None), (2, 3));
        assert_eq!(parts(1, [3, 8], 4, None), (1, 2));
        let deep = MatrixTile { depth: 32, ..MatrixTile::new([2, 2], [2, 2]) };
        assert_eq!(parts(1, [512, 512], 4, Some(deep)), (8, 2));
    }
}
