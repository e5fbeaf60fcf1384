//! How planes share work and shared memory: a tile of the forward kernel, and one of its gradients.

use serde::{Deserialize, Serialize};

use super::{
    EDGE, PLANE, WIDTH,
    form::{Shape, Tile},
};
use crate::Limits;

/// Channels of the largest head whose sums a plane holds in four fragments.
const LARGEST_HEAD: usize = 64;
/// Tokens of a tile at most: sixteen rows of logits are then 4 KiB.
const MOST_KEYS: usize = 64;
/// Strips of queries that one cube of the gradients takes at most, of sixteen each.
const MOST_STRIPS: usize = 8;
/// Bytes of shared memory where nothing was tuned: what every CUDA device gives, and four cubes of it to a multiprocessor of the newer.
const USUAL_SHARED: usize = 48 << 10;

/// Vectors of a row of a head, in whole fragments.
const fn row_vectors(head_vectors: usize) -> usize {
    head_vectors.next_multiple_of(EDGE / WIDTH)
}

/// Whether the fragments' form takes such heads on such a device.
fn takes(shape: Shape, limits: &Limits) -> bool {
    limits.matrix_units && shape.head_dim.is_multiple_of(WIDTH) && shape.head_dim <= LARGEST_HEAD
}

/// Work of a cube whose planes multiply fragments: a plane takes sixteen queries of a head of a set at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MatrixTile {
    /// Vectors of eight channels of one head.
    pub head_vectors: usize,
    /// Heads of sets that share a cube.
    pub tasks: usize,
    /// Planes of one head of one set, which share its keys and values.
    pub planes: usize,
    /// Keys of a tile: whole fragments.
    pub keys: usize,
    /// One tile holds all keys of a set.
    pub whole: bool,
    /// Whether factors are registers that `ldmatrix` fills: see [`Product`](super::Product).
    pub ldmatrix: bool,
}

impl MatrixTile {
    /// The tile for heads of so many channels and sets of so many keys, with at most `most_keys` of them at a time.
    pub fn new(head_dim: usize, keys: usize, tasks: usize, planes: usize, most_keys: usize) -> Self {
        let tile = keys.next_multiple_of(EDGE).min(most_keys);
        Self { head_vectors: head_dim / WIDTH, tasks, planes, keys: tile, whole: tile >= keys, ldmatrix: false }
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
        row_vectors(self.head_vectors)
    }

    /// Fragments along a row of queries, keys or values.
    pub fn row_fragments(&self) -> usize {
        self.row_vectors() * WIDTH / EDGE
    }

    /// Vectors from one row of queries, keys or values to the next.
    pub fn pitch(&self) -> usize {
        self.row_vectors() + 1
    }

    /// Vectors from one row of logits to the next.
    pub fn logit_pitch(&self) -> usize {
        self.keys / WIDTH + 1
    }

    /// Bytes of shared memory: queries, keys, values and weights in a half type, logits and a number a unit in f32, and a number a key.
    pub fn shared_memory(&self) -> usize {
        let rows = self.all_planes() * EDGE * (self.pitch() + self.logit_pitch());
        let halves = rows + 2 * self.tasks * self.keys * self.pitch();
        let floats = self.all_planes() * (EDGE * self.logit_pitch() * WIDTH + PLANE) + self.tasks * self.keys;
        2 * WIDTH * halves + 4 * floats
    }

    fn is_legal(&self, limits: &Limits) -> bool {
        self.units() <= limits.units_per_cube as usize && self.shared_memory() <= limits.shared_memory
    }
}

