//! The forms on matrix units against the host twin, on emulated CUDA.

use cubecl::prelude::{ComputeClient, Runtime};
use swinstyle_kit::{
    attention::matrix::{GradientTile, MatrixTile, Shaped},
    testing::{distance, emulated_cuda, uniform},
};
use swinstyle_tensor::{CubeArg, DType, Device, Kernel, Result, Scalar, launch};

use super::{Case, inputs, parameters};
use crate::{
    BackwardBlueprint, Blueprint, Problem,
    launch::{Backward, Forward, launch_backward, launch_forward},
    problem::Partials,
};

/// The forward kernel with a tile that is not its default.
struct With {
    kernel: Forward,
    tile: MatrixTile,
}

impl Kernel for With {
    fn name(&self) -> &'static str {
        self.kernel.name()
    }

    fn output_shapes(&self) -> Vec<Vec<usize>> {
        self.kernel.output_shapes()
    }

    fn host<T: Scalar>(&self, inputs: &[&[T]], outputs: &mut [&mut [T]]) -> Result<()> {
        self.kernel.host(inputs, outputs)
    }

    fn cube<R: Runtime>(&self, client: &ComputeClient<R>, inputs: &[CubeArg], outputs: &[CubeArg]) -> Result<()> {
        let b = Blueprint::Matrix(self.tile);
        launch_forward(client, &self.kernel.0, &b, [&inputs[0], &inputs[1]], inputs.get(2), [&outputs[0], &outputs[1]])
    }
}

/// A case, and a tile as (tasks, planes, keys): heads that do not fill fragments, windows that do not fill a tile and windows of
/// several; planes beyond the queries, tasks beyond the windows; padding and shifts.
const CASES: [(Case, [usize; 3]); 7] = [
    (([2, 8, 8], 2, 8, [4, 4], [2, 2]), [4, 1, 16]),
    (([1, 9, 12], 3, 32, [7, 7], [3, 3]), [1, 4, 64]),
    (([1, 10, 9], 1, 24, [7, 7], [3, 3]), [2, 2, 16]),
    (([1, 8, 8], 2, 64, [8, 8], [4, 4]), [1, 2, 64]),
    (([1, 13, 16], 1, 40, [12, 12], [6, 5]), [1, 2, 64]),
    (([1, 6, 16], 2, 16, [3, 8], [1, 4]), [2, 1, 32]),
    (([3, 5, 4], 1, 16, [2, 2], [1, 1]), [8, 1, 16]),
];

#[test]
fn attention_on_matrix_units_matches_the_twin() {
    let Some(cuda) = emulated_cuda() else { return };
    for (i, (case, [tasks, planes, keys])) in CASES.into_iter().enumerate() {
        let shapes = inputs(case, DType::F32, Device::Cpu).map(|x| x.shape().to_vec());
        let problem = Problem::new(&shapes[0], Some(&shapes[2]), &shapes[1], &parameters(case)).unwrap();
        let tile = MatrixTile::new(case.2, problem.windows.cells(), tasks, planes, keys);
        // Each form in each case, with one of the types.
        for (dtype, limit, ldmatrix) in [(DType::F16, 2e-3, i % 2 == 0), (DType::BF16, 1e-2, i % 2 == 1)] {
            let kernel = With { kernel: Forward(problem), tile: MatrixTile { ldmatrix, ..tile } };
            let run = |device: Device, padded: bool| {
                let xs = inputs(case, DType::F32, Device::Cpu)
                    .map(|x| x.to_dtype(dtype).unwrap().to_device(device).unwrap());
                let [qkv, table, pad] = &xs;
                let given = if padded { &[qkv, table, pad][..] } else { &[qkv, table] };
                launch(&kernel, given).unwrap()
            };
            for padded in [true, false] {
                for (name, (a, e)) in ["y", "stats"].iter().zip(run(cuda, padded).iter().zip(run(Device::Cpu, padded)))
                {
                    let error = distance(&a.to_vec_f64().unwrap(), &e.to_vec_f64().unwrap());
                    assert!(error < limit, "{name} of {case:?} in {dtype} by {:?}: {error:e}", kernel.tile);
                }
            }
        }
    }
}

