//! Affine warps and their adjoint, both by gathering.

use cubecl::prelude::*;

use super::{
    CubeArg,
    glue::{check_len, storage_type, units, vector_width},
};
use crate::{
    Result, counters,
    ops::{MARGIN, Warp},
};

/// Extents of the image that is read at mapped positions, of the mapped one, and the channels in vectors.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct WarpSizes {
    height: u32,
    width: u32,
    out_height: u32,
    out_width: u32,
    channels: u32,
}

/// One vector of channels of one mapped pixel a unit. `maps` holds six coefficients of the map and six of its inverse an image.
#[cube(launch_unchecked)]
fn warp_kernel<F: Float, N: Size>(
    x: &Array<Vector<F, N>>,
    maps: &Array<f32>,
    y: &mut Array<Vector<F, N>>,
    s: WarpSizes,
    vectors: usize,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS < vectors {
        let i = ABSOLUTE_POS as u32;
        let (channel, pixel) = (i % s.channels, i / s.channels);
        let (column, line) = (pixel % s.out_width, pixel / s.out_width);
        let (row, image) = (line % s.out_height, line / s.out_height);
        let m = (image * 12) as usize;
        let (ox, oy) = (f32::cast_from(column), f32::cast_from(row));
        let sx = maps[m] * ox + maps[m + 1] * oy + maps[m + 2];
        let sy = maps[m + 3] * ox + maps[m + 4] * oy + maps[m + 5];
        let (low_x, low_y) = (f32::floor(sx), f32::floor(sy));
        let mut total = Vector::<f32, N>::new(0.0);
        #[unroll]
        for dy in 0..2u32 {
            #[unroll]
            for dx in 0..2u32 {
                let (px, py) = (low_x + f32::cast_from(dx), low_y + f32::cast_from(dy));
                let inside = px >= 0.0 && py >= 0.0 && px < f32::cast_from(s.width) && py < f32::cast_from(s.height);
                if inside {
                    let share = (1.0 - f32::abs(sx - px)) * (1.0 - f32::abs(sy - py));
                    let at = (image * s.height + u32::cast_from(py)) * s.width + u32::cast_from(px);
                    let value = Vector::<f32, N>::cast_from(x[(at * s.channels + channel) as usize]);
                    total += value * Vector::new(share);
                }
            }
        }
        y[ABSOLUTE_POS] = Vector::cast_from(total);
    }
}

/// One vector of channels of one pixel of the image that [`warp_kernel`] reads: `g` is the mapped one.
#[cube(launch_unchecked)]
fn adjoint_kernel<F: Float, N: Size>(
    g: &Array<Vector<F, N>>,
    maps: &Array<f32>,
    y: &mut Array<Vector<F, N>>,
    s: WarpSizes,
    margin: f32,
    vectors: usize,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS < vectors {
        let i = ABSOLUTE_POS as u32;
        let (channel, pixel) = (i % s.channels, i / s.channels);
        let (column, line) = (pixel % s.width, pixel / s.width);
        let (row, image) = (line % s.height, line / s.height);
        let m = (image * 12) as usize;
        let (px, py) = (f32::cast_from(column), f32::cast_from(row));
        let ox = maps[m + 6] * px + maps[m + 7] * py + maps[m + 8];
        let oy = maps[m + 9] * px + maps[m + 10] * py + maps[m + 11];
        let reach_x = f32::abs(maps[m + 6]) + f32::abs(maps[m + 7]) + margin;
        let reach_y = f32::abs(maps[m + 9]) + f32::abs(maps[m + 10]) + margin;
        let (end_x, end_y) = (f32::cast_from(s.out_width), f32::cast_from(s.out_height));
        let from_x = u32::cast_from(f32::clamp(f32::ceil(ox - reach_x), 0.0, end_x));
        let to_x = u32::cast_from(f32::clamp(f32::floor(ox + reach_x) + 1.0, 0.0, end_x));
        let from_y = u32::cast_from(f32::clamp(f32::ceil(oy - reach_y), 0.0, end_y));
        let to_y = u32::cast_from(f32::clamp(f32::floor(oy + reach_y) + 1.0, 0.0, end_y));
        let mut total = Vector::<f32, N>::new(0.0);
        for r in from_y..to_y {
            for c in from_x..to_x {
                let (qx, qy) = (f32::cast_from(c), f32::cast_from(r));
                let sx = maps[m] * qx + maps[m + 1] * qy + maps[m + 2];
                let sy = maps[m + 3] * qx + maps[m + 4] * qy + maps[m + 5];
                let (wx, wy) = (1.0 - f32::abs(sx - px), 1.0 - f32::abs(sy - py));
                if wx > 0.0 && wy > 0.0 {
                    let at = (image * s.out_height + r) * s.out_width + c;
                    let value = Vector::<f32, N>::cast_from(g[(at * s.channels + channel) as usize]);
                    total += value * Vector::new(wx * wy);
                }
            }
        }
        y[ABSOLUTE_POS] = Vector::cast_from(total);
    }
}

/// Launches a [`Warp`].
pub fn warp<R: Runtime>(client: &ComputeClient<R>, op: &Warp, x: &CubeArg, y: &CubeArg) -> Result<()> {
    check_len("warp", x.len.max(y.len))?;
    let width = vector_width(&[op.channels]);
    let vectors = y.len / width;
    let (grid, cube) = units(vectors);
    let dtype = storage_type("warp", client, y.dtype)?;
    let maps: Vec<f32> = op.maps.iter().flat_map(|(m, i)| m.0.into_iter().chain(i.0)).map(|v| v as f32).collect();
    counters::uploaded(size_of_val(&maps[..]));
    let handle = client.create_from_slice(bytemuck::cast_slice(&maps));
    // SAFETY: `maps` lives on the device as long as its handle, which the launch keeps.
    let coefficients = unsafe { ArrayArg::from_raw_parts(handle, maps.len()) };
    let extents = [op.input[0], op.input[1], op.output[0], op.output[1], op.channels / width].map(|n| n as u32);
    let [height, columns, out_height, out_width, channels] = extents;
    let sizes = WarpSizesLaunch::new(height, columns, out_height, out_width, channels);
    // SAFETY: what is read is tested to lie inside its image, and there is a map for each image.
    unsafe {
        match op.adjoint {
            false => warp_kernel::launch_unchecked::<R>(
                client,
                grid,
                cube,
                width,
                x.array(),
                coefficients,
                y.array(),
                sizes,
                vectors,
                dtype,
            ),
            true => adjoint_kernel::launch_unchecked::<R>(
                client,
                grid,
                cube,
                width,
                x.array(),
                coefficients,
                y.array(),
                sizes,
                MARGIN as f32,
                vectors,
                dtype,
            ),
        }
    }
    Ok(())
}
