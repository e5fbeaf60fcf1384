//! Runs of windows whose gradients are summed in order.

use cubecl::prelude::*;
use swinstyle_tensor::{
    CubeArg, DType, Device, Result,
    cube::{reduce::reduce, scratch},
    ops::{Reduce, ReduceOp},
};

/// Runs on the cpu, and at least on a GPU: more than its cores, few enough to add quickly.
const USUAL: usize = 64;
/// Units that keep a large GPU busy.
const BUSY: usize = 1 << 17;
/// Partial sums of a problem at most, in elements.
const MOST_ELEMENTS: usize = 1 << 22;

/// How sets of tokens are cut into runs, each with partial sums of its own: the cut depends on shapes and the kind of device
/// alone, so results do not depend on the number of threads or cubes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Chunks {
    /// Sets of a run; the last may hold fewer.
    pub length: usize,
    /// Number of runs.
    pub count: usize,
    /// Sets in all.
    pub sets: usize,
}

/// What decides how many runs are worth their partial sums.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// Elements of the partial sums of one run.
    pub elements: usize,
    /// Units that work on one run at the same time.
    pub units: usize,
    /// Elements that one set's gradients read and write in any case.
    pub values: usize,
}

impl Chunks {
    /// At most 64 runs, and fewer where their partial sums would pass 2²² elements. On a GPU more of them where small windows would leave it
    /// idle, as long as the partial sums are below an eighth of all other elements.
    pub fn new(sets: usize, cost: Cost, device: Device) -> Self {
        let elements = cost.elements.max(1);
        let busy = match device {
            Device::Cpu => USUAL,
            _ => (BUSY / cost.units.max(1)).min(sets.saturating_mul(cost.values) / 8 / elements).max(USUAL),
        };
        let most = (MOST_ELEMENTS / elements).clamp(1, busy);
        let length = sets.div_ceil(most).max(1);
        Self { length, count: sets.div_ceil(length), sets }
    }

    /// The sets of a run.
    pub fn range(&self, chunk: usize) -> std::ops::Range<usize> {
        chunk * self.length..((chunk + 1) * self.length).min(self.sets)
    }

    /// What is left of the runs when [`add_runs`] has added them.
    pub fn added(self) -> Self {
        Self { count: self.count.min(1), ..self }
    }
}

/// Adds the runs of partial sums `[owners, runs, ..]` in order and in f32: `[owners, ..]`.
pub fn add_runs<R: Runtime>(
    client: &ComputeClient<R>,
    partial: &CubeArg,
    owners: usize,
    chunks: &Chunks,
) -> Result<CubeArg> {
    if chunks.count <= 1 || partial.len == 0 {
        return Ok(partial.clone());
    }
    let inner = partial.len / (owners * chunks.count);
    let sums = scratch(client, owners * inner, DType::F32);
    reduce(client, &Reduce { op: ReduceOp::Sum, outer: owners, length: chunks.count, inner }, partial, &sums)?;
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_cover_every_set_once() {
        for (sets, elements) in [(0, 10), (1, 10), (64, 10), (65, 10), (1000, 1 << 20), (7, usize::MAX)] {
            for device in [Device::Cpu, Device::Cuda(0)] {
                let c = Chunks::new(sets, Cost { elements, units: 48, values: 500 }, device);
                let covered: Vec<usize> = (0..c.count).flat_map(|i| c.range(i)).collect();
                assert_eq!(covered, (0..sets).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn small_windows_fill_a_gpu_and_large_ones_add_little() {
        // 16 maps of 64×64 in windows of 4×4 with 3 heads of 32 channels, and of 32×32 in windows of 8×8 with 6 heads.
        let small = Cost { elements: 3 * 256, units: 3 * 16, values: 3 * 16 * 96 };
        assert_eq!(Chunks::new(4096, small, Device::Cpu).count, 64);
        assert_eq!(Chunks::new(4096, small, Device::Cuda(0)).count, 2048);
        let large = Cost { elements: 6 * 4096, units: 6 * 64, values: 3 * 64 * 192 };
        assert_eq!(Chunks::new(256, large, Device::Cuda(0)).count, 64);
    }
}
