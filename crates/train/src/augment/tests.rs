//! Each transformation's effect on tiny pictures, adjoints, and the controller.

use std::f64::consts::PI;

use nalgebra::Vector3;
use swinstyle_tensor::{DType, Device, Tensor, grad, ops::Affine, rng::Philox};
use swinstyle_weights::Archive;

use super::{
    Adaptive, Augment, AugmentConfig, Group,
    colour::{self, Colour, Colours},
    geometry::{Geometry, IDENTITY, SYM6},
};

const ALL: [Group; 3] = [Group::Blit, Group::Geometric, Group::Colour];

fn normal(shape: &[usize], stream: u64) -> Tensor {
    Philox::new(5, stream).normal(shape, Device::Cpu).unwrap().to_dtype(DType::F64).unwrap()
}

fn dot(a: &Tensor, b: &Tensor) -> f64 {
    a.mul(b).unwrap().sum_all().unwrap().item().unwrap()
}

fn values(t: &Tensor) -> Vec<f64> {
    t.to_vec_f64().unwrap()
}

fn farthest(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// One image under one map.
fn moved(x: &Tensor, map: [f64; 6]) -> Tensor {
    Geometry::new(Device::Cpu).unwrap().apply(x, &[Affine(map)]).unwrap()
}

/// A picture that is smooth next to its pixels: `f` of the position from the centre.
fn smooth(size: usize, f: impl Fn(f64, f64) -> f64) -> Tensor {
    let at = |i: usize| i as f64 + 0.5 - 0.5 * size as f64;
    let pixels = (0..size * size).map(|i| f(at(i % size), at(i / size))).collect();
    Tensor::from_vec::<f64>(pixels, &[1, size, size, 1], Device::Cpu).unwrap()
}

#[test]
fn sym6_is_orthogonal_to_its_even_shifts_and_has_six_vanishing_moments() {
    for shift in 0..6 {
        let product: f64 = (2 * shift..12).map(|i| SYM6[i] * SYM6[i - 2 * shift]).sum();
        assert!((product - if shift == 0 { 1.0 } else { 0.0 }).abs() < 1e-12, "{shift}: {product}");
    }
    assert!((SYM6.iter().sum::<f64>() - 2.0_f64.sqrt()).abs() < 1e-12);
    for moment in 0..6 {
        let sum: f64 = (0..12).map(|i| (-1.0_f64).powi(i) * f64::from(i).powi(moment) * SYM6[i as usize]).sum();
        assert!(sum.abs() < 1e-5 * 11.0_f64.powi(moment), "{moment}: {sum}");
    }
}

#[test]
fn nothing_changes_at_probability_zero_bit_for_bit() {
    let x = normal(&[3, 8, 8, 3], 0);
    let y = Augment::new(&ALL, Device::Cpu).unwrap().apply(&x, 0.0, &mut Philox::new(1, 0)).unwrap();
    assert_eq!(values(&x), values(&y));
}

#[test]
fn images_that_no_transformation_chose_keep_their_bits_and_their_places() {
    let x = normal(&[3, 6, 6, 2], 1);
    let turned = Affine([0.8, -0.6, 0.3, 0.6, 0.8, -0.2]);
    let y = Geometry::new(Device::Cpu).unwrap().apply(&x, &[IDENTITY, turned, IDENTITY]).unwrap();
    let image = |t: &Tensor, i: usize| values(&t.slice(0, i, 1).unwrap());
    assert_eq!((image(&x, 0), image(&x, 2)), (image(&y, 0), image(&y, 2)));
    assert_eq!(image(&y, 1), values(&moved(&x.slice(0, 1, 1).unwrap(), turned.0)));
}

#[test]
fn a_shift_by_whole_pixels_is_exact_and_reflects_at_the_border() {
    let x = normal(&[1, 17, 16, 2], 2);
    // The filters' orthogonality: up and down again gives the picture back; their taps are f32.
    let y = moved(&x, [1.0, 0.0, 3.0, 0.0, 1.0, -2.0]);
    let (before, after) = (values(&x), values(&y));
    for (row, column) in (0..17).flat_map(|r| (0..16).map(move |c| (r, c))) {
        let from = (usize::abs_diff(row, 2), if column > 12 { 27 - column } else { column + 3 });
        for c in 0..2 {
            let (got, expected) = (after[(row * 16 + column) * 2 + c], before[(from.0 * 16 + from.1) * 2 + c]);
            assert!((got - expected).abs() < 1e-5, "({row}, {column}): {got} {expected}");
        }
    }
}

/// How far a moved picture is from `f` at the mapped positions, where neither has a border within the filters' reach.
fn error_inside(size: usize, map: [f64; 6], f: impl Fn(f64, f64) -> f64) -> f64 {
    let moved = values(&moved(&smooth(size, &f), map));
    let at = |i: usize| i as f64 + 0.5 - 0.5 * size as f64;
    let inside = |x: f64, y: f64| x.abs().max(y.abs()) < 0.5 * size as f64 - 4.0;
    let mut worst = 0.0_f64;
    for (i, value) in moved.iter().enumerate() {
        let (x, y) = (at(i % size), at(i / size));
        let (sx, sy) = Affine(map).apply(x, y);
        if inside(x, y) && inside(sx, sy) {
            worst = worst.max((value - f(sx, sy)).abs());
        }
    }
    worst
}

#[test]
fn mirrors_and_quarter_turns_move_the_picture_as_they_should() {
    let f = |x: f64, y: f64| (0.5 * x).sin() + 0.3 * (0.4 * y + 0.2).cos();
    for map in [[-1.0, 0.0, 0.0, 0.0, 1.0, 0.0], [0.0, -1.0, 0.0, 1.0, 0.0, 0.0], [-1.0, 0.0, 0.0, 0.0, -1.0, 0.0]] {
        let error = error_inside(20, map, f);
        assert!(error < 0.02, "{map:?}: {error}");
    }
}

#[test]
fn rotation_scale_and_fractional_shift_sample_a_smooth_picture_where_they_should() {
    let f = |x: f64, y: f64| (0.4 * x + 0.3).sin() * (0.3 * y - 0.1).cos();
    let (s, c) = (PI / 5.0).sin_cos();
    for map in [[c, -s, 0.0, s, c, 0.0], [1.3, 0.0, 0.0, 0.0, 1.3, 0.0], [1.0, 0.0, 0.37, 0.0, 1.0, -1.61]] {
        let error = error_inside(24, map, f);
        // A tenth of a pixel would make 0.04.
        assert!(error < 0.02, "{map:?}: {error}");
    }
}

#[test]
fn a_flat_picture_stays_flat_however_it_is_moved() {
    let x = Tensor::full(0.7, &[4, 8, 8, 3], DType::F64, Device::Cpu).unwrap();
    let y = Augment::new(&[Group::Blit], Device::Cpu).unwrap().apply(&x, 1.0, &mut Philox::new(3, 0)).unwrap();
    assert!(farthest(&values(&y), &values(&x)) < 1e-5);
}

#[test]
fn colour_maps_do_what_they_are_called() {
    let grey = Vector3::new(0.4, 0.4, 0.4);
    let rgb = Vector3::new(0.9, -0.2, 0.3);
    let luma = |v: &Vector3<f64>| v.sum() / 3.0;
    // The luma flip negates lightness and keeps the rest.
    let flipped = colour::luma_flip() * rgb;
    assert!((luma(&flipped) + luma(&rgb)).abs() < 1e-12 && ((flipped - rgb).variance() < 1e-12));
    // A third of a turn of hue permutes the channels; grey stays.
    let turned = colour::hue(2.0 * PI / 3.0) * rgb;
    let third = [Vector3::new(rgb.z, rgb.x, rgb.y), Vector3::new(rgb.y, rgb.z, rgb.x)];
    assert!(third.iter().any(|t| (turned - t).norm() < 1e-12) && (colour::hue(1.0) * grey - grey).norm() < 1e-12);
    // Saturation 0 makes grey of the same lightness.
    let pale = colour::saturation(0.0) * rgb;
    assert!((pale - Vector3::from_element(luma(&rgb))).norm() < 1e-12);

    let map = Colour { matrix: colour::hue(2.0), offset: Vector3::new(0.1, -0.2, 0.3) };
    let x = normal(&[2, 1, 2, 3], 4);
    let y = values(&Colours(&[map, Colour::IDENTITY]).apply(&x).unwrap());
    let pixel = |v: &[f64], i: usize| Vector3::from_column_slice(&v[3 * i..3 * i + 3]);
    for i in 0..2 {
        assert!((pixel(&y, i) - (map.matrix * pixel(&values(&x), i) + map.offset)).norm() < 1e-6);
    }
    assert_eq!(y[6..], values(&x)[6..]);
}

#[test]
fn the_gradient_is_the_adjoint_and_its_gradient_the_augmentation_again() {
    let augment = Augment::new(&[Group::Blit, Group::Geometric], Device::Cpu).unwrap();
    let (x, t) = (normal(&[5, 7, 7, 3], 5).as_leaf(), normal(&[5, 7, 7, 3], 6).as_leaf());
    let apply = |x: &Tensor| augment.apply(x, 0.9, &mut Philox::new(8, 0)).unwrap();
    let y = apply(&x);
    let back = grad(&[(&y, Some(&t))], &[&x], true).unwrap().remove(0).unwrap();
    // Without colours the augmentation is linear: ⟨Ax, t⟩ = ⟨x, Aᵀt⟩.
    assert!((dot(&y, &t) - dot(&x, &back)).abs() < 1e-10);
    let v = normal(&[5, 7, 7, 3], 7);
    let again = grad(&[(&back, Some(&v))], &[&t], false).unwrap().remove(0).unwrap();
    assert!(farthest(&values(&again), &values(&apply(&v))) < 1e-12);

    // With colours it is affine: differences are.
    let augment = Augment::new(&ALL, Device::Cpu).unwrap();
    let apply = |x: &Tensor| augment.apply(x, 1.0, &mut Philox::new(8, 0)).unwrap();
    let y = apply(&x);
    let back = grad(&[(&y, Some(&t))], &[&x], false).unwrap().remove(0).unwrap();
    let difference = apply(&x.add(&v).unwrap()).sub(&y).unwrap();
    assert!((dot(&difference, &t) - dot(&v, &back)).abs() < 1e-10);
}

#[test]
fn transformations_are_applied_as_often_as_p_says() {
    let augment = Augment::new(&[Group::Colour], Device::Cpu).unwrap();
    let x = Tensor::full(0.5, &[400, 1, 1, 3], DType::F32, Device::Cpu).unwrap();
    let share = |p: f64| {
        let y = augment.apply(&x, p, &mut Philox::new(2, 0)).unwrap().to_vec().unwrap();
        y.chunks(3).filter(|c| (c[0] - 0.5).abs() > 1e-4).count() as f64 / 400.0
    };
    // Of a grey pixel brightness and contrast show, and the luma flip half of the time.
    for p in [0.1, 0.5] {
        let expected = 1.0 - (1.0 - p) * (1.0 - p) * (1.0 - 0.5 * p);
        assert!((share(p) - expected).abs() < 0.08, "{p}: {} {expected}", share(p));
    }
    assert!(share(1.0) > 0.99);
}

fn config(text: &str) -> AugmentConfig {
    toml::from_str(text).unwrap()
}

/// A step with `n` logits of one value.
fn observe(ada: &mut Adaptive, step: u64, value: f64, n: usize) -> Option<f64> {
    ada.observe(&Tensor::full(value, &[n, 1], DType::F32, Device::Cpu).unwrap());
    ada.adjust(step).unwrap()
}

#[test]
fn p_rises_above_the_target_falls_below_it_and_never_leaves_the_unit_interval() {
    let mut ada = Adaptive::new(config("kind = \"bgc\"\nada_images = 320"));
    let steps = |ada: &mut Adaptive, value: f64, from: u64, count: u64| -> Vec<Option<f64>> {
        (from..from + count).map(|s| observe(ada, s, value, 8)).collect()
    };
    assert_eq!(steps(&mut ada, 3.0, 0, 4), [None, None, None, Some(1.0)]);
    // Four steps of 8 images of 320.
    assert!((ada.p() - 0.1).abs() < 1e-12);
    steps(&mut ada, 3.0, 4, 80);
    assert_eq!(ada.p(), 1.0);
    assert_eq!(steps(&mut ada, -0.1, 84, 4)[3], Some(-1.0));
    assert!((ada.p() - 0.9).abs() < 1e-12);
    steps(&mut ada, -1.0, 88, 80);
    assert_eq!(ada.p(), 0.0);
    let mut fixed = Adaptive::new(config("kind = \"b\"\nfixed_p = 0.3"));
    assert_eq!(steps(&mut fixed, 3.0, 0, 4)[3], Some(1.0));
    assert_eq!(fixed.p(), 0.3);
}

#[test]
fn the_controller_goes_on_from_the_middle_of_an_interval() {
    let mut ada = Adaptive::new(config("kind = \"bgc\"\nada_images = 1000\ninitial_p = 0.5"));
    for step in 0..6 {
        observe(&mut ada, step, if step % 3 == 0 { -1.0 } else { 1.0 }, 3);
    }
    let mut archive = Archive::new();
    ada.save(&mut archive).unwrap();
    let mut other = Adaptive::new(config("kind = \"bgc\"\nada_images = 1000"));
    other.load(&archive).unwrap();
    for step in 6..8 {
        assert_eq!(observe(&mut ada, step, 1.0, 3), observe(&mut other, step, 1.0, 3));
    }
    assert_eq!(ada.p(), other.p());
    // A state from before there was augmentation.
    let mut fresh = Adaptive::new(config("kind = \"bgc\"\ninitial_p = 0.2"));
    fresh.load(&Archive::new()).unwrap();
    assert_eq!(fresh.p(), 0.2);
    archive.metadata.insert("ada.p".into(), "much".into());
    assert!(fresh.load(&archive).unwrap_err().to_string().contains("`ada.p`"));
}

#[test]
fn the_section_names_what_it_does_not_know() {
    assert_eq!(config("kind = \"cb\"").kind, [Group::Blit, Group::Colour]);
    assert_eq!(config("kind = [\"geometric\"]").kind, [Group::Geometric]);
    for (text, part) in [
        ("kind = \"bgx\"", "bgx"),
        ("kind = []", "blit"),
        ("kind = [\"noise\"]", "noise"),
        ("kind = 3", "geometric"),
        ("kind = \"b\"\nspeed = 1", "speed"),
        ("target = 0.6", "kind"),
    ] {
        let error = toml::from_str::<AugmentConfig>(text).unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
}
