//! Launches of the convolution: a launch a phase, in the form of the blueprint.

use cubecl::prelude::*;
use swinstyle_kit::{
    Blueprint as _, glue,
    tuning::{Place, choose},
};
use swinstyle_tensor::{
    CubeArg, Result,
    cube::{fragments::WIDTH, scratch, storage_type},
};

use super::{
    Conv, ConvInputs,
    shared::{bound, check_length, phase, phases, scaled_noise, units, wrong_count},
};
use crate::{
    LeakyRelu,
    cube::{around::AroundLaunch, conv, matrix, pointwise},
    tune::Blueprint,
};

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
    let activation = fusion.activation.unwrap_or(LeakyRelu::LINEAR);
    for pair in phases(p) {
        let positions = p.batch * pair.0.count * pair.1.count;
        let around = AroundLaunch::new(
            u32::from(fusion.pre),
            u32::from(fusion.post),
            scaled.as_ref().map_or(0, |n| n.len as u32),
            u32::from(fusion.bias),
            activation.slope as f32,
            activation.gain as f32,
            bound(&activation),
        );
        let pre = t.pre.unwrap_or(t.x).array();
        let post = t.post.unwrap_or(weight).array();
        let noise = scaled.as_ref().unwrap_or(t.x).array();
        let bias = t.bias.unwrap_or(weight).array();
        // SAFETY: the kernels read x, weights and scales at rows, columns and channels that they have checked, and write positions and
        // channels that they have checked; absent inputs are not read.
        match b {
            Blueprint::Units(tile) => unsafe {
                let (in_vectors, out_vectors) = (p.in_channels / tile.in_width, p.out_channels / tile.out_width);
                let cubes = positions.div_ceil(tile.tile_pixels()) * out_vectors.div_ceil(tile.channel_units);
                conv::conv::launch_unchecked::<R>(
                    client,
                    glue::grid(cubes),
                    CubeDim::new_1d(tile.units() as u32),
                    tile.in_width,
                    tile.out_width,
                    t.x.array(),
                    weight.array(),
                    pre,
                    post,
                    noise,
                    bias,
                    y.array(),
                    phase(p, &pair),
                    around,
                    in_vectors as u32,
                    out_vectors as u32,
                    *tile,
                    dtype,
                );
            },
            Blueprint::Matrix(tile) => unsafe {
                let cubes = positions.div_ceil(tile.tile_rows()) * p.out_channels.div_ceil(tile.tile_columns());
                matrix::conv::conv_matrix::launch_unchecked::<R>(
                    client,
                    glue::grid(cubes),
                    CubeDim::new_1d(tile.units() as u32),
                    WIDTH,
                    t.x.array(),
                    weight.array(),
                    pre,
                    post,
                    noise,
                    bias,
                    y.array(),
                    phase(p, &pair),
                    around,
                    (p.in_channels / WIDTH) as u32,
                    (p.out_channels / WIDTH) as u32,
                    *tile,
                    dtype,
                );
            },
        }
    }
    Ok(())
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
