//! The layer to RGB: against its parts, finite differences to second order, device against twin.

use swinstyle_kit::testing::{assert_close, distance, emulated_cuda, first_order_error, second_order_error, wgpu};
use swinstyle_tensor::{DType, Device, Tensor};
use swinstyle_upfirdn2d::upsample2d;

use super::data;
use crate::{ModulatedConv, modulated_conv2d, to_rgb};

/// Batch and height, width, channels in and out, shape of the filter.
type Case = ([usize; 2], usize, [usize; 2], &'static [usize]);

/// Filters without any symmetry, pixels that no block divides, vectors of every width, fewer and
/// more of them than a group of units; one list of taps is a filter's factor.
const CASES: [Case; 5] = [
    ([2, 6], 4, [7, 3], &[4, 4]),
    ([1, 4], 6, [40, 3], &[3, 6]),
    ([3, 2], 2, [24, 1], &[5]),
    ([1, 10], 8, [264, 4], &[4]),
    ([1, 2], 4, [16, 6], &[4, 3]),
];

/// x, weight, style, bias, skip, filter on a device; what is added has the type of the image.
fn tensors(case: usize, device: Device, dtype: DType) -> [Tensor; 6] {
    let ([n, h], w, [i, o], filter) = CASES[case];
    let on = |name: &str, shape: &[usize], dtype: DType| {
        let made = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
        data(name, shape, made).to_dtype(dtype).unwrap().to_device(device).unwrap()
    };
    [
        on("x", &[n, h, w, i], dtype),
        on("w", &[1, 1, i, o], dtype),
        on("s", &[n, i], dtype),
        on("b", &[o], dtype.wide()),
        on("skip", &[n, h / 2, w / 2, o], dtype.wide()),
        on("f", filter, dtype.wide()),
    ]
}

fn run([x, w, s, b, skip, filter]: &[Tensor; 6]) -> [Tensor; 2] {
    let with = to_rgb(x, w, s, 0.5, b, Some((skip, filter))).unwrap();
    [with, to_rgb(x, w, s, 0.5, b, None).unwrap()]
}

#[test]
fn the_layer_to_rgb_is_the_sum_of_its_parts() {
    for case in 0..CASES.len() {
        let all @ [x, w, s, b, skip, filter] = &tensors(case, Device::Cpu, DType::F64);
        let [with, without] = run(all);
        let conv = ModulatedConv { up: 1, down: 1, demodulate: false, eps: 0.0, weight_gain: 0.5, fir: None };
        let expected = modulated_conv2d(x, w, s, &conv).unwrap().add(b).unwrap();
        assert_close("without skip", &without, &expected, 1e-12);
        let expected = expected.add(&upsample2d(skip, filter, 2).unwrap()).unwrap();
        assert_close("with skip", &with, &expected, 1e-12);
    }
}

#[test]
fn its_gradients_match_finite_differences() {
    for case in [0, 2, 4] {
        let [x, w, s, b, skip, filter] = tensors(case, Device::Cpu, DType::F64);
        let inputs = [x, w, s, b, skip];
        let f = |t: &[Tensor]| to_rgb(&t[0], &t[1], &t[2], 0.5, &t[3], Some((&t[4], &filter)));
        assert!(first_order_error(&f, &inputs).unwrap() < 1e-7);
        assert!(second_order_error(&f, &inputs).unwrap() < 1e-6);
        let by_filter =
            |t: &[Tensor]| to_rgb(&inputs[0], &inputs[1], &inputs[2], 0.5, &inputs[3], Some((&inputs[4], &t[0])));
        assert!(first_order_error(&by_filter, std::slice::from_ref(&filter)).unwrap() < 1e-7);
    }
}

#[test]
fn on_devices_it_matches_the_twin() {
    let half = [(DType::F16, 1e-3), (DType::BF16, 1e-3)];
    let mut devices = vec![(wgpu(), DType::F32, 1e-6)];
    if let Some(cuda) = emulated_cuda() {
        devices.extend([(cuda, DType::F32, 1e-6)]);
        devices.extend(half.map(|(dtype, limit)| (cuda, dtype, limit)));
    }
    for (device, dtype, limit) in devices {
        for case in 0..4 {
            let (actual, expected) = (run(&tensors(case, device, dtype)), run(&tensors(case, Device::Cpu, dtype)));
            for (a, e) in actual.iter().zip(&expected) {
                assert_eq!(a.dtype(), dtype.wide());
                let error = distance(&a.to_vec_f64().unwrap(), &e.to_vec_f64().unwrap());
                assert!(error < limit, "case {case} in {dtype} on {device}: {error:e}");
            }
        }
    }
}

#[test]
fn shapes_that_do_not_fit_are_named() {
    let [x, w, s, b, skip, filter] = tensors(0, Device::Cpu, DType::F32);
    let odd = data("odd", &[2, 3, 3, 3], DType::F32);
    for (result, said) in [
        (to_rgb(&x, &w, &s, 1.0, &b, Some((&odd, &filter))), "[2, 3, 3, 3]"),
        (to_rgb(&x, &w, &s, 1.0, &skip, None), "bias"),
        (to_rgb(&x, &w, &b, 1.0, &b, None), "style"),
        (to_rgb(&x, &x, &s, 1.0, &b, None), "[1, 1, I, O]"),
    ] {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}
