//! The twin against the definition and the fixtures, the CubeCL kernels against the twin, gradients against finite differences.

use swinstyle_kit::{
    golden::Fixture,
    testing::{assert_close, first_order_error, half_types_and_cuda, second_order_error, uniform, wgpu},
};
use swinstyle_tensor::{DType, Device, Tensor, TensorError, grad};

use crate::{Activation, bias_act};

const CPU: Device = Device::Cpu;

const ALL: [Activation; 7] = [
    Activation::Linear,
    Activation::LEAKY_RELU,
    Activation::Relu,
    Activation::Gelu,
    Activation::Silu,
    Activation::Tanh,
    Activation::Sigmoid,
];

fn value(activation: Activation, z: f64) -> f64 {
    let sigmoid = 1.0 / (1.0 + (-z).exp());
    match activation {
        Activation::Linear => z,
        Activation::LeakyRelu { slope } => z.max(0.0) + slope * z.min(0.0),
        Activation::Relu => z.max(0.0),
        Activation::Gelu => 0.5 * z * (1.0 + swinstyle_tensor::simd::math::erf_f64(z / 2.0_f64.sqrt())),
        Activation::Silu => z * sigmoid,
        Activation::Tanh => z.tanh(),
        Activation::Sigmoid => sigmoid,
    }
}

/// Values over several units, none on a kink.
fn input(shape: &[usize], dtype: DType) -> Tensor {
    uniform("x", shape, dtype, CPU).unwrap().scale(4.0).unwrap()
}

fn bias(channels: usize, dtype: DType) -> Tensor {
    uniform("bias", &[channels], dtype, CPU).unwrap()
}

#[test]
fn the_twin_matches_the_definition() {
    for shape in [&[5][..], &[3, 7], &[2, 33, 5, 3], &[700, 65], &[40_000, 1], &[3, 20_001]] {
        let c = shape[shape.len() - 1];
        for activation in ALL {
            for (b, gain, clamp) in [(true, 2.0_f64.sqrt(), None), (false, 1.0, None), (true, -1.5, Some(0.8))] {
                let (x, bv) = (input(shape, DType::F32), bias(c, DType::F32));
                let y = bias_act(&x, b.then_some(&bv), activation, gain, clamp).unwrap();
                let bound = clamp.unwrap_or(f64::INFINITY);
                let bv = bv.to_vec_f64().unwrap();
                let z = x.to_vec_f64().unwrap().into_iter().enumerate().map(|(i, v)| if b { v + bv[i % c] } else { v });
                let expected = z.map(|z| (value(activation, z) * gain).clamp(-bound, bound)).collect();
                let expected = Tensor::from_vec(expected, shape, CPU).unwrap();
                assert_close(&format!("{activation:?} {shape:?}"), &y, &expected, 1e-6);
            }
        }
    }
}

#[test]
fn gradients_of_first_and_second_order_match_finite_differences() {
    for activation in ALL {
        for (with_bias, gain, clamp) in [(true, 2.0_f64.sqrt(), None), (true, -0.7, Some(0.9)), (false, 1.0, Some(0.6))]
        {
            let mut inputs = vec![input(&[2, 3, 5], DType::F64)];
            if with_bias {
                inputs.push(bias(5, DType::F64));
            }
            let f = |xs: &[Tensor]| bias_act(&xs[0], xs.get(1), activation, gain, clamp);
            let (first, second) = (first_order_error(&f, &inputs).unwrap(), second_order_error(&f, &inputs).unwrap());
            assert!(first < 1e-6 && second < 1e-6, "{activation:?} {gain} {clamp:?}: {first:e}, {second:e}");
        }
    }
}

#[test]
fn third_derivatives_of_curved_activations_match_finite_differences() {
    for activation in [Activation::Gelu, Activation::Silu, Activation::Tanh, Activation::Sigmoid] {
        let x = input(&[2, 4], DType::F64);
        // The gradient of y·y is a function whose own second order needs the third derivative of the activation.
        let f = |xs: &[Tensor]| {
            let x = if xs[0].is_tracked() { xs[0].clone() } else { xs[0].as_leaf() };
            let y = bias_act(&x, None, activation, 1.3, None)?;
            let g = grad(&[(&y.square()?, None)], &[&x], true)?.remove(0);
            g.ok_or_else(|| TensorError::shape("test", "no gradient"))
        };
        let second = second_order_error(&f, &[x]).unwrap();
        assert!(second < 1e-6, "{activation:?}: {second:e}");
    }
}

#[test]
fn nothing_flows_where_the_result_was_clamped() {
    let x = Tensor::from_vec(vec![-9.0_f32, -0.5, 0.5, 9.0], &[4], CPU).unwrap().as_leaf();
    for activation in [Activation::Linear, Activation::LeakyRelu { slope: 1.0 }] {
        let y = bias_act(&x, None, activation, 2.0, Some(3.0)).unwrap();
        assert_eq!(y.to_vec().unwrap(), [-3.0, -1.0, 1.0, 3.0]);
        let g = grad(&[(&y, None)], &[&x], false).unwrap().remove(0).unwrap();
        assert_eq!(g.to_vec().unwrap(), [0.0, 2.0, 2.0, 0.0]);
    }
}

#[test]
fn nan_stays_nan_and_infinities_stay() {
    let x = Tensor::from_vec(vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY], &[3], CPU).unwrap();
    for activation in ALL {
        let y = bias_act(&x, None, activation, 1.0, Some(5.0)).unwrap().to_vec().unwrap();
        assert!(y[0].is_nan(), "{activation:?}");
    }
    assert_eq!(bias_act(&x, None, Activation::Relu, 1.0, None).unwrap().to_vec().unwrap()[1..], [f32::INFINITY, 0.0]);
}

