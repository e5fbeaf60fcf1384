//! The twin against the definition and the fixtures, the CubeCL kernels against the twin, gradients against finite differences.

use swinstyle_kit::{
    golden::Fixture,
    testing::{assert_close, first_order_error, half_types_and_cuda, uniform, wgpu},
};
use swinstyle_tensor::{DType, Device, Tensor, TensorError, grad};

use crate::{layer_norm, normalize};

const CPU: Device = Device::Cpu;

fn parameters(c: usize, dtype: DType) -> (Tensor, Tensor) {
    let weight = uniform("weight", &[c], dtype, CPU).unwrap().affine(0.3, 1.0).unwrap();
    (weight, uniform("bias", &[c], dtype, CPU).unwrap())
}

fn naive(x: &Tensor, weight: &Tensor, bias: &Tensor, epsilon: f64) -> Tensor {
    let c = weight.len();
    let (w, b) = (weight.to_vec_f64().unwrap(), bias.to_vec_f64().unwrap());
    let mut y = x.to_vec_f64().unwrap();
    for row in y.chunks_exact_mut(c) {
        let mean = row.iter().sum::<f64>() / c as f64;
        let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / c as f64;
        for (i, v) in row.iter_mut().enumerate() {
            *v = (*v - mean) / (variance + epsilon).sqrt() * w[i] + b[i];
        }
    }
    Tensor::from_vec(y, x.shape(), CPU).unwrap()
}

#[test]
fn the_twin_matches_the_definition() {
    for shape in [&[7][..], &[1, 1], &[3, 16], &[2, 5, 24], &[131, 96], &[3, 5, 7, 33], &[40, 1024]] {
        let c = shape[shape.len() - 1];
        for (dtype, tolerance) in [(DType::F64, 1e-13), (DType::F32, 3e-6)] {
            let x = uniform("x", shape, dtype, CPU).unwrap();
            let (w, b) = parameters(c, dtype);
            assert_close(
                &format!("{shape:?}"),
                &layer_norm(&x, &w, &b, 1e-5).unwrap(),
                &naive(&x, &w, &b, 1e-5),
                tolerance,
            );
        }
    }
}

#[test]
fn a_mean_thousands_of_times_the_deviation_costs_no_digits() {
    // Offsets that f32 holds exactly, so that the input itself is exact.
    let offset = |v: f32, i: usize| (v * 256.0).round() / 256.0 + 1000.0 + (i % 3) as f32;
    let x = uniform("x", &[40, 96], DType::F32, CPU).unwrap().to_vec().unwrap();
    let x = Tensor::from_vec(x.iter().enumerate().map(|(i, &v)| offset(v, i)).collect(), &[40, 96], CPU).unwrap();
    let (w, b) = parameters(96, DType::F32);
    assert_close("offset", &layer_norm(&x, &w, &b, 1e-5).unwrap(), &naive(&x, &w, &b, 1e-5), 1e-6);
}

#[test]
fn gradients_match_finite_differences() {
    for shape in [&[2, 3, 5][..], &[70, 3], &[1, 20], &[2, 1]] {
        let x = uniform("x", shape, DType::F64, CPU).unwrap();
        let (w, b) = parameters(shape[shape.len() - 1], DType::F64);
        let f = |xs: &[Tensor]| layer_norm(&xs[0], &xs[1], &xs[2], 1e-2);
        let error = first_order_error(&f, &[x, w, b]).unwrap();
        assert!(error < 1e-6, "{shape:?}: {error:e}");
    }
}

#[test]
fn the_second_derivative_is_a_clear_error() {
    let x = uniform("x", &[2, 5], DType::F64, CPU).unwrap().as_leaf();
    let (w, b) = parameters(5, DType::F64);
    let (w, b) = (w.as_leaf(), b.as_leaf());
    let y = layer_norm(&x, &w, &b, 1e-5).unwrap();
    let grads = grad(&[(&y, None)], &[&x, &w, &b], true).unwrap();
    for g in grads.into_iter().take(2).flatten() {
        let again = grad(&[(&g.square().unwrap(), None)], &[&x], false);
        assert_eq!(again.unwrap_err(), TensorError::NotDifferentiable { op: "layer_norm", order: "second" });
    }
}

