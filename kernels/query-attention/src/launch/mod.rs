//! The kernels as the runtime sees them: shapes, the host twin, and the CubeCL launches.

mod forms;
pub(crate) mod parts;

use cubecl::prelude::*;
use swinstyle_kit::{
    Blueprint as _, Problem as _,
    attention::{add_runs, cube::check_lengths},
    glue,
    tuning::{Place, choose},
};
use swinstyle_tensor::{CubeArg, Kernel, Result, Scalar, TensorError, cube::storage_type};

use crate::{
    cube::sums::{sum_bias, sum_padding, sum_queries},
    host,
    problem::{BiasKind, OP, Partials, Problem},
    tune::{BackwardBlueprint, Blueprint},
};
pub(crate) use forms::{launch_backward, launch_forward};
use forms::{runs, sizes, windows};
use parts::{launch_parts, split};

/// Units of the cubes of element-wise kernels.
const UNITS: u32 = 64;

fn wrong_count() -> TensorError {
    TensorError::shape(OP, "a wrong number of inputs or outputs")
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
        let choice = |p: &Problem| choose(Place::Cube, self.name(), p, &limits, Blueprint::best_for(p, &limits));
        match split(p, y.dtype) {
            Some((parts, count)) => launch_parts(client, p, (&parts, count), &choice(&parts), [q, kv], [y, stats]),
            None => launch_forward(client, p, &choice(p), [q, kv], bias, pad, [y, stats]),
        }
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
        let (p, units) = (&self.problem, CubeDim::new_1d(UNITS));
        let partial = add_runs(client, partial, p.owners(), &self.partials.chunks)?;
        let parts = &Partials { chunks: self.partials.chunks.added(), ..self.partials };
        let grid = |entries: usize| glue::grid(entries.div_ceil(UNITS as usize));
        let dtypes = |to: &CubeArg| -> Result<_> {
            Ok([storage_type(OP, client, partial.dtype)?, storage_type(OP, client, to.dtype)?])
        };
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
                    dtypes(q)?,
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
                    dtypes(bias)?,
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
                    dtypes(pad)?,
                );
            }
        }
        Ok(())
    }

    fn flops(&self) -> u64 {
        self.partials.shape(&self.problem).iter().product::<usize>() as u64
    }
}
