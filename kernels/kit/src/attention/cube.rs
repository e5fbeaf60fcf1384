//! What the attention kernels share on CubeCL devices: the geometry of windows, sums over lanes, and the queries' statistics.

// `#[cube]` generates public items beside each function that cannot carry documentation.
#![allow(missing_docs)]

use cubecl::prelude::*;
use swinstyle_tensor::{
    CubeArg, DType, Result, TensorError,
    cube::{scratch, storage_type},
};

use super::Windows;
use crate::glue;

/// The token of a padded cell.
pub const PADDING: u32 = u32::MAX;

/// [`Windows`] as a kernel argument.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub struct Map {
    pub height: u32,
    pub width: u32,
    pub window_y: u32,
    pub window_x: u32,
    pub shift_y: u32,
    pub shift_x: u32,
    /// Rows and columns of windows of an image.
    pub rows: u32,
    pub columns: u32,
}

/// The argument for some windows.
pub fn map<R: Runtime>(w: &Windows) -> MapLaunch<R> {
    let [rows, columns] = w.grid();
    let [height, width, window_y, window_x, shift_y, shift_x, rows, columns] =
        [w.height, w.width, w.window[0], w.window[1], w.shift[0], w.shift[1], rows, columns].map(|v| v as u32);
    MapLaunch::new(height, width, window_y, window_x, shift_y, shift_x, rows, columns)
}

/// The map's token at a cell of a window, or [`PADDING`].
#[cube]
pub fn token(set: u32, cell: u32, m: &Map) -> u32 {
    let image = set / (m.rows * m.columns);
    let at = set % (m.rows * m.columns);
    let mut y = at / m.columns * m.window_y + cell / m.window_x + m.shift_y;
    let mut x = at % m.columns * m.window_x + cell % m.window_x + m.shift_x;
    if y >= m.rows * m.window_y {
        y -= m.rows * m.window_y;
    }
    if x >= m.columns * m.window_x {
        x -= m.columns * m.window_x;
    }
    select(y < m.height && x < m.width, (image * m.height + y) * m.width + x, PADDING)
}

/// The region of a cell: cells of unequal regions do not see each other.
#[cube]
pub fn region(set: u32, cell: u32, m: &Map) -> u32 {
    let at = set % (m.rows * m.columns);
    let below = at / m.columns + 1 == m.rows && cell / m.window_x + m.shift_y >= m.window_y;
    let right = at % m.columns + 1 == m.columns && cell % m.window_x + m.shift_x >= m.window_x;
    select(below, 2u32, 0u32) + select(right, 1u32, 0u32)
}

/// The entry of a relative-position table for a query cell and a key cell.
#[cube]
pub fn table_index(query: u32, key: u32, m: &Map) -> u32 {
    let y = query / m.window_x + m.window_y - 1 - key / m.window_x;
    let x = query % m.window_x + m.window_x - 1 - key % m.window_x;
    y * (2 * m.window_x - 1) + x
}

/// Where a cell lies among the entries of a relative-position table: [`table_index`] of a query and a key is the difference of their
/// places beyond the [`table_middle`].
#[cube]
pub fn table_place(cell: u32, m: &Map) -> u32 {
    cell / m.window_x * (2 * m.window_x - 1) + cell % m.window_x
}

/// The entry of a cell and itself.
#[cube]
pub fn table_middle(m: &Map) -> u32 {
    (m.window_y - 1) * (2 * m.window_x - 1) + m.window_x - 1
}

/// Sum of a vector's elements, in order.
#[cube]
pub fn across<N: Size>(v: Vector<f32, N>) -> f32 {
    let mut sum = v[0];
    #[unroll]
    for i in 1..N::value() {
        sum += v[i];
    }
    sum
}

