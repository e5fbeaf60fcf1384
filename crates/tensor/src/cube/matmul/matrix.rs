//! The form on matrix units, for f16 and bf16 whose matrices store whole vectors of eight.
//!
//! Operands lie in shared memory as they are stored; a fragment is loaded by rows or by columns, so nothing is transposed.

use cubecl::prelude::*;

use super::{Extents, Place};
use crate::{
    cube::fragments::{EDGE, MatrixTile, MatrixUnits, Operand, PLANE, WIDTH, multiply, patches, spread, zeros},
    ops::Matmul,
};

/// The compile-time choices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct MatrixForm {
    /// Planes, fragments and depth of a cube.
    pub(super) tile: MatrixTile,
    /// A is stored `[k, m]`.
    transpose_a: bool,
    /// B is stored `[n, k]`.
    transpose_b: bool,
}

impl MatrixForm {
    /// The form for a product, where all of its matrices store whole vectors and the device has the memory.
    pub(super) fn fitting(op: &Matmul, units: MatrixUnits, shared_memory: usize) -> Option<Self> {
        let Matmul { batch, m, n, k, transpose_a, transpose_b, .. } = *op;
        let lines = [if transpose_a { m } else { k }, if transpose_b { k } else { n }, n];
        let tile = MatrixTile::fitting(m, n, batch, units.ldmatrix);
        let whole = lines.iter().all(|l| l.is_multiple_of(WIDTH));
        (units.fragments && whole && tile.shared_memory() <= shared_memory).then_some(Self {
            tile,
            transpose_a,
            transpose_b,
        })
    }

    fn left(&self) -> Operand {
        self.tile.left(self.transpose_a)
    }

    fn right(&self) -> Operand {
        self.tile.right(self.transpose_b)
    }
}

/// The vector `at` of an operand's step: zero beyond the matrix.
///
/// `first` is where the tile begins along the rows or columns of the sums, which end at `extent`; `k` is the step's first summed position,
/// `k_end` where the sum ends. The matrix begins at element `base` and has rows of `line` elements.
#[cube]
fn fetch<F: Float, N: Size>(
    x: &Array<Vector<F, N>>,
    at: usize,
    base: usize,
    line: usize,
    first: usize,
    extent: usize,
    k: usize,
    k_end: usize,
    #[comptime] operand: Operand,
) -> Vector<F, N> {
    let row = at / operand.line;
    let column = at % operand.line * WIDTH;
    let mut v = Vector::<F, N>::cast_from(Vector::<f32, N>::new(0.0));
    if comptime!(operand.by_depth) {
        if k + row < k_end && first + column < extent {
            v = x[(base + (k + row) * line + first + column) / WIDTH];
        }
    } else if first + row < extent && k + column < k_end {
        v = x[(base + (first + row) * line + k + column) / WIDTH];
    }
    v
}

/// One tile of `C[i] = op(A[i]) · op(B[i])` a cube.
#[cube(launch_unchecked)]
pub(super) fn matmul_matrix<F: Float, O: Float, N: Size>(
    a: &Array<Vector<F, N>>,
    b: &Array<Vector<F, N>>,
    bias: &Array<Vector<F, N>>,
    c: &mut Array<Vector<O, N>>,
    extents: Extents,
    cubes: usize,
    #[comptime] form: MatrixForm,
    #[define(F, O)] _dtypes: [StorageType; 2],
) {
    let tile = comptime!(form.tile);
    let (l, r) = comptime!((form.left(), form.right()));
    let units = comptime!(tile.units());
    let left_buffer = comptime!(l.vectors());
    let right_buffer = comptime!(r.vectors());
    let mut left_tile = SharedMemory::<Vector<F, N>>::new(comptime!(2 * left_buffer));
    let mut right_tile = SharedMemory::<Vector<F, N>>::new(comptime!(2 * right_buffer));
    let mut patches = patches::<N>(tile);

    if CUBE_POS >= cubes {
        terminate!();
    }
    let Place { m_tile, n_tile, part, k_begin, k_end, a_base, b_base } = Place::of(&extents);
    let first_m = m_tile * comptime!(tile.tile_rows());
    let first_n = n_tile * comptime!(tile.tile_columns());
    let a_line = if comptime!(form.transpose_a) { extents.m } else { extents.k };
    let b_line = if comptime!(form.transpose_b) { extents.k } else { extents.n };

    let unit = UNIT_POS as usize;
    let plane = unit / PLANE;
    let lane = unit % PLANE;
    let plane_row = plane / comptime!(tile.planes_across) * comptime!(tile.rows);
    let plane_column = plane % comptime!(tile.planes_across) * comptime!(tile.columns);
    // What is on its way to the tiles.
    let left_loads = comptime!(l.rows * l.line / tile.units());
    let right_loads = comptime!(r.rows * r.line / tile.units());
    let mut lefts = Array::<Vector<F, N>>::new(left_loads);
    let mut rights = Array::<Vector<F, N>>::new(right_loads);
    let mut sums = zeros(tile);

    let steps = (k_end - k_begin).div_ceil(tile.depth);
    // Step 0 only fills the tiles; step s multiplies what step s − 1 brought.
    for s in 0..steps + 1 {
        let fetches = s < steps;
        if fetches {
            let k = k_begin + s * tile.depth;
            #[unroll]
            for i in 0..left_loads {
                lefts[i] = fetch::<F, N>(a, unit + i * units, a_base, a_line, first_m, extents.m, k, k_end, l);
            }
            #[unroll]
            for i in 0..right_loads {
                rights[i] = fetch::<F, N>(b, unit + i * units, b_base, b_line, first_n, extents.n, k, k_end, r);
            }
        }
        if s > 0 {
            let buffer = (s - 1) % 2;
            multiply::<F, N>(
                &left_tile,
                &right_tile,
                buffer * left_buffer + plane_row * comptime!(l.across()),
                buffer * right_buffer + plane_column * comptime!(r.across()),
                &mut sums,
                tile,
                l,
                r,
            );
        }
        if fetches {
            let buffer = s % 2;
            #[unroll]
            for i in 0..left_loads {
                let at = unit + i * units;
                left_tile[buffer * left_buffer + at / l.line * comptime!(l.pitch()) + at % l.line] = lefts[i];
            }
            #[unroll]
            for i in 0..right_loads {
                let at = unit + i * units;
                right_tile[buffer * right_buffer + at / r.line * comptime!(r.pitch()) + at % r.line] = rights[i];
            }
        }
        sync_cube();
    }

    let biased = extents.bias == 1 && k_begin == 0;
    #[unroll]
    for i in 0..tile.rows {
        let m = first_m + (plane_row + i) * EDGE + lane / 2;
        #[unroll]
        for j in 0..tile.columns {
            let mut sum = spread::<N>(sums.index(comptime!(i * tile.columns + j)), &mut patches, plane, lane, tile);
            let n = first_n + (plane_column + j) * EDGE + lane % 2 * WIDTH;
            if m < extents.m && n < extents.n {
                if biased {
                    sum += Vector::cast_from(bias[n / WIDTH]);
                }
                c[((part * extents.m + m) * extents.n + n) / WIDTH] = Vector::cast_from(sum);
            }
        }
    }
}
