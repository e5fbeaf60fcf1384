//! The compile-time choices of the kernels.

use serde::{Deserialize, Serialize};
use swinstyle_kit::{
    Limits, glue,
    tuning::{Key, Tunable},
};

use crate::Problem;

/// Edge of a fragment, in elements.
pub(crate) const EDGE: usize = 16;
/// Halves of one load, and the padding of a tile's rows: neighbouring rows then begin in other banks.
pub(crate) const WIDTH: usize = 8;
/// Units of a plane.
pub(crate) const PLANE: usize = 32;

/// A variant of the forward kernel, in one of two forms; the backward kernel has the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Blueprint {
    /// Each unit goes through the keys of its query: any type on any device.
    Units(UnitTile),
    /// Planes multiply fragments on matrix units: half types, and heads in whole vectors of eight channels.
    Matrix(MatrixTile),
}

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

/// Work of a cube whose planes multiply fragments: a plane takes sixteen queries of a head of a window at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MatrixTile {
    /// Vectors of eight channels of one head.
    pub head_vectors: usize,
    /// Heads of windows that share a cube.
    pub tasks: usize,
    /// Planes of one head of one window, which share its keys and values.
    pub planes: usize,
    /// Keys of a tile: whole fragments.
    pub keys: usize,
    /// One tile holds all keys of a window.
    pub whole: bool,
}

/// Channels of the largest head whose sums a plane holds in four fragments.
const LARGEST_MATRIX_HEAD: usize = 64;
/// Keys of a tile at most: sixteen rows of logits are then 4 KiB.
const MOST_KEYS: usize = 64;

impl MatrixTile {
    fn new(problem: &Problem, tasks: usize, planes: usize, most_keys: usize) -> Self {
        let cells = problem.windows.cells();
        let keys = cells.next_multiple_of(EDGE).min(most_keys);
        Self { head_vectors: problem.head_dim / WIDTH, tasks, planes, keys, whole: keys >= cells }
    }

    /// Planes of a cube.
    pub fn all_planes(&self) -> usize {
        self.tasks * self.planes
    }

    /// Units of a cube.
    pub fn units(&self) -> usize {
        self.all_planes() * PLANE
    }

    /// Vectors of a row of queries, keys or values: whole fragments.
    pub fn row_vectors(&self) -> usize {
        self.head_vectors.next_multiple_of(EDGE / WIDTH)
    }

    /// Vectors from one row of queries, keys or values to the next.
    pub fn pitch(&self) -> usize {
        self.row_vectors() + 1
    }

    /// Vectors from one row of logits to the next.
    pub fn logit_pitch(&self) -> usize {
        self.keys / WIDTH + 1
    }

    /// Bytes of shared memory: queries, keys, values and weights in a half type, logits and a number a unit in f32.
    pub fn shared_memory(&self) -> usize {
        let halves =
            self.all_planes() * EDGE * (self.pitch() + self.logit_pitch()) + 2 * self.tasks * self.keys * self.pitch();
        let floats = self.all_planes() * (EDGE * self.logit_pitch() * WIDTH + PLANE);
        2 * WIDTH * halves + 4 * floats
    }

    fn is_legal(&self, limits: &Limits) -> bool {
        self.units() <= limits.units_per_cube as usize && self.shared_memory() <= limits.shared_memory
    }

    /// As many planes as a window has rows of fragments, up to four, and as many small windows as fill four planes.
    fn fitting(problem: &Problem, limits: &Limits) -> Option<Self> {
        let d = problem.head_dim;
        if !limits.matrix_units || !d.is_multiple_of(WIDTH) || d > LARGEST_MATRIX_HEAD {
            return None;
        }
        let rows = problem.windows.cells().div_ceil(EDGE);
        let sizes = [(4, 1), (2, 2), (1, 4), (2, 1), (1, 2), (1, 1)];
        let tiles = sizes.into_iter().filter(|(planes, _)| *planes <= rows);
        tiles.map(|(planes, tasks)| Self::new(problem, tasks, planes, MOST_KEYS)).find(|t| t.is_legal(limits))
    }

    /// Every tile that a device with these limits can hold.
    fn space(problem: &Problem, limits: &Limits) -> Vec<Self> {
        let mut all = Vec::new();
        if Self::fitting(problem, limits).is_none() {
            return all;
        }
        for most_keys in [16, 32, MOST_KEYS] {
            for planes in [1, 2, 4] {
                for tasks in [1, 2, 4, 8] {
                    let tile = Self::new(problem, tasks, planes, most_keys);
                    let busy = planes <= problem.windows.cells().div_ceil(EDGE);
                    if busy && tile.is_legal(limits) && !all.contains(&tile) {
                        all.push(tile);
                    }
                }
            }
        }
        all
    }
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

impl swinstyle_kit::Blueprint for Blueprint {
    type Problem = Problem;

    fn default_for(problem: &Problem) -> Self {
        Self::Units(UnitTile::default_for(problem))
    }

    fn best_for(problem: &Problem, limits: &Limits) -> Self {
        MatrixTile::fitting(problem, limits).map_or_else(|| Self::default_for(problem), Self::Matrix)
    }

    fn space(problem: &Problem, limits: &Limits) -> Vec<Self> {
        let units = UnitTile::space(problem, limits).into_iter().map(Self::Units);
        units.chain(MatrixTile::space(problem, limits).into_iter().map(Self::Matrix)).collect()
    }
}

impl Tunable for Blueprint {
    fn key(problem: &Problem) -> Key {
        UnitTile::key(problem)
    }
}
