//! Filters that are given as their factors: the twin against the definition, the sliding kernel against the twin, gradients, choices.

use swinstyle_kit::{
    Blueprint as _, Limits,
    testing::{assert_close, distance, emulated_cuda, first_order_error, half_types_and_cuda, second_order_error, uniform, wgpu},
};
use swinstyle_tensor::{DType, Device, Tensor, grad};

use super::{CPU, naive, params};
use crate::{
    Blueprint, Problem, Upfirdn2d, separable_filter, separate, setup_filter, upfirdn2d, upfirdn2d_separable,
};

/// Doubling, halving and no resampling by four taps, with pads that crop and pads that reach far outside.
fn resamplings() -> [Upfirdn2d; 3] {
    [
        params([2, 2], [1, 1], [2, 1, -1, 4], false, 4.0),
        params([1, 1], [2, 2], [1, 1, 3, -2], true, 1.0),
        params([1, 1], [1, 1], [2, 1, -1, 5], false, 0.5),
    ]
}

fn factors(taps: [usize; 2], dtype: DType, device: Device) -> [Tensor; 2] {
    [uniform("column", &[taps[0]], dtype, device).unwrap(), uniform("row", &[taps[1]], dtype, device).unwrap()]
}

fn slides(x: &[usize], taps: [usize; 2], p: &Upfirdn2d) -> bool {
    let problem = Problem::separable(x, &[taps[0]], &[taps[1]], p).unwrap();
    matches!(Blueprint::default_for(&problem), Blueprint::Slide(_))
}

/// The sliding kernel on a device against the twin, on odd sizes.
fn check(device: Device, dtype: DType, channels: &[usize]) {
    for p in resamplings() {
        for &c in channels {
            for size in [[9, 7], [3, 5], [12, 19]] {
                let shape = [2, size[0], size[1], c];
                assert!(slides(&shape, [4, 4], &p));
                let at = |device| {
                    let x = uniform("x", &shape, DType::F32, device).unwrap().to_dtype(dtype).unwrap();
                    let [column, row] = factors([4, 4], DType::F32, device).map(|f| f.to_dtype(dtype).unwrap());
                    upfirdn2d_separable(&x, &column, &row, &p).unwrap()
                };
                let (actual, expected) = (at(device), at(CPU));
                let what = format!("{p:?} of {shape:?} in {dtype} on {device}");
                if dtype == DType::F32 {
                    assert_close(&what, &actual, &expected, 2e-6);
                } else {
                    let error = distance(&actual.to_vec_f64().unwrap(), &expected.to_vec_f64().unwrap());
                    assert!(error < if dtype == DType::F16 { 1e-3 } else { 8e-3 }, "{what}: {error:e}");
                }
            }
        }
    }
}

#[test]
fn the_sliding_kernel_matches_the_twin_on_wgpu() {
    check(wgpu(), DType::F32, &[1, 3, 4, 20]);
}
