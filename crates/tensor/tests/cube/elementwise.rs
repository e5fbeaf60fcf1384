//! Unary and binary functions, fill and Adam.

use swinstyle_tensor::{DType, Device, Result, Tensor, ops::AdamStep};

use crate::support::{assert_near, both, pair, wgpu};

/// Numbers over many magnitudes of both signs, and the special ones.
fn wide() -> Vec<f32> {
    let mut v: Vec<f32> = (-60..=60).flat_map(|i| [1.0, -1.0].map(|s| s * 1.37_f32.powi(i))).collect();
    v.extend((0..2001).map(|i| i as f32 * 0.02 - 20.0));
    v.extend([0.0, -0.0, 0.5, 1.0, -1.0, -88.0, -104.0, 1e-30, f32::INFINITY, f32::NEG_INFINITY, f32::NAN]);
    v
}

#[test]
fn unary_functions_match_the_cpu_over_their_whole_range() {
    type Function = fn(&Tensor) -> Result<Tensor>;
    let functions: [(&str, Function, f32); 16] = [
        ("affine", |x| x.affine(1.7, -0.3), 3e-7),
        // SPIR-V allows (3 + 2|x|) ulp: devices compute 2^(x·log₂e).
        ("exp", |x| x.exp(), 4e-6),
        ("ln", |x| x.ln(), 1e-6),
        ("sqrt", |x| x.sqrt(), 3e-7),
        ("rsqrt", |x| x.rsqrt(), 3e-7),
        ("square", |x| x.square(), 0.0),
        ("recip", |x| x.recip(), 3e-7),
        ("tanh", |x| x.tanh(), 1e-6),
        ("sigmoid", |x| x.sigmoid(), 4e-6),
        ("softplus", |x| x.softplus(), 4e-6),
        ("abs", |x| x.abs(), 0.0),
        ("clamp", |x| x.clamp(-0.5, 0.5), 0.0),
        ("clamp to one value", |x| x.clamp(0.1, 0.1), 0.0),
        ("neg", |x| x.neg(), 0.0),
        ("scale", |x| x.scale(0.1), 3e-7),
        ("add_scalar", |x| x.add_scalar(-3.0), 3e-7),
    ];
    let values = wide();
    let [x, gx] = both(values.clone(), &[values.len()]);
    for (name, f, relative) in functions {
        // Where terms cancel, the fused multiply-add of the host keeps digits that two roundings lose.
        let absolute = if relative > 0.0 { 3e-7 } else { 0.0 };
        assert_near(name, &f(&gx).unwrap(), &f(&x).unwrap(), relative, if name == "exp" { 1e-37 } else { absolute });
    }
}

#[test]
fn gradients_use_sign_and_inside() {
    let [x, gx] = both(vec![-2.0, -0.5, 0.0, 0.25, 0.5, 3.0], &[6]).map(|t| t.as_leaf());
    for f in [|x: &Tensor| x.abs(), |x: &Tensor| x.clamp(-0.5, 0.5)] {
        let g = |x: &Tensor| {
            let y = f(x).unwrap().sum_all().unwrap();
            swinstyle_tensor::grad(&[(&y, None)], &[x], false).unwrap().remove(0).unwrap()
        };
        assert_near("gradient", &g(&gx), &g(&x), 0.0, 0.0);
    }
}

#[test]
fn lengths_that_are_no_whole_vectors_are_written_whole() {
    for len in [0, 1, 2, 3, 4, 5, 7, 255, 256, 257, 1023, 1025] {
        let [x, gx] = pair(len as u64, &[len]);
        assert_near("square", &gx.square().unwrap(), &x.square().unwrap(), 0.0, 0.0);
        assert_near("add", &gx.add(&gx).unwrap(), &x.add(&x).unwrap(), 0.0, 0.0);
        let full = Tensor::full(2.5, &[len], DType::F32, wgpu()).unwrap();
        assert_eq!(full.to_vec().unwrap(), vec![2.5; len]);
    }
}

#[test]
fn binary_functions_match_the_cpu_for_every_pattern_of_broadcasting() {
    type Function = fn(&Tensor, &Tensor) -> Result<Tensor>;
    let functions: [(&str, Function, f32); 5] = [
        ("add", |a, b| a.add(b), 0.0),
        ("sub", |a, b| a.sub(b), 0.0),
        ("mul", |a, b| a.mul(b), 0.0),
        ("div", |a, b| a.div(b), 3e-7),
        ("maximum", |a, b| a.maximum(b), 0.0),
    ];
    let shapes: [(&[usize], &[usize]); 16] = [
        (&[2, 3, 4, 5], &[2, 3, 4, 5]),
        (&[7], &[1]),
        (&[], &[3, 3]),
        (&[], &[]),
        (&[3, 8], &[8]),
        (&[3, 6], &[6]),
        (&[3, 8], &[3, 1]),
        (&[3, 5], &[3, 1]),
        (&[2, 5, 5, 8], &[2, 1, 1, 8]),
        (&[2, 5, 5, 3], &[2, 1, 1, 3]),
        (&[2, 3, 1], &[4]),
        (&[2, 1, 3, 1, 4], &[1, 5, 1, 2, 1]),
        (&[2, 1, 2, 1, 2, 1, 2], &[1, 3, 1, 3, 1, 3, 1]),
        (&[0, 4], &[4]),
        (&[5, 1], &[1, 0]),
        (&[1, 1, 9], &[4, 4, 9]),
    ];
    for (name, f, relative) in functions {
        for (i, (sa, sb)) in shapes.into_iter().enumerate() {
            let ([a, ga], [b, gb]) = (pair(2 * i as u64, sa), pair(2 * i as u64 + 1, sb));
            let what = format!("{name} {sa:?} {sb:?}");
            assert_near(&what, &f(&ga, &gb).unwrap(), &f(&a, &b).unwrap(), relative, 0.0);
            assert_near(&what, &f(&gb, &ga).unwrap(), &f(&b, &a).unwrap(), relative, 0.0);
        }
    }
}