/// The backward kernel with a tile that is not its default.
struct BackwardWith {
    kernel: Backward,
    tile: GradientTile,
}

impl Kernel for BackwardWith {
    fn name(&self) -> &'static str {
        self.kernel.name()
    }

    fn output_shapes(&self) -> Vec<Vec<usize>> {
        self.kernel.output_shapes()
    }

    fn host<T: Scalar>(&self, inputs: &[&[T]], outputs: &mut [&mut [T]]) -> Result<()> {
        self.kernel.host(inputs, outputs)
    }

    fn cube<R: Runtime>(&self, client: &ComputeClient<R>, inputs: &[CubeArg], outputs: &[CubeArg]) -> Result<()> {
        let b = BackwardBlueprint::Matrix(self.tile);
        let given = std::array::from_fn(|i| &inputs[i]);
        launch_backward(client, &self.kernel, &b, given, inputs.get(5), [&outputs[0], &outputs[1]])
    }
}

/// A case, and a tile as (tasks, strips of queries, strips of tokens): windows of one tile, in runs of several too; queries in one tile and
/// tokens in several; both in several; planes that share queries; tasks beyond the runs; padding and shifts.
const GRADIENT_CASES: [(Case, [usize; 3]); 6] = [
    (([2, 10, 36], 1, 8, [2, 2], [1, 1]), [4, 1, 1]),
    (([1, 9, 12], 3, 32, [7, 7], [3, 3]), [1, 4, 4]),
    (([1, 10, 9], 1, 24, [7, 7], [3, 3]), [2, 4, 1]),
    (([1, 8, 8], 2, 64, [8, 8], [4, 4]), [1, 2, 3]),
    (([1, 10, 11], 1, 16, [10, 10], [0, 5]), [1, 2, 2]),
    (([3, 5, 4], 1, 40, [3, 8], [1, 4]), [1, 1, 2]),
];

#[test]
fn gradients_on_matrix_units_match_the_twin_with_the_same_bits_each_time() {
    let Some(cuda) = emulated_cuda() else { return };
    for (i, (case, [tasks, rows, columns])) in GRADIENT_CASES.into_iter().enumerate() {
        let xs = inputs(case, DType::F32, Device::Cpu);
        let problem = Problem::new(xs[0].shape(), Some(xs[2].shape()), xs[1].shape(), &parameters(case)).unwrap();
        let tile = GradientTile::new(problem.shape(), tasks, rows, columns);
        let (dtype, limit) = if i % 2 == 0 { (DType::F16, 2e-3) } else { (DType::BF16, 1e-2) };
        for padded in [true, false] {
            let [qkv, table, pad] = xs.clone().map(|x| x.to_dtype(dtype).unwrap());
            let pad = padded.then_some(&pad);
            let forward =
                launch(&Forward(problem), &[&qkv, &table].into_iter().chain(pad).collect::<Vec<_>>()).unwrap();
            let dy =
                uniform("cotangent", forward[0].shape(), DType::F32, Device::Cpu).unwrap().to_dtype(dtype).unwrap();
            let given: Vec<_> = [&qkv, &table, &forward[0], &forward[1], &dy].into_iter().chain(pad).collect();
            let partials = Partials::new(&problem, padded, padded, Device::Cpu);
            let tile = GradientTile { ldmatrix: padded, ..tile };
            let kernel = BackwardWith { kernel: Backward { problem, partials }, tile };
            let run = |device: Device| -> Vec<Vec<f64>> {
                let on: Vec<_> = given.iter().map(|x| x.to_device(device).unwrap()).collect();
                let outputs = launch(&kernel, &on.iter().collect::<Vec<_>>()).unwrap();
                outputs.iter().map(|t| t.to_vec_f64().unwrap()).collect()
            };
            let (actual, expected) = (run(cuda), run(Device::Cpu));
            for (name, (a, e)) in ["qkv", "partial sums"].iter().zip(actual.iter().zip(&expected)) {
                let error = distance(a, e);
                assert!(e.is_empty() || error < limit, "{name} of {case:?} in {dtype} by {tile:?}: {error:e}");
            }
            assert!(i > 0 || actual == run(cuda), "{case:?}");
        }
    }
}
