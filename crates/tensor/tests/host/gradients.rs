//! Every operation's first and second gradient against finite differences in f64.

use swinstyle_kit::testing::{Function, assert_slice_close, first_order_error, second_order_error, uniform};
use swinstyle_tensor::{DType, Device, Result, Tensor, grad};

/// Uniform values in [−1, 1) in f64 on the cpu.
pub fn random(name: &str, shape: &[usize]) -> Tensor {
    uniform(name, shape, DType::F64, Device::Cpu).unwrap()
}

/// Values in [0.5, 1.5), for logarithms, roots and divisors.
fn positive(name: &str, shape: &[usize]) -> Tensor {
    random(name, shape).affine(0.5, 1.0).unwrap()
}

pub fn tensor(values: &[f64], shape: &[usize]) -> Tensor {
    Tensor::from_slice(values, shape, Device::Cpu).unwrap()
}

/// Holds `f` to finite differences in both orders, and `f²` too: a linear operation alone has no second
/// derivative, and squaring sends a gradient that depends on the input through its rule.
#[track_caller]
fn check(what: &str, f: &Function, inputs: &[Tensor]) {
    let squared = |xs: &[Tensor]| f(xs)?.square();
    let forms: [(&str, &Function); 2] = [("", f), (", squared", &squared)];
    for (form, f) in forms {
        let first = first_order_error(f, inputs).unwrap();
        assert!(first < 1e-6, "{what}{form}: first order off by {first:e}");
        let second = second_order_error(f, inputs).unwrap();
        assert!(second < 1e-5, "{what}{form}: second order off by {second:e}");
    }
}

type Unary = fn(&Tensor) -> Result<Tensor>;

#[test]
fn smooth_functions_of_any_sign_match_finite_differences() {
    let x = random("x", &[3, 5]).scale(2.0).unwrap();
    let ops: [(&str, Unary); 9] = [
        ("affine", |x| x.affine(-1.7, 0.4)),
        ("scale", |x| x.scale(0.3)),
        ("add_scalar", |x| x.add_scalar(0.3)),
        ("neg", Tensor::neg),
        ("exp", Tensor::exp),
        ("square", Tensor::square),
        ("tanh", Tensor::tanh),
        ("sigmoid", Tensor::sigmoid),
        ("softplus", Tensor::softplus),
    ];
    for (name, op) in ops {
        check(name, &|xs| op(&xs[0]), std::slice::from_ref(&x));
    }
}

#[test]
fn functions_of_positive_numbers_match_finite_differences() {
    let x = positive("x", &[3, 5]);
    let ops: [(&str, Unary); 4] =
        [("ln", Tensor::ln), ("sqrt", Tensor::sqrt), ("rsqrt", Tensor::rsqrt), ("recip", Tensor::recip)];
    for (name, op) in ops {
        check(name, &|xs| op(&xs[0]), std::slice::from_ref(&x));
    }
}

#[test]
fn functions_with_kinks_match_finite_differences_beside_them() {
    // None of these lies within a difference step of a kink: 0 for abs, ±0.5 for clamp.
    let x = tensor(&[-2.0, -0.7, -0.3, -0.01, 0.02, 0.45, 0.55, 1.3], &[2, 4]);
    check("abs", &|xs| xs[0].abs(), std::slice::from_ref(&x));
    check("clamp", &|xs| xs[0].clamp(-0.5, 0.5), &[x]);
}

#[test]
fn gradients_at_kinks_are_the_documented_ones() {
    let x = tensor(&[-0.5, 0.0, 0.5], &[3]).as_leaf();
    let at = |y: Tensor| grad(&[(&y, None)], &[&x], false).unwrap()[0].as_ref().unwrap().to_vec_f64().unwrap();
    assert_eq!(at(x.abs().unwrap()), [-1.0, 0.0, 1.0]);
    assert_eq!(at(x.clamp(-0.5, 0.25).unwrap()), [1.0, 1.0, 0.0]);
    let zero = tensor(&[0.0], &[1]);
    assert_eq!(at(x.maximum(&zero).unwrap()), [0.0, 0.5, 1.0]);
}

/// Pairs of shapes that broadcast: equal, a scalar, a last axis, a middle axis, both sides at once, a new leading axis.
const BROADCASTS: [(&[usize], &[usize]); 7] = [
    (&[2, 3, 4], &[2, 3, 4]),
    (&[2, 3], &[]),
    (&[2, 3, 4], &[4]),
    (&[2, 3, 4], &[2, 1, 4]),
    (&[2, 1, 4], &[3, 1]),
    (&[4], &[3, 4]),
    (&[1, 1], &[2, 1, 3]),
];