#[test]
fn broadcast_to_repeats() {
    let [x, gx] = pair(3, &[3, 1, 4]);
    let f = |x: &Tensor| x.broadcast_to(&[2, 3, 5, 4]).unwrap();
    assert_near("broadcast_to", &f(&gx), &f(&x), 0.0, 0.0);
}

#[test]
fn maximum_ignores_a_missing_number_as_the_cpu_does() {
    let [a, ga] = both(vec![f32::NAN, 1.0, f32::NAN, 2.0], &[4]);
    let [b, gb] = both(vec![1.0, f32::NAN, f32::NAN, 2.0], &[4]);
    assert_near("maximum", &ga.maximum(&gb).unwrap(), &a.maximum(&b).unwrap(), 0.0, 0.0);
}

#[test]
fn adam_updates_all_three_tensors() {
    let step = AdamStep {
        shape: vec![3, 7],
        learning_rate: 0.01,
        beta1: 0.9,
        beta2: 0.99,
        epsilon: 1e-8,
        weight_decay: 0.1,
        step: 3,
        rectified: false,
    };
    let run = |i: usize| {
        let t = |seed| pair(seed, &[3, 7])[i].clone();
        step.apply(&t(1), &[&t(2)], &t(3), &t(4).square().unwrap()).unwrap()
    };
    let (cpu, gpu): ([Tensor; 3], [Tensor; 3]) = (run(0), run(1));
    for (a, e) in gpu.iter().zip(&cpu) {
        assert_near("adam", a, e, 1e-6, 1e-7);
    }
}

#[test]
fn an_update_of_a_pack_has_the_bits_of_its_tensors_alone() {
    let lengths = [131, 5, 128, 1, 1000, 260, 3];
    let step = |length: usize| AdamStep {
        shape: vec![length],
        learning_rate: 0.01,
        beta1: 0.9,
        beta2: 0.99,
        epsilon: 1e-8,
        weight_decay: 0.1,
        step: 3,
        rectified: true,
    };
    let t = |seed: usize, i: usize| pair((seed * 10 + i) as u64, &[lengths[i]])[1].clone();
    let v = |i: usize| t(4, i).square().unwrap();
    let all = |f: &dyn Fn(usize) -> Tensor| (0..lengths.len()).map(f).collect::<Vec<_>>();
    let pack = |tensors: &[Tensor]| Tensor::pack(&tensors.iter().collect::<Vec<_>>()).unwrap();
    let (p, m, second) = (pack(&all(&|i| t(1, i))), pack(&all(&|i| t(3, i))), pack(&all(&v)));
    let gradients = all(&|i| t(2, i));
    let made = step(p.len()).apply(&p, &gradients.iter().collect::<Vec<_>>(), &m, &second).unwrap();
    let shapes: Vec<&[usize]> = lengths.iter().map(std::slice::from_ref).collect();
    let made = made.map(|t| t.unpack(&shapes).unwrap());
    for i in 0..lengths.len() {
        let alone = step(lengths[i]).apply(&t(1, i), &[&t(2, i)], &t(3, i), &v(i)).unwrap();
        for (a, b) in made.iter().zip(&alone) {
            assert_near("adam of a pack", &a[i], b, 0.0, 0.0);
        }
    }
}

#[test]
fn large_tensors_fold_the_grid() {
    // More than 65,535 cubes of 256 vectors of 4 would be 256 MiB; rows of single elements need a quarter of it.
    let (rows, columns) = (65_535 * 256 / 3 + 2, 3);
    let x = Tensor::full(1.5, &[rows, columns], DType::F32, wgpu());
    let limit = swinstyle_tensor::cube::client(Device::Wgpu(0)).unwrap().max_allocation();
    let Ok(x) = x else {
        assert!((rows * columns * 4) as u64 > limit);
        return;
    };
    let y = Tensor::from_vec(vec![1.0_f32, 2.0, 3.0], &[3], wgpu()).unwrap();
    let z = x.mul(&y).unwrap().to_vec().unwrap();
    assert_eq!(z[z.len() - 3..], [1.5, 3.0, 4.5]);
    assert!(z.chunks_exact(3).all(|c| c == [1.5, 3.0, 4.5]));
}
