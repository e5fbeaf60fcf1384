//! Conversion between element types, a vector a unit; the hardware rounds to nearest, ties to even.

use cubecl::prelude::*;

use super::{
    CubeArg,
    glue::{check_len, storage_type, units, vector_width},
};
use crate::Result;

#[cube(launch_unchecked)]
fn cast_kernel<F: Float, G: Float, N: Size>(
    x: &Array<Vector<F, N>>,
    y: &mut Array<Vector<G, N>>,
    vectors: usize,
    #[define(F, G)] _dtypes: [StorageType; 2],
) {
    if ABSOLUTE_POS < vectors {
        y[ABSOLUTE_POS] = Vector::cast_from(x[ABSOLUTE_POS]);
    }
}

/// Launches a [`crate::ops::Cast`].
pub fn cast<R: Runtime>(client: &ComputeClient<R>, x: &CubeArg, y: &CubeArg) -> Result<()> {
    check_len("cast", y.len)?;
    let width = vector_width(&[y.len]);
    let vectors = y.len / width;
    let (grid, cube) = units(vectors);
    let dtypes = [storage_type("cast", client, x.dtype)?, storage_type("cast", client, y.dtype)?];
    // SAFETY: each unit touches one vector below `vectors`, and the width divides the length.
    unsafe {
        cast_kernel::launch_unchecked::<R>(client, grid, cube, width, x.array(), y.array(), vectors, dtypes);
    }
    Ok(())
}
