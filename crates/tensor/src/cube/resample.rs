//! Separable resampling by gathering.

use cubecl::prelude::*;

use super::{
    CubeArg,
    glue::{check_len, storage_type, units, vector_width},
};
use crate::{Result, counters, ops::Resample};

/// One vector of channels of one output pixel a unit.
///
/// `taps` holds, as 32-bit words, the row starts of both matrices, then the positions, then the bits of the weights.
#[cube(launch_unchecked)]
fn resample_kernel<F: Float, N: Size>(
    x: &Array<Vector<F, N>>,
    taps: &Array<u32>,
    y: &mut Array<Vector<F, N>>,
    sizes: ResampleSizes,
    vectors: usize,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS < vectors {
        let channel = ABSOLUTE_POS % sizes.channels;
        let pixel = ABSOLUTE_POS / sizes.channels;
        let column = pixel % sizes.out_width;
        let row = pixel / sizes.out_width % sizes.out_height;
        let image = pixel / sizes.out_width / sizes.out_height * sizes.height;
        let y_starts = row;
        let x_starts = sizes.out_height + 1 + column;
        let y_end = taps[y_starts + 1];
        let x_begin = taps[x_starts];
        let x_end = taps[x_starts + 1];
        let mut total = Vector::<f32, N>::new(0.0);
        for ey in taps[y_starts]..y_end {
            let line = (image + taps[sizes.y_index + ey as usize] as usize) * sizes.width;
            let y_weight = f32::reinterpret(taps[sizes.y_weight + ey as usize]);
            for ex in x_begin..x_end {
                let weight = y_weight * f32::reinterpret(taps[sizes.x_weight + ex as usize]);
                let at = (line + taps[sizes.x_index + ex as usize] as usize) * sizes.channels + channel;
                total += Vector::<f32, N>::cast_from(x[at]) * Vector::new(weight);
            }
        }
        y[ABSOLUTE_POS] = Vector::cast_from(total);
    }
}

/// Extents of the images, channels in vectors, and where the parts of the taps begin.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct ResampleSizes {
    height: usize,
    width: usize,
    out_height: usize,
    out_width: usize,
    channels: usize,
    y_index: usize,
    x_index: usize,
    y_weight: usize,
    x_weight: usize,
}

/// Launches a [`Resample`].
pub fn resample<R: Runtime>(client: &ComputeClient<R>, op: &Resample, x: &CubeArg, y: &CubeArg) -> Result<()> {
    check_len("resample", x.len.max(y.len))?;
    let (rows, columns) = (&op.y, &op.x);
    let bits = |w: &f64| (*w as f32).to_bits();
    // One upload: a buffer for each part would be six.
    let mut taps: Vec<u32> = [&rows.starts[..], &columns.starts, &rows.index, &columns.index].concat();
    taps.extend(rows.weight.iter().chain(&columns.weight).map(bits));
    let y_index = rows.starts.len() + columns.starts.len();
    let x_index = y_index + rows.index.len();
    let y_weight = x_index + columns.index.len();
    let x_weight = y_weight + rows.index.len();

    let width = vector_width(&[op.channels]);
    let vectors = y.len / width;
    let (grid, cube) = units(vectors);
    let dtype = storage_type("resample", client, y.dtype)?;
    counters::uploaded(size_of_val(&taps[..]));
    let handle = client.create_from_slice(bytemuck::cast_slice(&taps));
    // SAFETY: the taps' positions are below the input's extents, and their starts below their lengths.
    unsafe {
        resample_kernel::launch_unchecked::<R>(
            client,
            grid,
            cube,
            width,
            x.array(),
            ArrayArg::from_raw_parts(handle, taps.len()),
            y.array(),
            ResampleSizesLaunch::new(
                rows.inputs,
                columns.inputs,
                rows.outputs(),
                columns.outputs(),
                op.channels / width,
                y_index,
                x_index,
                y_weight,
                x_weight,
            ),
            vectors,
            dtype,
        );
    }
    Ok(())
}
