//! What the emulation stands on: half types round as the hardware does, fragments multiply, and missing barriers show.

use cubecl::{cmma, prelude::*};
use half::{bf16, f16};

use super::compiler;
use crate::{
    DType, Device, Tensor,
    cube::{self, CubeBuffer, CubeClient, dry::Chip, dry::DryRuntime, storage_type},
};

const DEVICE: Device = Device::Emulated(Chip::Sm90);

/// The device's client, or nothing, said aloud, where no C++ compiler is.
fn client() -> Option<ComputeClient<DryRuntime>> {
    if let Err(error) = compiler() {
        eprintln!("SKIPPED on emulated CUDA: {error}");
        return None;
    }
    match cube::client(DEVICE).unwrap() {
        CubeClient::Dry(client) => Some(client),
        _ => panic!("the emulated device has a client of the dry runtime"),
    }
}

fn upload(values: &[f32], dtype: DType) -> CubeBuffer {
    CubeBuffer::upload("test", DEVICE, values, dtype).unwrap()
}

#[cube(launch_unchecked)]
fn cast_kernel<F: Float, G: Float>(x: &Array<F>, y: &mut Array<G>, #[define(F, G)] _types: [StorageType; 2]) {
    y[ABSOLUTE_POS] = G::cast_from(x[ABSOLUTE_POS]);
}

/// A value in another type on the device, and back on the host.
fn cast(client: &ComputeClient<DryRuntime>, values: &[f32], from: DType, to: DType) -> Vec<f32> {
    let (x, y) = (upload(values, from), upload(&vec![0.0; values.len()], to));
    let types = [from, to].map(|t| storage_type("test", client, t).unwrap());
    // SAFETY: one unit a value.
    unsafe {
        cast_kernel::launch_unchecked::<DryRuntime>(
            client,
            CubeCount::new_1d(values.len() as u32),
            CubeDim::new_1d(1),
            x.arg().array(),
            y.arg().array(),
            types,
        );
    }
    y.download(DEVICE).unwrap()
}

#[test]
fn conversions_to_and_from_half_types_are_those_of_ieee() {
    let Some(client) = client() else { return };
    // Every half there is, its neighbours' midpoints and what lies just beside them: ties, subnormals, overflow.
    let mut values: Vec<f32> = (0..=u16::MAX).map(|b| f16::from_bits(b).to_f32()).collect();
    let halves = values.clone();
    for v in halves.iter().filter(|v| v.is_finite()) {
        let next = f16::from_bits(f16::from_f32(*v).to_bits().wrapping_add(1)).to_f32();
        let middle = if next.is_finite() { (v + next) / 2.0 } else { v * 1.000_244_2 };
        values.extend([middle, f32::from_bits(middle.to_bits().wrapping_sub(1)), f32::from_bits(middle.to_bits() + 1)]);
    }
    values.extend((0..=u16::MAX).map(|b| f32::from_bits(u32::from(b) << 16 | 0x8000)));
    let same = |a: f32, e: f32| a.to_bits() == e.to_bits() || a.is_nan() && e.is_nan();
    for (dtype, round) in
        [(DType::F16, (|v| f16::from_f32(v).to_f32()) as fn(f32) -> f32), (DType::BF16, |v| bf16::from_f32(v).to_f32())]
    {
        for (v, a) in values.iter().zip(cast(&client, &values, DType::F32, dtype)) {
            assert!(same(a, round(*v)), "{v:e} as {dtype} is {a:e} instead of {:e}", round(*v));
        }
        let rounded: Vec<f32> = values.iter().map(|v| round(*v)).collect();
        for (e, a) in rounded.iter().zip(cast(&client, &rounded, dtype, DType::F32)) {
            assert!(same(a, *e), "{e:e} from {dtype} is {a:e}");
        }
    }
}

