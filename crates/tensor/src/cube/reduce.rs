//! Reductions in a fixed order: the result depends on the shape alone, never on scheduling.

use cubecl::prelude::*;

use super::{
    CubeArg,
    glue::{check_len, grid, scratch, storage_type, units, vector_width},
};
use crate::{
    DType, Result,
    ops::{Reduce, ReduceOp},
};

/// Units of a cube that reduces rows.
const ROW_UNITS: usize = 256;
/// Elements that one cube reduces: 16 a unit.
const CHUNK: usize = 16 * ROW_UNITS;
/// Rows that one unit sums one after the other at most; beyond it rounding grows and partial results are combined instead.
const CHUNK_ROWS: usize = 256;
/// Units that keep a large device busy; with fewer the rows are cut into shorter chunks.
const BUSY: usize = 1 << 16;

#[cube]
fn combine<N: Size>(a: Vector<f32, N>, b: Vector<f32, N>, #[comptime] op: ReduceOp) -> Vector<f32, N> {
    match op {
        ReduceOp::Sum => a + b,
        ReduceOp::Max => select_many(a.greater_than(b), a, b),
    }
}

/// Reduces contiguous chunks of rows, `team` units (a power of two) each.
///
/// Chunk `i` of the output is chunk `i % chunks` of row `i / chunks`; every unit strides over the chunk, then the team folds
/// its partial results in a tree. Lengths are in vectors.
#[cube(launch_unchecked)]
fn rows_kernel<F: Float, O: Float, N: Size>(
    x: &Array<Vector<F, N>>,
    y: &mut Array<O>,
    length: usize,
    chunk: usize,
    chunks: usize,
    outputs: usize,
    team: u32,
    start: f32,
    #[comptime] op: ReduceOp,
    #[define(F, O)] _dtypes: [StorageType; 2],
) {
    let mut partial = SharedMemory::<f32>::new(ROW_UNITS);
    let lane = UNIT_POS % team;
    let output = CUBE_POS * (CUBE_DIM / team) as usize + (UNIT_POS / team) as usize;
    let mut total = Vector::<f32, N>::new(start);
    if output < outputs {
        let row_end = (output / chunks + 1) * length;
        let begin = output / chunks * length + output % chunks * chunk;
        let mut end = begin + chunk;
        if end > row_end {
            end = row_end;
        }
        let mut i = begin + lane as usize;
        while i < end {
            total = combine::<N>(total, Vector::<f32, N>::cast_from(x[i]), op);
            i += team as usize;
        }
    }
    let mut sum = total[0];
    #[unroll]
    for i in 1..N::value() {
        sum = fold(sum, total[i], op);
    }
    partial[UNIT_POS as usize] = sum;
    sync_cube();
    let mut half = team / 2;
    while half > 0 {
        if lane < half {
            let other = partial[(UNIT_POS + half) as usize];
            partial[UNIT_POS as usize] = fold(partial[UNIT_POS as usize], other, op);
        }
        sync_cube();
        half /= 2;
    }
    if lane == 0 && output < outputs {
        y[output] = O::cast_from(partial[UNIT_POS as usize]);
    }
}

#[cube]
fn fold(a: f32, b: f32, #[comptime] op: ReduceOp) -> f32 {
    match op {
        ReduceOp::Sum => a + b,
        ReduceOp::Max => select(a > b, a, b),
    }
}

/// Reduces chunks of the middle axis of `[outer, length, inner]` to `[outer, chunks, inner]`, a unit for each vector of the
/// output, so that neighbours read neighbours. `inner` is in vectors.
#[cube(launch_unchecked)]
fn columns_kernel<F: Float, O: Float, N: Size>(
    x: &Array<Vector<F, N>>,
    y: &mut Array<Vector<O, N>>,
    length: usize,
    inner: usize,
    chunk: usize,
    chunks: usize,
    vectors: usize,
    start: f32,
    #[comptime] op: ReduceOp,
    #[define(F, O)] _dtypes: [StorageType; 2],
) {
    if ABSOLUTE_POS < vectors {
        let column = ABSOLUTE_POS % inner;
        let block = ABSOLUTE_POS / inner;
        let first = block % chunks * chunk;
        let mut rows = length - first;
        if rows > chunk {
            rows = chunk;
        }
        let mut at = (block / chunks * length + first) * inner + column;
        let mut total = Vector::<f32, N>::new(start);
        for _ in 0..rows {
            total = combine::<N>(total, Vector::<f32, N>::cast_from(x[at]), op);
            at += inner;
        }
        y[ABSOLUTE_POS] = Vector::cast_from(total);
    }
}