/// One unit a query and head: copies its statistics and adds Σ dy·y, in the order in which the backward kernels sum dy·v. A softmax over
/// one token, where y is v, then has a gradient of exactly zero.
#[cube(launch_unchecked)]
fn row_stats_kernel<F: Float, N: Size>(
    stats: &Array<F>,         // [rows, heads, 2]
    y: &Array<Vector<F, N>>,  // [rows, heads · head_dim]
    dy: &Array<Vector<F, N>>, // [rows, heads · head_dim]
    out: &mut Array<f32>,     // [rows, heads, 3]
    count: u32,
    #[comptime] vectors: usize,
    #[define(F)] _dtype: StorageType,
) {
    let at = ABSOLUTE_POS;
    if at >= count as usize {
        terminate!();
    }
    let mut sum = Vector::<f32, N>::new(0.0);
    for c in 0..vectors {
        sum += Vector::<f32, N>::cast_from(dy[at * vectors + c]) * Vector::<f32, N>::cast_from(y[at * vectors + c]);
    }
    out[3 * at] = f32::cast_from(stats[2 * at]);
    out[3 * at + 1] = f32::cast_from(stats[2 * at + 1]);
    out[3 * at + 2] = across::<N>(sum);
}

/// Launches the statistics of `[rows, heads, 3]` queries: largest logit, ln Σ exp(logit − largest) and Σ dy·y.
pub fn row_stats<R: Runtime>(
    op: &'static str,
    client: &ComputeClient<R>,
    stats: &CubeArg,
    y: &CubeArg,
    dy: &CubeArg,
    head_dim: usize,
) -> Result<CubeArg> {
    const UNITS: u32 = 64;
    let count = stats.len / 2;
    let out = scratch(client, 3 * count, DType::F32);
    let width = glue::vector_width(&[head_dim]);
    let dtype = storage_type(op, client, y.dtype)?;
    // SAFETY: units beyond `count` return; the others stay in their row of each buffer.
    unsafe {
        row_stats_kernel::launch_unchecked::<R>(
            client,
            glue::grid(count.div_ceil(UNITS as usize)),
            CubeDim::new_1d(UNITS),
            width,
            stats.array(),
            y.array(),
            dy.array(),
            out.array(),
            count as u32,
            head_dim / width,
            dtype,
        );
    }
    Ok(out)
}

/// Checks that 32-bit indices reach every element.
pub fn check_lengths(op: &'static str, buffers: &[CubeArg]) -> Result<()> {
    match buffers.iter().find(|b| b.len > i32::MAX as usize) {
        Some(b) => Err(TensorError::shape(op, format!("{} elements are more than 32-bit indices reach", b.len))),
        None => Ok(()),
    }
}

/// Σ a·b over one head, `a` in registers and `b` in shared memory from `at` on.
#[cube]
pub fn dot<N: Size>(
    a: &Array<Vector<f32, N>>,
    b: &SharedMemory<Vector<f32, N>>,
    at: usize,
    #[comptime] vectors: usize,
) -> f32 {
    let mut sum = Vector::<f32, N>::new(0.0);
    #[unroll]
    for c in 0..vectors {
        sum += a[c] * b[at + c];
    }
    across::<N>(sum)
}

/// `sum += factor · b`, `sum` in registers and `b` in shared memory from `at` on.
#[cube]
pub fn accumulate<N: Size>(
    sum: &mut Array<Vector<f32, N>>,
    factor: f32,
    b: &SharedMemory<Vector<f32, N>>,
    at: usize,
    #[comptime] vectors: usize,
) {
    let factor = Vector::<f32, N>::new(factor);
    #[unroll]
    for c in 0..vectors {
        sum[c] += factor * b[at + c];
    }
}

/// Adds what a token of a run's `i`-th set gathered, if it is a padded one, to its partial sum.
#[cube]
pub fn add_padding<F: Float>(partial: &mut Array<F>, at: usize, gathered: f32, own: u32, i: u32) {
    let mut sum = select(own == PADDING, gathered, f32::new(0.0));
    if i > 0 {
        sum += f32::cast_from(partial[at]);
    }
    partial[at] = F::cast_from(sum);
}
