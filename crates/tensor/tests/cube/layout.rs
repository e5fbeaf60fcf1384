//! Permute, slice, pad, concat and resampling.

use swinstyle_tensor::Tensor;

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
                swinstyle_tensor::grad(&[(&loss, None)], &[x], false).unwrap().remove(0).unwrap()
            };
            assert_near("adjoint", &gradient(&gx, &gy), &gradient(&x, &y), 1e-5, 1e-5);
        }
    }
}
