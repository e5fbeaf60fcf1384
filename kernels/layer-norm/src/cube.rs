//! The CubeCL kernels: a row is shared by the units of one line of a cube; arithmetic in f32 whatever the storage.

use cubecl::prelude::*;

use crate::tune::Blueprint;

/// Σ of the `units` values of each of the cube's rows, handed to all of them. The tree's shape is fixed.
#[cube]
fn sum_row(value: f32, shared: &mut SharedMemory<f32>, #[comptime] units: u32) -> f32 {
    let lane = UNIT_POS_X as usize;
    let row = (UNIT_POS_Y * units) as usize;
    // What an earlier sum left must have been read before it is overwritten.
    sync_cube();
    shared[row + lane] = value;
    let mut width = comptime![units as usize / 2];
    #[unroll]
    for _ in 0..comptime![units.ilog2()] {
        sync_cube();
        if lane < width {
            let other = shared[row + lane + width];
            shared[row + lane] += other;
        }
        comptime! { width /= 2; }
    }
    sync_cube();
    shared[row]
}

/// Sum of a vector's elements.
#[cube]
fn across<N: Size>(v: Vector<f32, N>) -> f32 {
    let mut sum = 0.0_f32;
    #[unroll]
    for i in 0..N::value() {
        sum += v[i];
    }
    sum
}

/// y, mean and 1/σ. The mean is corrected by the mean of the deviations, as on the host.
#[cube(launch_unchecked)]
pub(crate) fn forward<F: Float, N: Size>(
    x: &Array<Vector<F, N>>,      // [rows, C]
    weight: &Array<Vector<F, N>>, // [C], if affine
    bias: &Array<Vector<F, N>>,   // [C], if affine
    y: &mut Array<Vector<F, N>>,  // [rows, C]
    mean: &mut Array<F>,          // [rows]
    rstd: &mut Array<F>,          // [rows]
    rows: usize,
    vectors: usize,
    epsilon: f32,
    affine: u32,
    #[comptime] blueprint: Blueprint,
    #[define(F)] _dtype: StorageType,
) {
    let units = comptime![blueprint.units];
    let mut shared = SharedMemory::<f32>::new(comptime![(blueprint.units * blueprint.rows) as usize]);
    let row = CUBE_POS * comptime![blueprint.rows as usize] + UNIT_POS_Y as usize;
    // Units beyond the last row follow along with an empty one, for every unit must reach the barriers.
    let end = select(row < rows, vectors, 0);
    let start = row * vectors;
    let scale = 1.0 / (vectors * N::value()) as f32;

    let mut sum = Vector::<f32, N>::new(0.0);
    let mut i = UNIT_POS_X as usize;
    while i < end {
        sum += Vector::cast_from(x[start + i]);
        i += units as usize;
    }
    let rough = Vector::<f32, N>::new(sum_row(across::<N>(sum), &mut shared, units) * scale);

    let mut sum = Vector::<f32, N>::new(0.0);
    let mut i = UNIT_POS_X as usize;
    while i < end {
        sum += Vector::<f32, N>::cast_from(x[start + i]) - rough;
        i += units as usize;
    }
    let rest = Vector::<f32, N>::new(sum_row(across::<N>(sum), &mut shared, units) * scale);

    let mut sum = Vector::<f32, N>::new(0.0);
    let mut i = UNIT_POS_X as usize;
    while i < end {
        let d = Vector::<f32, N>::cast_from(x[start + i]) - rough - rest;
        sum += d * d;
        i += units as usize;
    }
    let variance = sum_row(across::<N>(sum), &mut shared, units) * scale;
    let inverse = 1.0 / (variance + epsilon).sqrt();

    let mut i = UNIT_POS_X as usize;
    while i < end {
        let d = Vector::<f32, N>::cast_from(x[start + i]) - rough - rest;
        let mut v = d * Vector::new(inverse);
        if affine > 0 {
            v = v * Vector::cast_from(weight[i]) + Vector::cast_from(bias[i]);
        }
        y[start + i] = Vector::cast_from(v);
        i += units as usize;
    }
    if UNIT_POS_X == 0 && row < rows {
        mean[row] = F::cast_from(rough[0] + rest[0]);
        rstd[row] = F::cast_from(inverse);
    }
}

/// `g·w`, or g where there is no weight.
#[cube]
fn weighted<F: Float, N: Size>(
    grad: Vector<F, N>,
    weight: &Array<Vector<F, N>>,
    i: usize,
    affine: u32,
) -> Vector<f32, N> {
    let mut g = Vector::<f32, N>::cast_from(grad);
    if affine > 0 {
        g *= Vector::cast_from(weight[i]);
    }
    g
}

