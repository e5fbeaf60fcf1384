//! Long runs of tokens in parts: a part is a set of its own, in the same memory, and parts are joined by their log-sum-exps.

use cubecl::prelude::*;
use swinstyle_kit::glue;
use swinstyle_tensor::{
    CubeArg, DType, Result,
    cube::{scratch, storage_type},
};

use super::{UNITS, launch_forward};
use crate::{
    cube::join::join,
    problem::{BiasKind, Layout, OP, Problem},
    tune::Blueprint,
};

/// Heads of sets that keep a large device busy, a cube each.
const BUSY_TASKS: usize = 256;
/// Tokens of a part at least: fewer would not repay the second launch.
const LEAST_TOKENS: usize = 64;

/// The problem whose sets are the parts of the sets of another, and their number; nothing where that is not possible or does not pay.
///
/// Parts are equal, so that their tokens lie where they lie, and their results f32: what is weighed must not be rounded. A bias would need
/// another address in every part.
pub(crate) fn split(p: &Problem, dtype: DType) -> Option<(Problem, usize)> {
    let Layout::Run { sets, queries, tokens } = p.layout else { return None };
    let own = p.own_queries && sets > 1;
    if own || p.groups != 1 || p.bias != BiasKind::None || dtype != DType::F32 {
        return None;
    }
    let mut parts = 1;
    while sets * p.heads * parts < BUSY_TASKS && tokens % (2 * parts) == 0 && tokens / (2 * parts) >= LEAST_TOKENS {
        parts *= 2;
    }
    let layout = Layout::Run { sets: sets * parts, queries, tokens: tokens / parts };
    (parts > 1).then_some((Problem { layout, own_queries: false, ..*p }, parts))
}

/// The forward pass in parts: `split` is of the problem p.
pub(crate) fn launch_parts<R: Runtime>(
    client: &ComputeClient<R>,
    p: &Problem,
    (split, parts): (&Problem, usize),
    b: &Blueprint,
    [q, kv]: [&CubeArg; 2],
    [y, stats]: [&CubeArg; 2],
) -> Result<()> {
    let dtype = storage_type(OP, client, y.dtype)?;
    let [part_y, part_stats] = [y, stats].map(|of| scratch(client, parts * of.len, of.dtype));
    launch_forward(client, split, b, [q, kv], None, None, [&part_y, &part_stats])?;
    let width = glue::vector_width(&[p.head_dim]);
    // SAFETY: units beyond y return; the parts have `parts` times its rows and heads.
    unsafe {
        join::launch_unchecked::<R>(
            client,
            glue::grid((y.len / width).div_ceil(UNITS as usize)),
            CubeDim::new_1d(UNITS),
            width,
            part_y.array(),
            part_stats.array(),
            y.array(),
            stats.array(),
            parts as u32,
            p.queries() as u32,
            p.heads as u32,
            (p.head_dim / width) as u32,
            dtype,
        );
    }
    Ok(())
}