#[cube(launch_unchecked)]
fn product_kernel<F: Float>(
    a: &Array<F>,       // [16, 16]
    b: &Array<F>,       // [16, 16], transposed
    c: &mut Array<f32>, // [16, 16]
    #[define(F)] _dtype: StorageType,
) {
    let a = cmma::Matrix::<F>::from_slice(
        cmma::MatrixIdent::A,
        16usize,
        16usize,
        16usize,
        cmma::MatrixLayout::RowMajor,
        &a.to_slice(),
        16,
    );
    let b = cmma::Matrix::<F>::from_slice(
        cmma::MatrixIdent::B,
        16usize,
        16usize,
        16usize,
        cmma::MatrixLayout::ColMajor,
        &b.to_slice(),
        16,
    );
    let sum = cmma::Matrix::<f32>::from_value(
        cmma::MatrixIdent::Accumulator,
        16usize,
        16usize,
        16usize,
        cmma::MatrixLayout::Undefined,
        0.5,
    );
    cmma::execute::<F, F, f32, f32>(&a, &b, &sum, &sum);
    cmma::store(&mut c.to_slice_mut(), &sum, 16, cmma::MatrixLayout::RowMajor);
}

/// A product by `mma.m16n8k16`: its left operand comes through `ldmatrix`, each register of the others from where CubeCL says that it belongs.
#[cube(launch_unchecked)]
fn registers_kernel<F: Float, N: Size>(
    a: &Array<Vector<F, N>>, // [16, 16]
    b: &Array<F>,            // [16, 16], transposed; the first eight columns count
    c: &mut Array<f32>,      // [16, 8]
    #[comptime] transposed: bool,
    #[define(F)] _dtype: StorageType,
) {
    let lane = UNIT_POS;
    let mut tile = SharedMemory::<Vector<F, N>>::new(32usize);
    tile[lane as usize] = a[lane as usize];
    sync_cube();
    let mma = cmma::MmaDefinition::<F, F, f32>::new(16usize, 8usize, 16usize);
    // 8×8 matrices are numbered down the columns of the operand: a transposed one lies in the other corner.
    let row = if comptime!(transposed) { lane / 16 * 8 + lane % 8 } else { lane % 16 };
    let half = if comptime!(transposed) { lane / 8 % 2 } else { lane / 16 };
    let at = (row * 2 + half) as usize;
    let left =
        mma.load_matrix::<Vector<F, N>, Const<2>>(&tile.slice(at, at + 1), cmma::MatrixIdent::A, 4usize, transposed);
    let mut right = Array::<Vector<F, Const<2>>>::new(2usize);
    #[unroll]
    for register in 0..2u32 {
        let mut pair = Vector::<F, Const<2>>::cast_from(Vector::<f32, Const<2>>::new(0.0));
        #[unroll]
        for i in 0..2u32 {
            let (k, n) = mma.position_of_nth(lane, comptime!(2 * register + i), cmma::MatrixIdent::B);
            pair[comptime!(i as usize)] = b[(n * 16 + k) as usize];
        }
        right[comptime!(register as usize)] = pair;
    }
    let mut sums = Array::<Vector<f32, Const<2>>>::new(2usize);
    sums[0] = Vector::new(0.5f32);
    sums[1] = Vector::new(0.5f32);
    mma.execute_inplace(&left, &right, &mut sums);
    #[unroll]
    for i in 0..4u32 {
        let (m, n) = mma.position_of_nth(lane, i, cmma::MatrixIdent::Accumulator);
        c[(m * 8 + n) as usize] = sums[comptime!(i as usize / 2)][comptime!(i as usize % 2)];
    }
}

#[test]
fn registers_lie_where_cubecl_says_and_multiply_in_f32() {
    let Some(client) = client() else { return };
    let (a, b): (Vec<f32>, Vec<f32>) = (0..256).map(|i| ((i % 17) as f32 - 8.0, (i * 7 % 23) as f32 * 0.25)).unzip();
    for (dtype, transposed) in [(DType::F16, false), (DType::F16, true), (DType::BF16, false), (DType::BF16, true)] {
        let c = upload(&[0.0; 128], DType::F32);
        // SAFETY: one plane on matrices of its size.
        unsafe {
            registers_kernel::launch_unchecked::<DryRuntime>(
                &client,
                CubeCount::new_1d(1),
                CubeDim::new_1d(32),
                8,
                upload(&a, dtype).arg().array(),
                upload(&b, dtype).arg().array(),
                c.arg().array(),
                transposed,
                storage_type("test", &client, dtype).unwrap(),
            );
        }
        for (at, c) in c.download(DEVICE).unwrap().into_iter().enumerate() {
            let left = |m: usize, k: usize| if transposed { a[k * 16 + m] } else { a[m * 16 + k] };
            let expected: f32 = (0..16).map(|k| left(at / 8, k) * b[at % 8 * 16 + k]).sum();
            assert_eq!(c, expected + 0.5, "{dtype}, {transposed}, element {at}");
        }
    }
}