/// `dx = (g·w − mean(g·w) − n·mean(g·w·n)) / σ` with the normalised input n.
#[cube(launch_unchecked)]
pub(crate) fn gradient<F: Float, N: Size>(
    grad: &Array<Vector<F, N>>,   // [rows, C]
    x: &Array<Vector<F, N>>,      // [rows, C]
    weight: &Array<Vector<F, N>>, // [C], if affine
    mean: &Array<F>,              // [rows]
    rstd: &Array<F>,              // [rows]
    dx: &mut Array<Vector<F, N>>, // [rows, C]
    rows: usize,
    vectors: usize,
    affine: u32,
    #[comptime] blueprint: Blueprint,
    #[define(F)] _dtype: StorageType,
) {
    let units = comptime![blueprint.units];
    let mut shared = SharedMemory::<f32>::new(comptime![(blueprint.units * blueprint.rows) as usize]);
    let row = CUBE_POS * comptime![blueprint.rows as usize] + UNIT_POS_Y as usize;
    let end = select(row < rows, vectors, 0);
    let start = row * vectors;
    let scale = 1.0 / (vectors * N::value()) as f32;
    // Rows beyond the end read the last one's, and write nothing.
    let at = select(row < rows, row, rows - 1);
    let center = Vector::<f32, N>::new(f32::cast_from(mean[at]));
    let inverse = Vector::<f32, N>::new(f32::cast_from(rstd[at]));

    let mut flat = Vector::<f32, N>::new(0.0);
    let mut tilt = Vector::<f32, N>::new(0.0);
    let mut i = UNIT_POS_X as usize;
    while i < end {
        let gw = weighted::<F, N>(grad[start + i], weight, i, affine);
        flat += gw;
        tilt += gw * (Vector::<f32, N>::cast_from(x[start + i]) - center) * inverse;
        i += units as usize;
    }
    let flat = Vector::<f32, N>::new(sum_row(across::<N>(flat), &mut shared, units) * scale);
    let tilt = Vector::<f32, N>::new(sum_row(across::<N>(tilt), &mut shared, units) * scale);

    let mut i = UNIT_POS_X as usize;
    while i < end {
        let gw = weighted::<F, N>(grad[start + i], weight, i, affine);
        let normal = (Vector::<f32, N>::cast_from(x[start + i]) - center) * inverse;
        dx[start + i] = Vector::cast_from(inverse * (gw - flat - normal * tilt));
        i += units as usize;
    }
}

/// First stage of the weight and bias gradients: a unit adds one vector of channels over the rows of one block, in order.
#[cube(launch_unchecked)]
pub(crate) fn weight_gradient_blocks<F: Float, N: Size>(
    grad: &Array<Vector<F, N>>,          // [rows, C]
    x: &Array<Vector<F, N>>,             // [rows, C]
    mean: &Array<F>,                     // [rows]
    rstd: &Array<F>,                     // [rows]
    partial: &mut Array<Vector<f32, N>>, // [blocks, 2, C]
    rows: usize,
    vectors: usize,
    block_rows: usize,
    #[define(F)] _dtype: StorageType,
) {
    let block = ABSOLUTE_POS / vectors;
    let column = ABSOLUTE_POS % vectors;
    let start = block * block_rows;
    if start >= rows {
        terminate!();
    }
    let mut dweight = Vector::<f32, N>::new(0.0);
    let mut dbias = Vector::<f32, N>::new(0.0);
    let end = usize::min(start + block_rows, rows);
    for row in start..end {
        let g = Vector::<f32, N>::cast_from(grad[row * vectors + column]);
        let center = Vector::<f32, N>::new(f32::cast_from(mean[row]));
        let inverse = Vector::<f32, N>::new(f32::cast_from(rstd[row]));
        dweight += g * (Vector::<f32, N>::cast_from(x[row * vectors + column]) - center) * inverse;
        dbias += g;
    }
    partial[2 * block * vectors + column] = dweight;
    partial[(2 * block + 1) * vectors + column] = dbias;
}

/// Second stage: a cube adds the blocks of one column, each unit its own in order, then by a tree.
#[cube(launch_unchecked)]
pub(crate) fn weight_gradient_sum<F: Float>(
    partial: &Array<f32>,   // [blocks, 2, C]
    dweight: &mut Array<F>, // [C]
    dbias: &mut Array<F>,   // [C]
    blocks: usize,
    channels: usize,
    #[comptime] units: usize,
    #[define(F)] _dtype: StorageType,
) {
    let column = CUBE_POS;
    if column >= 2 * channels {
        terminate!();
    }
    let mut sum = 0.0_f32;
    let mut block = UNIT_POS_X as usize;
    while block < blocks {
        sum += partial[block * 2 * channels + column];
        block += units;
    }
    let mut shared = SharedMemory::<f32>::new(units);
    let total = sum_row(sum, &mut shared, comptime![units as u32]);
    if UNIT_POS == 0 {
        if column < channels {
            dweight[column] = F::cast_from(total);
        } else {
            dbias[column - channels] = F::cast_from(total);
        }
    }
}
