//! Launch glue: grids, vector widths, limits and errors.

use cubecl::prelude::*;
use swinstyle_tensor::{CubeArg, DType, Device, Result, Tensor, TensorError, cube::fragments::MatrixUnits};

use crate::Limits;

/// Largest extent of one grid axis on every backend.
pub const MAX_GRID: u32 = 65_535;

/// A grid of at least `cubes` cubes, folded into two axes where one would be too long.
///
/// The kernel's linear index is `CUBE_POS`; cubes beyond `cubes` must return.
pub fn grid(cubes: usize) -> CubeCount {
    let cubes = cubes.max(1);
    let rows = cubes.div_ceil(MAX_GRID as usize);
    CubeCount::Static(cubes.div_ceil(rows) as u32, rows as u32, 1)
}

/// The widest of 4, 2, 1 that divides every given extent: the elements of one vector load.
pub fn vector_width(extents: &[usize]) -> usize {
    [4, 2].into_iter().find(|w| extents.iter().all(|e| e % w == 0)).unwrap_or(1)
}

/// The limits of a client's device, matrix units left out.
pub fn limits<R: Runtime>(client: &ComputeClient<R>) -> Limits {
    let hardware = &client.properties().hardware;
    Limits {
        units_per_cube: hardware.max_units_per_cube,
        shared_memory: hardware.max_shared_memory_size,
        plane_size: hardware.plane_size_max,
        matrix_units: false,
        ldmatrix: false,
    }
}

/// [`limits`] with the matrix units for tensors of a type.
pub fn limits_of<R: Runtime>(client: &ComputeClient<R>, dtype: StorageType) -> Limits {
    let MatrixUnits { fragments, ldmatrix } = MatrixUnits::of(client, dtype);
    Limits { matrix_units: fragments, ldmatrix, ..limits(client) }
}

/// A number as a tensor of a type holds it: a clamp that is read back from results must be compared as they were stored.
pub fn stored(value: f64, dtype: DType) -> Result<f64> {
    Tensor::full(value, &[], dtype, Device::Cpu)?.item()
}

/// A backend's failure as the runtime's error.
pub fn backend_error(op: &'static str, detail: impl std::fmt::Display) -> TensorError {
    TensorError::Backend { op, device: Device::Wgpu(0), detail: detail.to_string() }
}

/// An argument as an array of vectors of `width` elements.
///
/// # Safety
/// The kernel must index it below `len / width`.
pub unsafe fn array<R: Runtime>(arg: &CubeArg, width: usize) -> ArrayArg<R> {
    // SAFETY: the handle holds `len` elements. A launch takes the length in elements and divides it by the vector width itself.
    unsafe { ArrayArg::from_raw_parts(arg.handle.clone(), arg.len / width.max(1) * width.max(1)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_cover_the_work_and_stay_below_the_limit() {
        for cubes in [0, 1, 65_535, 65_536, 200_000, 70_000_000] {
            let CubeCount::Static(x, y, z) = grid(cubes) else { panic!("static grid expected") };
            assert!(x <= MAX_GRID && y <= MAX_GRID && z == 1);
            assert!(x as usize * y as usize >= cubes.max(1));
        }
    }

    #[test]
    fn a_stored_number_is_rounded_to_the_type() {
        assert_eq!(stored(0.7, DType::BF16).unwrap(), 0.699_218_75);
        assert_eq!(stored(0.7, DType::F64).unwrap(), 0.7);
    }

    #[test]
    fn vectors_divide_every_extent() {
        assert_eq!(vector_width(&[64, 12]), 4);
        assert_eq!(vector_width(&[64, 6]), 2);
        assert_eq!(vector_width(&[64, 3]), 1);
    }
}
