//! Layout kernels: permute, slice, pad, concat. All gather or copy runs; nothing is computed.

use cubecl::prelude::*;

use super::{
    CubeArg,
    glue::{check_len, storage_type, units, vector_width},
};
use crate::{
    Result,
    ops::{Concat, Pad, Permute, Slice},
};

/// One vector of the output a unit. `dims` are the output's axes but the first, the last in vectors; `strides`, one more,
/// are the input's, in vectors.
#[cube(launch_unchecked)]
fn permute_kernel<F: Float, N: Size>(
    x: &Array<Vector<F, N>>,
    y: &mut Array<Vector<F, N>>,
    dims: &Sequence<usize>,
    strides: &Sequence<usize>,
    vectors: usize,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS < vectors {
        let mut rest = ABSOLUTE_POS;
        let mut from = 0usize;
        let inner_axes = dims.len().comptime();
        #[unroll]
        for i in 0..inner_axes {
            let axis = comptime!(inner_axes - i);
            let dim = *dims.index(comptime!(axis - 1));
            from += rest % dim * *strides.index(axis);
            rest /= dim;
        }
        from += rest * *strides.index(0usize);
        y[ABSOLUTE_POS] = x[from];
    }
}

/// Output axes with the input's strides, neighbours merged where the input is walked as one; never empty.
fn merged(shape: &[usize], strides: &[usize]) -> (Vec<usize>, Vec<usize>) {
    let (mut dims, mut steps): (Vec<usize>, Vec<usize>) = (Vec::new(), Vec::new());
    for (&d, &s) in shape.iter().zip(strides).filter(|(d, _)| **d != 1) {
        match (dims.last_mut(), steps.last_mut()) {
            (Some(dim), Some(step)) if *step == d * s => {
                *dim *= d;
                *step = s;
            }
            _ => {
                dims.push(d);
                steps.push(s);
            }
        }
    }
    if dims.is_empty() { (vec![1], vec![1]) } else { (dims, steps) }
}

/// Launches a [`Permute`].
pub fn permute<R: Runtime>(client: &ComputeClient<R>, op: &Permute, x: &CubeArg, y: &CubeArg) -> Result<()> {
    check_len("permute", y.len)?;
    let (mut dims, mut strides) = merged(&op.shape, &op.strides);
    let last = dims.len() - 1;
    let width = if strides[last] == 1 { vector_width(&[&dims[last..], &strides[..last]].concat()) } else { 1 };
    dims[last] /= width;
    strides[..last].iter_mut().for_each(|s| *s /= width);
    let vectors = y.len / width;
    let (grid, cube) = units(vectors);
    let dtype = storage_type("permute", client, y.dtype)?;
    // SAFETY: the strides are a permutation of the input's, so every output element has its input element.
    unsafe {
        permute_kernel::launch_unchecked::<R>(
            client,
            grid,
            cube,
            width,
            x.array(),
            y.array(),
            dims[1..].iter().copied().collect(),
            strides.into_iter().collect(),
            vectors,
            dtype,
        );
    }
    Ok(())
}

/// Copies a run of `run` vectors from every row of one matrix into every row of another.
#[cube(launch_unchecked)]
fn copy_runs_kernel<F: Float, N: Size>(
    x: &Array<Vector<F, N>>,
    y: &mut Array<Vector<F, N>>,
    x_row: usize,
    x_start: usize,
    y_row: usize,
    y_start: usize,
    run: usize,
    vectors: usize,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS < vectors {
        let row = ABSOLUTE_POS / run;
        let column = ABSOLUTE_POS % run;
        y[row * y_row + y_start + column] = x[row * x_row + x_start + column];
    }
}

/// Where the runs of a copy lie in a matrix, in elements.
struct Runs {
    row: usize,
    start: usize,
}

fn copy_runs<R: Runtime>(
    op: &'static str,
    client: &ComputeClient<R>,
    (x, from): (&CubeArg, Runs),
    (y, to): (&CubeArg, Runs),
    rows: usize,
    run: usize,
) -> Result<()> {
    if rows * run == 0 {
        return Ok(());
    }
    check_len(op, x.len.max(y.len))?;
    let width = vector_width(&[from.row, from.start, to.row, to.start, run]);
    let vectors = rows * run / width;
    let (grid, cube) = units(vectors);
    let dtype = storage_type(op, client, y.dtype)?;
    // SAFETY: the callers' runs end within their rows.
    unsafe {
        copy_runs_kernel::launch_unchecked::<R>(
            client,
            grid,
            cube,
            width,
            x.array(),
            y.array(),
            from.row / width,
            from.start / width,
            to.row / width,
            to.start / width,
            run / width,
            vectors,
            dtype,
        );
    }
    Ok(())
}

/// Launches a [`Slice`].
pub fn slice<R: Runtime>(client: &ComputeClient<R>, op: &Slice, x: &CubeArg, y: &CubeArg) -> Result<()> {
    let run = op.take * op.inner;
    let from = Runs { row: op.length * op.inner, start: op.start * op.inner };
    copy_runs("slice", client, (x, from), (y, Runs { row: run, start: 0 }), op.outer, run)
}

/// Launches a [`Concat`]: a copy for each input.
pub fn concat<R: Runtime>(client: &ComputeClient<R>, op: &Concat, inputs: &[CubeArg], y: &CubeArg) -> Result<()> {
    let row = op.lengths.iter().sum::<usize>() * op.inner;
    let mut start = 0;
    for (x, &length) in inputs.iter().zip(&op.lengths) {
        let run = length * op.inner;
        copy_runs("concat", client, (x, Runs { row: run, start: 0 }), (y, Runs { row, start }), op.outer, run)?;
        start += run;
    }
    Ok(())
}

#[cube(launch_unchecked)]
fn pad_kernel<F: Float, N: Size>(
    x: &Array<Vector<F, N>>,
    y: &mut Array<Vector<F, N>>,
    row: usize,
    start: usize,
    run: usize,
    vectors: usize,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS < vectors {
        let column = ABSOLUTE_POS % row;
        if column >= start && column < start + run {
            y[ABSOLUTE_POS] = x[ABSOLUTE_POS / row * run + column - start];
        } else {
            y[ABSOLUTE_POS] = Vector::cast_from(Vector::<f32, N>::new(0.0));
        }
    }
}

/// Launches a [`Pad`].
pub fn pad<R: Runtime>(client: &ComputeClient<R>, op: &Pad, x: &CubeArg, y: &CubeArg) -> Result<()> {
    check_len("pad", y.len)?;
    let (start, run) = (op.before * op.inner, op.length * op.inner);
    let row = start + run + op.after * op.inner;
    let width = vector_width(&[start, run, row]);
    let vectors = y.len / width;
    let (grid, cube) = units(vectors);
    let dtype = storage_type("pad", client, y.dtype)?;
    // SAFETY: reads are inside the run of their row, which the input holds.
    unsafe {
        pad_kernel::launch_unchecked::<R>(
            client,
            grid,
            cube,
            width,
            x.array(),
            y.array(),
            row / width,
            start / width,
            run / width,
            vectors,
            dtype,
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_that_the_input_walks_as_one_are_merged() {
        // [2, 3, 4, 5] to [4, 5, 2, 3]: two pairs stay together.
        assert_eq!(merged(&[4, 5, 2, 3], &[5, 1, 60, 20]), (vec![20, 6], vec![1, 20]));
        assert_eq!(merged(&[1, 7, 1], &[7, 1, 1]), (vec![7], vec![1]));
        assert_eq!(merged(&[], &[]), (vec![1], vec![1]));
    }
}
