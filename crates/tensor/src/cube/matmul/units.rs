//! The form on scalar units: 4×4 blocks in registers from tiles in shared memory, for any type on any device.

use cubecl::prelude::*;

use super::{BUSY_CUBES, Extents, Place};
use crate::ops::Matmul;

/// Units along each side of a cube.
const SIDE: usize = 16;

type Four = Const<4>;

/// The compile-time choices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct UnitTile {
    /// A is stored `[k, m]`.
    transpose_a: bool,
    /// B is stored `[n, k]`.
    transpose_b: bool,
    /// Vectors of four rows, and of four columns, that a unit computes.
    vectors: usize,
    /// Summed positions of a tile in shared memory.
    pub(super) depth: usize,
}

impl UnitTile {
    /// 64×64 tiles of depth 32, or 128×128 of depth 16: 16 KiB of shared memory either way, and one 4×4 block to load for
    /// each of the 256 units.
    pub(super) fn new(op: &Matmul) -> Self {
        let cubes = op.batch * op.m.div_ceil(128) * op.n.div_ceil(128);
        let vectors = if cubes >= BUSY_CUBES { 2 } else { 1 };
        Self { transpose_a: op.transpose_a, transpose_b: op.transpose_b, vectors, depth: 32 / vectors }
    }

    /// Rows and columns of a tile.
    pub(super) fn edge(&self) -> usize {
        SIDE * 4 * self.vectors
    }

    /// Units of a cube.
    pub(super) fn units(&self) -> usize {
        SIDE * SIDE
    }
}

/// Four neighbours of row `major` from column `minor` on; zeros beyond the matrix. `majors` and `minors` bound it, `row` is
/// the distance of its rows.
#[cube]
fn load<F: Float, W: Size>(
    x: &Array<Vector<F, W>>,
    base: usize,
    major: usize,
    minor: usize,
    majors: usize,
    minors: usize,
    row: usize,
) -> Vector<f32, Four> {
    let width = W::value();
    let mut v = Vector::<f32, Four>::new(0.0);
    if major < majors {
        let at = base + major * row + minor;
        if comptime!(width == 4) {
            if minor < minors {
                v = Vector::cast_from(x[at / 4]);
            }
        } else {
            #[unroll]
            for i in 0..4usize {
                if minor + i < minors {
                    v[i] = f32::cast_from(x[at + i][0]);
                }
            }
        }
    }
    v
}

