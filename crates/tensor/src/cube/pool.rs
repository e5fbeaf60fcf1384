//! Maximum pooling and its adjoint, by gathering.

use cubecl::prelude::*;

use super::{
    CubeArg,
    glue::{check_len, storage_type, units},
};
use crate::{Result, ops::Pool};

/// Extents of the image and of the windows.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct PoolSizes {
    height: u32,
    width: u32,
    rows: u32,
    columns: u32,
    channels: u32,
    size: u32,
    stride: u32,
}

/// Where in x the maximum of a window lies: the first in row-major order, and a NaN before all.
#[cube]
fn argmax<F: Float>(x: &Array<F>, s: &PoolSizes, image: u32, row: u32, column: u32, channel: u32) -> u32 {
    let (top, left) = (row * s.stride, column * s.stride);
    let mut best = ((image * s.height + top) * s.width + left) * s.channels + channel;
    let mut highest = f32::cast_from(x[best as usize]);
    for y in top..top + s.size {
        for c in left..left + s.size {
            let at = ((image * s.height + y) * s.width + c) * s.channels + channel;
            let value = f32::cast_from(x[at as usize]);
            if (value > highest || value.is_nan()) && !highest.is_nan() {
                best = at;
                highest = value;
            }
        }
    }
    best
}

#[cube(launch_unchecked)]
fn select_kernel<F: Float>(
    x: &Array<F>,
    v: &Array<F>,
    y: &mut Array<F>,
    s: PoolSizes,
    elements: usize,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS < elements {
        let i = ABSOLUTE_POS as u32;
        let (channel, pixel) = (i % s.channels, i / s.channels);
        let (column, line) = (pixel % s.columns, pixel / s.columns);
        let at = argmax::<F>(x, &s, line / s.rows, line % s.rows, column, channel);
        y[ABSOLUTE_POS] = v[at as usize];
    }
}

#[cube(launch_unchecked)]
fn spread_kernel<F: Float>(
    x: &Array<F>,
    g: &Array<F>,
    y: &mut Array<F>,
    s: PoolSizes,
    elements: usize,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS < elements {
        let i = ABSOLUTE_POS as u32;
        let (channel, pixel) = (i % s.channels, i / s.channels);
        let (column, line) = (pixel % s.width, pixel / s.width);
        let (row, image) = (line % s.height, line / s.height);
        // The first window that reaches down to this pixel, without a negative number.
        let first_row = (u32::max(row + 1, s.size) - s.size).div_ceil(s.stride);
        let first_column = (u32::max(column + 1, s.size) - s.size).div_ceil(s.stride);
        let end_row = u32::min(row / s.stride + 1, s.rows);
        let end_column = u32::min(column / s.stride + 1, s.columns);
        let mut total = 0.0f32;
        for r in first_row..end_row {
            for c in first_column..end_column {
                if argmax::<F>(x, &s, image, r, c, channel) == i {
                    total +=
                        f32::cast_from(g[(((image * s.rows + r) * s.columns + c) * s.channels + channel) as usize]);
                }
            }
        }
        y[ABSOLUTE_POS] = F::cast_from(total);
    }
}

/// Launches a [`Pool`] of x and values.
pub fn pool<R: Runtime>(client: &ComputeClient<R>, op: &Pool, inputs: [&CubeArg; 2], y: &CubeArg) -> Result<()> {
    let [x, v] = inputs;
    let (Pool::Select(w) | Pool::Spread(w)) = op;
    check_len("max_pool2d", x.len.max(y.len))?;
    let [rows, columns] = w.outputs();
    let (grid, cube) = units(y.len);
    let dtype = storage_type("max_pool2d", client, y.dtype)?;
    let extents = [w.height, w.width, rows, columns, w.channels, w.size, w.stride].map(|n| n as u32);
    let [height, width, rows, columns, channels, size, stride] = extents;
    let sizes = PoolSizesLaunch::new(height, width, rows, columns, channels, size, stride);
    // SAFETY: the windows lie inside the image, whose elements are counted in 32 bits.
    unsafe {
        match op {
            Pool::Select(_) => select_kernel::launch_unchecked::<R>(
                client,
                grid,
                cube,
                x.array(),
                v.array(),
                y.array(),
                sizes,
                y.len,
                dtype,
            ),
            Pool::Spread(_) => spread_kernel::launch_unchecked::<R>(
                client,
                grid,
                cube,
                x.array(),
                v.array(),
                y.array(),
                sizes,
                y.len,
                dtype,
            ),
        }
    }
    Ok(())
}
