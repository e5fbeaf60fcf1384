//! What the attention kernels on matrix units share: a plane multiplies sixteen queries with all keys of its set, in f16 or bf16 with
//! f32 sums.
//!
//! Queries, keys and values stay in shared memory as they are stored. Logits and softmax are f32, a unit with half a row of the sixteen
//! queries each; the probabilities, not yet divided by their sum, are rounded to the type for the second product. Sets of more keys than
//! a tile are swept twice: once for maxima and sums, once for the product, for fragments cannot be rescaled by rows.

// `#[cube]` generates public items beside each function that cannot carry documentation.
#![allow(missing_docs)]

use cubecl::{cmma, prelude::*};
use serde::{Deserialize, Serialize};

use crate::Limits;

/// Edge of a fragment, in elements.
pub const EDGE: usize = 16;
/// Halves of one load, and the padding of a tile's rows: neighbouring rows then begin in other banks.
pub const WIDTH: usize = 8;
/// Units of a plane.
pub const PLANE: usize = 32;
/// Logit of what is not there.
pub const ABSENT: f32 = -1e30;

/// Channels of the largest head whose sums a plane holds in four fragments.
const LARGEST_HEAD: usize = 64;
/// Keys of a tile at most: sixteen rows of logits are then 4 KiB.
const MOST_KEYS: usize = 64;

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
}

