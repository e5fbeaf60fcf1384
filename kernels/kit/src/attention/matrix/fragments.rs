//! Products of tiles in shared memory, and their way back to the units.

use cubecl::{cmma, prelude::*};

use super::{EDGE, PLANE, WIDTH};

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

/// Sums of sixteen rows by so many fragments of columns: zeros.
#[cube]
pub fn zeros(#[comptime] fragments: usize) -> Sequence<cmma::Matrix<f32>> {
    let mut sums = Sequence::<cmma::Matrix<f32>>::new();
    #[unroll]
    for _ in 0..fragments {
        sums.push(zero());
    }
    sums
}

/// A factor of a product from a tile whose rows are `pitch` vectors apart.
#[cube]
fn factor<F: Float, N: Size>(
    tile: &SharedMemory<Vector<F, N>>,
    from: usize,
    #[comptime] pitch: usize,
    #[comptime] ident: cmma::MatrixIdent,
    #[comptime] layout: cmma::MatrixLayout,
) -> cmma::Matrix<F> {
    // SAFETY: it is loaded at once.
    let fragment = unsafe { cmma::Matrix::<F>::uninitialized(comptime!(ident), EDGE, EDGE, EDGE, comptime!(layout)) };
    cmma::load(&fragment, &tile.slice(from, from + comptime!(EDGE * pitch)), comptime!((pitch * WIDTH) as u32));
    fragment
}

/// Sixteen rows of a tile, the left factors of [`multiply_rows`].
#[cube]
pub(super) fn rows_of<F: Float, N: Size>(
    tile: &SharedMemory<Vector<F, N>>,
    from: usize,
    #[comptime] fragments: usize,
    #[comptime] pitch: usize,
) -> Sequence<cmma::Matrix<F>> {
    let mut rows = Sequence::<cmma::Matrix<F>>::new();
    #[unroll]
    for d in 0..fragments {
        rows.push(factor::<F, N>(
            tile,
            from + comptime!(d * EDGE / WIDTH),
            pitch,
            cmma::MatrixIdent::A,
            cmma::MatrixLayout::RowMajor,
        ));
    }
    rows
}

/// left · rightᵀ of sixteen rows each.
#[cube]
pub(super) fn multiply_rows<F: Float, N: Size>(
    left: &Sequence<cmma::Matrix<F>>,
    right: &SharedMemory<Vector<F, N>>,
    from: usize,
    #[comptime] fragments: usize,
    #[comptime] pitch: usize,
) -> cmma::Matrix<f32> {
    let sum = zero();
    #[unroll]
    for d in 0..fragments {
        // Rows are the columns of the right factor.
        let fragment = factor::<F, N>(
            right,
            from + comptime!(d * EDGE / WIDTH),
            pitch,
            cmma::MatrixIdent::B,
            cmma::MatrixLayout::ColMajor,
        );
        cmma::execute::<F, F, f32, f32>(left.index(d), &fragment, &sum, &sum);
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
    sums: &Sequence<cmma::Matrix<f32>>,
    #[comptime] depth: usize,
    #[comptime] turned: bool,
    #[comptime] weight_pitch: usize,
    #[comptime] fragments: usize,
    #[comptime] pitch: usize,
) {
    let layout = comptime!(if turned { cmma::MatrixLayout::ColMajor } else { cmma::MatrixLayout::RowMajor });
    let step = comptime!(if turned { EDGE * weight_pitch } else { EDGE / WIDTH });
    #[unroll]
    for k in 0..depth {
        let left = factor::<F, N>(
            weights,
            from_weights + comptime!(k * step),
            weight_pitch,
            cmma::MatrixIdent::A,
            comptime!(layout),
        );
        #[unroll]
        for d in 0..fragments {
            let right = factor::<F, N>(
                values,
                from_values + comptime!(k * EDGE * pitch + d * EDGE / WIDTH),
                pitch,
                cmma::MatrixIdent::B,
                cmma::MatrixLayout::RowMajor,
            );
            let sum = sums.index(d);
            cmma::execute::<F, F, f32, f32>(&left, &right, sum, sum);
        }
    }
}

/// Writes a product where its plane keeps it, in rows `pitch` vectors apart.
#[cube]
pub(super) fn write_product<N: Size>(
    product: &cmma::Matrix<f32>,
    memory: &mut SharedMemory<Vector<f32, N>>,
    to: usize,
    #[comptime] pitch: usize,
) {
    let end = to + comptime!(EDGE * pitch);
    cmma::store(
        &mut memory.slice_mut(to, end),
        product,
        comptime!((pitch * WIDTH) as u32),
        cmma::MatrixLayout::RowMajor,
    );
}

/// A product through its plane's shared memory: the vector of this unit's row and half.
#[cube]
pub(super) fn spread<N: Size>(
    product: &cmma::Matrix<f32>,
    memory: &mut SharedMemory<Vector<f32, N>>,
    to: usize,
    row: usize,
    half: usize,
    #[comptime] pitch: usize,
) -> Vector<f32, N> {
    // The vectors of the product before have been read.
    sync_plane();
    write_product::<N>(product, memory, to, pitch);
    sync_plane();
    memory[to + row * pitch + half]
}
