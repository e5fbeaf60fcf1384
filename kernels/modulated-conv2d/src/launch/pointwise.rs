//! Launches of the memory-bound kernels: dots over pixels, epilogue and its gradient, tap energies.

use cubecl::prelude::*;
use swinstyle_tensor::{
    CubeArg, DType, Result,
    cube::{scratch, storage_type},
};

use super::{
    ChannelDot, Channels, Epilogue, EpilogueGradient, TapEnergy,
    shared::{bound, check_length, scaled_noise, sum_parts, units, wrong_count},
};
use crate::{cube::pointwise, tune::width};

/// Pixels that a unit of the summing kernels walks.
const SPAN: usize = 32;

/// Dots over the pixels, and the scaled image if the kernel wants it.
pub(crate) fn channel_dot<R: Runtime>(
    client: &ComputeClient<R>,
    kernel: &ChannelDot,
    inputs: &[CubeArg],
    outputs: &[CubeArg],
) -> Result<()> {
    const OP: &str = "channel_dot";
    let ([a, b, rest @ ..], [dot, image @ ..]) = (inputs, outputs) else { return Err(wrong_count(OP)) };
    check_length(OP, a.len)?;
    let Channels { batch, pixels, channels } = kernel.extent;
    let dtype = storage_type(OP, client, a.dtype)?;
    let width = width(channels);
    let blocks = pixels.div_ceil(SPAN);
    let partial = scratch(client, batch * blocks * channels, DType::F32);
    // Something writable must stand where the scaled image would.
    let unused;
    let image = match image.first() {
        Some(image) => image,
        None => {
            unused = scratch(client, width, a.dtype);
            &unused
        }
    };
    let (grid, dim) = units(batch * blocks * (channels / width));
    // SAFETY: the kernel stops at its units, whose pixels and channels lie inside the images.
    unsafe {
        pointwise::channel_dot::launch_unchecked::<R>(
            client,
            grid,
            dim,
            width,
            a.array(),
            b.array(),
            rest.first().unwrap_or(b).array(),
            image.array(),
            partial.array(),
            batch as u32,
            pixels as u32,
            (channels / width) as u32,
            blocks as u32,
            SPAN as u32,
            kernel.scale,
            dtype,
        );
    }
    sum_parts(client, &partial, dot, 0, blocks, channels, storage_type(OP, client, dot.dtype)?);
    Ok(())
}

/// y of an [`Epilogue`].
pub(crate) fn epilogue<R: Runtime>(
    client: &ComputeClient<R>,
    kernel: &Epilogue,
    inputs: &[CubeArg],
    y: &CubeArg,
) -> Result<()> {
    const OP: &str = "noise_bias_act";
    let [x, rest @ ..] = inputs else { return Err(wrong_count(OP)) };
    check_length(OP, y.len)?;
    let dtype = storage_type(OP, client, y.dtype)?;
    let channels = kernel.extent.channels;
    let width = width(channels);
    let (noise, bias) = match (kernel.noise, rest) {
        (Some(_), [noise, strength, bias @ ..]) => (Some(scaled_noise(client, (noise, strength), dtype)), bias.first()),
        (None, bias) => (None, bias.first()),
        _ => return Err(wrong_count(OP)),
    };
    let (grid, dim) = units(y.len / width);
    let a = kernel.activation;
    // SAFETY: units beyond y return; noise is read below its length and the bias below its channels.
    unsafe {
        pointwise::epilogue::launch_unchecked::<R>(
            client,
            grid,
            dim,
            width,
            x.array(),
            noise.as_ref().unwrap_or(x).array(),
            bias.unwrap_or(x).array(),
            y.array(),
            (channels / width) as u32,
            noise.as_ref().map_or(0, |n| n.len as u32),
            u32::from(kernel.bias),
            a.slope as f32,
            a.gain as f32,
            bound(&a),
            dtype,
        );
    }
    Ok(())
}

/// dz and the sums of an [`EpilogueGradient`].
pub(crate) fn epilogue_gradient<R: Runtime>(
    client: &ComputeClient<R>,
    kernel: &EpilogueGradient,
    inputs: &[CubeArg],
    outputs: &[CubeArg],
) -> Result<()> {
    const OP: &str = "noise_bias_act_grad";
    let ([g, y, noise @ ..], [dz, sums @ ..]) = (inputs, outputs) else { return Err(wrong_count(OP)) };
    check_length(OP, dz.len)?;
    let Channels { batch, pixels, channels } = kernel.extent;
    let dtype = storage_type(OP, client, dz.dtype)?;
    let width = width(channels);
    let blocks = pixels.div_ceil(SPAN);
    let kind = batch * blocks * channels;
    let partial = scratch(client, if kernel.sums { sums.len() * kind } else { width }, DType::F32);
    let noise = noise.first();
    let a = kernel.activation;
    let (grid, dim) = units(kind / width);
    // SAFETY: the kernel stops at its units, whose pixels and channels lie inside the images; noise is read below its length.
    unsafe {
        pointwise::epilogue_gradient::launch_unchecked::<R>(
            client,
            grid,
            dim,
            width,
            g.array(),
            y.array(),
            noise.unwrap_or(g).array(),
            dz.array(),
            partial.array(),
            batch as u32,
            pixels as u32,
            (channels / width) as u32,
            blocks as u32,
            SPAN as u32,
            noise.map_or(0, |n| n.len as u32),
            a.slope as f32,
            a.gain as f32,
            bound(&a),
            kernel.sums,
            dtype,
        );
    }
    for (i, sum) in sums.iter().enumerate() {
        sum_parts(client, &partial, sum, i * kind, blocks, channels, storage_type(OP, client, sum.dtype)?);
    }
    Ok(())
}

/// `Σ_taps W²`.
pub(crate) fn tap_energy<R: Runtime>(
    client: &ComputeClient<R>,
    kernel: &TapEnergy,
    inputs: &[CubeArg],
    energy: &CubeArg,
) -> Result<()> {
    const OP: &str = "tap_energy";
    let [weight] = inputs else { return Err(wrong_count(OP)) };
    let dtypes = [storage_type(OP, client, weight.dtype)?, storage_type(OP, client, energy.dtype)?];
    let (grid, dim) = units(energy.len);
    // SAFETY: units beyond the energies return; the weight has `taps` times as many elements.
    unsafe {
        pointwise::tap_energy::launch_unchecked::<R>(
            client,
            grid,
            dim,
            weight.array(),
            energy.array(),
            kernel.taps as u32,
            dtypes,
        );
    }
    Ok(())
}