/// Launches a [`Reduce`]: one pass, or several over ever fewer partial results, which are kept in f32.
pub fn reduce<R: Runtime>(client: &ComputeClient<R>, op: &Reduce, x: &CubeArg, y: &CubeArg) -> Result<()> {
    check_len("reduce", x.len.max(y.len))?;
    let mut x = x.clone();
    let mut left = op.clone();
    loop {
        let chunk = chunk_length(&left);
        let chunks = left.length.div_ceil(chunk).max(1);
        if chunks == 1 {
            return pass(client, &left, chunk, 1, &x, y);
        }
        let len = left.outer * chunks * left.inner;
        let partial = scratch(client, len, DType::F32);
        pass(client, &left, chunk, chunks, &x, &partial)?;
        left.length = chunks;
        x = partial;
    }
}

/// Positions of the reduced axis that one partial result covers.
fn chunk_length(op: &Reduce) -> usize {
    if op.inner == 1 {
        // Enough rows keep the device busy by themselves.
        let whole = op.length <= CHUNK || op.outer * ROW_UNITS >= BUSY;
        return if whole { op.length.max(1) } else { CHUNK };
    }
    let units = op.outer * op.inner.div_ceil(vector_width(&[op.inner]));
    let busy = op.length * units / BUSY;
    // With few columns the square root makes both passes equally short.
    let chunk = busy.max(op.length.isqrt()).next_power_of_two().clamp(16, CHUNK_ROWS);
    // A second pass over fewer than two full chunks costs more than it spreads.
    if op.length <= 2 * chunk { op.length.max(1) } else { chunk }
}

fn pass<R: Runtime>(
    client: &ComputeClient<R>,
    op: &Reduce,
    chunk: usize,
    chunks: usize,
    x: &CubeArg,
    y: &CubeArg,
) -> Result<()> {
    let dtypes = [storage_type("reduce", client, x.dtype)?, storage_type("reduce", client, y.dtype)?];
    let start = match op.op {
        ReduceOp::Sum => 0.0,
        ReduceOp::Max => f32::NEG_INFINITY,
    };
    if op.inner == 1 {
        let width = vector_width(&[op.length, chunk]);
        let outputs = op.outer * chunks;
        // Short rows share a cube; eight vectors a unit keep the tree, which costs a barrier a level, short.
        let team = (chunk / width / 8).next_power_of_two().clamp(1, ROW_UNITS);
        let cubes = outputs.div_ceil(ROW_UNITS / team);
        // SAFETY: chunks are clipped to their row, and rows to the outputs.
        unsafe {
            rows_kernel::launch_unchecked::<R>(
                client,
                grid(cubes),
                CubeDim::new_1d(ROW_UNITS as u32),
                width,
                x.array(),
                y.array(),
                op.length / width,
                chunk / width,
                chunks,
                outputs,
                team as u32,
                start,
                op.op,
                dtypes,
            );
        }
        return Ok(());
    }
    let width = vector_width(&[op.inner]);
    let vectors = op.outer * chunks * op.inner / width;
    let (grid, cube) = units(vectors);
    // SAFETY: chunks are clipped to the reduced axis.
    unsafe {
        columns_kernel::launch_unchecked::<R>(
            client,
            grid,
            cube,
            width,
            x.array(),
            y.array(),
            op.length,
            op.inner / width,
            chunk,
            chunks,
            vectors,
            start,
            op.op,
            dtypes,
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_axes_are_cut_and_the_passes_end() {
        for inner in [1, 3, 4, 4096] {
            for length in [0, 1, 255, 512, 513, 4097, 10_000_000] {
                let mut op = Reduce { op: ReduceOp::Sum, outer: 1, length, inner };
                for _ in 0..4 {
                    op.length = op.length.div_ceil(chunk_length(&op));
                }
                assert!(op.length <= 1, "{length} {inner}");
            }
        }
    }
}
