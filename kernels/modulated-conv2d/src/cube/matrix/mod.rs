//! The forms on matrix units: fragments of 16×16×16 in f16 or bf16 with f32 sums, from tiles in shared memory.
//!
//! Tiles are double-buffered: while planes multiply one step's tiles, the next step's vectors are on their way from global memory to
//! registers, and one barrier a step is enough. All global memory moves in vectors of eight halves, 128 bits.

pub(crate) mod conv;
pub(crate) mod weight_gradient;

use cubecl::{cmma, prelude::*};

use crate::tune::MatrixTile;

/// Edge of a fragment, in elements.
pub(crate) const EDGE: usize = 16;
/// Halves of one load, and the padding of a tile's rows: neighbouring rows then begin in other banks.
pub(crate) const WIDTH: usize = 8;
/// Units of a plane.
pub(crate) const PLANE: usize = 32;

/// A plane's sums: `rows` by `columns` fragments of zeros.
#[cube]
pub(crate) fn zeros(#[comptime] b: MatrixTile) -> Sequence<cmma::Matrix<f32>> {
    let mut sums = Sequence::<cmma::Matrix<f32>>::new();
    #[unroll]
    for _ in 0..comptime!(b.rows * b.columns) {
        sums.push(cmma::Matrix::<f32>::from_value(
            cmma::MatrixIdent::Accumulator,
            EDGE,
            EDGE,
            EDGE,
            cmma::MatrixLayout::Undefined,
            0.0f32,
        ));
    }
    sums
}

/// Adds the product of a step's tiles to a plane's sums.
///
/// `left` begins where the plane's rows do, in vectors, and `right` where its columns do. The left tile's rows are those of the sums,
/// or, with `turned`, the summed positions, as the right one's are.
#[cube]
pub(crate) fn multiply<F: Float, N: Size>(
    left_tile: &SharedMemory<Vector<F, N>>,
    right_tile: &SharedMemory<Vector<F, N>>,
    left: usize,
    right: usize,
    sums: &Sequence<cmma::Matrix<f32>>,
    #[comptime] b: MatrixTile,
    #[comptime] turned: bool,
) {
    let left_pitch = comptime!(if turned { b.left_turned_pitch() } else { b.left_pitch() });
    let right_pitch = comptime!(b.right_pitch());
    let layout = comptime!(if turned { cmma::MatrixLayout::ColMajor } else { cmma::MatrixLayout::RowMajor });
    // Vectors from one fragment to the next along the rows of the sums, and along the summed positions.
    let row_step = comptime!(if turned { EDGE / WIDTH } else { EDGE * left_pitch });
    let depth_step = comptime!(if turned { EDGE * left_pitch } else { EDGE / WIDTH });
    #[unroll]
    for k in 0..comptime!(b.depth / EDGE) {
        let mut rows = Sequence::<cmma::Matrix<F>>::new();
        #[unroll]
        for r in 0..b.rows {
            let at = left + comptime!(r * row_step + k * depth_step);
            let slice = left_tile.slice(at, at + comptime!(EDGE * left_pitch));
            // SAFETY: it is loaded at once.
            let fragment =
                unsafe { cmma::Matrix::<F>::uninitialized(cmma::MatrixIdent::A, EDGE, EDGE, EDGE, comptime!(layout)) };
            cmma::load(&fragment, &slice, comptime!((left_pitch * WIDTH) as u32));
            rows.push(fragment);
        }
        #[unroll]
        for c in 0..b.columns {
            let at = right + comptime!(k * EDGE * right_pitch + c * EDGE / WIDTH);
            let slice = right_tile.slice(at, at + comptime!(EDGE * right_pitch));
            // SAFETY: it is loaded at once.
            let fragment = unsafe {
                cmma::Matrix::<F>::uninitialized(cmma::MatrixIdent::B, EDGE, EDGE, EDGE, cmma::MatrixLayout::RowMajor)
            };
            cmma::load(&fragment, &slice, comptime!((right_pitch * WIDTH) as u32));
            #[unroll]
            for r in 0..b.rows {
                let sum = sums.index(comptime!(r * b.columns + c));
                cmma::execute::<F, F, f32, f32>(rows.index(r), &fragment, sum, sum);
            }
        }
    }
}

/// One fragment of sums through the plane's patch of shared memory: the vector of this unit, which is half `unit % 2` of row `unit / 2`.
#[cube]
pub(crate) fn spread<N: Size>(
    sum: &cmma::Matrix<f32>,
    patches: &mut SharedMemory<Vector<f32, N>>,
    plane: usize,
    lane: usize,
) -> Vector<f32, N> {
    let start = plane * PLANE;
    // The vectors of the fragment before have been read.
    sync_plane();
    cmma::store(
        &mut patches.slice_mut(start, start + PLANE),
        sum,
        comptime!(EDGE as u32),
        cmma::MatrixLayout::RowMajor,
    );
    sync_plane();
    patches[start + lane]
}

/// `scale ⊙ v` where there is a scale, rounded to the type.
#[cube]
pub(crate) fn scaled<F: Float, N: Size>(v: Vector<F, N>, scale: Vector<F, N>, present: u32) -> Vector<F, N> {
    let mut out = v;
    if present > 0 {
        out = Vector::cast_from(Vector::<f32, N>::cast_from(v) * Vector::<f32, N>::cast_from(scale));
    }
    out
}
