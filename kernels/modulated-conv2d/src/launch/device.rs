//! From a kernel of the room and a blueprint to its CubeCL launches.

use cubecl::prelude::*;
use swinstyle_kit::{
    Blueprint as _, glue,
    tuning::{Place, choose},
};
use swinstyle_tensor::{CubeArg, DType, Result, TensorError, cube::storage_type};

use super::{ChannelDot, Channels, Conv, ConvInputs, Epilogue, EpilogueGradient, TapEnergy, WeightGradient};
use crate::{
    LeakyRelu, Problem,
    cube::{
        PhaseLaunch,
        conv::{self, AroundLaunch},
        pointwise,
        weight_gradient::{self, SIDE},
    },
    plan::Phase,
    tune::{Blueprint, width},
};

/// Units of the pointwise kernels.
const UNITS: u32 = 256;
/// Pixels that a unit of the summing kernels walks.
const SPAN: usize = 32;
/// Cubes that fill a large device several times; more splits of a weight gradient would only cost memory.
const ENOUGH_CUBES: usize = 512;
/// Positions of a split at the least.
const LEAST_SPAN: usize = 256;

fn units(count: usize) -> (CubeCount, CubeDim) {
    (glue::grid(count.div_ceil(UNITS as usize)), CubeDim::new_1d(UNITS))
}

fn scratch<R: Runtime>(client: &ComputeClient<R>, len: usize, dtype: DType) -> CubeArg {
    // Buffers are addressed by 16-byte vectors.
    CubeArg { handle: client.empty((len * dtype.size()).next_multiple_of(16)), len, dtype }
}

/// The clamp as the kernels take it: 0 where there is none.
fn bound(a: &LeakyRelu) -> f32 {
    a.clamp.map_or(0.0, |c| c as f32)
}

fn wrong_count(op: &'static str) -> TensorError {
    TensorError::shape(op, "a wrong number of inputs or outputs")
}

/// Element indices on devices are 32-bit.
fn check_length(op: &'static str, len: usize) -> Result<()> {
    match len > u32::MAX as usize {
        true => Err(TensorError::shape(op, format!("{len} elements exceed the 2^32 of one device buffer"))),
        false => Ok(()),
    }
}

/// The phases of a problem with their taps in the form of [`crate::cube::Phase`].
fn phases(p: &Problem) -> Vec<(Phase, Phase)> {
    let columns = Phase::of(p, 1);
    Phase::of(p, 0).into_iter().flat_map(|y| columns.iter().map(move |x| (y.clone(), x.clone()))).collect()
}

fn phase<R: Runtime>(p: &Problem, (y, x): &(Phase, Phase)) -> PhaseLaunch<R> {
    // `Problem` keeps every extent, pad and factor below 2^29, and every image below 2^31 elements.
    let first = |a: &Phase| a.taps.first().map_or((0, 0), |t| (t.offset as i32, t.weight as i32));
    let ((offset_y, weight_y), (offset_x, weight_x)) = (first(y), first(x));
    // Taps of a phase are `up` apart in the kernel, and meet neighbouring inputs.
    let step = p.geometry.up as i32;
    let [height, width] = p.input.map(|n| n as i32);
    let [out_height, out_width] = p.geometry.output.map(|n| n as u32);
    PhaseLaunch::new(
        height,
        width,
        out_height,
        out_width,
        y.count as u32,
        x.count as u32,
        (p.batch * y.count * x.count) as u32,
        y.first as u32,
        x.first as u32,
        y.step as u32,
        y.stride as i32,
        offset_y,
        offset_x,
        y.taps.len() as u32,
        x.taps.len() as u32,
        weight_y,
        weight_x,
        if p.geometry.flip { -step } else { step },
        p.geometry.kernel[1] as i32,
    )
}

