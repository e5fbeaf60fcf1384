//! What several launches need: grids, phases, ordered sums.

use cubecl::prelude::*;
use swinstyle_kit::glue;
use swinstyle_tensor::{CubeArg, Result, TensorError, cube::scratch};

use crate::{
    LeakyRelu, Problem,
    cube::{PhaseLaunch, pointwise},
    plan::Phase,
};

/// Units of the pointwise kernels.
const UNITS: u32 = 256;

/// Grid and cube for independent units.
pub(super) fn units(count: usize) -> (CubeCount, CubeDim) {
    (glue::grid(count.div_ceil(UNITS as usize)), CubeDim::new_1d(UNITS))
}

/// The clamp as the kernels take it: 0 where there is none.
pub(super) fn bound(a: &LeakyRelu) -> f32 {
    a.clamp.map_or(0.0, |c| c as f32)
}

pub(super) fn wrong_count(op: &'static str) -> TensorError {
    TensorError::shape(op, "a wrong number of inputs or outputs")
}

/// Element indices on devices are 32-bit.
pub(super) fn check_length(op: &'static str, len: usize) -> Result<()> {
    match len > u32::MAX as usize {
        true => Err(TensorError::shape(op, format!("{len} elements exceed the 2^32 of one device buffer"))),
        false => Ok(()),
    }
}

/// The phases of a problem with their taps in the form of [`crate::cube::Phase`].
pub(super) fn phases(p: &Problem) -> Vec<(Phase, Phase)> {
    let columns = Phase::of(p, 1);
    Phase::of(p, 0).into_iter().flat_map(|y| columns.iter().map(move |x| (y.clone(), x.clone()))).collect()
}

pub(super) fn phase<R: Runtime>(p: &Problem, (y, x): &(Phase, Phase)) -> PhaseLaunch<R> {
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
pub(super) fn scaled_noise<R: Runtime>(
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

pub(super) fn fill_zero<R: Runtime>(client: &ComputeClient<R>, y: &CubeArg) -> Result<()> {
    let fill = swinstyle_tensor::ops::Fill { value: 0.0, shape: vec![y.len] };
    swinstyle_tensor::Kernel::cube(&fill, client, &[], std::slice::from_ref(y))
}

/// `y[outer, inner] = Σ_parts parts[first + (outer, part, inner)]`.
pub(super) fn sum_parts<R: Runtime>(
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
