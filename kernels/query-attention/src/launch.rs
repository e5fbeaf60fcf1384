//! The kernels as the runtime sees them: shapes, the host twin, and the CubeCL launches.

use cubecl::prelude::*;
use swinstyle_kit::{
    Blueprint as _, Problem as _,
    attention::{
        Windows,
        cube::{MapLaunch, check_lengths, map, row_stats},
        matrix::WIDTH,
    },
    glue,
    tuning::{Place, choose},
};
use swinstyle_tensor::{CubeArg, Kernel, Result, Scalar, TensorError, cube::storage_type};

use crate::{
    cube::{
        SizesLaunch, append,
        backward::{RunsLaunch, backward},
        forward::forward,
        matrix::{backward_matrix, forward_matrix},
        sums::{sum_bias, sum_padding, sum_queries},
    },
    host,
    problem::{BiasKind, Layout, OP, Partials, Problem},
    tune::{BackwardBlueprint, Blueprint},
};

/// Units of the cubes of element-wise kernels.
const UNITS: u32 = 64;

fn wrong_count() -> TensorError {
    TensorError::shape(OP, "a wrong number of inputs or outputs")
}

/// The map of the windowed form; without windows one that is not used.
fn windows<R: Runtime>(p: &Problem) -> MapLaunch<R> {
    match p.layout {
        Layout::Windows(w) => map(&w),
        Layout::Run { .. } => map(&Windows::new([1, 1, 1], [1, 1], [0, 0])),
    }
}

/// Run-time sizes, with channels in vectors of `width`; rows for padded tokens, if any, begin at `pad`.
fn sizes<R: Runtime>(p: &Problem, width: usize, pad: Option<usize>) -> SizesLaunch<R> {
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

fn runs<R: Runtime>(p: &Problem, parts: &Partials) -> RunsLaunch<R> {
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

/// (q, kv[, bias][, pad_kv]) → (y, statistics `[.., heads, 2]`: each query's largest logit and ln Σ exp(logit − largest)).
#[derive(Debug, Clone, Copy)]
pub struct Forward {
    /// The shapes.
    pub problem: Problem,
    /// A row for padded tokens is given.
    pub pad: bool,
}

impl Forward {
    /// Bias and padded row among the inputs after the others.
    pub fn optional<'a, A>(&self, rest: &'a [A]) -> (Option<&'a A>, Option<&'a A>) {
        let has_bias = self.problem.bias != BiasKind::None;
        let bias = rest.first().filter(|_| has_bias);
        (bias, rest.get(usize::from(has_bias)).filter(|_| self.pad))
    }
}

impl Kernel for Forward {
    fn name(&self) -> &'static str {
        "query_attention"
    }

    fn output_shapes(&self) -> Vec<Vec<usize>> {
        let rows = self.problem.groups * self.problem.rows();
        vec![vec![rows, self.problem.channels()], vec![rows, self.problem.heads, 2]]
    }

    fn host<T: Scalar>(&self, inputs: &[&[T]], outputs: &mut [&mut [T]]) -> Result<()> {
        let ([q, kv, rest @ ..], [y, stats]) = (inputs, outputs) else { return Err(wrong_count()) };
        let (bias, pad) = self.optional(rest);
        host::forward(&self.problem, q, kv, bias.copied(), pad.copied(), y, stats);
        Ok(())
    }

    fn cube<R: Runtime>(&self, client: &ComputeClient<R>, inputs: &[CubeArg], outputs: &[CubeArg]) -> Result<()> {
        let ([q, kv, rest @ ..], [y, stats]) = (inputs, outputs) else { return Err(wrong_count()) };
        check_lengths(OP, inputs)?;
        let p = &self.problem;
        let (bias, pad) = self.optional(rest);
        let limits = glue::limits_of(client, storage_type(OP, client, y.dtype)?);
        let b = choose(Place::Cube, self.name(), p, &limits, Blueprint::best_for(p, &limits));
        launch_forward(client, p, &b, [q, kv], bias, pad, [y, stats])
    }

    fn flops(&self) -> u64 {
        self.problem.flops()
    }
}

/// (q, kv, y, statistics, dy[, bias][, pad_kv]) → (dkv, partial sums).
#[derive(Debug, Clone, Copy)]
pub struct Backward {
    /// The forward pass.
    pub forward: Forward,
    /// The partial sums that are written.
    pub partials: Partials,
}

