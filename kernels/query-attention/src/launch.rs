//! The kernels as the runtime sees them: shapes, the host twin, and the CubeCL launch.

use cubecl::prelude::{ComputeClient, Runtime};
use swinstyle_kit::{Problem as _, glue};
use swinstyle_tensor::{CubeArg, Kernel, Result, Scalar};

use crate::{
    host,
    problem::{BiasKind, Partials, Problem},
};

/// (q, kv[, bias][, pad_kv]) → (y, statistics `[.., heads, 2]`: each query's largest logit and ln Σ exp(logit − largest)).
#[derive(Debug, Clone, Copy)]
pub struct Forward {
    /// The shapes.
    pub problem: Problem,
    /// A row for padded tokens is given.
    pub pad: bool,
}

impl Forward {
    /// Bias and padded row among the inputs that follow `start`.
    pub fn optional<'a, A>(&self, inputs: &'a [A], start: usize) -> (Option<&'a A>, Option<&'a A>) {
        let has_bias = self.problem.bias != BiasKind::None;
        let bias = inputs.get(start).filter(|_| has_bias);
        (bias, inputs.get(start + usize::from(has_bias)).filter(|_| self.pad))
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
        let [y, stats] = outputs else { return Ok(()) };
        let (bias, pad) = self.optional(inputs, 2);
        host::forward(&self.problem, inputs[0], inputs[1], bias.copied(), pad.copied(), y, stats);
        Ok(())
    }

    fn cube<R: Runtime>(&self, _client: &ComputeClient<R>, _inputs: &[CubeArg], _outputs: &[CubeArg]) -> Result<()> {
        Err(glue::backend_error(self.name(), "no kernel"))
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
        let [dkv, partial] = outputs else { return Ok(()) };
        let &[q, kv, _, stats, dy, ..] = inputs else { return Ok(()) };
        let (bias, pad) = self.forward.optional(inputs, 5);
        let p = &self.forward.problem;
        host::backward(p, &self.partials, q, kv, bias.copied(), pad.copied(), stats, dy, dkv, partial);
        Ok(())
    }

    fn cube<R: Runtime>(&self, _client: &ComputeClient<R>, _inputs: &[CubeArg], _outputs: &[CubeArg]) -> Result<()> {
        Err(glue::backend_error(self.name(), "no kernel"))
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
        let mut outputs = outputs.iter_mut().map(|o| &mut **o);
        let wanted = [self.partials.q, self.partials.bias, self.partials.pad];
        let [q, bias, pad] = wanted.map(|wanted| if wanted { outputs.next() } else { None });
        host::sum_partials(&self.problem, &self.partials, inputs[0], q, bias, pad);
        Ok(())
    }

    fn cube<R: Runtime>(&self, _client: &ComputeClient<R>, _inputs: &[CubeArg], _outputs: &[CubeArg]) -> Result<()> {
        Err(glue::backend_error(self.name(), "no kernel"))
    }

    fn flops(&self) -> u64 {
        self.partials.shape(&self.problem).iter().product::<usize>() as u64
    }
}