#[test]
fn binary_functions_match_finite_differences_under_broadcasting() {
    type Binary = fn(&Tensor, &Tensor) -> Result<Tensor>;
    let ops: [(&str, Binary); 4] =
        [("add", Tensor::add), ("sub", Tensor::sub), ("mul", Tensor::mul), ("div", Tensor::div)];
    for (a, b) in BROADCASTS {
        for (name, op) in ops {
            let inputs = [random("a", a), positive("b", b)];
            check(&format!("{name} {a:?} {b:?}"), &|xs| op(&xs[0], &xs[1]), &inputs);
            let inputs = [random("b", b), positive("a", a)];
            check(&format!("{name} {b:?} {a:?}"), &|xs| op(&xs[0], &xs[1]), &inputs);
        }
    }
}

#[test]
fn maximum_matches_finite_differences_away_from_ties() {
    for (a, b) in BROADCASTS {
        let inputs = [random("a", a), random("b", b)];
        let gaps = inputs[0].sub(&inputs[1]).unwrap().to_vec_f64().unwrap();
        assert!(gaps.iter().all(|g| g.abs() > 1e-4), "the data of this test has a tie");
        check(&format!("maximum {a:?} {b:?}"), &|xs| xs[0].maximum(&xs[1]), &inputs);
    }
}

#[test]
fn broadcasting_and_its_adjoint_match_finite_differences() {
    for (small, large) in [
        (&[][..], &[2, 3][..]),
        (&[3], &[2, 3]),
        (&[2, 1], &[2, 3]),
        (&[1, 3, 1], &[2, 3, 4]),
        (&[2, 1, 4], &[5, 2, 3, 4]),
        (&[2, 3], &[2, 3]),
    ] {
        check(&format!("broadcast {small:?} to {large:?}"), &|xs| xs[0].broadcast_to(large), &[random("x", small)]);
        check(&format!("sum {large:?} to {small:?}"), &|xs| xs[0].sum_to(small), &[random("x", large)]);
    }
}

#[test]
fn reductions_match_finite_differences() {
    let x = random("x", &[2, 3, 4]);
    for axes in [&[][..], &[0], &[1], &[2], &[0, 2], &[1, 2], &[2, 0], &[0, 1, 2]] {
        check(&format!("sum over {axes:?}"), &|xs| xs[0].sum(axes), std::slice::from_ref(&x));
        check(&format!("mean over {axes:?}"), &|xs| xs[0].mean(axes), std::slice::from_ref(&x));
    }
    check("sum_all", &|xs| xs[0].sum_all(), std::slice::from_ref(&x));
    check("mean_all", &|xs| xs[0].mean_all(), &[x]);
}

#[test]
fn softmax_matches_finite_differences_and_does_not_overflow() {
    let x = random("x", &[2, 3, 5]).scale(3.0).unwrap();
    check("softmax", &|xs| xs[0].softmax(), std::slice::from_ref(&x));
    check("log_softmax", &|xs| xs[0].log_softmax(), std::slice::from_ref(&x));
    check("softmax of a shifted row", &|xs| xs[0].add_scalar(100.0)?.softmax(), &[x]);
    let y = tensor(&[1e5, 0.0, 1e5, -1e5], &[1, 4]).softmax().unwrap();
    assert_eq!(y.to_vec_f64().unwrap(), [0.5, 0.0, 0.5, 0.0]);
}

#[test]
fn layout_operations_match_finite_differences() {
    let x = random("x", &[2, 3, 4]);
    let ops: [(&str, Unary); 14] = [
        ("reshape", |x| x.reshape(&[4, 6])),
        ("reshape to the same", |x| x.reshape(&[2, 3, 4])),
        ("permute 2 0 1", |x| x.permute(&[2, 0, 1])),
        ("permute 1 0 2", |x| x.permute(&[1, 0, 2])),
        ("permute 0 2 1", |x| x.permute(&[0, 2, 1])),
        ("transpose", Tensor::transpose),
        ("slice of the first axis", |x| x.slice(0, 1, 1)),
        ("slice of the middle axis", |x| x.slice(1, 1, 2)),
        ("slice of the last axis", |x| x.slice(2, 0, 3)),
        ("the whole as a slice", |x| x.slice(2, 0, 4)),
        ("pad of the first axis", |x| x.pad(0, 1, 0)),
        ("pad of the middle axis", |x| x.pad(1, 2, 1)),
        ("pad of the last axis", |x| x.pad(2, 0, 3)),
        ("no pad", |x| x.pad(1, 0, 0)),
    ];
    for (name, op) in ops {
        check(name, &|xs| op(&xs[0]), std::slice::from_ref(&x));
    }
}