/// The noise times its strength.
fn scaled_noise<R: Runtime>(
    client: &ComputeClient<R>,
    (noise, strength): (&CubeArg, &CubeArg),
    dtype: StorageType,
) -> CubeArg {
    let scaled = scratch(client, noise.len, noise.dtype);
    let (grid, dim) = units(noise.len);
    // SAFETY: units beyond the noise return, and the strength has one element.
    unsafe {
        pointwise::scale::launch_unchecked::<R>(
            client,
            grid,
            dim,
            noise.array(),
            strength.array(),
            scaled.array(),
            dtype,
        );
    }
    scaled
}

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
    let (in_vectors, out_vectors) = (p.in_channels / b.in_width, p.out_channels / b.out_width);
    for pair in phases(p) {
        let positions = p.batch * pair.0.count * pair.1.count;
        let cubes = positions.div_ceil(b.tile_pixels()) * out_vectors.div_ceil(b.channel_units);
        let around = AroundLaunch::new(
            u32::from(fusion.pre),
            u32::from(fusion.post),
            scaled.as_ref().map_or(0, |n| n.len as u32),
            u32::from(fusion.bias),
            activation.slope as f32,
            activation.gain as f32,
            bound(&activation),
        );
        // SAFETY: the kernel reads x, weights and scales at rows, columns and channels that it has checked, and writes positions and
        // channels that it has checked; absent inputs are not read.
        unsafe {
            conv::conv::launch_unchecked::<R>(
                client,
                glue::grid(cubes),
                CubeDim::new_1d(b.units() as u32),
                b.in_width,
                b.out_width,
                t.x.array(),
                weight.array(),
                t.pre.unwrap_or(t.x).array(),
                t.post.unwrap_or(weight).array(),
                scaled.as_ref().unwrap_or(t.x).array(),
                t.bias.unwrap_or(weight).array(),
                y.array(),
                phase(p, &pair),
                around,
                in_vectors as u32,
                out_vectors as u32,
                *b,
                dtype,
            );
        }
    }
    Ok(())
}

/// [`conv`] with the tuned blueprint, or the default one.
pub(crate) fn conv_default<R: Runtime>(
    client: &ComputeClient<R>,
    kernel: &Conv,
    inputs: &[CubeArg],
    y: &CubeArg,
) -> Result<()> {
    let p = &kernel.problem;
    let blueprint = choose(Place::Cube, "conv2d", p, &glue::limits(client), Blueprint::default_for(p));
    conv(client, kernel, &blueprint, inputs, y)
}

/// dW from the inputs of a [`WeightGradient`].
pub(crate) fn weight_gradient<R: Runtime>(
    client: &ComputeClient<R>,
    kernel: &WeightGradient,
    inputs: &[CubeArg],
    dw: &CubeArg,
) -> Result<()> {
    const OP: &str = "conv2d_weight_grad";
    let p = &kernel.problem;
    let [x, grad, ..] = inputs else { return Err(wrong_count(OP)) };
    let (pre, post) = kernel.scales(&inputs.iter().collect::<Vec<_>>());
    check_length(OP, x.len.max(grad.len))?;
    let dtype = storage_type(OP, client, dw.dtype)?;
    let (in_width, out_width) = (width(p.in_channels), width(p.out_channels));
    let (in_vectors, out_vectors) = (p.in_channels / in_width, p.out_channels / out_width);
    let taps: usize = p.geometry.kernel.iter().product();
    let blocks = in_vectors.div_ceil(SIDE) * out_vectors.div_ceil(SIDE);
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
        // SAFETY: the kernel reads images at rows, columns and channels that it has checked, and writes its split's part of `partial`
        // at channels that it has checked and taps of the kernel.
        unsafe {
            weight_gradient::weight_gradient::launch_unchecked::<R>(
                client,
                glue::grid(blocks * phase_taps * splits),
                CubeDim::new_1d((SIDE * SIDE) as u32),
                in_width,
                out_width,
                x.array(),
                grad.array(),
                pre.unwrap_or(x).array(),
                post.unwrap_or(grad).array(),
                partial.array(),
                phase(p, pair),
                in_vectors as u32,
                out_vectors as u32,
                taps as u32,
                span as u32,
                splits as u32,
                u32::from(kernel.pre),
                u32::from(kernel.post),
                in_width,
                dtype,
            );
        }
    }
    sum_parts(client, &partial, dw, 0, splits, dw.len, dtype);
    Ok(())
}

fn fill_zero<R: Runtime>(client: &ComputeClient<R>, y: &CubeArg) -> Result<()> {
    let fill = swinstyle_tensor::ops::Fill { value: 0.0, shape: vec![y.len] };
    swinstyle_tensor::Kernel::cube(&fill, client, &[], std::slice::from_ref(y))
}

/// `y[outer, inner] = Σ_parts parts[first + (outer, part, inner)]`.
fn sum_parts<R: Runtime>(
    client: &ComputeClient<R>,
    parts: &CubeArg,
    y: &CubeArg,
    first: usize,
    length: usize,
    inner: usize,
    dtype: StorageType,
) {
    let (grid, dim) = units(y.len);
    // SAFETY: units beyond y return, and the caller's parts hold `first + outer·length·inner` elements.
    unsafe {
        pointwise::sum_parts::launch_unchecked::<R>(
            client,
            grid,
            dim,
            parts.array(),
            y.array(),
            first as u32,
            length as u32,
            inner as u32,
            dtype,
        );
    }
}

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
    sum_parts(client, &partial, dot, 0, blocks, channels, dtype);
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
        sum_parts(client, &partial, sum, i * kind, blocks, channels, dtype);
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
    let dtype = storage_type(OP, client, energy.dtype)?;
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
            dtype,
        );
    }
    Ok(())
}