fn check_fixtures(device: Device, dtype: DType) {
    let names = ["layers/layer_norm", "layers/layer_norm_offset"];
    // Rows far from 0 lose their spread when half types store them, before any kernel sees them.
    for name in &names[..if dtype == DType::F32 { 2 } else { 1 }] {
        let fixture = Fixture::case(name).stored_as(dtype);
        let leaf = |key: &str| fixture.tensor(key, &[], device).as_leaf();
        let (x, w, b) = (leaf("in.x"), leaf("in.weight"), leaf("in.bias"));
        let y = layer_norm(&x, &w, &b, 1e-5).unwrap();
        fixture.assert("out.y", &[], &y);
        let grads = grad(&[(&y, Some(&leaf("cot.y")))], &[&x, &w, &b], false).unwrap();
        for (key, g) in ["grad.x", "grad.weight", "grad.bias"].into_iter().zip(&grads) {
            fixture.assert(key, &[], g.as_ref().unwrap());
        }
    }
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
    for shape in [&[100, 12][..], &[7, 33], &[3, 1030], &[70, 1]] {
        let x = uniform("x", shape, DType::F32, CPU).unwrap();
        let (w, b) = parameters(shape[shape.len() - 1], DType::F32);
        let g = uniform("g", shape, DType::F32, CPU).unwrap();
        let run = |d: Device| {
            let leaf = |t: &Tensor| t.to_device(d).unwrap().as_leaf();
            let (x, w, b) = (leaf(&x), leaf(&w), leaf(&b));
            let y = layer_norm(&x, &w, &b, 1e-3).unwrap();
            let grads = grad(&[(&y, Some(&leaf(&g)))], &[&x, &w, &b], false).unwrap();
            std::iter::once(y).chain(grads.into_iter().flatten()).collect::<Vec<_>>()
        };
        for (i, (cube, host)) in run(wgpu()).iter().zip(run(CPU)).enumerate() {
            assert_close(&format!("{shape:?}, result {i}"), cube, &host, 3e-6);
        }
    }
}

#[test]
fn parameter_gradients_do_not_depend_on_the_number_of_threads() {
    let x = uniform("x", &[1000, 33], DType::F32, CPU).unwrap();
    let (w, b) = parameters(33, DType::F32);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let (w, b) = (w.as_leaf(), b.as_leaf());
            let y = layer_norm(&x, &w, &b, 1e-5).unwrap();
            let grads = grad(&[(&y, Some(&x))], &[&w, &b], false).unwrap();
            grads.into_iter().map(|g| g.unwrap().to_vec().unwrap()).collect::<Vec<_>>()
        })
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn bad_input_is_an_error_that_names_the_values() {
    let x = uniform("x", &[2, 3], DType::F32, CPU).unwrap();
    let (w, b) = parameters(3, DType::F32);
    let says = |r: swinstyle_tensor::Result<Tensor>, text: &str| match r {
        Err(TensorError::Shape { op: "layer_norm", detail }) => assert!(detail.contains(text), "{detail}"),
        other => panic!("{other:?}"),
    };
    says(layer_norm(&x, &parameters(2, DType::F32).0, &b, 1e-5), "weight [2]");
    says(layer_norm(&x, &w, &x, 1e-5), "bias [2, 3]");
    says(layer_norm(&x, &w, &b, -1.0), "epsilon -1");
    says(layer_norm(&x, &w, &b, f64::NAN), "epsilon NaN");
    says(layer_norm(&Tensor::full(0.0, &[2, 0], DType::F32, CPU).unwrap(), &w, &b, 1e-5), "[2, 0]");
    assert!(layer_norm(&x, &parameters(3, DType::F64).0, &b, 1e-5).is_err());
    let none = Tensor::full(0.0, &[0, 3], DType::F32, CPU).unwrap().as_leaf();
    let (w, b) = (w.as_leaf(), b.as_leaf());
    let y = layer_norm(&none, &w, &b, 1e-5).unwrap();
    let g = grad(&[(&y, None)], &[&w, &b], false).unwrap();
    assert_eq!(g[0].as_ref().unwrap().to_vec().unwrap(), [0.0; 3]);
}

#[test]
fn without_weight_and_bias_it_is_as_with_ones_and_zeros() {
    let c = 24;
    for device in [CPU, wgpu()] {
        let full = |v: f64| Tensor::full(v, &[c], DType::F32, device).unwrap();
        let x = uniform("x", &[70, c], DType::F32, device).unwrap();
        let cotangent = uniform("cotangent", &[70, c], DType::F32, device).unwrap();
        let of = |f: &dyn Fn(&Tensor) -> Tensor| {
            let x = x.as_leaf();
            let y = f(&x);
            let dx = grad(&[(&y, Some(&cotangent))], &[&x], false).unwrap().remove(0).unwrap();
            [y.to_vec().unwrap(), dx.to_vec().unwrap()]
        };
        // The weight has a gradient of its own here, which must not change that of x.
        let affine = of(&|x| layer_norm(x, &full(1.0).as_leaf(), &full(0.0), 1e-6).unwrap());
        assert_eq!(of(&|x| normalize(x, 1e-6).unwrap()), affine);
    }
    assert!(normalize(&Tensor::full(0.0, &[3, 0], DType::F32, CPU).unwrap(), 1e-6).is_err());
}