impl MatrixTile {
    /// The tile for heads of so many channels and sets of so many keys, with at most `most_keys` of them at a time.
    pub fn new(head_dim: usize, keys: usize, tasks: usize, planes: usize, most_keys: usize) -> Self {
        let tile = keys.next_multiple_of(EDGE).min(most_keys);
        Self { head_vectors: head_dim / WIDTH, tasks, planes, keys: tile, whole: tile >= keys }
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

    /// As many planes as a set's queries fill, up to four, and as many small sets as fill four planes. Nothing where the device has
    /// no matrix units for the type, or heads are no whole vectors or too large.
    pub fn fitting(head_dim: usize, queries: usize, keys: usize, limits: &Limits) -> Option<Self> {
        if !limits.matrix_units || !head_dim.is_multiple_of(WIDTH) || head_dim > LARGEST_HEAD {
            return None;
        }
        let rows = queries.div_ceil(EDGE);
        let sizes = [(4, 1), (2, 2), (1, 4), (2, 1), (1, 2), (1, 1)];
        let tiles = sizes.into_iter().filter(|(planes, _)| *planes <= rows);
        tiles.map(|(planes, tasks)| Self::new(head_dim, keys, tasks, planes, MOST_KEYS)).find(|t| t.is_legal(limits))
    }

    /// Every tile that a device with these limits can hold.
    pub fn space(head_dim: usize, queries: usize, keys: usize, limits: &Limits) -> Vec<Self> {
        let mut all = Vec::new();
        if Self::fitting(head_dim, queries, keys, limits).is_none() {
            return all;
        }
        for most_keys in [16, 32, MOST_KEYS] {
            for planes in [1, 2, 4] {
                for tasks in [1, 2, 4, 8] {
                    let tile = Self::new(head_dim, keys, tasks, planes, most_keys);
                    let busy = planes <= queries.div_ceil(EDGE).max(1);
                    if busy && tile.is_legal(limits) && !all.contains(&tile) {
                        all.push(tile);
                    }
                }
            }
        }
        all
    }
}

/// Where a unit works: its task in the cube and, in vectors, where its plane's and task's tiles begin.
#[derive(CubeType, Clone, Copy)]
pub struct Place {
    /// Head of a set, of those of the cube.
    pub task: usize,
    /// Plane of those of the task, and the unit's number in them.
    pub plane: usize,
    pub unit: usize,
    pub lane: usize,
    pub queries: usize,
    pub keys: usize,
    /// The plane's sixteen rows of logits and of weights.
    pub strip: usize,
    /// Row of the sixteen, and which of each pair of vectors in it.
    pub row: usize,
    pub half: usize,
    /// The numbers of this unit, and of the one with the other half of the row.
    pub fact: usize,
    pub partner: usize,
}

#[cube]
pub fn place(#[comptime] b: MatrixTile) -> Place {
    let of_cube = UNIT_POS as usize / PLANE;
    let lane = UNIT_POS as usize % PLANE;
    let task = of_cube / comptime!(b.planes);
    Place {
        task,
        plane: of_cube % comptime!(b.planes),
        unit: UNIT_POS as usize % comptime!(b.planes * PLANE),
        lane,
        queries: of_cube * comptime!(EDGE * b.pitch()),
        keys: task * comptime!(b.keys * b.pitch()),
        strip: of_cube * comptime!(EDGE * b.logit_pitch()),
        row: lane / 2,
        half: lane % 2,
        fact: of_cube * PLANE + lane,
        partner: of_cube * PLANE + lane + 1 - 2 * (lane % 2),
    }
}

/// A fragment of f32 zeros.
#[cube]
fn zero() -> cmma::Matrix<f32> {
    cmma::Matrix::<f32>::from_value(
        cmma::MatrixIdent::Accumulator,
        EDGE,
        EDGE,
        EDGE,
        cmma::MatrixLayout::Undefined,
        0.0f32,
    )
}

/// A plane's sums: sixteen queries by the channels of a head, zeros.
#[cube]
pub fn zeros(#[comptime] b: MatrixTile) -> Sequence<cmma::Matrix<f32>> {
    let mut sums = Sequence::<cmma::Matrix<f32>>::new();
    #[unroll]
    for _ in 0..comptime!(b.row_fragments()) {
        sums.push(zero());
    }
    sums
}

/// Q·Kᵀ of a plane's queries and a tile's keys into the plane's strip of logits.
#[cube]
pub fn multiply_queries_and_keys<F: Float, N: Size>(
    queries: &SharedMemory<Vector<F, N>>,
    keys: &SharedMemory<Vector<F, N>>,
    logits: &mut SharedMemory<Vector<f32, N>>,
    at: &Place,
    #[comptime] b: MatrixTile,
) {
    let stride = comptime!((b.pitch() * WIDTH) as u32);
    let rows = comptime!(EDGE * b.pitch());
    let mut left = Sequence::<cmma::Matrix<F>>::new();
    #[unroll]
    for d in 0..comptime!(b.row_fragments()) {
        let from = at.queries + comptime!(d * EDGE / WIDTH);
        // SAFETY: it is loaded at once.
        let fragment = unsafe {
            cmma::Matrix::<F>::uninitialized(cmma::MatrixIdent::A, EDGE, EDGE, EDGE, cmma::MatrixLayout::RowMajor)
        };
        cmma::load(&fragment, &queries.slice(from, from + rows), stride);
        left.push(fragment);
    }
    #[unroll]
    for k in 0..comptime!(b.keys / EDGE) {
        let sum = zero();
        #[unroll]
        for d in 0..comptime!(b.row_fragments()) {
            let from = at.keys + comptime!(k * EDGE * b.pitch() + d * EDGE / WIDTH);
            // SAFETY: it is loaded at once. Keys lie in rows, which are the columns of the right factor.
            let fragment = unsafe {
                cmma::Matrix::<F>::uninitialized(cmma::MatrixIdent::B, EDGE, EDGE, EDGE, cmma::MatrixLayout::ColMajor)
            };
            cmma::load(&fragment, &keys.slice(from, from + rows), stride);
            cmma::execute::<F, F, f32, f32>(left.index(d), &fragment, &sum, &sum);
        }
        let to = at.strip + comptime!(k * EDGE / WIDTH);
        let end = to + comptime!(EDGE * b.logit_pitch());
        cmma::store(
            &mut logits.slice_mut(to, end),
            &sum,
            comptime!((b.logit_pitch() * WIDTH) as u32),
            cmma::MatrixLayout::RowMajor,
        );
    }
}

/// The larger of both halves of a row.
#[cube]
pub fn row_max(facts: &mut SharedMemory<f32>, at: &Place, own: f32) -> f32 {
    facts[at.fact] = own;
    sync_plane();
    f32::max(own, facts[at.partner])
}

/// The sum of both halves of a row.
#[cube]
pub fn row_sum(facts: &mut SharedMemory<f32>, at: &Place, own: f32) -> f32 {
    // The maxima have been read.
    sync_plane();
    facts[at.fact] = own;
    sync_plane();
    own + facts[at.partner]
}

/// From a unit's half row of logits to weights exp(logit − max); returns their sum before they are rounded.
#[cube]
pub fn weigh<F: Float, N: Size>(
    logits: &SharedMemory<Vector<f32, N>>,
    weights: &mut SharedMemory<Vector<F, N>>,
    at: &Place,
    max: f32,
    #[comptime] b: MatrixTile,
) -> f32 {
    let mut total = f32::new(0.0);
    let first = at.strip + at.row * comptime!(b.logit_pitch()) + at.half;
    #[unroll]
    for v in 0..comptime!(b.keys / EDGE) {
        let c = first + comptime!(2 * v);
        let p = (logits[c] - Vector::new(max)).exp();
        #[unroll]
        for e in 0..WIDTH {
            total += p[e];
        }
        weights[c] = Vector::cast_from(p);
    }
    total
}

/// Adds P·V of a plane's weights and a tile's values to the plane's sums.
#[cube]
pub fn add_weighted_values<F: Float, N: Size>(
    weights: &SharedMemory<Vector<F, N>>,
    values: &SharedMemory<Vector<F, N>>,
    sums: &Sequence<cmma::Matrix<f32>>,
    at: &Place,
    #[comptime] b: MatrixTile,
) {
    #[unroll]
    for k in 0..comptime!(b.keys / EDGE) {
        let from = at.strip + comptime!(k * EDGE / WIDTH);
        // SAFETY: both are loaded at once.
        let left = unsafe {
            cmma::Matrix::<F>::uninitialized(cmma::MatrixIdent::A, EDGE, EDGE, EDGE, cmma::MatrixLayout::RowMajor)
        };
        let end = from + comptime!(EDGE * b.logit_pitch());
        cmma::load(&left, &weights.slice(from, end), comptime!((b.logit_pitch() * WIDTH) as u32));
        #[unroll]
        for d in 0..comptime!(b.row_fragments()) {
            let from = at.keys + comptime!(k * EDGE * b.pitch() + d * EDGE / WIDTH);
            let right = unsafe {
                cmma::Matrix::<F>::uninitialized(cmma::MatrixIdent::B, EDGE, EDGE, EDGE, cmma::MatrixLayout::RowMajor)
            };
            let end = from + comptime!(EDGE * b.pitch());
            cmma::load(&right, &values.slice(from, end), comptime!((b.pitch() * WIDTH) as u32));
            let sum = sums.index(d);
            cmma::execute::<F, F, f32, f32>(&left, &right, sum, sum);
        }
    }
}

/// One fragment of a plane's sums through its strip of logits: the vector of this unit's row and half.
#[cube]
pub fn spread<N: Size>(
    sum: &cmma::Matrix<f32>,
    logits: &mut SharedMemory<Vector<f32, N>>,
    at: &Place,
    #[comptime] b: MatrixTile,
) -> Vector<f32, N> {
    // The vectors of the fragment before have been read.
    sync_plane();
    let end = at.strip + comptime!(EDGE * b.logit_pitch());
    cmma::store(
        &mut logits.slice_mut(at.strip, end),
        sum,
        comptime!((b.logit_pitch() * WIDTH) as u32),
        cmma::MatrixLayout::RowMajor,
    );
    sync_plane();
    logits[at.strip + at.row * comptime!(b.logit_pitch()) + at.half]
}
