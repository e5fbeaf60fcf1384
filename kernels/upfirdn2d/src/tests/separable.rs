//! Filters that are given as their factors: the twin against the definition, the kernels against the twin, gradients, choices.

use swinstyle_kit::{
    Blueprint as _, Limits,
    testing::{assert_close, distance, first_order_error, half_types_and_cuda, second_order_error, uniform, wgpu},
    tuning::Tunable as _,
};
use swinstyle_tensor::{DType, Device, Tensor, TensorError, grad};

use super::{CPU, cases, naive, params};
use crate::{
    Blueprint, Problem, SlideTile, Upfirdn2d, separable_filter, separate, setup_filter, upfirdn2d, upfirdn2d_separable,
    upsample2d,
};

/// Doubling, halving and no resampling by four taps, with pads that crop and pads that reach far outside.
fn resamplings() -> [Upfirdn2d; 3] {
    [
        params([2, 2], [1, 1], [2, 1, -1, 4], false, 4.0),
        params([1, 1], [2, 2], [1, 1, 3, -2], true, 1.0),
        params([1, 1], [1, 1], [2, 1, -1, 5], false, 0.5),
    ]
}

/// The operands that a name and shapes make, rounded to a type.
fn operands(shape: &[usize], taps: [usize; 2], dtype: DType, device: Device) -> [Tensor; 3] {
    let operand = |name: &str, shape: &[usize]| {
        // A device need not have the type in which the cpu rounds.
        let on_cpu = uniform(name, shape, DType::F32, CPU).unwrap().to_dtype(dtype).unwrap();
        on_cpu.to_device(device).unwrap()
    };
    [operand("x", shape), operand("column", &[taps[0]]), operand("row", &[taps[1]])]
}

fn slides(x: &[usize], taps: [usize; 2], p: &Upfirdn2d) -> bool {
    let problem = Problem::separable(x, &[taps[0]], &[taps[1]], p).unwrap();
    matches!(Blueprint::default_for(&problem), Blueprint::Slide(_))
}

/// The kernel on a device against the twin.
#[track_caller]
fn check(device: Device, dtype: DType, shape: [usize; 4], taps: [usize; 2], p: &Upfirdn2d) {
    let at = |device| {
        let [x, column, row] = operands(&shape, taps, dtype, device);
        upfirdn2d_separable(&x, &column, &row, p).unwrap()
    };
    let (actual, expected) = (at(device), at(CPU));
    let what = format!("{p:?} of {shape:?} in {dtype} on {device}");
    if dtype == DType::F32 {
        return assert_close(&what, &actual, &expected, 2e-6);
    }
    let error = distance(&actual.to_vec_f64().unwrap(), &expected.to_vec_f64().unwrap());
    assert!(error < if dtype == DType::F16 { 1e-3 } else { 8e-3 }, "{what}: {error:e}");
}

#[test]
fn the_twin_of_factors_matches_the_definition_of_their_product() {
    for (shape, _, [fh, fw], p) in cases() {
        let [x, column, row] = operands(&shape, [fh, fw], DType::F64, CPU);
        let outer = column.reshape(&[fh, 1]).unwrap().matmul(&row.reshape(&[1, fw]).unwrap()).unwrap();
        let expected = naive(&x, &outer, &p);
        for (dtype, tolerance) in [(DType::F64, 1e-13), (DType::F32, 2e-6)] {
            let [x, column, row] = [&x, &column, &row].map(|t| t.to_dtype(dtype).unwrap());
            let y = upfirdn2d_separable(&x, &column, &row, &p).unwrap();
            assert_close(&format!("{shape:?} {p:?}"), &y, &expected, tolerance);
        }
    }
}

#[test]
fn the_sliding_kernel_matches_the_twin_on_wgpu() {
    for p in resamplings() {
        for c in [1, 3, 4, 20, 40] {
            for [h, w] in [[9, 7], [3, 5], [30, 19]] {
                assert!(slides(&[2, h, w, c], [4, 4], &p));
                check(wgpu(), DType::F32, [2, h, w, c], [4, 4], &p);
            }
        }
    }
}

