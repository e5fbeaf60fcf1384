//! The kernels as the runtime sees them: shapes, the host twin, and the CubeCL launches.

mod forms;

use cubecl::prelude::*;
use swinstyle_kit::{
    Blueprint as _, Problem as _,
    attention::{
        add_runs,
        cube::{check_lengths, map},
    },
    glue,
    tuning::{Place, choose},
};
use swinstyle_tensor::{CubeArg, Kernel, Result, Scalar, TensorError, cube::storage_type};

use crate::{
    cube::sums::{sum_padding, sum_table},
    host,
    problem::{OP, Partials, Problem},
    tune::{BackwardBlueprint, Blueprint},
};
pub(crate) use forms::{launch_backward, launch_forward};
use forms::{runs, sizes};

fn wrong_count() -> TensorError {
    TensorError::shape(OP, "a wrong number of inputs or outputs")
}

/// (qkv, table[, pad_qkv]) → (y, statistics `[.., heads, 2]`: each query's largest logit and ln Σ exp(logit − largest)).
#[derive(Debug, Clone, Copy)]
pub struct Forward(pub Problem);

impl Kernel for Forward {
    fn name(&self) -> &'static str {
        "window_attention"
    }

    fn output_shapes(&self) -> Vec<Vec<usize>> {
        vec![self.0.output_shape(), vec![self.0.windows.tokens(), self.0.heads, 2]]
    }

    fn host<T: Scalar>(&self, inputs: &[&[T]], outputs: &mut [&mut [T]]) -> Result<()> {
        let ([qkv, table, pad @ ..], [y, stats]) = (inputs, outputs) else { return Err(wrong_count()) };
        host::forward(&self.0, qkv, pad.first().copied(), table, y, stats);
        Ok(())
    }

    fn cube<R: Runtime>(&self, client: &ComputeClient<R>, inputs: &[CubeArg], outputs: &[CubeArg]) -> Result<()> {
        let ([qkv, table, pad @ ..], [y, stats]) = (inputs, outputs) else { return Err(wrong_count()) };
        check_lengths(OP, inputs)?;
        let p = &self.0;
        let limits = glue::limits_of(client, storage_type(OP, client, y.dtype)?);
        let b = choose(Place::Cube, self.name(), p, &limits, Blueprint::best_for(p, &limits));
        launch_forward(client, p, &b, [qkv, table], pad.first(), [y, stats])
    }

    fn flops(&self) -> u64 {
        self.0.flops()
    }
}

/// (qkv, table, y, statistics, dy[, pad_qkv]) → (dqkv, partial sums).
#[derive(Debug, Clone, Copy)]
pub struct Backward {
    /// The forward's problem.
    pub problem: Problem,
    /// The partial sums that are written.
    pub partials: Partials,
}

impl Kernel for Backward {
    fn name(&self) -> &'static str {
        "window_attention_backward"
    }

    fn output_shapes(&self) -> Vec<Vec<usize>> {
        let mut qkv = self.problem.output_shape();
        qkv[3] *= 3;
        vec![qkv, self.partials.shape(&self.problem)]
    }

    fn host<T: Scalar>(&self, inputs: &[&[T]], outputs: &mut [&mut [T]]) -> Result<()> {
        let ([qkv, table, _, stats, dy, pad @ ..], [dqkv, partial]) = (inputs, outputs) else {
            return Err(wrong_count());
        };
        let pad = pad.first().copied();
        host::backward(&self.problem, &self.partials, qkv, pad, table, stats, dy, dqkv, partial);
        Ok(())
    }

    fn cube<R: Runtime>(&self, client: &ComputeClient<R>, inputs: &[CubeArg], outputs: &[CubeArg]) -> Result<()> {
        let ([qkv, table, y, stats, dy, pad @ ..], [dqkv, partial]) = (inputs, outputs) else {
            return Err(wrong_count());
        };
        check_lengths(OP, inputs)?;
        check_lengths(OP, outputs)?;
        let p = &self.problem;
        let limits = glue::limits_of(client, storage_type(OP, client, y.dtype)?);
        let b = choose(Place::Cube, self.name(), p, &limits, BackwardBlueprint::best_for(p, &limits));
        launch_backward(client, self, &b, [qkv, table, y, stats, dy], pad.first(), [dqkv, partial])
    }

    fn flops(&self) -> u64 {
        self.problem.backward_flops()
    }
}

/// Partial sums → the wanted of (d bias table, d pad_qkv), in this order.
#[derive(Debug, Clone, Copy)]
pub struct SumPartials {
    /// The forward's problem.
    pub problem: Problem,
    /// The partial sums that are read.
    pub partials: Partials,
}

impl SumPartials {
    /// Table and padding among the outputs.
    fn wanted<'a, A>(&self, outputs: impl IntoIterator<Item = &'a mut A>) -> [Option<&'a mut A>; 2] {
        let mut outputs = outputs.into_iter();
        [self.partials.table, self.partials.pad].map(|wanted| if wanted { outputs.next() } else { None })
    }
}

impl Kernel for SumPartials {
    fn name(&self) -> &'static str {
        "window_attention_sum_partials"
    }

    fn output_shapes(&self) -> Vec<Vec<usize>> {
        let p = &self.problem;
        let table = self.partials.table.then(|| vec![p.windows.table_len(), p.heads]);
        table.into_iter().chain(self.partials.pad.then(|| vec![3 * p.channels()])).collect()
    }

    fn host<T: Scalar>(&self, inputs: &[&[T]], outputs: &mut [&mut [T]]) -> Result<()> {
        let [table, pad] = self.wanted(outputs);
        host::sum_partials(&self.problem, &self.partials, inputs[0], table.map(|t| &mut **t), pad.map(|t| &mut **t));
        Ok(())
    }

    fn cube<R: Runtime>(&self, client: &ComputeClient<R>, inputs: &[CubeArg], outputs: &[CubeArg]) -> Result<()> {
        const UNITS: u32 = 64;
        let [partial] = inputs else { return Err(wrong_count()) };
        let (p, units) = (&self.problem, CubeDim::new_1d(UNITS));
        let grid = |entries: usize| glue::grid(entries.div_ceil(UNITS as usize));
        let partial = add_runs(client, partial, 1, &self.partials.chunks)?;
        let added = Partials { chunks: self.partials.chunks.added(), ..self.partials };
        let mut outputs = outputs.to_vec();
        let [table, pad] = self.wanted(&mut outputs);
        let dtypes = |to: &CubeArg| -> Result<_> {
            Ok([storage_type(OP, client, partial.dtype)?, storage_type(OP, client, to.dtype)?])
        };
        // SAFETY: units beyond the entries return; runs, heads and cells stay in the partial sums' shape.
        unsafe {
            if let Some(table) = table {
                sum_table::launch_unchecked::<R>(
                    client,
                    grid(table.len),
                    units,
                    partial.array(),
                    table.array(),
                    map(&p.windows),
                    sizes(p, 1, false),
                    runs(p, &added),
                    table.len as u32,
                    dtypes(table)?,
                );
            }
            if let Some(pad) = pad {
                sum_padding::launch_unchecked::<R>(
                    client,
                    grid(pad.len),
                    units,
                    partial.array(),
                    pad.array(),
                    sizes(p, 1, false),
                    runs(p, &added),
                    p.head_dim as u32,
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