#[test]
fn concatenation_matches_finite_differences_on_every_axis() {
    for axis in 0..3 {
        let shape = |length: usize| {
            let mut s = [2, 3, 4];
            s[axis] = length;
            s
        };
        let inputs = [random("a", &shape(2)), random("b", &shape(1)), random("c", &shape(3))];
        let f = |xs: &[Tensor]| Tensor::concat(&xs.iter().collect::<Vec<_>>(), axis);
        check(&format!("concat on axis {axis}"), &f, &inputs);
    }
    // One tensor twice: both halves of the gradient arrive.
    check("concat with itself", &|xs| Tensor::concat(&[&xs[0], &xs[0]], 1), &[random("x", &[2, 3])]);
}

#[test]
fn matmul_matches_finite_differences_for_every_transpose_and_batching() {
    let (m, n, k) = (3, 2, 4);
    for (transpose_a, transpose_b) in [(false, false), (true, false), (false, true), (true, true)] {
        for (lead_a, lead_b) in
            [(&[][..], &[][..]), (&[2], &[2]), (&[2], &[]), (&[], &[2]), (&[2, 3], &[2, 3]), (&[2, 3], &[])]
        {
            let pair = |rows, columns, t| if t { [columns, rows] } else { [rows, columns] };
            let a = [lead_a, &pair(m, k, transpose_a)].concat();
            let b = [lead_b, &pair(k, n, transpose_b)].concat();
            let what = format!("{a:?} ({transpose_a}) · {b:?} ({transpose_b})");
            let f = |xs: &[Tensor]| xs[0].matmul_with(&xs[1], transpose_a, transpose_b);
            check(&what, &f, &[random("a", &a), random("b", &b)]);
        }
    }
}

#[test]
fn products_are_those_of_the_definition() {
    let a = tensor(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3]);
    let b = tensor(&[1.0, 0.0, -1.0, 2.0, 1.0, 1.0], &[3, 2]);
    let product = [2.0, 7.0, 5.0, 16.0];
    assert_eq!(a.matmul(&b).unwrap().to_vec_f64().unwrap(), product);
    let (at, bt) = (a.transpose().unwrap(), b.transpose().unwrap());
    for (a, b, ta, tb) in [(&at, &b, true, false), (&a, &bt, false, true), (&at, &bt, true, true)] {
        assert_eq!(a.matmul_with(b, ta, tb).unwrap().to_vec_f64().unwrap(), product);
    }
    let bias = tensor(&[10.0, 20.0], &[2]);
    assert_eq!(a.linear(&bt, Some(&bias)).unwrap().to_vec_f64().unwrap(), [12.0, 27.0, 15.0, 36.0]);
}

#[test]
fn linear_layers_match_finite_differences() {
    let (weight, bias) = (random("w", &[3, 4]), random("b", &[3]));
    for lead in [&[][..], &[5], &[2, 3]] {
        let x = random("x", &[lead, &[4]].concat());
        let plain = |xs: &[Tensor]| xs[0].linear(&xs[1], None);
        check(&format!("linear on {lead:?}"), &plain, &[x.clone(), weight.clone()]);
        let biased = |xs: &[Tensor]| xs[0].linear(&xs[1], Some(&xs[2]));
        check(&format!("linear with bias on {lead:?}"), &biased, &[x, weight.clone(), bias.clone()]);
    }
}

#[test]
fn resampling_matches_finite_differences_up_and_down() {
    let x = random("x", &[2, 3, 4, 2]);
    for (height, width) in [(6, 8), (5, 7), (2, 2), (1, 1), (2, 9), (3, 4)] {
        for align_corners in [false, true] {
            let what = format!("bilinear to {height}×{width}, align_corners {align_corners}");
            let f = |xs: &[Tensor]| xs[0].resize_bilinear(height, width, align_corners);
            check(&what, &f, std::slice::from_ref(&x));
        }
        let f = |xs: &[Tensor]| xs[0].pool_area(height, width);
        check(&format!("area to {height}×{width}"), &f, std::slice::from_ref(&x));
    }
}

/// A row of values as an image of one line.
fn line(values: &[f64]) -> Tensor {
    tensor(values, &[1, 1, values.len(), 1])
}

