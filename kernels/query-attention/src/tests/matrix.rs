//! The forms on matrix units against the host twin, on emulated CUDA.

use cubecl::prelude::{ComputeClient, Runtime};
use swinstyle_kit::{
    attention::{
        Windows,
        matrix::{GradientTile, MatrixTile, Shaped},
    },
    testing::{distance, emulated_cuda, uniform},
};
use swinstyle_tensor::{CubeArg, DType, Device, Kernel, Result, Scalar, Tensor, launch};

use crate::{
    BackwardBlueprint, BiasKind, Blueprint, Layout, Problem,
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
        let (bias, pad) = self.kernel.optional(&inputs[2..]);
        let b = Blueprint::Matrix(self.tile);
        let p = &self.kernel.problem;
        launch_forward(client, p, &b, [&inputs[0], &inputs[1]], bias, pad, [&outputs[0], &outputs[1]])
    }
}

fn problem(groups: usize, layout: Layout, heads: usize, head_dim: usize, bias: BiasKind, own_queries: bool) -> Problem {
    Problem { groups, layout, heads, head_dim, scale: (head_dim as f64).powf(-0.5), bias, own_queries }
}

fn run(sets: usize, queries: usize, tokens: usize) -> Layout {
    Layout::Run { sets, queries, tokens }
}

fn windows(map: [usize; 3], window: [usize; 2]) -> Layout {
    Layout::Windows(Windows::new(map, window, [0, 0]))
}

/// q, kv, and the bias and padded row that a problem has, in a type.
fn inputs(p: &Problem, pad: bool, dtype: DType) -> Vec<Tensor> {
    let c = p.channels();
    let mut shapes = vec![("q", vec![p.owners() * p.queries(), c]), ("kv", vec![p.groups * p.token_rows(), 2 * c])];
    shapes.extend((p.bias != BiasKind::None).then(|| ("bias", vec![p.groups * p.bias_len()])));
    shapes.extend(pad.then(|| ("pad", vec![p.groups, 2 * c])));
    let make = |(name, shape): &(&str, Vec<usize>)| {
        uniform(name, shape, DType::F32, Device::Cpu).unwrap().scale(2.0).unwrap().to_dtype(dtype).unwrap()
    };
    shapes.iter().map(make).collect()
}

/// Values of a kernel's results on a device.
fn outputs(kernel: &impl Kernel, inputs: &[&Tensor], device: Device) -> Vec<Vec<f64>> {
    let on: Vec<Tensor> = inputs.iter().map(|x| x.to_device(device).unwrap()).collect();
    let outputs = launch(kernel, &on.iter().collect::<Vec<_>>()).unwrap();
    outputs.iter().map(|t| t.to_vec_f64().unwrap()).collect()
}

/// Problems, whether padded tokens have a row, and tiles as (tasks, planes, keys): few and many queries, tokens that do not fill a tile and
/// tokens of several, heads that do not fill fragments, queries of all and of each image, every bias, groups, windows with padding.
fn problems() -> Vec<(Problem, bool, [usize; 3])> {
    vec![
        (problem(1, run(2, 18, 65), 2, 16, BiasKind::None, false), false, [1, 2, 64]),
        (problem(1, run(3, 5, 33), 3, 24, BiasKind::Dense, true), false, [4, 1, 16]),
        (problem(1, run(1, 70, 20), 1, 64, BiasKind::None, true), false, [1, 4, 32]),
        (problem(2, windows([2, 7, 5], [4, 4]), 2, 8, BiasKind::Table, false), true, [4, 1, 16]),
        (problem(1, windows([1, 9, 11], [8, 8]), 1, 32, BiasKind::Table, false), false, [1, 4, 64]),
        (problem(3, windows([1, 4, 6], [2, 3]), 2, 40, BiasKind::Dense, false), true, [2, 1, 16]),
    ]
}

