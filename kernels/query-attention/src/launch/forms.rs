//! From a blueprint of either form to a launch.

use cubecl::prelude::*;
use swinstyle_kit::{
    attention::{
        Windows,
        cube::{MapLaunch, map, row_stats},
        matrix::WIDTH,
    },
    glue,
};
use swinstyle_tensor::{
    CubeArg, Result,
    cube::{scratch, storage_type},
};

use super::{Backward, UNITS};
use crate::{
    cube::{
        SizesLaunch, append,
        backward::{RunsLaunch, backward},
        forward::forward,
        matrix::{backward_matrix, forward_matrix},
    },
    problem::{BiasKind, Layout, OP, Partials, Problem},
    tune::{BackwardBlueprint, Blueprint},
};

/// The map of the windowed form; without windows one that is not used.
pub(super) fn windows<R: Runtime>(p: &Problem) -> MapLaunch<R> {
    match p.layout {
        Layout::Windows(w) => map(&w),
        Layout::Run { .. } => map(&Windows::new([1, 1, 1], [1, 1], [0, 0])),
    }
}

/// Run-time sizes, with channels in vectors of `width`; rows for padded tokens, if any, begin at `pad`.
pub(super) fn sizes<R: Runtime>(p: &Problem, width: usize, pad: Option<usize>) -> SizesLaunch<R> {
    let bias = match p.bias {
        BiasKind::None => 0,
        BiasKind::Dense => 1,
        BiasKind::Table => 2,
    };
    SizesLaunch::new(
        p.groups as u32,
        p.sets() as u32,
        p.queries() as u32,
        p.tokens() as u32,
        p.heads as u32,
        (p.channels() / width) as u32,
        p.rows() as u32,
        p.token_rows() as u32,
        u32::from(p.own_queries),
        u32::from(matches!(p.layout, Layout::Windows(_))),
        bias,
        p.bias_len() as u32,
        u32::from(pad.is_some()),
        (pad.unwrap_or(0) / width) as u32,
        p.scale as f32,
    )
}

pub(super) fn runs<R: Runtime>(p: &Problem, parts: &Partials) -> RunsLaunch<R> {
    RunsLaunch::new(
        p.owners() as u32,
        parts.chunks.count as u32,
        parts.chunks.sets as u32,
        parts.chunks.length as u32,
        parts.row(p) as u32,
        u32::from(parts.q),
        u32::from(parts.bias),
        parts.bias_offset(p) as u32,
        u32::from(parts.pad),
        parts.pad_offset(p) as u32,
    )
}

/// The forward kernel of a blueprint.
pub(crate) fn launch_forward<R: Runtime>(
    client: &ComputeClient<R>,
    p: &Problem,
    b: &Blueprint,
    [q, kv]: [&CubeArg; 2],
    bias: Option<&CubeArg>,
    pad: Option<&CubeArg>,
    [y, stats]: [&CubeArg; 2],
) -> Result<()> {
    let dtype = storage_type(OP, client, y.dtype)?;
    let tasks = p.groups * p.sets() * p.heads;
    let padding = pad.map(|_| 0);
    // Any buffer stands for an absent one, which is not read.
    let (bias, pad) = (bias.unwrap_or(q), pad.unwrap_or(q));
    // SAFETY: tasks are checked against groups × sets × heads, queries and tokens against the set, cells against the map.
    match b {
        Blueprint::Units(b) => unsafe {
            forward::launch_unchecked::<R>(
                client,
                glue::grid(tasks.div_ceil(b.heads)),
                CubeDim::new_1d((b.heads * b.units) as u32),
                b.vector_width,
                q.array(),
                kv.array(),
                bias.array(),
                pad.array(),
                y.array(),
                stats.array(),
                windows(p),
                sizes(p, b.vector_width, padding),
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
                q.array(),
                kv.array(),
                bias.array(),
                pad.array(),
                y.array(),
                stats.array(),
                windows(p),
                sizes(p, WIDTH, padding),
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
    [q, kv, y, stats, dy]: [&CubeArg; 5],
    bias: Option<&CubeArg>,
    pad: Option<&CubeArg>,
    [dkv, partial]: [&CubeArg; 2],
) -> Result<()> {
    let (p, parts) = (&kernel.forward.problem, &kernel.partials);
    let dtype = storage_type(OP, client, y.dtype)?;
    let rows = row_stats(OP, client, stats, y, dy, p.head_dim)?;
    let tasks = p.owners() * parts.chunks.count * p.heads;
    // Any buffer stands for an absent one, which is not read.
    let bias = bias.unwrap_or(q);
    // SAFETY: tasks are checked against owners × runs × heads, sets against their number, queries and tokens against the set,
    // cells against the map, and a row of the partial sums has an entry for each query, pair or channel of a token.
    match b {
        BackwardBlueprint::Units(b) => {
            // Eight buffers are all that WebGPU promises: on padded maps keys, values and the padded rows become one.
            let joined = pad.map(|pad| join(client, kv, pad, b.vector_width, dtype));
            unsafe {
                backward::launch_unchecked::<R>(
                    client,
                    glue::grid(tasks.div_ceil(b.heads)),
                    CubeDim::new_1d((b.heads * b.units) as u32),
                    b.vector_width,
                    q.array(),
                    joined.as_ref().unwrap_or(kv).array(),
                    rows.array(),
                    dy.array(),
                    bias.array(),
                    dkv.array(),
                    partial.array(),
                    windows(p),
                    sizes(p, b.vector_width, pad.map(|_| kv.len)),
                    runs(p, parts),
                    *b,
                    dtype,
                );
            }
        }
        BackwardBlueprint::Matrix(b) => unsafe {
            backward_matrix::launch_unchecked::<R>(
                client,
                glue::grid(tasks.div_ceil(b.tasks)),
                CubeDim::new_1d(b.units() as u32),
                WIDTH,
                q.array(),
                kv.array(),
                rows.array(),
                dy.array(),
                bias.array(),
                pad.unwrap_or(q).array(),
                dkv.array(),
                partial.array(),
                windows(p),
                sizes(p, WIDTH, pad.map(|_| 0)),
                runs(p, parts),
                *b,
                dtype,
            );
        },
    }
    Ok(())
}

/// One buffer of two, whose lengths `width` divides.
fn join<R: Runtime>(client: &ComputeClient<R>, a: &CubeArg, b: &CubeArg, width: usize, dtype: StorageType) -> CubeArg {
    let len = a.len + b.len;
    let out = scratch(client, len, a.dtype);
    // SAFETY: units beyond the output return; the others read below the length of the buffer that they are in.
    unsafe {
        append::launch_unchecked::<R>(
            client,
            glue::grid((len / width).div_ceil(UNITS as usize)),
            CubeDim::new_1d(UNITS),
            width,
            a.array(),
            b.array(),
            out.array(),
            (a.len / width) as u32,
            dtype,
        );
    }
    out
}
