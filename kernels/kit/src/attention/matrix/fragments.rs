//! Products of tiles in shared memory, and their way back to the units.

use cubecl::prelude::*;
use swinstyle_tensor::cube::fragments::{
    self, EDGE, Factor, PLANE, Product, WIDTH, left_factor, right_factor, write_product, zero,
};

/// The task of this unit's plane in the cube, and the plane's number in the task: constants where there is one, so that addresses of tiles
/// are too, and need no registers.
#[cube]
pub(super) fn task_and_plane(#[comptime] tasks: usize, #[comptime] planes: usize) -> (usize, usize) {
    let mut task = 0usize.runtime();
    let mut plane = 0usize.runtime();
    let of_cube = UNIT_POS as usize / PLANE;
    if comptime!(tasks == 1) {
        plane = of_cube;
    } else if comptime!(planes == 1) {
        task = of_cube;
    } else {
        task = of_cube / planes;
        plane = of_cube % planes;
    }
    (task, plane)
}

/// Sums of sixteen rows by so many fragments of columns: zeros.
#[cube]
pub fn zeros(#[comptime] fragments: usize, #[comptime] ldmatrix: bool) -> Sequence<Product> {
    let mut sums = Sequence::<Product>::new();
    #[unroll]
    for _ in 0..fragments {
        sums.push(zero(ldmatrix));
    }
    sums
}

/// Sixteen rows of a tile, the left factors of [`multiply_rows`].
#[cube]
pub(super) fn rows_of<F: Float, N: Size>(
    tile: &SharedMemory<Vector<F, N>>,
    from: usize,
    #[comptime] fragments: usize,
    #[comptime] pitch: usize,
    #[comptime] ldmatrix: bool,
) -> Sequence<Factor<F>> {
    let mut rows = Sequence::<Factor<F>>::new();
    #[unroll]
    for d in 0..fragments {
        rows.push(left_factor::<F, N>(tile, from + comptime!(d * EDGE / WIDTH), pitch, false, ldmatrix));
    }
    rows
}

/// left · rightᵀ of sixteen rows each.
#[cube]
pub(super) fn multiply_rows<F: Float, N: Size>(
    left: &Sequence<Factor<F>>,
    right: &SharedMemory<Vector<F, N>>,
    from: usize,
    #[comptime] fragments: usize,
    #[comptime] pitch: usize,
    #[comptime] ldmatrix: bool,
) -> Product {
    let mut sum = zero(ldmatrix);
    #[unroll]
    for d in 0..fragments {
        // Rows are the columns of the right factor.
        let right = right_factor::<F, N>(right, from + comptime!(d * EDGE / WIDTH), pitch, false, ldmatrix);
        fragments::add_product::<F>(left.index(d), &right, &mut sum, ldmatrix);
    }
    sum
}

/// sums += weights · values over `depth` fragments; with `turned` the weights' rows are what is summed over, as the values' are.
#[cube]
pub(super) fn add_product<F: Float, N: Size>(
    weights: &SharedMemory<Vector<F, N>>,
    from_weights: usize,
    values: &SharedMemory<Vector<F, N>>,
    from_values: usize,
    sums: &mut Sequence<Product>,
    #[comptime] depth: usize,
    #[comptime] turned: bool,
    #[comptime] weight_pitch: usize,
    #[comptime] fragments: usize,
    #[comptime] pitch: usize,
    #[comptime] ldmatrix: bool,
) {
    let step = comptime!(if turned { EDGE * weight_pitch } else { EDGE / WIDTH });
    #[unroll]
    for k in 0..depth {
        let left = left_factor::<F, N>(weights, from_weights + comptime!(k * step), weight_pitch, turned, ldmatrix);
        #[unroll]
        for d in 0..fragments {
            let at = from_values + comptime!(k * EDGE * pitch + d * EDGE / WIDTH);
            let right = right_factor::<F, N>(values, at, pitch, true, ldmatrix);
            fragments::add_product::<F>(&left, &right, sums.index_mut(d), ldmatrix);
        }
    }
}

/// A product through its plane's shared memory: the vector of this unit's row and half.
#[cube]
pub(super) fn spread<N: Size>(
    product: &Product,
    memory: &mut SharedMemory<Vector<f32, N>>,
    to: usize,
    row: usize,
    half: usize,
    #[comptime] pitch: usize,
    #[comptime] ldmatrix: bool,
) -> Vector<f32, N> {
    // The vectors of the product before have been read.
    sync_plane();
    write_product::<N>(product, memory, to, pitch, ldmatrix);
    sync_plane();
    memory[to + row * pitch + half]
}
