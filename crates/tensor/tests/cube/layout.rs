//! Permute, slice, pad, concat, resampling, pooling and warps.

use swinstyle_tensor::{Tensor, grad, ops::Affine};

use crate::support::{assert_near, pair};

#[test]
fn permutations_match_the_cpu() {
    let cases: [(&[usize], &[usize]); 10] = [
        (&[], &[]),
        (&[5], &[0]),
        (&[3, 4], &[1, 0]),
        (&[2, 3, 8], &[1, 0, 2]),
        (&[2, 3, 5], &[1, 0, 2]),
        (&[2, 3, 4, 5], &[0, 3, 1, 2]),
        (&[2, 5, 4, 8], &[0, 2, 1, 3]),
        (&[2, 0, 4], &[2, 1, 0]),
        (&[2, 1, 3, 1, 2, 4], &[5, 0, 2, 1, 4, 3]),
        (&[2, 2, 2, 2, 2, 2, 2], &[6, 4, 2, 0, 5, 3, 1]),
    ];
    for (i, (shape, axes)) in cases.into_iter().enumerate() {
        let [x, gx] = pair(i as u64, shape);
        assert_near("permute", &gx.permute(axes).unwrap(), &x.permute(axes).unwrap(), 0.0, 0.0);
    }
}

#[test]
fn slices_and_pads_match_the_cpu_and_undo_each_other() {
    let cases: [(&[usize], usize, usize, usize); 6] = [
        (&[7], 0, 2, 3),
        (&[5, 8], 0, 1, 3),
        (&[5, 8], 1, 4, 4),
        (&[3, 6, 5], 1, 2, 3),
        (&[4, 4], 0, 2, 0),
        (&[0, 4], 1, 1, 2),
    ];
    for (i, (shape, axis, start, take)) in cases.into_iter().enumerate() {
        let [x, gx] = pair(i as u64, shape);
        let (y, gy) = (x.slice(axis, start, take).unwrap(), gx.slice(axis, start, take).unwrap());
        assert_near("slice", &gy, &y, 0.0, 0.0);
        let after = shape[axis] - start - take;
        let (z, gz) = (y.pad(axis, start, after).unwrap(), gy.pad(axis, start, after).unwrap());
        assert_near("pad", &gz, &z, 0.0, 0.0);
        assert_near("round trip", &gz.slice(axis, start, take).unwrap(), &y, 0.0, 0.0);
    }
}

#[test]
fn concatenations_match_the_cpu() {
    let cases: [(&[&[usize]], usize); 5] = [
        (&[&[3], &[2], &[1]], 0),
        (&[&[2, 4], &[3, 4]], 0),
        (&[&[2, 3, 8], &[2, 1, 8]], 1),
        (&[&[2, 3], &[2, 0], &[2, 5]], 1),
        (&[&[1, 2]], 1),
    ];
    for (shapes, axis) in cases {
        let pairs: Vec<[Tensor; 2]> = shapes.iter().enumerate().map(|(i, s)| pair(i as u64, s)).collect();
        let join = |d: usize| Tensor::concat(&pairs.iter().map(|p| &p[d]).collect::<Vec<_>>(), axis).unwrap();
        assert_near("concat", &join(1), &join(0), 0.0, 0.0);
    }
}

