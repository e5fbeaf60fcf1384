//! The kernels as the runtime sees them: shapes, the host twin, and the CubeCL launch.

use cubecl::prelude::{ComputeClient, Runtime};
use swinstyle_kit::{Problem as _, glue};
use swinstyle_tensor::{CubeArg, Kernel, Result, Scalar};

use crate::{
    host,
    problem::{Partials, Problem},
};

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
        let [y, stats] = outputs else { return Ok(()) };
        host::forward(&self.0, inputs[0], inputs.get(2).copied(), inputs[1], y, stats);
        Ok(())
    }

    fn cube<R: Runtime>(&self, _client: &ComputeClient<R>, _inputs: &[CubeArg], _outputs: &[CubeArg]) -> Result<()> {
        Err(glue::backend_error(self.name(), "no kernel"))
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
        let [dqkv, partial] = outputs else { return Ok(()) };
        let &[qkv, table, _, stats, dy, ..] = inputs else { return Ok(()) };
        host::backward(&self.problem, &self.partials, qkv, inputs.get(5).copied(), table, stats, dy, dqkv, partial);
        Ok(())
    }

    fn cube<R: Runtime>(&self, _client: &ComputeClient<R>, _inputs: &[CubeArg], _outputs: &[CubeArg]) -> Result<()> {
        Err(glue::backend_error(self.name(), "no kernel"))
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
        let mut outputs = outputs.iter_mut();
        let table = if self.partials.table { outputs.next() } else { None };
        let pad = if self.partials.pad { outputs.next() } else { None };
        host::sum_partials(&self.problem, &self.partials, inputs[0], table.map(|t| &mut **t), pad.map(|t| &mut **t));
        Ok(())
    }

    fn cube<R: Runtime>(&self, _client: &ComputeClient<R>, _inputs: &[CubeArg], _outputs: &[CubeArg]) -> Result<()> {
        Err(glue::backend_error(self.name(), "no kernel"))
    }

    fn flops(&self) -> u64 {
        self.partials.shape(&self.problem).iter().product::<usize>() as u64
    }
}
