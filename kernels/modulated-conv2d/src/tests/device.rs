//! The CubeCL kernels against the host twin, on small shapes that meet every branch.

use swinstyle_kit::{
    Blueprint as _, Limits,
    testing::{assert_close, wgpu},
};
use swinstyle_tensor::{DType, Device, Tensor, grad};

use super::{data, label};
use crate::{Blueprint, ConvGeometry, Fused, LeakyRelu, Problem, conv2d_weight_grad, fused_conv2d, noise_bias_act};

/// Channels that are and are not whole vectors, or are cut into unequal parts, more than one tile each way, and every kind of geometry.
fn problems() -> Vec<Problem> {
    let make = |batch, i, o, input: [usize; 2], g: ConvGeometry| {
        let [kh, kw] = g.kernel;
        Problem::new(&[batch, input[0], input[1], i], &[kh, kw, i, o], &g).unwrap()
    };
    let odd =
        ConvGeometry { kernel: [3, 4], up: 3, down: 2, pad: [-2, 5], output: [7, 9], flip: true, transpose: false };
    vec![
        make(2, 20, 68, [9, 8], ConvGeometry::same([3, 3], [9, 8])),
        make(2, 8, 20, [5, 4], ConvGeometry::transposed([3, 3], [5, 4], 2).unwrap()),
        make(1, 24, 24, [9, 7], ConvGeometry::convolution([3, 3], [9, 7], 2, 0).unwrap()),
        make(2, 5, 7, [6, 4], odd),
        make(1, 7, 3, [4, 5], ConvGeometry::same([1, 1], [4, 5])),
        make(2, 76, 20, [3, 4], ConvGeometry::same([3, 3], [3, 4])),
        make(1, 100, 12, [3, 2], ConvGeometry::transposed([3, 3], [3, 2], 2).unwrap()),
    ]
}

fn run(p: &Problem, device: Device, dtype: DType) -> Vec<Tensor> {
    let on =
        |name: &str, shape: &[usize]| data(name, shape, DType::F32).to_dtype(dtype).unwrap().to_device(device).unwrap();
    let ([n, _, _, i], [_, oh, ow, o]) = (p.input_shape(), p.output_shape());
    let (x, w) = (on("x", &p.input_shape()), on("w", &p.weight_shape()));
    let (pre, post, bias) = (on("pre", &[n, i]), on("post", &[n, o]), on("bias", &[o]));
    let (noise, strength) = (on("noise", &[n, oh, ow, 1]), on("strength", &[1]));
    let (g, u) = (on("g", &p.output_shape()), on("u", &p.output_shape()));
    let activation = Some(LeakyRelu { clamp: Some(1.5), ..LeakyRelu::STYLEGAN2 });
    let noise = Some((&noise, &strength));
    let fused = Fused { pre: Some(&pre), post: Some(&post), noise, bias: Some(&bias), activation };
    let scales = Fused { pre: Some(&post), post: Some(&pre), ..Fused::default() };
    vec![
        fused_conv2d(&x, &w, &Fused::default(), &p.geometry).unwrap(),
        fused_conv2d(&x, &w, &fused, &p.geometry).unwrap(),
        fused_conv2d(&u, &w, &scales, &p.adjoint().geometry).unwrap(),
        conv2d_weight_grad(&x, &g, None, None, &p.geometry).unwrap(),
        conv2d_weight_grad(&x, &g, Some(&pre), Some(&post), &p.geometry).unwrap(),
    ]
}

#[test]
fn convolutions_and_weight_gradients_on_wgpu_match_the_twin() {
    let device = wgpu();
    for p in problems() {
        let (expected, actual) = (run(&p, Device::Cpu, DType::F32), run(&p, device, DType::F32));
        for (i, (a, e)) in actual.iter().zip(&expected).enumerate() {
            assert_close(&format!("{i}: {}", label(&p)), &a.to_device(Device::Cpu).unwrap(), e, 2e-5);
        }
    }
}

#[test]
fn epilogue_and_its_gradients_on_wgpu_match_the_twin() {
    let activation = LeakyRelu { clamp: Some(0.9), ..LeakyRelu::STYLEGAN2 };
    let run = |device: Device, c: usize| {
        let on = |name: &str, shape: &[usize]| data(name, shape, DType::F32).to_device(device).unwrap().as_leaf();
        let (x, noise, strength, bias) = (on("x", &[2, 9, 5, c]), on("n", &[1, 9, 5, 1]), on("t", &[1]), on("b", &[c]));
        let y = noise_bias_act(&x, Some((&noise, &strength)), Some(&bias), activation).unwrap();
        let g = on("g", y.shape()).detach();
        let grads = grad(&[(&y, Some(&g))], &[&x, &noise, &strength, &bias], false).unwrap();
        [vec![y], grads.into_iter().map(Option::unwrap).collect()].concat()
    };
    let device = wgpu();
    for c in [8, 3] {
        for (i, (a, e)) in run(device, c).iter().zip(run(Device::Cpu, c)).enumerate() {
            assert_close(&format!("{c} channels, {i}"), &a.to_device(Device::Cpu).unwrap(), &e, 1e-5);
        }
    }
}

#[test]
fn every_legal_blueprint_fits_its_limits_and_the_default_is_one() {
    let cuda =
        Limits { units_per_cube: 1024, shared_memory: 96 << 10, plane_size: 32, matrix_units: true, ldmatrix: true };
    for limits in [Limits::WEBGPU, cuda] {
        let size = |b: &Blueprint| match b {
            Blueprint::Units(t) => (t.shared_memory(), t.units()),
            Blueprint::Matrix(t) => (t.shared_memory(), t.units()),
        };
        for p in problems() {
            let space = Blueprint::space(&p, &limits);
            assert!(space.contains(&Blueprint::default_for(&p)) && space.contains(&Blueprint::best_for(&p, &limits)));
            let fits = |(bytes, units)| bytes <= limits.shared_memory && units <= limits.units_per_cube as usize;
            assert!(space.iter().all(|b| fits(size(b))));
            let whole_vectors =
                p.in_channels % 8 == 0 && p.out_channels % 8 == 0 && p.in_channels.min(p.out_channels) >= 16;
            let matrix = space.iter().any(|b| matches!(b, Blueprint::Matrix(_)));
            assert_eq!(matrix, limits.matrix_units && whole_vectors, "{}", label(&p));
        }
    }
}