impl Kernel for Backward {
    fn name(&self) -> &'static str {
        "query_attention_backward"
    }

    fn output_shapes(&self) -> Vec<Vec<usize>> {
        let p = &self.forward.problem;
        vec![vec![p.groups * p.token_rows(), 2 * p.channels()], self.partials.shape(p)]
    }

    fn host<T: Scalar>(&self, inputs: &[&[T]], outputs: &mut [&mut [T]]) -> Result<()> {
        let ([q, kv, _, stats, dy, rest @ ..], [dkv, partial]) = (inputs, outputs) else { return Err(wrong_count()) };
        let (bias, pad) = self.forward.optional(rest);
        let p = &self.forward.problem;
        host::backward(p, &self.partials, q, kv, bias.copied(), pad.copied(), stats, dy, dkv, partial);
        Ok(())
    }

    fn cube<R: Runtime>(&self, client: &ComputeClient<R>, inputs: &[CubeArg], outputs: &[CubeArg]) -> Result<()> {
        let ([q, kv, y, stats, dy, rest @ ..], [dkv, partial]) = (inputs, outputs) else { return Err(wrong_count()) };
        check_lengths(OP, inputs)?;
        check_lengths(OP, outputs)?;
        let p = &self.forward.problem;
        let (bias, pad) = self.forward.optional(rest);
        let limits = glue::limits_of(client, storage_type(OP, client, y.dtype)?);
        let b = choose(Place::Cube, self.name(), p, &limits, BackwardBlueprint::best_for(p, &limits));
        launch_backward(client, self, &b, [q, kv, y, stats, dy], bias, pad, [dkv, partial])
    }

    fn flops(&self) -> u64 {
        self.forward.problem.backward_flops()
    }
}

/// One buffer of two, whose lengths `width` divides.
fn join<R: Runtime>(client: &ComputeClient<R>, a: &CubeArg, b: &CubeArg, width: usize, dtype: StorageType) -> CubeArg {
    let len = a.len + b.len;
    let out = CubeArg { handle: client.empty((len * a.dtype.size()).max(16)), len, dtype: a.dtype };
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

/// Partial sums → the wanted of (dq, d bias, d pad_kv), in this order.
#[derive(Debug, Clone, Copy)]
pub struct SumPartials {
    /// The forward's problem.
    pub problem: Problem,
    /// The partial sums that are read.
    pub partials: Partials,
}

impl SumPartials {
    /// Queries, bias and padding among the outputs.
    fn wanted<'a, A>(&self, outputs: impl IntoIterator<Item = &'a mut A>) -> [Option<&'a mut A>; 3] {
        let mut outputs = outputs.into_iter();
        let Partials { q, bias, pad, .. } = self.partials;
        [q, bias, pad].map(|wanted| if wanted { outputs.next() } else { None })
    }
}

impl Kernel for SumPartials {
    fn name(&self) -> &'static str {
        "query_attention_sum_partials"
    }

    fn output_shapes(&self) -> Vec<Vec<usize>> {
        let (p, parts) = (&self.problem, &self.partials);
        let q = parts.q.then(|| vec![p.owners(), p.queries(), p.channels()]);
        let bias = parts.bias.then(|| vec![p.groups, p.bias_len()]);
        let pad = parts.pad.then(|| vec![p.groups, 2 * p.channels()]);
        q.into_iter().chain(bias).chain(pad).collect()
    }

    fn host<T: Scalar>(&self, inputs: &[&[T]], outputs: &mut [&mut [T]]) -> Result<()> {
        let [q, bias, pad] = self.wanted(outputs).map(|o| o.map(|o| &mut **o));
        host::sum_partials(&self.problem, &self.partials, inputs[0], q, bias, pad);
        Ok(())
    }

    fn cube<R: Runtime>(&self, client: &ComputeClient<R>, inputs: &[CubeArg], outputs: &[CubeArg]) -> Result<()> {
        let [partial] = inputs else { return Err(wrong_count()) };
        let (p, parts, units) = (&self.problem, &self.partials, CubeDim::new_1d(UNITS));
        let grid = |entries: usize| glue::grid(entries.div_ceil(UNITS as usize));
        let dtype = storage_type(OP, client, partial.dtype)?;
        let (sizes, head_dim) = (|| sizes(p, 1, None), p.head_dim as u32);
        let mut outputs = outputs.to_vec();
        // Groups of no elements have no work, and no device accepts an empty grid.
        let [q, bias, pad] = self.wanted(&mut outputs).map(|o| o.filter(|o| o.len > 0));
        // SAFETY: units beyond the entries return; owners, runs, heads, queries and tokens stay in the partial sums' shape.
        unsafe {
            if let Some(q) = q {
                let (grid, entries) = (grid(q.len), q.len as u32);
                let (from, to, runs) = (partial.array(), q.array(), runs(p, parts));
                sum_queries::launch_unchecked::<R>(
                    client,
                    grid,
                    units,
                    from,
                    to,
                    sizes(),
                    runs,
                    head_dim,
                    entries,
                    dtype,
                );
            }
            if let Some(bias) = bias {
                let (grid, entries) = (grid(bias.len), bias.len as u32);
                let (from, to, runs) = (partial.array(), bias.array(), runs(p, parts));
                sum_bias::launch_unchecked::<R>(
                    client,
                    grid,
                    units,
                    from,
                    to,
                    windows(p),
                    sizes(),
                    runs,
                    entries,
                    dtype,
                );
            }
            if let Some(pad) = pad {
                let (grid, entries) = (grid(pad.len), pad.len as u32);
                let (from, to, runs) = (partial.array(), pad.array(), runs(p, parts));
                sum_padding::launch_unchecked::<R>(
                    client,
                    grid,
                    units,
                    from,
                    to,
                    sizes(),
                    runs,
                    head_dim,
                    entries,
                    dtype,
                );
            }
        }
        Ok(())
    }

    fn flops(&self) -> u64 {
        self.partials.shape(&self.problem).iter().product::<usize>() as u64
    }
}
