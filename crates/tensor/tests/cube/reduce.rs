//! Sums and maxima.

use swinstyle_tensor::{Result, Tensor};

use crate::support::{assert_near, both, pair};

const SHAPES: [(&[usize], &[usize]); 22] = [
    (&[1], &[0]),
    (&[5], &[0]),
    (&[0, 3], &[0]),
    (&[3, 0], &[1]),
    (&[3, 0], &[0]),
    (&[300], &[0]),
    (&[4097], &[0]),
    (&[70_001], &[0]),
    (&[7, 5], &[1]),
    (&[7, 96], &[1]),
    (&[3, 1000], &[1]),
    (&[300, 260], &[1]),
    (&[2, 9_001], &[1]),
    (&[5, 7], &[0]),
    (&[513, 4], &[0]),
    (&[1000, 3], &[0]),
    (&[2, 700, 12], &[1]),
    (&[2, 3, 4, 5], &[0, 2]),
    (&[2, 3, 4, 8], &[0, 1, 2]),
    (&[2, 3, 4, 5], &[1, 3]),
    (&[6, 1, 4], &[1]),
    (&[2, 3, 4], &[]),
];

#[test]
fn sums_match_the_cpu_on_every_axis() {
    for (i, (shape, axes)) in SHAPES.into_iter().enumerate() {
        let [x, gx] = pair(i as u64, shape);
        let tolerance = 1e-6 * (x.len() as f32).sqrt().max(1.0);
        let what = format!("sum of {shape:?} over {axes:?}");
        assert_near(&what, &gx.sum(axes).unwrap(), &x.sum(axes).unwrap(), 1e-6, tolerance);
    }
}

#[test]
fn maxima_match_the_cpu_on_every_axis() {
    for (i, (shape, axes)) in SHAPES.into_iter().enumerate() {
        let [x, gx] = pair(i as u64, shape);
        let what = format!("max of {shape:?} over {axes:?}");
        assert_near(&what, &gx.max_detached(axes).unwrap(), &x.max_detached(axes).unwrap(), 0.0, 0.0);
    }
}

#[test]
fn a_long_sum_of_equal_numbers_does_not_drift() {
    // Added one by one in f32, tenths drift by a percent over a million terms; blocks of at most 256 do not.
    let n = 1 << 20;
    let [x, gx] = both(vec![0.1; n], &[n]);
    let exact = 0.1_f32 as f64 * n as f64;
    for t in [x, gx.clone(), gx.reshape(&[n / 4, 4]).unwrap().sum(&[0]).unwrap()] {
        let sum = t.sum_all().unwrap().item().unwrap();
        assert!((sum / exact - 1.0).abs() < 5e-6, "{sum} {exact}");
    }
}

#[test]
fn softmax_matches_the_cpu_and_is_stable() {
    let mut values = pair(3, &[33, 49])[0].to_vec().unwrap();
    values[0] = 1e4;
    values[50] = -1e4;
    let [x, gx] = both(values, &[33, 49]);
    assert_near("softmax", &gx.softmax().unwrap(), &x.softmax().unwrap(), 4e-6, 1e-7);
}

#[test]
fn the_same_sums_twice_are_the_same_bits() {
    let x = &pair(9, &[1031, 68])[1];
    type Sum = fn(&Tensor) -> Result<Tensor>;
    for f in [|x: &Tensor| x.sum(&[0]), |x: &Tensor| x.sum(&[1]), |x: &Tensor| x.sum_all()] as [Sum; 3] {
        let bits = |t: Tensor| t.to_vec().unwrap().into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(f(x).unwrap()), bits(f(x).unwrap()));
    }
}
