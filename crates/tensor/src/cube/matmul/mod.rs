//! Batched matrix products with f32 sums: on matrix units in half types, else register-tiled.
//!
//! cubek-matmul was tried first. Its `SimpleUnit` compiles a new kernel for nearly every shape: 4 to 6 s each on lavapipe,
//! where a variant of this one took 0.2 to 0.9 s in the same minute and there are eight for f32, whatever the shapes. Its
//! register arrays spill on CUDA, and it adds more than a minute to a cold build. (It is three times faster on lavapipe once
//! compiled, which no one waits for.)

mod matrix;
mod units;

use cubecl::prelude::*;

use self::{
    matrix::{MatrixForm, matmul_matrix},
    units::{UnitTile, matmul_kernel},
};
use super::{
    CubeArg,
    fragments::{MatrixUnits, WIDTH},
    glue::{check_len, grid, scratch, storage_type, vector_width},
    reduce,
};
use crate::{
    DType, Result,
    ops::{Matmul, Reduce, ReduceOp},
};

/// Cubes that keep a large device busy; with fewer the summed length is split.
const BUSY_CUBES: usize = 256;
/// Summed length below which a split does not pay for its second pass.
const LEAST_SPLIT: usize = 128;

/// Extents in elements; `*_batch` is the distance of one matrix to the next, 0 for a shared one.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Extents {
    m: usize,
    n: usize,
    k: usize,
    a_batch: usize,
    b_batch: usize,
    /// Tiles along rows and columns.
    m_tiles: usize,
    n_tiles: usize,
    /// Parts into which the summed length is cut, and the length of each.
    splits: usize,
    split: usize,
    /// 1 if a bias is added, else 0.
    bias: u32,
}

/// What a cube computes: its tile of rows and columns, the part of the sum, and where its matrices begin.
#[derive(CubeType, Clone, Copy)]
struct Place {
    m_tile: usize,
    n_tile: usize,
    /// Part of the sum of a product of the batch: a matrix of the output where sums are split.
    part: usize,
    k_begin: usize,
    k_end: usize,
    a_base: usize,
    b_base: usize,
}

#[cube]
impl Place {
    /// The place of this cube.
    fn of(extents: &Extents) -> Place {
        let part = CUBE_POS / extents.n_tiles / extents.m_tiles;
        let batch = part / extents.splits;
        let k_begin = part % extents.splits * extents.split;
        Place {
            m_tile: CUBE_POS / extents.n_tiles % extents.m_tiles,
            n_tile: CUBE_POS % extents.n_tiles,
            part,
            k_begin,
            k_end: usize::min(k_begin + extents.split, extents.k),
            a_base: batch * extents.a_batch,
            b_base: batch * extents.b_batch,
        }
    }
}

/// A form of the kernel with its tile.
#[derive(Debug, Clone, Copy)]
enum Form {
    Units(UnitTile),
    Matrix(MatrixForm),
}

impl Form {
    /// The best form that a device can run, for operands of a type.
    fn fitting<R: Runtime>(client: &ComputeClient<R>, op: &Matmul, dtype: StorageType) -> Self {
        let shared_memory = client.properties().hardware.max_shared_memory_size;
        match MatrixForm::fitting(op, MatrixUnits::of(client, dtype), shared_memory) {
            Some(form) => Self::Matrix(form),
            None => Self::Units(UnitTile::new(op)),
        }
    }

    /// Rows and columns of a tile, and the summed positions of a step.
    fn extents(&self) -> [usize; 3] {
        match self {
            Self::Units(t) => [t.edge(), t.edge(), t.depth],
            Self::Matrix(f) => [f.tile.tile_rows(), f.tile.tile_columns(), f.tile.depth],
        }
    }
}

/// Launches a [`Matmul`]; `inputs` are A, B and, with a bias, the row that is added.
///
/// Where the product has few tiles and a long sum (a weight gradient), the sum is split and its parts are added in order.
pub fn matmul<R: Runtime>(client: &ComputeClient<R>, op: &Matmul, inputs: &[CubeArg], c: &CubeArg) -> Result<()> {
    let Matmul { batch, m, n, k, .. } = *op;
    let (a, b) = (&inputs[0], &inputs[1]);
    // Without a bias the kernel still needs some buffer there; it does not read it.
    let bias = inputs.get(2).unwrap_or(b);
    check_len("matmul", a.len.max(b.len).max(c.len))?;
    let dtype = storage_type("matmul", client, a.dtype)?;
    let form = Form::fitting(client, op, dtype);
    let [rows, columns, depth] = form.extents();
    let (m_tiles, n_tiles) = (m.div_ceil(rows), n.div_ceil(columns));
    let cubes = batch * m_tiles * n_tiles;
    let wanted = (BUSY_CUBES / cubes).clamp(1, (k / LEAST_SPLIT).max(1));
    let split = k.div_ceil(wanted).next_multiple_of(depth).max(depth);
    let splits = k.div_ceil(split).max(1);

    let partial = if splits == 1 {
        c.clone()
    } else {
        let len = splits * c.len;
        check_len("matmul", len)?;
        scratch(client, len, DType::F32)
    };
    let dtypes = [dtype, storage_type("matmul", client, partial.dtype)?];
    let extents = ExtentsLaunch::new(
        m,
        n,
        k,
        if op.batched_a { m * k } else { 0 },
        if op.batched_b { k * n } else { 0 },
        m_tiles,
        n_tiles,
        splits,
        split,
        u32::from(op.bias),
    );
    let all = cubes * splits;
    let (a, b, bias, to) = (a.array(), b.array(), bias.array(), partial.array());
    // SAFETY: loads and stores are guarded by the extents, which the buffers have.
    match form {
        Form::Units(tile) => {
            let dim = CubeDim::new_1d(tile.units() as u32);
            // Vectors run along the axis that each matrix stores together.
            let width = vector_width(&[if op.transpose_a { m } else { k }, if op.transpose_b { k } else { n }, n]);
            unsafe {
                matmul_kernel::launch_unchecked::<R>(
                    client,
                    grid(all),
                    dim,
                    width,
                    a,
                    b,
                    bias,
                    to,
                    extents,
                    all,
                    tile,
                    dtypes,
                );
            }
        }
        Form::Matrix(form) => {
            let dim = CubeDim::new_1d(form.tile.units() as u32);
            unsafe {
                matmul_matrix::launch_unchecked::<R>(
                    client,
                    grid(all),
                    dim,
                    WIDTH,
                    a,
                    b,
                    bias,
                    to,
                    extents,
                    all,
                    form,
                    dtypes,
                );
            }
        }
    }
    if splits > 1 {
        let sum = Reduce { op: ReduceOp::Sum, outer: batch, length: splits, inner: m * n };
        reduce::reduce(client, &sum, &partial, c)?;
    }
    Ok(())
}
