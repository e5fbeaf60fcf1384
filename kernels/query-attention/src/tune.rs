//! The compile-time choices of the kernels.

use swinstyle_kit::{Limits, glue};

use crate::Problem;

/// A variant of the kernels. A unit owns a query (in the backward kernel also tokens) of one head of one set; keys and values
/// pass through shared memory in tiles, and small sets share a cube.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Blueprint {
    /// Elements of one load, which divide the head dimension: 1, 2 or 4.
    pub vector_width: usize,
    /// Vectors of one head.
    pub head_vectors: usize,
    /// Units of one head of one set; more queries or tokens than units are taken in turns.
    pub units: usize,
    /// Heads of sets that share a cube.
    pub heads: usize,
    /// Tokens, or in the backward kernel queries, of a tile.
    pub tile: usize,
}

impl Blueprint {
    /// Bytes of shared memory of the backward kernel, the larger one: two vectors and three statistics a row of a tile.
    pub fn shared_memory(&self) -> usize {
        4 * self.heads * self.tile * (2 * self.vector_width * self.head_vectors + 3)
    }

    /// The blueprint with `units` a head and `heads` a cube whose tiles fill at most `shared` bytes evenly.
    fn tiled(problem: &Problem, units: usize, heads: usize, shared: usize) -> Self {
        let rows = problem.tokens().max(problem.queries());
        let vector_width = glue::vector_width(&[problem.head_dim]);
        let head_vectors = problem.head_dim / vector_width;
        let most = (shared / (4 * heads * (2 * problem.head_dim + 3))).clamp(1, rows);
        Self { vector_width, head_vectors, units, heads, tile: rows.div_ceil(rows.div_ceil(most)) }
    }

    /// A unit a query at least; up to 64 where there are tokens for them in the backward kernel, and to load tiles in both.
    fn usual_units(problem: &Problem, limits: &Limits) -> usize {
        problem.queries().max(problem.tokens().min(64)).min(limits.units_per_cube as usize)
    }
}

impl swinstyle_kit::Blueprint for Blueprint {
    type Problem = Problem;

    /// As many heads of small sets a cube as make 64 units and leave a tile 16 rows.
    fn default_for(problem: &Problem) -> Self {
        let limits = Limits::WEBGPU;
        let units = Self::usual_units(problem, &limits);
        let fits = limits.shared_memory / (4 * 16 * (2 * problem.head_dim + 3));
        let heads = (64 / units).min(fits).max(1);
        Self::tiled(problem, units, heads, limits.shared_memory)
    }

    fn space(problem: &Problem, limits: &Limits) -> Vec<Self> {
        let mut space = Vec::new();
        let usual = Self::usual_units(problem, limits);
        for units in [usual, 32, 64, 128] {
            for heads in [1, 2, 4, 8, 16] {
                for shared in [8 << 10, 16 << 10, 32 << 10, 48 << 10] {
                    let candidate = Self::tiled(problem, units, heads, shared);
                    let legal = heads * units <= limits.units_per_cube as usize
                        && candidate.shared_memory() <= limits.shared_memory;
                    if legal && !space.contains(&candidate) {
                        space.push(candidate);
                    }
                }
            }
        }
        space
    }
}
