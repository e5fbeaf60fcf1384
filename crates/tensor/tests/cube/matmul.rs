//! Matrix products and linear layers.

use swinstyle_kit::testing::{distance, emulated_cuda};
use swinstyle_tensor::{DType, Device, Tensor, rng::Philox};

use crate::support::{assert_near, pair};

/// [batch of A, batch of B, m, k, n]; 0 for an operand without a batch axis.
const SHAPES: [[usize; 5]; 16] = [
    [0, 0, 1, 1, 1],
    [0, 0, 16, 16, 16],
    [0, 0, 65, 33, 17],
    [0, 0, 1, 64, 68],
    [0, 0, 64, 64, 1],
    [0, 0, 7, 1, 5],
    [0, 0, 130, 20, 132],
    [0, 0, 3, 0, 4],
    [0, 0, 0, 4, 4],
    [3, 3, 17, 5, 9],
    [3, 3, 16, 12, 8],
    [3, 0, 5, 6, 7],
    [0, 3, 5, 6, 7],
    [2, 2, 0, 3, 3],
    // Long sums over few tiles are split.
    [0, 0, 12, 1500, 8],
    [2, 2, 5, 1031, 3],
];

fn check(shape: [usize; 5], transpose_a: bool, transpose_b: bool, seed: u64) {
    let [ba, bb, m, k, n] = shape;
    let of = |batch: usize, rows: usize, columns: usize, transposed: bool| -> Vec<usize> {
        let lead = if batch > 0 { vec![batch] } else { vec![] };
        [lead, if transposed { vec![columns, rows] } else { vec![rows, columns] }].concat()
    };
    let ([a, ga], [b, gb]) = (pair(seed, &of(ba, m, k, transpose_a)), pair(seed + 1, &of(bb, k, n, transpose_b)));
    let (y, gy) =
        (a.matmul_with(&b, transpose_a, transpose_b).unwrap(), ga.matmul_with(&gb, transpose_a, transpose_b).unwrap());
    let what = format!("{shape:?} {transpose_a} {transpose_b}");
    assert_near(&what, &gy, &y, 1e-6, 1e-6 * (k as f32).sqrt().max(1.0));
}

#[test]
fn products_match_the_cpu_in_every_layout() {
    for (i, shape) in SHAPES.into_iter().enumerate() {
        for (ta, tb) in [(false, false), (false, true), (true, false), (true, true)] {
            check(shape, ta, tb, 2 * i as u64);
        }
    }
}

#[test]
fn many_products_use_the_large_tile() {
    check([256, 256, 6, 20, 10], false, false, 1);
    check([256, 256, 8, 20, 12], false, true, 2);
}

#[test]
fn a_linear_layer_adds_its_bias_once_even_when_the_sum_is_split() {
    for [m, k, n] in [[3, 5, 7], [5, 8, 4], [4, 1000, 6], [2, 0, 3]] {
        let ([x, gx], [w, gw], [b, gb]) = (pair(1, &[2, m, k]), pair(2, &[n, k]), pair(3, &[n]));
        let (y, gy) = (x.linear(&w, Some(&b)).unwrap(), gx.linear(&gw, Some(&gb)).unwrap());
        assert_near("linear", &gy, &y, 1e-6, 1e-6 * (k as f32).sqrt().max(1.0));
    }
}

#[test]
fn gradients_of_a_product_match_the_cpu() {
    let ([a, ga], [b, gb]) = (pair(1, &[2, 3, 4]), pair(2, &[4, 5]));
    let run = |a: &Tensor, b: &Tensor| {
        let (a, b) = (a.as_leaf(), b.as_leaf());
        let loss = a.matmul(&b).unwrap().square().unwrap().sum_all().unwrap();
        let grads = swinstyle_tensor::grad(&[(&loss, None)], &[&a, &b], false).unwrap();
        grads.into_iter().map(Option::unwrap).collect::<Vec<_>>()
    };
    for (g, e) in run(&ga, &gb).iter().zip(&run(&a, &b)) {
        assert_near("gradient", g, e, 1e-5, 1e-5);
    }
}

#[test]
fn the_same_product_twice_is_the_same_bits() {
    let (a, b) = (&pair(1, &[40, 2000])[1], &pair(2, &[2000, 24])[1]);
    let bits = || a.matmul(b).unwrap().to_vec().unwrap().into_iter().map(f32::to_bits).collect::<Vec<_>>();
    assert_eq!(bits(), bits());
}

/// Sums that end within a step and are split, rows and columns that end within a tile, batches, shared operands, and a bias; the last shape
/// takes the largest tile.
#[test]
fn half_types_on_matrix_units_match_the_cpu() {
    let Some(cuda) = emulated_cuda() else { return };
    let shapes =
        [[0, 0, 40, 24, 56], [3, 3, 8, 16, 24], [3, 0, 24, 40, 8], [0, 0, 16, 1208, 24], [132, 132, 72, 8, 72]];
    for (i, [ba, bb, m, k, n]) in shapes.into_iter().enumerate() {
        for (dtype, limit) in [(DType::F16, 2e-3), (DType::BF16, 1e-2)] {
            let of = |seed: usize, batch: usize, rows: usize, columns: usize| {
                let shape = if batch > 0 { vec![batch, rows, columns] } else { vec![rows, columns] };
                let x = Philox::new(seed as u64, 0).normal(&shape, Device::Cpu).unwrap().to_dtype(dtype).unwrap();
                [x.to_device(cuda).unwrap(), x]
            };
            for (ta, tb) in [(false, false), (false, true), (true, false), (true, true)] {
                let turned = |t: bool, [rows, columns]: [usize; 2]| if t { [columns, rows] } else { [rows, columns] };
                let ([r, c], [s, d]) = (turned(ta, [m, k]), turned(tb, [k, n]));
                let ([ga, a], [gb, b]) = (of(2 * i, ba, r, c), of(2 * i + 1, bb, s, d));
                let product = |a: &Tensor, b: &Tensor| a.matmul_with(b, ta, tb).unwrap().to_vec_f64().unwrap();
                let error = distance(&product(&ga, &gb), &product(&a, &b));
                assert!(error < limit, "{:?} · {:?} {ta} {tb} in {dtype}: {error:e}", a.shape(), b.shape());
                if i == shapes.len() - 1 {
                    break;
                }
            }
            if ba == 0 {
                let ([gx, x], [gw, w], [gb, b]) = (of(1, 0, m, k), of(2, 0, n, k), of(3, 0, 1, n));
                let linear = |x: &Tensor, w: &Tensor, b: &Tensor| {
                    x.linear(w, Some(&b.reshape(&[n]).unwrap())).unwrap().to_vec_f64().unwrap()
                };
                let error = distance(&linear(&gx, &gw, &gb), &linear(&x, &w, &b));
                assert!(error < limit, "linear {m}x{k} to {n} in {dtype}: {error:e}");
            }
        }
    }
}
