//! The compile-time choices of the kernels.

use serde::{Deserialize, Serialize};
use swinstyle_kit::{
    Limits,
    attention::matrix::{Form, GradientTile, MatrixTile, Shape, Shaped},
    glue,
    tuning::{Key, Tunable},
};

use crate::Problem;

/// A variant of the forward kernel.
pub type Blueprint = Form<UnitTile, MatrixTile>;

/// A variant of the backward kernel.
pub type BackwardBlueprint = Form<UnitTile, GradientTile>;

/// Work of a cube whose units go through tokens. A unit owns a query (in the backward kernel also tokens) of one head of one set; keys and values
/// pass through shared memory in tiles, and small sets share a cube.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct UnitTile {
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

/// Channels of the largest head of which a unit holds four vectors (k, v and their gradients) in registers, where it has 255.
const WHOLE_HEAD: usize = 48;

impl UnitTile {
    /// Whether heads are so large that the backward kernel takes its operands through the registers one after the other and
    /// keeps the factors that they make, one a unit and row of a tile, in shared memory.
    pub fn staged(&self) -> bool {
        self.vector_width * self.head_vectors > WHOLE_HEAD
    }

    /// Bytes of shared memory of a row of a tile of one head.
    fn row_bytes(head_dim: usize, units: usize) -> usize {
        4 * (2 * head_dim + 3 + if head_dim > WHOLE_HEAD { units } else { 0 })
    }

    /// Bytes of shared memory of the backward kernel, the larger one: two vectors and three statistics a row of a tile.
    pub fn shared_memory(&self) -> usize {
        self.heads * self.tile * Self::row_bytes(self.vector_width * self.head_vectors, self.units)
    }

    /// The blueprint with `units` a head and `heads` a cube whose tiles fill at most `shared` bytes evenly.
    fn tiled(problem: &Problem, units: usize, heads: usize, shared: usize) -> Self {
        let rows = problem.tokens().max(problem.queries());
        let vector_width = glue::vector_width(&[problem.head_dim]);
        let head_vectors = problem.head_dim / vector_width;
        let most = (shared / (heads * Self::row_bytes(problem.head_dim, units))).clamp(1, rows);
        Self { vector_width, head_vectors, units, heads, tile: rows.div_ceil(rows.div_ceil(most)) }
    }

    /// A unit a query at least; up to 64 where there are tokens for them in the backward kernel, and to load tiles in both.
    fn usual_units(problem: &Problem, limits: &Limits) -> usize {
        problem.queries().max(problem.tokens().min(64)).min(limits.units_per_cube as usize)
    }
}

impl swinstyle_kit::Blueprint for UnitTile {
    type Problem = Problem;

    /// As many heads of small sets a cube as make 64 units and leave a tile 16 rows.
    fn default_for(problem: &Problem) -> Self {
        let limits = Limits::WEBGPU;
        let units = Self::usual_units(problem, &limits);
        let fits = limits.shared_memory / (16 * Self::row_bytes(problem.head_dim, units));
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

impl Tunable for UnitTile {
    fn key(problem: &Problem) -> Key {
        key(problem)
    }
}

/// The head dimension is the class; heads of sets, queries and tokens are the sizes.
fn key(p: &Problem) -> Key {
    Key::new(format!("head_dim {}", p.head_dim), &[p.groups * p.sets() * p.heads, p.queries(), p.tokens()])
}

impl Shaped for Problem {
    fn shape(&self) -> Shape {
        Shape { head_dim: self.head_dim, queries: self.queries(), tokens: self.tokens() }
    }
}

/// A variant of the host's passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HostBlueprint {
    /// Tokens of a block: their keys, values and logits should stay in the first-level cache.
    pub block: usize,
}

impl swinstyle_kit::Blueprint for HostBlueprint {
    type Problem = Problem;

    fn default_for(_: &Problem) -> Self {
        Self { block: 64 }
    }

    fn space(problem: &Problem, _: &Limits) -> Vec<Self> {
        let shorter = |&block: &usize| block <= problem.tokens().next_power_of_two().max(64);
        [16, 32, 64, 128, 256].into_iter().filter(shorter).map(|block| Self { block }).collect()
    }
}

impl Tunable for HostBlueprint {
    fn key(problem: &Problem) -> Key {
        key(problem)
    }
}
