//! Every gradient and second gradient against finite differences in f64.

use swinstyle_kit::testing::{assert_close, first_order_error, second_order_error};
use swinstyle_tensor::{DType, Result, Tensor};

use super::data;
use crate::*;

fn f64s(name: &str, shape: &[usize]) -> Tensor {
    data(name, shape, DType::F64)
}

/// Values away from 0, for scales whose gradient divides by them.
fn positive(name: &str, shape: &[usize]) -> Tensor {
    f64s(name, shape).affine(0.4, 1.0).unwrap()
}

#[track_caller]
fn check(what: &str, f: &dyn Fn(&[Tensor]) -> Result<Tensor>, inputs: &[Tensor]) {
    let first = first_order_error(f, inputs).unwrap();
    assert!(first < 1e-7, "{what}: first order {first:e}");
    let second = second_order_error(f, inputs).unwrap();
    assert!(second < 1e-6, "{what}: second order {second:e}");
}

#[test]
fn scaled_convolutions_match_finite_differences_for_every_geometry() {
    let geometries = [
        ("same", [4, 5], ConvGeometry::same([3, 3], [4, 5])),
        ("strided", [5, 6], ConvGeometry::convolution([3, 3], [5, 6], 2, 0).unwrap()),
        ("transposed", [3, 2], ConvGeometry::transposed([3, 3], [3, 2], 2).unwrap()),
        ("patches", [4, 4], ConvGeometry::convolution([2, 2], [4, 4], 2, 0).unwrap()),
        ("point", [3, 3], ConvGeometry::same([1, 1], [3, 3])),
    ];
    for (what, [h, w], g) in geometries {
        let [kh, kw] = g.kernel;
        let inputs = [f64s("x", &[2, h, w, 3]), f64s("w", &[kh, kw, 3, 2]), f64s("s", &[2, 3]), positive("d", &[2, 2])];
        check(what, &|t| scaled_conv2d(&t[0], &t[1], Some(&t[2]), Some(&t[3]), &g), &inputs);
        check(what, &|t| scaled_conv2d(&t[0], &t[1], None, None, &g), &inputs[..2]);
        check(what, &|t| scaled_conv2d(&t[0], &t[1], Some(&t[2]), None, &g), &inputs[..3]);
    }
}

#[test]
fn gradient_of_a_zero_style_is_exact() {
    let g = ConvGeometry::same([3, 3], [3, 4]);
    let zero = f64s("s", &[2, 3]).scale(0.0).unwrap();
    let inputs = [f64s("x", &[2, 3, 4, 3]), f64s("w", &[3, 3, 3, 2]), zero];
    check("zero style", &|t| scaled_conv2d(&t[0], &t[1], Some(&t[2]), None, &g), &inputs);
}

#[test]
fn weight_gradient_matches_finite_differences() {
    for g in [ConvGeometry::same([3, 3], [3, 4]), ConvGeometry::transposed([3, 3], [3, 4], 2).unwrap()] {
        let [oh, ow] = g.output;
        let inputs = [f64s("x", &[2, 3, 4, 2]), f64s("g", &[2, oh, ow, 3]), f64s("s", &[2, 2]), f64s("d", &[2, 3])];
        let both = |g: ConvGeometry| move |t: &[Tensor]| conv2d_weight_grad(&t[0], &t[1], Some(&t[2]), Some(&t[3]), &g);
        check("weight gradient", &both(g), &inputs);
        let swapped = [inputs[1].clone(), inputs[0].clone(), inputs[3].clone(), inputs[2].clone()];
        check("stored transposed", &both(g.adjoint([3, 4])), &swapped);
    }
}

#[test]
fn fused_styled_layer_matches_finite_differences() {
    let g = ConvGeometry::same([3, 3], [3, 4]);
    for clamp in [None, Some(1.0)] {
        for images in [1, 2] {
            let activation = Some(LeakyRelu { clamp, ..LeakyRelu::STYLEGAN2 });
            let inputs = [
                f64s("x", &[2, 3, 4, 3]),
                f64s("w", &[3, 3, 3, 2]),
                f64s("s", &[2, 3]),
                positive("d", &[2, 2]),
                f64s("n", &[images, 3, 4, 1]),
                f64s("t", &[1]),
                f64s("b", &[2]),
            ];
            let f = |t: &[Tensor]| {
                let noise = Some((&t[4], &t[5]));
                let fused = Fused { pre: Some(&t[2]), post: Some(&t[3]), noise, bias: Some(&t[6]), activation };
                fused_conv2d(&t[0], &t[1], &fused, &g)
            };
            check("styled", &f, &inputs);
        }
    }
}