#[test]
fn bilinear_values_are_those_computed_by_hand() {
    let resized = |x: &[f64], width, align| line(x).resize_bilinear(1, width, align).unwrap().to_vec_f64().unwrap();
    assert_slice_close("up, corners free", &resized(&[0.0, 1.0], 4, false), &[0.0, 0.25, 0.75, 1.0], 1e-15);
    assert_slice_close("up, corners aligned", &resized(&[0.0, 1.0], 4, true), &[0.0, 1.0 / 3.0, 2.0 / 3.0, 1.0], 1e-15);
    assert_slice_close("down, corners free", &resized(&[0.0, 1.0, 2.0, 3.0], 2, false), &[0.5, 2.5], 1e-15);
    assert_slice_close("down, corners aligned", &resized(&[0.0, 1.0, 2.0, 3.0], 2, true), &[0.0, 3.0], 1e-15);
    assert_slice_close("odd factor", &resized(&[0.0, 1.0], 3, false), &[0.0, 0.5, 1.0], 1e-15);
    assert_slice_close("to one, corners free", &resized(&[0.0, 1.0, 5.0], 1, false), &[1.0], 1e-15);
    assert_slice_close("to one, corners aligned", &resized(&[7.0, 1.0, 5.0], 1, true), &[7.0], 1e-15);
    let square = tensor(&[0.0, 1.0, 2.0, 3.0], &[1, 2, 2, 1]);
    let y = square.resize_bilinear(3, 3, true).unwrap();
    let expected = [0.0, 0.5, 1.0, 1.0, 1.5, 2.0, 2.0, 2.5, 3.0];
    assert_slice_close("both axes", y.host::<f64>().unwrap(), &expected, 1e-15);
}

#[test]
fn area_values_are_those_computed_by_hand() {
    let pooled = |x: &[f64], width| line(x).pool_area(1, width).unwrap().to_vec_f64().unwrap();
    assert_slice_close("halved", &pooled(&[1.0, 3.0, 5.0, 9.0], 2), &[2.0, 7.0], 1e-15);
    // Cells ⌊i·5/3⌋ .. ⌈(i+1)·5/3⌉ overlap: {0, 1}, {1, 2, 3}, {3, 4}.
    assert_slice_close("not divisible", &pooled(&[0.0, 1.0, 2.0, 3.0, 4.0], 3), &[0.5, 2.0, 3.5], 1e-15);
    assert_slice_close("enlarged", &pooled(&[2.0, 4.0], 3), &[2.0, 3.0, 4.0], 1e-15);
    let square = tensor(&(0..9).map(f64::from).collect::<Vec<_>>(), &[1, 3, 3, 1]);
    let y = square.pool_area(2, 2).unwrap();
    assert_slice_close("both axes", y.host::<f64>().unwrap(), &[2.0, 3.0, 5.0, 6.0], 1e-15);
}

#[test]
fn resampling_keeps_channels_and_images_apart() {
    let x = tensor(&[0.0, 10.0, 2.0, 30.0, 4.0, 50.0, 6.0, 70.0], &[2, 1, 2, 2]);
    let y = x.pool_area(1, 1).unwrap();
    assert_eq!(y.shape(), [2, 1, 1, 2]);
    assert_slice_close("area", y.host::<f64>().unwrap(), &[1.0, 20.0, 5.0, 60.0], 1e-15);
}

#[test]
fn a_conversion_rounds_forwards_and_brings_the_gradient_back() {
    let x = Tensor::from_vec(vec![0.1_f32, -2.7, 70_000.0], &[3], Device::Cpu).unwrap().as_leaf();
    let y = x.to_dtype(DType::F16).unwrap();
    assert_eq!(y.to_vec().unwrap(), [0.1_f32, -2.7, 70_000.0].map(|v| half::f16::from_f32(v).to_f32()));
    let z = y.square().unwrap().to_dtype(DType::F32).unwrap();
    let g = grad(&[(&z, None)], &[&x], false).unwrap().remove(0).unwrap();
    assert_eq!(g.dtype(), DType::F32);
    // Twice the rounded value, rounded again on its way through f16.
    assert_eq!(g.to_vec().unwrap()[..2], [0.1_f32, -2.7].map(|v| 2.0 * half::f16::from_f32(v).to_f32()));
    let double = x.to_dtype(DType::F64).unwrap();
    assert_eq!(grad(&[(&double, None)], &[&x], false).unwrap().remove(0).unwrap().to_vec().unwrap(), [1.0; 3]);
}
