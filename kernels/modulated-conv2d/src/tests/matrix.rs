//! The form on matrix units against the host twin, on emulated CUDA.

use cubecl::prelude::{ComputeClient, Runtime};
use swinstyle_kit::testing::{distance, emulated_cuda};
use swinstyle_tensor::{CubeArg, DType, Device, Kernel, Result, Scalar, Tensor, launch};

use super::{data, label};
use crate::{
    Blueprint, ConvGeometry, LeakyRelu, MatrixTile, Problem,
    launch::{Conv, WeightGradient, conv::conv, weight_gradient::weight_gradient},
    problem::Fusion,
};

/// A kernel with a tile that is not its default.
struct With<K> {
    kernel: K,
    tile: MatrixTile,
}

impl Kernel for With<Conv> {
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
        conv(client, &self.kernel, &Blueprint::Matrix(self.tile), inputs, &outputs[0])
    }
}

impl Kernel for With<WeightGradient> {
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
        weight_gradient(client, &self.kernel, Some(self.tile), inputs, &outputs[0])
    }
}

const fn tile(planes: [usize; 2], fragments: [usize; 2], depth: usize) -> MatrixTile {
    let ([planes_down, planes_across], [rows, columns]) = (planes, fragments);
    MatrixTile { planes_down, planes_across, rows, columns, depth, ldmatrix: false }
}

/// Channels that end within a fragment and within a step, or are cut into unequal parts, positions that end within a tile, every kind of
/// geometry; tiles with one and
/// several planes and fragments each way, the largest and the smallest that are chosen, and every depth.
fn problems() -> Vec<(Problem, MatrixTile)> {
    let make = |batch, i, o, input: [usize; 2], g: ConvGeometry| {
        let [kh, kw] = g.kernel;
        Problem::new(&[batch, input[0], input[1], i], &[kh, kw, i, o], &g).unwrap()
    };
    vec![
        (make(2, 24, 40, [5, 4], ConvGeometry::same([3, 3], [5, 4])), tile([2, 1], [1, 2], 32)),
        (make(1, 72, 24, [3, 4], ConvGeometry::transposed([3, 3], [3, 4], 2).unwrap()), tile([1, 1], [1, 1], 16)),
        (make(2, 16, 48, [7, 5], ConvGeometry::convolution([3, 3], [7, 5], 2, 1).unwrap()), tile([2, 2], [2, 2], 64)),
        (make(1, 24, 136, [11, 13], ConvGeometry::same([1, 1], [11, 13])), tile([2, 4], [4, 2], 32)),
        (make(1, 72, 16, [6, 6], ConvGeometry::same([1, 1], [6, 6])), tile([4, 2], [2, 2], 32)),
    ]
}

/// Forward with everything around it, the bare data gradient, and the weight gradient with both factors.
fn run(p: &Problem, tile: MatrixTile, device: Device, dtype: DType) -> Vec<Tensor> {
    let on =
        |name: &str, shape: &[usize]| data(name, shape, DType::F32).to_dtype(dtype).unwrap().to_device(device).unwrap();
    let ([n, _, _, i], [_, oh, ow, o]) = (p.input_shape(), p.output_shape());
    let (x, w, g) = (on("x", &p.input_shape()), on("w", &p.weight_shape()), on("g", &p.output_shape()));
    let (pre, post, bias) = (on("pre", &[n, i]), on("post", &[n, o]), on("bias", &[o]));
    let (noise, strength) = (on("noise", &[1, oh, ow, 1]), on("strength", &[1]));
    let activation = Some(LeakyRelu { clamp: Some(1.5), ..LeakyRelu::STYLEGAN2 });
    let fusion = Fusion { pre: true, post: true, noise: Some(1), bias: true, activation };
    let forward = With { kernel: Conv { problem: *p, fusion }, tile };
    let data_gradient = With { kernel: Conv { problem: p.adjoint(), fusion: Fusion::default() }, tile };
    let weights = With { kernel: WeightGradient { problem: *p, pre: true, post: true }, tile };
    [
        launch(&forward, &[&x, &w, &pre, &post, &noise, &strength, &bias]),
        launch(&data_gradient, &[&g, &w]),
        launch(&weights, &[&x, &g, &pre, &post]),
    ]
    .map(|made| made.unwrap().remove(0))
    .into()
}

#[test]
fn convolutions_and_weight_gradients_on_matrix_units_match_the_twin() {
    let Some(cuda) = emulated_cuda() else { return };
    for (p, tile) in problems() {
        for (dtype, limit) in [(DType::F16, 2e-3), (DType::BF16, 1e-2)] {
            let expected = run(&p, tile, Device::Cpu, dtype);
            for ldmatrix in [false, true] {
                let tile = MatrixTile { ldmatrix, ..tile };
                for (i, (a, e)) in run(&p, tile, cuda, dtype).iter().zip(&expected).enumerate() {
                    let error = distance(&a.to_vec_f64().unwrap(), &e.to_vec_f64().unwrap());
                    assert!(error < limit, "{i} of {} in {dtype} by {tile:?}: {error:e}", label(&p));
                }
            }
        }
    }
}
