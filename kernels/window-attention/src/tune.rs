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

/// Work of a cube whose units go through keys. A unit owns a query (in the backward kernel also a key) of one head of one window; keys and
/// values pass through shared memory in tiles, and small windows share a cube.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct UnitTile {
    /// Elements of one load, which divide the head dimension: 1, 2 or 4.
    pub vector_width: usize,
    /// Vectors of one head.
    pub head_vectors: usize,
    /// Units of one head of one window; more cells than units are taken in turns.
    pub units: usize,
    /// Heads of windows that share a cube.
    pub heads: usize,
    /// Keys of a tile.
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

    /// Bytes of shared memory of the backward kernel, the larger one: two vectors and three statistics a token of a tile.
    pub fn shared_memory(&self) -> usize {
        self.heads * self.tile * Self::row_bytes(self.vector_width * self.head_vectors, self.units)
    }

    /// The blueprint with `units` a head and `heads` a cube whose tiles fill at most `shared` bytes evenly.
    fn tiled(problem: &Problem, units: usize, heads: usize, shared: usize) -> Self {
        let n = problem.windows.cells();
        let vector_width = glue::vector_width(&[problem.head_dim]);
        let head_vectors = problem.head_dim / vector_width;
        let most = (shared / (heads * Self::row_bytes(problem.head_dim, units))).clamp(1, n);
        Self { vector_width, head_vectors, units, heads, tile: n.div_ceil(n.div_ceil(most)) }
    }
}

impl swinstyle_kit::Blueprint for UnitTile {
    type Problem = Problem;

    /// A unit a cell up to 256, and as many heads of small windows a cube as make 64 units and leave a tile 16 keys.
    fn default_for(problem: &Problem) -> Self {
        let limits = Limits::WEBGPU;
        let units = problem.windows.cells().min(limits.units_per_cube as usize);
        let fits = limits.shared_memory / (16 * Self::row_bytes(problem.head_dim, units));
        let heads = (64 / units).min(fits).max(1);
        Self::tiled(problem, units, heads, limits.shared_memory)
    }

    fn space(problem: &Problem, limits: &Limits) -> Vec<Self> {
        let mut space = Vec::new();
        let units = problem.windows.cells().min(limits.units_per_cube as usize);
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
        space
    }
}

impl Tunable for UnitTile {
    /// The head dimension is the class; heads of windows and cells are the sizes.
    fn key(problem: &Problem) -> Key {
        let class = format!("head_dim {}", problem.head_dim);
        Key::new(class, &[problem.windows.count() * problem.heads, problem.windows.cells()])
    }
}

impl Shaped for Problem {
    fn shape(&self) -> Shape {
        let cells = self.windows.cells();
        Shape { head_dim: self.head_dim, queries: cells, tokens: cells }
    }
}
