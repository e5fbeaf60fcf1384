//! Launch glue: grids, element types, errors.

use cubecl::{
    features::TypeUsage,
    ir::{ElemType, FloatKind},
    prelude::{ComputeClient, CubeCount, CubeDim, Runtime, StorageType},
};

use super::CubeArg;
use crate::{DType, Device, Result, TensorError};

/// Units of a cube in kernels whose units are independent: what WebGPU guarantees at most.
pub const UNITS: u32 = 256;

/// Largest extent of one grid axis on every backend.
const MAX_GRID: usize = 65_535;

/// A grid of at least `cubes` cubes, folded into two axes where one would be too long.
///
/// `CUBE_POS` and `ABSOLUTE_POS` are linear over the folded grid; what lies beyond the work must return.
pub fn grid(cubes: usize) -> CubeCount {
    let cubes = cubes.max(1);
    let rows = cubes.div_ceil(MAX_GRID);
    CubeCount::Static(cubes.div_ceil(rows) as u32, rows as u32, 1)
}

/// Grid and cube for `units` independent units.
pub(super) fn units(units: usize) -> (CubeCount, CubeDim) {
    (grid(units.div_ceil(UNITS as usize)), CubeDim::new_1d(UNITS))
}

/// Working memory of a launch: `len` arbitrary elements, padded to the 16 bytes by which buffers are addressed.
pub fn scratch<R: Runtime>(client: &ComputeClient<R>, len: usize, dtype: DType) -> CubeArg {
    CubeArg { handle: client.empty((len * dtype.size()).max(1).next_multiple_of(16)), len, dtype }
}

/// 4 where it divides every extent, else 1: the elements of a vector in kernels that load whole vectors only.
///
/// Two is left out: it would be one more variant of every kernel to compile, for few shapes.
pub(super) fn vector_width(extents: &[usize]) -> usize {
    if extents.iter().all(|e| e % 4 == 0) { 4 } else { 1 }
}

/// The element type as CubeCL names it, if the device can hold it in buffers and convert it.
///
/// Errors: [`TensorError::UnsupportedDType`].
pub fn storage_type<R: Runtime>(op: &'static str, client: &ComputeClient<R>, dtype: DType) -> Result<StorageType> {
    let kind = match dtype {
        DType::F32 => FloatKind::F32,
        DType::F16 => FloatKind::F16,
        DType::BF16 => FloatKind::BF16,
        DType::F64 => FloatKind::F64,
    };
    let storage = StorageType::Scalar(ElemType::Float(kind));
    // f64 stays on the cpu: its transcendental functions have no valid SPIR-V.
    let usable = client.properties().type_usage(storage).is_superset(TypeUsage::Buffer | TypeUsage::Conversion);
    if usable && dtype != DType::F64 {
        return Ok(storage);
    }
    Err(TensorError::UnsupportedDType { op, dtype, device: device_of(client) })
}

/// Which kind of device a client is of, for messages; its index is not known here.
pub(super) fn device_of<R: Runtime>(client: &ComputeClient<R>) -> Device {
    if R::name(client).starts_with("cuda") { Device::Cuda(0) } else { Device::Wgpu(0) }
}

/// Whether every index into `len` elements fits the 32-bit arithmetic of the kernels.
pub(super) fn check_len(op: &'static str, len: usize) -> Result<()> {
    if u32::try_from(len).is_ok() {
        return Ok(());
    }
    Err(TensorError::shape(op, format!("{len} elements are more than 32-bit indices reach")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_cover_the_work_and_stay_below_the_limit() {
        for cubes in [0, 1, 65_535, 65_536, 200_000, 70_000_000] {
            let CubeCount::Static(x, y, z) = grid(cubes) else { panic!("static grid expected") };
            assert!(x as usize <= MAX_GRID && y as usize <= MAX_GRID && z == 1);
            assert!(x as usize * y as usize >= cubes.max(1));
        }
    }
}