fn check_fixtures(device: Device, dtype: DType) {
    let fixture = Fixture::case("layers/bias_lrelu").stored_as(dtype);
    let (x, b) = (fixture.nhwc("in.x", device).as_leaf(), fixture.tensor("in.b", &[], device).as_leaf());
    let cot = fixture.nhwc("cot.y", device).as_leaf();
    let y = bias_act(&x, Some(&b), Activation::LEAKY_RELU, 2.0_f64.sqrt(), None).unwrap();
    fixture.assert_nhwc("out.y", &y);
    let grads = grad(&[(&y, Some(&cot))], &[&x, &b], true).unwrap();
    let (gx, gb) = (grads[0].clone().unwrap(), grads[1].clone().unwrap());
    fixture.assert_nhwc("grad.x", &gx);
    fixture.assert("grad.b", &[], &gb);
    let v = fixture.nhwc("v.x", device);
    let second = grad(&[(&gx, Some(&v))], &[&cot], false).unwrap();
    fixture.assert_nhwc("dd.cot.y", second[0].as_ref().unwrap());

    let fixture = Fixture::case("layers/gelu_erf").stored_as(dtype);
    let x = fixture.tensor("in.x", &[], device).as_leaf();
    let y = bias_act(&x, None, Activation::Gelu, 1.0, None).unwrap();
    fixture.assert("out.y", &[], &y);
    let cot = fixture.tensor("cot.y", &[], device);
    fixture.assert("grad.x", &[], grad(&[(&y, Some(&cot))], &[&x], false).unwrap()[0].as_ref().unwrap());
}

#[test]
fn the_fixtures_pass_on_cpu() {
    check_fixtures(CPU, DType::F32);
}

#[test]
fn the_fixtures_pass_on_wgpu() {
    check_fixtures(wgpu(), DType::F32);
}

#[test]
fn the_fixtures_pass_in_half_types_and_on_emulated_cuda() {
    for (device, dtype) in half_types_and_cuda() {
        check_fixtures(device, dtype);
    }
}

#[test]
fn the_cube_kernels_match_the_twin() {
    let device = wgpu();
    for (activation, c, with_bias, clamp) in [
        (Activation::LEAKY_RELU, 8, true, None),
        (Activation::LEAKY_RELU, 3, true, Some(0.7)),
        (Activation::Linear, 5, false, Some(0.7)),
        (Activation::Relu, 5, false, None),
        (Activation::Gelu, 8, true, None),
        (Activation::Gelu, 8, false, Some(0.7)),
        (Activation::Silu, 8, true, Some(0.7)),
        (Activation::Tanh, 7, false, None),
        (Activation::Sigmoid, 7, false, None),
    ] {
        let (x, b) = (input(&[37, c], DType::F32), bias(c, DType::F32));
        let g = uniform("g", &[37, c], DType::F32, CPU).unwrap();
        let run = |d: Device| {
            let (x, b) = (x.to_device(d).unwrap().as_leaf(), b.to_device(d).unwrap());
            let y = bias_act(&x, with_bias.then_some(&b), activation, -1.2, clamp).unwrap();
            let dx = grad(&[(&y, Some(&g.to_device(d).unwrap()))], &[&x], false).unwrap().remove(0).unwrap();
            (y, dx)
        };
        let ((y, dx), (ye, dxe)) = (run(device), run(CPU));
        assert_close(&format!("{activation:?}"), &y, &ye, 1e-6);
        assert_close(&format!("gradient of {activation:?}"), &dx, &dxe, 2e-6);
    }
}

#[test]
fn bad_input_is_an_error_that_names_the_values() {
    let x = input(&[2, 3], DType::F32);
    let says = |r: swinstyle_tensor::Result<Tensor>, text: &str| match r {
        Err(TensorError::Shape { op: "bias_act", detail }) => assert!(detail.contains(text), "{detail}"),
        other => panic!("{other:?}"),
    };
    says(bias_act(&x, Some(&bias(2, DType::F32)), Activation::Relu, 1.0, None), "bias [2]");
    says(bias_act(&x, Some(&x), Activation::Relu, 1.0, None), "bias [2, 3]");
    says(bias_act(&x, None, Activation::Relu, 0.0, None), "gain 0");
    says(bias_act(&x, None, Activation::Relu, f64::NAN, None), "gain NaN");
    says(bias_act(&x, None, Activation::Relu, 1.0, Some(0.0)), "clamp 0");
    says(bias_act(&x, None, Activation::Relu, 1.0, Some(f64::NAN)), "clamp NaN");
    says(bias_act(&x, None, Activation::LeakyRelu { slope: -0.1 }, 1.0, None), "slope -0.1");
    says(
        bias_act(
            &x.reshape(&[6]).unwrap().slice(0, 0, 1).unwrap().reshape(&[]).unwrap(),
            None,
            Activation::Relu,
            1.0,
            None,
        ),
        "no axes",
    );
    assert!(bias_act(&x, Some(&bias(3, DType::F64)), Activation::Relu, 1.0, None).is_err());
    let empty = Tensor::full(0.0, &[0, 3], DType::F32, CPU).unwrap();
    assert_eq!(bias_act(&empty, Some(&bias(3, DType::F32)), Activation::Gelu, 1.0, None).unwrap().shape(), [0, 3]);
}