#[test]
fn the_sliding_kernel_matches_the_twin_in_half_types_and_on_emulated_cuda() {
    for (device, dtype) in half_types_and_cuda().into_iter().filter(|(device, _)| *device != CPU) {
        for p in resamplings() {
            // Vectors of eight halves, in f32 two lines of six vectors of four; vectors of four in either; none.
            for c in [48, 20, 3] {
                check(device, dtype, [2, 11, 6, c], [4, 4], &p);
            }
        }
    }
}

#[test]
fn the_sliding_kernel_takes_unlike_axes_common_factors_and_gaps() {
    for (taps, p) in [
        ([4, 1], params([2, 1], [1, 2], [2, 1, 0, 0], false, 2.0)),
        // Factors with a common divisor, of which half the taps meet no sample.
        ([5, 4], params([2, 2], [2, 2], [1, 2, 2, -1], false, 1.0)),
        // Outputs that no tap reaches, and inputs that no output reads.
        ([2, 1], params([3, 1], [1, 3], [1, 1, 0, 1], true, 1.0)),
        ([7, 5], params([3, 2], [2, 3], [4, 2, -3, 6], true, 1.0)),
    ] {
        assert!(slides(&[1, 13, 9, 4], taps, &p));
        check(wgpu(), DType::F32, [1, 13, 9, 4], taps, &p);
    }
}

#[test]
fn factors_of_many_taps_are_gathered() {
    let p = params([1, 1], [1, 1], [9, 9, 9, 9], false, 1.0);
    assert!(!slides(&[1, 6, 7, 4], [20, 19], &p));
    check(wgpu(), DType::F32, [1, 6, 7, 4], [20, 19], &p);
}

#[test]
fn gradients_of_factors_match_finite_differences_in_both_orders() {
    for (p, shape) in resamplings().into_iter().zip([[1, 3, 4, 2], [2, 5, 5, 1], [1, 4, 5, 2]]) {
        let inputs = operands(&shape, [4, 3], DType::F64, CPU);
        let forward = |xs: &[Tensor]| upfirdn2d_separable(&xs[0], &xs[1], &xs[2], &p);
        let (first, second) =
            (first_order_error(&forward, &inputs).unwrap(), second_order_error(&forward, &inputs).unwrap());
        assert!(first < 1e-6 && second < 1e-6, "{p:?}: {first:e}, {second:e}");
        // One tensor as both factors.
        let [x, taps, _] = operands(&shape, [4, 4], DType::F64, CPU);
        let forward = |xs: &[Tensor]| upfirdn2d(&xs[0], &xs[1], &p);
        let inputs = [x, taps];
        let (first, second) =
            (first_order_error(&forward, &inputs).unwrap(), second_order_error(&forward, &inputs).unwrap());
        assert!(first < 1e-6 && second < 1e-6, "{p:?} of one factor: {first:e}, {second:e}");
    }
}

#[test]
fn gradients_to_second_order_through_the_sliding_kernel_match_the_twin() {
    for p in resamplings() {
        let at = |device: Device| {
            let [x, column, row] = operands(&[1, 9, 7, 4], [4, 4], DType::F32, device).map(|t| t.as_leaf());
            let y = upfirdn2d_separable(&x, &column, &row, &p).unwrap();
            // A cotangent that depends on x, so that every second derivative takes part.
            let g = grad(&[(&y, Some(&y))], &[&x, &column, &row], true).unwrap();
            let g: Vec<Tensor> = g.into_iter().map(Option::unwrap).collect();
            let norm = g[0].square().unwrap().sum_all().unwrap();
            let second = grad(&[(&norm, None)], &[&x, &column, &row], false).unwrap();
            g.into_iter().chain(second.into_iter().map(Option::unwrap)).collect::<Vec<_>>()
        };
        for (i, (actual, expected)) in at(wgpu()).iter().zip(&at(CPU)).enumerate() {
            assert_close(&format!("{p:?}, gradient {i}"), actual, expected, 1e-5);
        }
    }
}