#[test]
fn noise_bias_act_matches_finite_differences() {
    for clamp in [None, Some(0.8)] {
        let activation = LeakyRelu { clamp, ..LeakyRelu::STYLEGAN2 };
        let inputs = [f64s("x", &[2, 3, 2, 3]), f64s("n", &[2, 3, 2, 1]), f64s("t", &[1]), f64s("b", &[3])];
        check("all", &|t| noise_bias_act(&t[0], Some((&t[1], &t[2])), Some(&t[3]), activation), &inputs);
        check(
            "bias",
            &|t| noise_bias_act(&t[0], None, Some(&t[1]), activation),
            &[inputs[0].clone(), inputs[3].clone()],
        );
    }
}

#[test]
fn modulated_convolution_matches_finite_differences() {
    let fir =
        swinstyle_upfirdn2d::setup_filter(&[1.0, 3.0, 3.0, 1.0], DType::F64, swinstyle_tensor::Device::Cpu).unwrap();
    for (up, down) in [(1, 1), (2, 1), (1, 2)] {
        for k in [1, 3] {
            let params = ModulatedConv { up, down, demodulate: true, eps: 1e-8, weight_gain: 0.3, fir: Some(&fir) };
            let inputs = [f64s("x", &[2, 4, 4, 3]), f64s("w", &[k, k, 3, 2]), positive("s", &[2, 3])];
            check(&format!("up {up} down {down} k {k}"), &|t| modulated_conv2d(&t[0], &t[1], &t[2], &params), &inputs);
        }
    }
}

#[test]
fn a_wrong_gradient_is_caught() {
    let g = ConvGeometry::same([3, 3], [3, 4]);
    let wrong = move |t: &[Tensor]| {
        let y = scaled_conv2d(&t[0].detach(), &t[1].detach(), None, None, &g)?;
        // The adjoint without turning the taps: right for symmetric kernels only.
        let back = ConvGeometry { flip: false, ..g.adjoint([3, 4]) };
        Ok(y.taped("wrong", &[&t[0], &t[1]], move |b| {
            Ok(vec![
                Some(scaled_conv2d(b.grad, &b.inputs[1], None, None, &back)?),
                Some(conv2d_weight_grad(&b.inputs[0], b.grad, None, None, &g)?),
            ])
        }))
    };
    let inputs = [f64s("x", &[2, 3, 4, 3]), f64s("w", &[3, 3, 3, 2])];
    assert!(first_order_error(&wrong, &inputs).unwrap() > 1e-2);
}

#[test]
fn doubling_in_one_convolution_gives_what_two_steps_give_to_first_order() {
    for (kernel, taps) in [([3, 3], [4, 4]), ([5, 3], [4, 2]), ([3, 3], [3, 6])] {
        // A filter without any symmetry.
        let (x, w) = (f64s("x", &[2, 4, 3, 3]), f64s("w", &[kernel[0], kernel[1], 3, 2]));
        let (fir, s) = (f64s("fir", &taps), f64s("s", &[2, 3]));
        let leaves = [&x, &w, &s].map(Tensor::as_leaf);
        let conv = ModulatedConv { up: 2, down: 1, demodulate: false, eps: 1e-8, weight_gain: 1.0, fir: Some(&fir) };
        let two = modulated_conv2d(&leaves[0], &leaves[1], &leaves[2], &conv).unwrap();
        let fused = Fused { pre: Some(&leaves[2]), ..Fused::default() };
        let one = modulated::polyphase(&leaves[0], &leaves[1], &fir, &fused).unwrap();
        assert_close("value", &one, &two, 1e-12);
        let g = f64s("g", one.shape());
        let wanted = [&leaves[0], &leaves[1], &leaves[2]];
        let [ours, theirs] = [&one, &two].map(|y| swinstyle_tensor::grad(&[(y, Some(&g))], &wanted, false).unwrap());
        for (a, e) in ours.iter().zip(&theirs) {
            assert_close("gradient", a.as_ref().unwrap(), e.as_ref().unwrap(), 1e-12);
        }
    }
}