impl Tile for MatrixTile {
    /// As many planes as a set's queries fill, up to four; sets of so few queries that one plane has them all share a cube.
    fn fitting(shape: Shape, limits: &Limits) -> Option<Self> {
        let rows = shape.queries.div_ceil(EDGE);
        let sizes = [(4, 1), (2, 1), (1, 4), (1, 2), (1, 1)];
        let sizes = sizes.into_iter().filter(|(planes, _)| takes(shape, limits) && *planes <= rows);
        let mut tiles = sizes.map(|(planes, tasks)| Self {
            ldmatrix: limits.ldmatrix,
            ..Self::new(shape.head_dim, shape.tokens, tasks, planes, MOST_KEYS)
        });
        tiles.find(|t| t.is_legal(limits))
    }

    fn space(shape: Shape, limits: &Limits) -> Vec<Self> {
        let mut all = Vec::new();
        if Self::fitting(shape, limits).is_none() {
            return all;
        }
        for most_keys in [16, 32, MOST_KEYS] {
            for planes in [1, 2, 4] {
                for tasks in [1, 2, 4, 8] {
                    let tile = Self::new(shape.head_dim, shape.tokens, tasks, planes, most_keys);
                    let tile = Self { ldmatrix: limits.ldmatrix, ..tile };
                    let busy = planes <= shape.queries.div_ceil(EDGE).max(1);
                    if busy && tile.is_legal(limits) && !all.contains(&tile) {
                        all.push(tile);
                    }
                }
            }
        }
        all
    }
}

/// Work of a cube that gathers gradients: a tile of strips of sixteen queries with a tile of strips of sixteen tokens at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GradientTile {
    /// Vectors of eight channels of one head.
    pub head_vectors: usize,
    /// Heads of runs of sets that share a cube.
    pub tasks: usize,
    /// Strips of queries in a tile.
    pub rows: usize,
    /// Strips of tokens in a tile; each has a plane that gathers its gradients.
    pub columns: usize,
    /// Planes that share the logits of a strip of queries.
    pub shares: usize,
    /// One tile holds all queries of a set: one sweep gathers all gradients. Else there are two, and two of five products are made twice.
    pub whole: bool,
    /// One tile holds all queries and tokens: the logits' gradients of a run of sets are summed in registers.
    pub single: bool,
    /// Whether factors are registers that `ldmatrix` fills: see [`Product`](super::Product).
    pub ldmatrix: bool,
}

impl GradientTile {
    /// The tile of so many strips of queries and tokens, with as many planes as the larger number.
    pub fn new(shape: Shape, tasks: usize, rows: usize, columns: usize) -> Self {
        let whole = rows * EDGE >= shape.queries;
        let single = whole && columns * EDGE >= shape.tokens;
        let (head_vectors, shares) = (shape.head_dim / WIDTH, columns.div_ceil(rows));
        Self { head_vectors, tasks, rows, columns, shares, whole, single, ldmatrix: false }
    }

    /// Planes of a head of a set.
    pub fn planes(&self) -> usize {
        self.rows * self.shares
    }

    /// Units of a cube.
    pub fn units(&self) -> usize {
        self.tasks * self.planes() * PLANE
    }

    /// Vectors of a row of queries or tokens: whole fragments.
    pub fn row_vectors(&self) -> usize {
        row_vectors(self.head_vectors)
    }

    /// Fragments along a row of queries or tokens.
    pub fn row_fragments(&self) -> usize {
        self.row_vectors() * WIDTH / EDGE
    }

    /// Vectors from one row of queries or tokens to the next.
    pub fn pitch(&self) -> usize {
        self.row_vectors() + 1
    }

    /// Vectors from one row of probabilities to the next.
    pub fn weight_pitch(&self) -> usize {
        self.columns * EDGE / WIDTH + 1
    }

    /// Vectors from one row of a plane's product to the next: two, and one that spreads the stores of a fragment over the banks.
    pub fn patch_pitch(&self) -> usize {
        EDGE / WIDTH + 1
    }

    /// Strips of tokens whose logits a plane makes.
    pub fn plane_columns(&self) -> usize {
        self.columns.div_ceil(self.shares)
    }