#[test]
fn a_filter_of_taps_is_their_outer_product() {
    let taps = [1.0, 3.0, 3.0, 1.0];
    let (one, two) = (separable_filter(&taps, DType::F64, CPU).unwrap(), setup_filter(&taps, DType::F64, CPU).unwrap());
    let x = uniform("x", &[1, 6, 7, 2], DType::F64, CPU).unwrap();
    assert_close("up", &upsample2d(&x, &one, 2).unwrap(), &upsample2d(&x, &two, 2).unwrap(), 1e-15);
    assert!(separable_filter(&[1.0, -1.0], DType::F32, CPU).is_err());
    let matrix = uniform("f", &[2, 2], DType::F64, CPU).unwrap();
    match upfirdn2d_separable(&x, &matrix, &one, &Upfirdn2d::default()) {
        Err(TensorError::Shape { op: "upfirdn2d", detail }) => assert!(detail.contains("[2, 2]"), "{detail}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_filter_of_rank_one_has_factors_and_no_other() {
    let outer = |column: &Tensor, row: &Tensor| {
        let (fh, fw) = (column.len(), row.len());
        column.reshape(&[fh, 1]).unwrap().matmul(&row.reshape(&[1, fw]).unwrap()).unwrap()
    };
    for device in [CPU, wgpu()] {
        let [_, column, row] = operands(&[1], [3, 5], DType::F32, device);
        let filter = outer(&column, &row);
        let [column, row] = separate(&filter).unwrap().unwrap();
        assert_eq!((column.shape(), row.shape(), column.device()), (&[3][..], &[5][..], device));
        assert_close("factors", &outer(&column, &row), &filter, 2e-7);
    }
    let none = |f: Tensor| separate(&f).unwrap().is_none();
    assert!(none(uniform("f", &[3, 5], DType::F64, CPU).unwrap()));
    assert!(none(Tensor::full(0.0, &[2, 2], DType::F32, CPU).unwrap()));
    assert!(separate(&uniform("f", &[4], DType::F64, CPU).unwrap()).is_err());
}

#[test]
fn only_factors_slide_and_every_candidate_is_legal() {
    let p = resamplings()[0];
    let whole = Problem::new(&[2, 9, 7, 12], &[4, 4], &p).unwrap();
    assert!(Blueprint::space(&whole, &Limits::WEBGPU).iter().all(|b| matches!(b, Blueprint::Gather(_))));
    assert!(matches!(Blueprint::default_for(&whole), Blueprint::Gather(_)));
    let factors = Problem::separable(&[2, 9, 7, 12], &[4], &[4], &p).unwrap();
    let sliding: Vec<_> = Blueprint::space(&factors, &Limits::WEBGPU)
        .into_iter()
        .filter_map(|b| if let Blueprint::Slide(tile) = b { Some(tile) } else { None })
        .collect();
    assert!(sliding.len() > 8);
    for tile in sliding {
        let (single, half) = (tile.plan(&factors, 4, 8).unwrap(), tile.plan(&factors, 2, 8).unwrap());
        assert!(tile.units <= 256 && tile.columns.is_multiple_of(2), "{tile:?}");
        // Twelve channels are three vectors of four, and no vectors of eight.
        assert_eq!((single.vector_width, half.vector_width), (4, 4));
        assert_eq!(single.shape.columns, tile.columns);
    }
    // Eight halves leave registers for one column, and are worth more than a second one.
    let eight = Problem::separable(&[2, 9, 7, 16], &[4], &[4], &resamplings()[2]).unwrap();
    let plan = SlideTile { units: 64, columns: 2, rows: 8 }.plan(&eight, 2, 8).unwrap();
    assert_eq!((plan.vector_width, plan.shape.columns), (8, 1));
    // The largest strips that leave a GPU full, and short ones where there is little work.
    let rows = |batch: usize, edge: usize| {
        let p = Problem::separable(&[batch, edge, edge, 64], &[4], &[4], &resamplings()[2]).unwrap();
        match Blueprint::default_for(&p) {
            Blueprint::Slide(tile) => tile.rows,
            Blueprint::Gather(_) => 0,
        }
    };
    assert_eq!((rows(1, 8), rows(64, 256)), (4, 64));
}

#[test]
fn problems_of_one_key_share_their_legal_choices() {
    // With the factors' common divisor 2 the only tap meets every sample, or none.
    let [met, missed] = [0, 1].map(|pad| {
        let p = params([2, 2], [2, 2], [pad, -pad, pad, -pad], false, 1.0);
        Problem::separable(&[1, 8, 8, 4], &[1], &[1], &p).unwrap()
    });
    assert_eq!(met.output_shape(), missed.output_shape());
    assert_ne!(Blueprint::space(&met, &Limits::WEBGPU), Blueprint::space(&missed, &Limits::WEBGPU));
    assert_ne!(Blueprint::key(&met), Blueprint::key(&missed));
}