#[test]
fn resampling_and_its_adjoint_match_the_cpu() {
    for (shape, to) in [([2, 5, 7, 3], [8, 4]), ([1, 8, 8, 4], [3, 5]), ([1, 4, 4, 8], [4, 4]), ([1, 1, 1, 1], [3, 2])]
    {
        let [x, gx] = pair(1, &shape).map(|t| t.as_leaf());
        type Resize = fn(&Tensor, usize, usize) -> Tensor;
        let functions: [Resize; 3] = [
            |x, h, w| x.resize_bilinear(h, w, false).unwrap(),
            |x, h, w| x.resize_bilinear(h, w, true).unwrap(),
            |x, h, w| x.pool_area(h, w).unwrap(),
        ];
        for f in functions {
            let (y, gy) = (f(&x, to[0], to[1]), f(&gx, to[0], to[1]));
            assert_near("resample", &gy, &y, 1e-6, 1e-6);
            let gradient = |x: &Tensor, y: &Tensor| {
                let loss = y.square().unwrap().sum_all().unwrap();
                grad(&[(&loss, None)], &[x], false).unwrap().remove(0).unwrap()
            };
            assert_near("adjoint", &gradient(&gx, &gy), &gradient(&x, &y), 1e-5, 1e-5);
        }
    }
}

#[test]
fn positions_are_selected_as_on_the_cpu() {
    for (shape, axis) in [(&[3, 4][..], 0), (&[2, 5, 3, 4], 1), (&[2, 3, 5], 2)] {
        let [x, gx] = pair(2, shape);
        let positions = [2, 0, 2, 1];
        let y = x.index_select(axis, &positions).unwrap();
        assert_near("index_select", &gx.index_select(axis, &positions).unwrap(), &y, 0.0, 0.0);
        assert_near("one", &y.slice(axis, 3, 1).unwrap(), &x.slice(axis, 1, 1).unwrap(), 0.0, 0.0);
    }
}

/// Gradient of Σ y·t, and the gradient in t of ⟨that gradient, v⟩.
fn both_orders(y: &Tensor, x: &Tensor, t: &Tensor, v: &Tensor) -> [Tensor; 2] {
    let first = grad(&[(y, Some(t))], &[x], true).unwrap().remove(0).unwrap();
    let second = grad(&[(&first, Some(v))], &[t], false).unwrap().remove(0).unwrap();
    [first, second]
}

#[test]
fn pooling_and_its_gradients_match_the_cpu() {
    for (shape, size, stride) in
        [([2, 7, 9, 3], 3, 2), ([1, 8, 6, 4], 2, 2), ([2, 5, 5, 1], 1, 2), ([1, 4, 7, 2], 3, 1), ([1, 6, 6, 2], 2, 3)]
    {
        let [x, gx] = pair(3, &shape).map(|t| t.as_leaf());
        let [y, gy] = [&x, &gx].map(|x| x.max_pool2d(size, stride).unwrap());
        assert_near("max_pool2d", &gy, &y, 0.0, 0.0);
        let ([t, gt], [v, gv]) = (pair(4, y.shape()).map(|t| t.as_leaf()), pair(5, &shape));
        let (cpu, gpu) = (both_orders(&y, &x, &t, &v), both_orders(&gy, &gx, &gt, &gv));
        assert_near("first order", &gpu[0], &cpu[0], 1e-6, 1e-6);
        assert_near("second order", &gpu[1], &cpu[1], 0.0, 0.0);
    }
}

#[test]
fn warps_and_their_adjoints_match_the_cpu() {
    let maps = [Affine([0.6, -0.8, 3.1, 0.8, 0.6, -1.7]), Affine([2.3, 0.4, -2.0, -0.3, 0.19, 0.5])];
    for shape in [[2, 5, 7, 3], [2, 6, 6, 4]] {
        let [x, gx] = pair(6, &shape).map(|t| t.as_leaf());
        let [y, gy] = [&x, &gx].map(|x| x.warp(&maps, 9, 8).unwrap());
        assert_near("warp", &gy, &y, 1e-5, 1e-5);
        let ([t, gt], [v, gv]) = (pair(7, y.shape()).map(|t| t.as_leaf()), pair(8, &shape));
        let (cpu, gpu) = (both_orders(&y, &x, &t, &v), both_orders(&gy, &gx, &gt, &gv));
        assert_near("adjoint", &gpu[0], &cpu[0], 1e-5, 1e-5);
        assert_near("the warp again", &gpu[1], &cpu[1], 1e-5, 1e-5);
    }
}