    /// Bytes of shared memory: queries, output gradients, keys, values and both factors of the products in a half type, a product a plane
    /// and two statistics a query in f32, and a number each query and token.
    pub fn shared_memory(&self) -> usize {
        let (queries, tokens) = (self.rows * EDGE, self.columns * EDGE);
        let halves = 2 * (queries + tokens) * self.pitch() + 2 * queries * self.weight_pitch();
        let patches = self.planes() * EDGE * self.patch_pitch() * WIDTH;
        self.tasks * (2 * WIDTH * halves + 4 * (patches + 3 * queries + tokens))
    }

    fn is_legal(&self, limits: &Limits) -> bool {
        self.units() <= limits.units_per_cube as usize && self.shared_memory() <= limits.shared_memory
    }
}

impl Tile for GradientTile {
    /// All queries at once, or four strips of them where they are more than eight; as many strips of tokens as fit, up to four. Runs are
    /// few, so that each has a cube of its own. A softmax over one token has a gradient of exactly zero, which the order of sums in
    /// fragments does not keep: that is left to the units.
    fn fitting(shape: Shape, limits: &Limits) -> Option<Self> {
        if !takes(shape, limits) || shape.tokens < 2 {
            return None;
        }
        let usual = Limits { shared_memory: limits.shared_memory.min(USUAL_SHARED), ..*limits };
        let [queries, tokens] = [shape.queries, shape.tokens].map(|n| n.div_ceil(EDGE).max(1));
        let all = if queries <= MOST_STRIPS { queries } else { 4 };
        let pairs = [all, 4, 2, 1].into_iter().flat_map(|rows| [4, 3, 2, 1].map(|columns| (rows, columns)));
        let pairs = pairs.filter(|&(rows, columns)| rows <= queries && columns <= tokens);
        let mut tiles =
            pairs.map(|(rows, columns)| Self { ldmatrix: limits.ldmatrix, ..Self::new(shape, 1, rows, columns) });
        tiles.find(|t| t.is_legal(&usual))
    }

    fn space(shape: Shape, limits: &Limits) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::from_iter(Self::fitting(shape, limits));
        if all.is_empty() {
            return all;
        }
        let [queries, tokens] = [shape.queries, shape.tokens].map(|n| n.div_ceil(EDGE).max(1));
        for rows in [1, 2, 4, queries.min(MOST_STRIPS)] {
            for columns in [1, 2, 3, 4] {
                for tasks in [1, 2, 4, 8] {
                    let tile = Self { ldmatrix: limits.ldmatrix, ..Self::new(shape, tasks, rows, columns) };
                    let busy = rows <= queries && columns <= tokens && tile.tasks * tile.planes() <= 2 * MOST_STRIPS;
                    if busy && tile.is_legal(limits) && !all.contains(&tile) {
                        all.push(tile);
                    }
                }
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const H100: Limits =
        Limits { units_per_cube: 1024, shared_memory: 227 << 10, plane_size: 32, matrix_units: true, ldmatrix: true };

    #[test]
    fn every_head_and_window_of_the_form_has_a_tile_of_gradients() {
        for head_dim in (8..=64).step_by(8) {
            for edge in 2..=16 {
                let shape = Shape { head_dim, queries: edge * edge, tokens: edge * edge };
                let tile = GradientTile::fitting(shape, &H100).unwrap();
                assert!(tile.shared_memory() <= USUAL_SHARED && tile.columns <= tile.planes(), "{tile:?}");
                let space = GradientTile::space(shape, &H100);
                assert!(space.contains(&tile) && space.iter().all(|t| t.columns <= t.planes()));
            }
        }
        let one = Shape { head_dim: 32, queries: 5, tokens: 1 };
        assert!(GradientTile::fitting(one, &H100).is_none() && GradientTile::space(one, &H100).is_empty());
        let without = Limits { matrix_units: false, ..H100 };
        assert!(GradientTile::fitting(Shape { tokens: 9, ..one }, &without).is_none());
    }
}
