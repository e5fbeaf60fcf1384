//! From a blueprint of either form to a launch.

use cubecl::prelude::*;
use swinstyle_kit::{
    attention::{
        cube::{map, row_stats},
        matrix::WIDTH,
    },
    glue,
};
use swinstyle_tensor::{CubeArg, Result, cube::storage_type};

use super::Backward;
use crate::{
    cube::{
        SizesLaunch,
        backward::{RunsLaunch, backward},
        forward::forward,
        matrix::{backward_matrix, forward_matrix},
    },
    problem::{OP, Partials, Problem},
    tune::{BackwardBlueprint, Blueprint},
};

/// Run-time sizes, with channels in vectors of `width`.
pub(super) fn sizes<R: Runtime>(p: &Problem, width: usize, pad: bool) -> SizesLaunch<R> {
    SizesLaunch::new(
        p.windows.count() as u32,
        p.windows.cells() as u32,
        p.heads as u32,
        (p.channels() / width) as u32,
        u32::from(pad),
        p.scale as f32,
    )
}

pub(super) fn runs<R: Runtime>(p: &Problem, parts: &Partials) -> RunsLaunch<R> {
    RunsLaunch::new(
        parts.chunks.count as u32,
        parts.chunks.length as u32,
        parts.row(p) as u32,
        u32::from(parts.table),
        u32::from(parts.pad),
        parts.pad_offset(p) as u32,
    )
}

/// The forward kernel of a blueprint.
pub(crate) fn launch_forward<R: Runtime>(
    client: &ComputeClient<R>,
    p: &Problem,
    b: &Blueprint,
    [qkv, table]: [&CubeArg; 2],
    pad: Option<&CubeArg>,
    [y, stats]: [&CubeArg; 2],
) -> Result<()> {
    let dtype = storage_type(OP, client, y.dtype)?;
    let tasks = p.windows.count() * p.heads;
    // Any buffer stands for an absent one, which is not read.
    let given = pad.unwrap_or(qkv);
    // SAFETY: tasks are checked against windows × heads, cells against the window, tokens against the map.
    match b {
        Blueprint::Units(b) => unsafe {
            forward::launch_unchecked::<R>(
                client,
                glue::grid(tasks.div_ceil(b.heads)),
                CubeDim::new_1d((b.heads * b.units) as u32),
                b.vector_width,
                qkv.array(),
                table.array(),
                given.array(),
                y.array(),
                stats.array(),
                map(&p.windows),
                sizes(p, b.vector_width, pad.is_some()),
                *b,
                dtype,
            );
        },
        Blueprint::Matrix(b) => unsafe {
            forward_matrix::launch_unchecked::<R>(
                client,
                glue::grid(tasks.div_ceil(b.tasks)),
                CubeDim::new_1d(b.units() as u32),
                WIDTH,
                qkv.array(),
                table.array(),
                given.array(),
                y.array(),
                stats.array(),
                map(&p.windows),
                sizes(p, WIDTH, pad.is_some()),
                *b,
                dtype,
            );
        },
    }
    Ok(())
}

/// The backward kernel of a blueprint.
pub(crate) fn launch_backward<R: Runtime>(
    client: &ComputeClient<R>,
    kernel: &Backward,
    b: &BackwardBlueprint,
    [qkv, table, y, stats, dy]: [&CubeArg; 5],
    pad: Option<&CubeArg>,
    [dqkv, partial]: [&CubeArg; 2],
) -> Result<()> {
    let (p, parts) = (&kernel.problem, &kernel.partials);
    let dtype = storage_type(OP, client, y.dtype)?;
    let rows = row_stats(OP, client, stats, y, dy, p.head_dim)?;
    let tasks = parts.chunks.count * p.heads;
    // Any buffer stands for an absent one, which is not read.
    let given = pad.unwrap_or(qkv);
    // SAFETY: tasks are checked against runs × heads, windows against their number, cells against the window, tokens
    // against the map, and a row of the partial sums has an entry for each pair of cells or channel of a cell.
    match b {
        BackwardBlueprint::Units(b) => unsafe {
            backward::launch_unchecked::<R>(
                client,
                glue::grid(tasks.div_ceil(b.heads)),
                CubeDim::new_1d((b.heads * b.units) as u32),
                b.vector_width,
                qkv.array(),
                table.array(),
                rows.array(),
                dy.array(),
                given.array(),
                dqkv.array(),
                partial.array(),
                map(&p.windows),
                sizes(p, b.vector_width, pad.is_some()),
                runs(p, parts),
                *b,
                dtype,
            );
        },
        BackwardBlueprint::Matrix(b) => unsafe {
            backward_matrix::launch_unchecked::<R>(
                client,
                glue::grid(tasks.div_ceil(b.tasks)),
                CubeDim::new_1d(b.units() as u32),
                WIDTH,
                qkv.array(),
                table.array(),
                rows.array(),
                dy.array(),
                given.array(),
                dqkv.array(),
                partial.array(),
                map(&p.windows),
                sizes(p, WIDTH, pad.is_some()),
                runs(p, parts),
                *b,
                dtype,
            );
        },
    }
    Ok(())
}