#[test]
fn fragments_multiply_and_add_in_f32() {
    let Some(client) = client() else { return };
    let (a, b): (Vec<f32>, Vec<f32>) = (0..256).map(|i| ((i % 17) as f32 - 8.0, (i * 7 % 23) as f32 * 0.25)).unzip();
    for dtype in [DType::F16, DType::BF16] {
        let c = upload(&[0.0; 256], DType::F32);
        // SAFETY: one plane on matrices of its size.
        unsafe {
            product_kernel::launch_unchecked::<DryRuntime>(
                &client,
                CubeCount::new_1d(1),
                CubeDim::new_1d(32),
                upload(&a, dtype).arg().array(),
                upload(&b, dtype).arg().array(),
                c.arg().array(),
                storage_type("test", &client, dtype).unwrap(),
            );
        }
        for (at, c) in c.download(DEVICE).unwrap().into_iter().enumerate() {
            let expected: f32 = (0..16).map(|k| a[at / 16 * 16 + k] * b[at % 16 * 16 + k]).sum();
            assert_eq!(c, expected + 0.5, "{dtype}, element {at}");
        }
    }
}

/// Each unit shows its index and reads its neighbour's, to the right in even cubes and to the left in odd ones.
#[cube(launch_unchecked)]
fn neighbours_kernel(y: &mut Array<f32>, #[comptime] barrier: bool) {
    let mut memory = SharedMemory::<f32>::new(64usize);
    let units = CUBE_DIM as usize;
    let unit = UNIT_POS as usize;
    memory[unit] = f32::cast_from(UNIT_POS);
    if barrier {
        sync_cube();
    }
    y[ABSOLUTE_POS] = memory[(unit + units - 1) % units];
}

#[test]
fn units_see_each_others_memory_behind_a_barrier_and_not_without() {
    let Some(client) = client() else { return };
    let run = |barrier: bool| {
        let y = upload(&[0.0; 128], DType::F32);
        // SAFETY: one element a unit.
        unsafe {
            neighbours_kernel::launch_unchecked::<DryRuntime>(
                &client,
                CubeCount::new_1d(2),
                CubeDim::new_1d(64),
                y.arg().array(),
                barrier,
            );
        }
        y.download(DEVICE).unwrap()
    };
    let expected: Vec<f32> = (0..128).map(|i| ((i + 63) % 64) as f32).collect();
    assert_eq!(run(true), expected);
    let without = run(false);
    assert!(without[..64] != expected[..64] && without[64..].iter().filter(|v| v.is_nan()).count() > 60, "{without:?}");
}

#[cube(launch_unchecked)]
fn left_behind_kernel(y: &mut Array<f32>) {
    if UNIT_POS > 3 {
        sync_cube();
    }
    y[ABSOLUTE_POS] = 1.0;
}

#[test]
fn a_barrier_that_some_units_miss_is_an_error_at_the_next_wait() {
    let Some(client) = client() else { return };
    let y = Tensor::full(0.0, &[32], DType::F32, Device::Emulated(Chip::Sm80)).unwrap();
    let Ok(CubeClient::Dry(other)) = cube::client(Device::Emulated(Chip::Sm80)) else { panic!("a client") };
    drop(client);
    // SAFETY: one element a unit.
    unsafe {
        left_behind_kernel::launch_unchecked::<DryRuntime>(
            &other,
            CubeCount::new_1d(1),
            CubeDim::new_1d(32),
            y.cube_arg().unwrap().array(),
        );
    }
    let error = y.to_vec().unwrap_err().to_string();
    assert!(error.contains("left_behind") && error.contains("barrier"), "{error}");
}