#[test]
fn attention_on_matrix_units_matches_the_twin() {
    let Some(cuda) = emulated_cuda() else { return };
    for (i, (problem, pad, [tasks, planes, keys])) in problems().into_iter().enumerate() {
        let p = &problem;
        let tile = MatrixTile::new(p.head_dim, p.tokens(), tasks, planes, keys);
        // Each form in each case, with one of the types.
        for (dtype, limit, ldmatrix) in [(DType::F16, 2e-3, i % 2 == 0), (DType::BF16, 1e-2, i % 2 == 1)] {
            let kernel = With { kernel: Forward { problem, pad }, tile: MatrixTile { ldmatrix, ..tile } };
            let xs = inputs(p, pad, dtype);
            let run = |device| outputs(&kernel, &xs.iter().collect::<Vec<_>>(), device);
            for (name, (a, e)) in ["y", "stats"].iter().zip(run(cuda).iter().zip(run(Device::Cpu))) {
                let error = distance(a, &e);
                assert!(error < limit, "{name} of {problem:?} in {dtype} by {:?}: {error:e}", kernel.tile);
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
        let (bias, pad) = self.kernel.forward.optional(&inputs[5..]);
        let b = BackwardBlueprint::Matrix(self.tile);
        let given = std::array::from_fn(|i| &inputs[i]);
        launch_backward(client, &self.kernel, &b, given, bias, pad, [&outputs[0], &outputs[1]])
    }
}

/// As [`problems`], with tiles as (tasks, strips of queries, strips of tokens): all queries in one tile and in several, over several images or
/// windows of a run, planes that share queries, pairs that one tile holds, tasks beyond the runs.
fn gradient_problems() -> Vec<(Problem, bool, [usize; 3])> {
    vec![
        (problem(1, run(2, 18, 150), 2, 64, BiasKind::None, false), false, [1, 2, 4]),
        (problem(2, windows([6, 10, 9], [4, 4]), 2, 8, BiasKind::Table, false), true, [4, 1, 1]),
        (problem(1, run(3, 5, 33), 3, 24, BiasKind::Dense, true), false, [2, 1, 3]),
        (problem(1, run(65, 20, 2), 1, 32, BiasKind::Dense, false), false, [2, 1, 1]),
        (problem(1, windows([1, 9, 11], [8, 8]), 1, 40, BiasKind::Table, false), true, [1, 3, 2]),
    ]
}

#[test]
fn gradients_on_matrix_units_match_the_twin_with_the_same_bits_each_time() {
    let Some(cuda) = emulated_cuda() else { return };
    for (i, (problem, pad, [tasks, rows, columns])) in gradient_problems().into_iter().enumerate() {
        let tile = GradientTile::new(problem.shape(), tasks, rows, columns);
        let (dtype, limit) = if i % 2 == 0 { (DType::F16, 2e-3) } else { (DType::BF16, 1e-2) };
        let xs = inputs(&problem, pad, dtype);
        let forward = Forward { problem, pad };
        let results = launch(&forward, &xs.iter().collect::<Vec<_>>()).unwrap();
        let dy = uniform("cotangent", results[0].shape(), DType::F32, Device::Cpu).unwrap().to_dtype(dtype).unwrap();
        let given: Vec<&Tensor> = xs[..2].iter().chain(&results).chain([&dy]).chain(&xs[2..]).collect();
        for wanted in [true, false] {
            let has_bias = problem.bias != BiasKind::None;
            let partials = Partials::new(&problem, [wanted, wanted && has_bias, wanted && pad], Device::Cpu);
            let tile = GradientTile { ldmatrix: wanted, ..tile };
            let kernel = BackwardWith { kernel: Backward { forward, partials }, tile };
            let (actual, expected) = (outputs(&kernel, &given, cuda), outputs(&kernel, &given, Device::Cpu));
            for (name, (a, e)) in ["kv", "partial sums"].iter().zip(actual.iter().zip(&expected)) {
                let error = distance(a, e);
                assert!(e.is_empty() || error < limit, "{name} of {problem:?} in {dtype} by {tile:?}: {error:e}");
            }
            assert!(i > 0 || actual == outputs(&kernel, &given, cuda), "{problem:?}");
        }
    }
}