/// One tile of `C[i] = op(A[i]) · op(B[i])` a cube, 4×4 `vectors`² elements a unit.
///
/// Each unit brings one 4×4 block of A or of B to shared memory, where both lie with the summed position as row: an operand
/// stored the other way is transposed in registers.
#[cube(launch_unchecked)]
pub(super) fn matmul_kernel<F: Float, O: Float, W: Size>(
    a: &Array<Vector<F, W>>,
    b: &Array<Vector<F, W>>,
    bias: &Array<F>,
    c: &mut Array<Vector<O, W>>,
    extents: Extents,
    cubes: usize,
    #[comptime] blueprint: UnitTile,
    #[define(F, O)] _dtypes: [StorageType; 2],
) {
    let width = W::value();
    let depth = comptime!(blueprint.depth);
    // Vectors of four along a tile's side.
    let line = comptime!(SIDE * blueprint.vectors);
    let tile = comptime!(line * 4);
    // Two halves of the units load A and B.
    let blocks = comptime!(line * depth / 4);
    let mut a_tile = SharedMemory::<Vector<f32, Four>>::new(comptime!(line * depth));
    let mut b_tile = SharedMemory::<Vector<f32, Four>>::new(comptime!(line * depth));

    if CUBE_POS < cubes {
        let Place { m_tile, n_tile, part, k_begin, k_end, a_base, b_base } = Place::of(&extents);
        let (m_tile, n_tile) = (m_tile * tile, n_tile * tile);

        let unit = UNIT_POS as usize;
        let row = unit / SIDE;
        let column = unit % SIDE;
        let block = unit % blocks;
        // The block's place: four rows or columns of the tile, four summed positions.
        let side = block % line;
        let inner = block / line * 4;

        let mut sums = Array::<Vector<f32, Four>>::new(comptime!(4 * blueprint.vectors * blueprint.vectors));
        #[unroll]
        for i in 0..comptime!(4 * blueprint.vectors * blueprint.vectors) {
            sums[i] = Vector::new(0.0);
        }

        let mut k = k_begin;
        while k < k_end {
            if unit < blocks {
                let at = m_tile + side * 4;
                if comptime!(blueprint.transpose_a) {
                    store_rows::<F, W>(
                        a,
                        &mut a_tile,
                        a_base,
                        k + inner,
                        at,
                        k_end,
                        extents.m,
                        extents.m,
                        inner,
                        side,
                        line,
                    );
                } else {
                    store_columns::<F, W>(
                        a,
                        &mut a_tile,
                        a_base,
                        at,
                        k + inner,
                        extents.m,
                        k_end,
                        extents.k,
                        inner,
                        side,
                        line,
                    );
                }
            } else {
                let at = n_tile + side * 4;
                if comptime!(blueprint.transpose_b) {
                    store_columns::<F, W>(
                        b,
                        &mut b_tile,
                        b_base,
                        at,
                        k + inner,
                        extents.n,
                        k_end,
                        extents.k,
                        inner,
                        side,
                        line,
                    );
                } else {
                    store_rows::<F, W>(
                        b,
                        &mut b_tile,
                        b_base,
                        k + inner,
                        at,
                        k_end,
                        extents.n,
                        extents.n,
                        inner,
                        side,
                        line,
                    );
                }
            }
            sync_cube();
            for d in 0..depth {
                #[unroll]
                for i in 0..blueprint.vectors {
                    let rows = a_tile[d * line + i * SIDE + row];
                    #[unroll]
                    for j in 0..blueprint.vectors {
                        let columns = b_tile[d * line + j * SIDE + column];
                        #[unroll]
                        for r in 0..4usize {
                            let at = comptime!((i * blueprint.vectors + j) * 4 + r);
                            sums[at] = sums[at] + Vector::new(rows[r]) * columns;
                        }
                    }
                }
            }
            sync_cube();
            k += depth;
        }

        #[unroll]
        for j in 0..blueprint.vectors {
            let n = n_tile + (j * SIDE + column) * 4;
            let mut added = Vector::<f32, Four>::new(0.0);
            if extents.bias == 1 && k_begin == 0 {
                #[unroll]
                for e in 0..4usize {
                    if n + e < extents.n {
                        added[e] = f32::cast_from(bias[n + e]);
                    }
                }
            }
            #[unroll]
            for i in 0..blueprint.vectors {
                #[unroll]
                for r in 0..4usize {
                    let m = m_tile + (i * SIDE + row) * 4 + r;
                    let sum = sums[comptime!((i * blueprint.vectors + j) * 4 + r)] + added;
                    if m < extents.m {
                        let at = (part * extents.m + m) * extents.n + n;
                        if comptime!(width == 4) {
                            if n < extents.n {
                                c[at / 4] = Vector::cast_from(sum);
                            }
                        } else {
                            #[unroll]
                            for e in 0..4usize {
                                if n + e < extents.n {
                                    c[at + e] = Vector::cast_from(sum[e]);
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Loads a 4×4 block whose rows are summed positions and stores it as it is.
#[cube]
fn store_rows<F: Float, W: Size>(
    x: &Array<Vector<F, W>>,
    tile: &mut SharedMemory<Vector<f32, Four>>,
    base: usize,
    major: usize,
    minor: usize,
    majors: usize,
    minors: usize,
    row: usize,
    inner: usize,
    side: usize,
    #[comptime] line: usize,
) {
    #[unroll]
    for i in 0..4usize {
        tile[(inner + i) * line + side] = load::<F, W>(x, base, major + i, minor, majors, minors, row);
    }
}

/// Loads a 4×4 block whose columns are summed positions and stores it transposed.
#[cube]
fn store_columns<F: Float, W: Size>(
    x: &Array<Vector<F, W>>,
    tile: &mut SharedMemory<Vector<f32, Four>>,
    base: usize,
    major: usize,
    minor: usize,
    majors: usize,
    minors: usize,
    row: usize,
    inner: usize,
    side: usize,
    #[comptime] line: usize,
) {
    let v0 = load::<F, W>(x, base, major, minor, majors, minors, row);
    let v1 = load::<F, W>(x, base, major + 1, minor, majors, minors, row);
    let v2 = load::<F, W>(x, base, major + 2, minor, majors, minors, row);
    let v3 = load::<F, W>(x, base, major + 3, minor, majors, minors, row);
    #[unroll]
    for i in 0..4usize {
        let mut t = Vector::<f32, Four>::new(0.0);
        t[0] = v0[i];
        t[1] = v1[i];
        t[2] = v2[i];
        t[3] = v3[i];
        tile[(inner + i) * line + side] = t;
    }
}
