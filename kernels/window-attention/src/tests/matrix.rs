//! The forward form on matrix units against the host twin, on emulated CUDA.

use cubecl::prelude::{ComputeClient, Runtime};
use swinstyle_kit::{
    attention::matrix::MatrixTile,
    testing::{distance, emulated_cuda},
};
use swinstyle_tensor::{CubeArg, DType, Device, Kernel, Result, Scalar, launch};

use super::{Case, inputs, parameters};
use crate::{
    Blueprint, Problem,
    launch::{Forward, launch_forward},
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
    for (case, [tasks, planes, keys]) in CASES {
        let shapes = inputs(case, DType::F32, Device::Cpu).map(|x| x.shape().to_vec());
        let problem = Problem::new(&shapes[0], Some(&shapes[2]), &shapes[1], &parameters(case)).unwrap();
        let tile = MatrixTile { head_vectors: case.2 / 8, tasks, planes, keys, whole: keys >= problem.windows.cells() };
        let kernel = With { kernel: Forward(problem), tile };
        for (dtype, limit) in [(DType::F16, 2e-3), (DType::BF16, 1e-2)] {
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
                    assert!(error < limit, "{name} of {case:?} in {dtype} by {tile:?}: {error:e}");
                }
            }
        }
    }
}
