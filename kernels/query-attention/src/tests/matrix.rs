//! The forward form on matrix units against the host twin, on emulated CUDA.

use cubecl::prelude::{ComputeClient, Runtime};
use swinstyle_kit::{
    attention::{Windows, matrix::MatrixTile},
    testing::{distance, emulated_cuda, uniform},
};
use swinstyle_tensor::{CubeArg, DType, Device, Kernel, Result, Scalar, Tensor, launch};

use crate::{
    BiasKind, Blueprint, Layout, Problem,
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
        let (bias, pad) = self.kernel.optional(&inputs[2..]);
        let b = Blueprint::Matrix(self.tile);
        let p = &self.kernel.problem;
        launch_forward(client, p, &b, [&inputs[0], &inputs[1]], bias, pad, [&outputs[0], &outputs[1]])
    }
}

/// Problems, whether padded tokens have a row, and tiles as (tasks, planes, keys): few and many queries, tokens that do not fill a tile and
/// tokens of several, heads that do not fill fragments, queries of all and of each image, every bias, groups, windows with padding.
fn problems() -> Vec<(Problem, bool, [usize; 3])> {
    let make = |groups, layout, heads, head_dim, bias, own_queries| Problem {
        groups,
        layout,
        heads,
        head_dim,
        scale: (head_dim as f64).powf(-0.5),
        bias,
        own_queries,
    };
    let run = |sets, queries, tokens| Layout::Run { sets, queries, tokens };
    let windows = |batch, window| Layout::Windows(Windows::new(batch, window, [0, 0]));
    vec![
        (make(1, run(2, 18, 65), 2, 16, BiasKind::None, false), false, [1, 2, 64]),
        (make(1, run(3, 5, 33), 3, 24, BiasKind::Dense, true), false, [4, 1, 16]),
        (make(1, run(1, 70, 20), 1, 64, BiasKind::None, true), false, [1, 4, 32]),
        (make(2, windows([2, 7, 5], [4, 4]), 2, 8, BiasKind::Table, false), true, [4, 1, 16]),
        (make(1, windows([1, 9, 11], [8, 8]), 1, 32, BiasKind::Table, false), false, [1, 4, 64]),
        (make(3, windows([1, 4, 6], [2, 3]), 2, 40, BiasKind::Dense, false), true, [2, 1, 16]),
    ]
}

#[test]
fn attention_on_matrix_units_matches_the_twin() {
    let Some(cuda) = emulated_cuda() else { return };
    for (problem, pad, [tasks, planes, keys]) in problems() {
        let p = &problem;
        let tile = MatrixTile::new(p.head_dim, p.tokens(), tasks, planes, keys);
        let kernel = With { kernel: Forward { problem, pad }, tile };
        let c = p.channels();
        let mut shapes = vec![("q", vec![p.owners() * p.queries(), c]), ("kv", vec![p.groups * p.token_rows(), 2 * c])];
        shapes.extend((p.bias != BiasKind::None).then(|| ("bias", vec![p.groups * p.bias_len()])));
        shapes.extend(pad.then(|| ("pad", vec![p.groups, 2 * c])));
        for (dtype, limit) in [(DType::F16, 2e-3), (DType::BF16, 1e-2)] {
            let run = |device: Device| -> Vec<Tensor> {
                let on = |(name, shape): &(&str, Vec<usize>)| {
                    let x = uniform(name, shape, DType::F32, Device::Cpu).unwrap().scale(2.0).unwrap();
                    x.to_dtype(dtype).unwrap().to_device(device).unwrap()
                };
                let xs: Vec<Tensor> = shapes.iter().map(on).collect();
                launch(&kernel, &xs.iter().collect::<Vec<_>>()).unwrap()
            };
            for (name, (a, e)) in ["y", "stats"].iter().zip(run(cuda).iter().zip(run(Device::Cpu))) {
                let error = distance(&a.to_vec_f64().unwrap(), &e.to_vec_f64().unwrap());
                assert!(error < limit, "{name} of {problem:?} in {dtype} by {tile:?}: {error:e}");
            }
        }
    }
}
