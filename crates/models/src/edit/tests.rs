//! Directions are what their formulas say, files come back, and codes change only where they should.

use swinstyle_tensor::{Device, Tensor, rng::Philox};
use swinstyle_weights::{Archive, Array, CheckpointHeader, FloatDtype};

use super::{Boundary, Direction, ganspace, interpolate, mix, sefa};
use crate::{
    Model, Params, mean_w,
    stylegan2::{Channels, Generator, GeneratorConfig},
};

const D: usize = 12;

fn model(seed: u64) -> Model {
    let config = GeneratorConfig {
        size: 16,
        style_dim: D,
        mapping_layers: 2,
        mapping_lr_multiplier: 0.01,
        channels: Channels(vec![8, 8, 4]),
    };
    let generator = Generator::new(config).unwrap();
    let generator_params = Params::init(&generator.specs(), seed, Device::Cpu).unwrap();
    let w_avg = mean_w(&generator, &generator_params, Device::Cpu).unwrap();
    let header = CheckpointHeader::default();
    Model { generator, generator_params, w_avg, encoder: None, discriminator: None, header }
}

fn codes(n: usize, seed: u64) -> Tensor {
    Philox::new(seed, 0).normal(&[n, 6, D], Device::Cpu).unwrap()
}

#[test]
fn sefa_gives_the_eigenvectors_of_the_stacked_modulation_weights() {
    let m = model(1);
    let found = sefa(&m, &(1..3), D).unwrap();
    // Style 1 is read by convs.0 (and by a toRGB), style 2 by convs.1.
    let rows: Vec<Vec<f32>> = ["convs.0", "convs.1"]
        .iter()
        .flat_map(|name| {
            let weight = m.generator_params.get(&format!("{name}.conv.modulation.weight")).unwrap().to_vec().unwrap();
            weight.chunks(D).map(<[f32]>::to_vec).collect::<Vec<_>>()
        })
        .collect();
    let mut last = f64::INFINITY;
    for direction in &found {
        let v = &direction.vector.data;
        let value = direction.about.measured["eigenvalue"].as_f64().unwrap();
        assert!(value <= last + 1e-9);
        last = value;
        let mut image = [0.0_f64; D];
        for row in &rows {
            let along: f64 = row.iter().zip(v).map(|(a, b)| f64::from(a * b)).sum();
            image.iter_mut().zip(row).for_each(|(y, a)| *y += along * f64::from(*a));
        }
        for (y, v) in image.iter().zip(v) {
            assert!((y - value * f64::from(*v)).abs() < 1e-4 * (1.0 + value), "{y} {value} {v}");
        }
        assert!(direction.about.step > 0.0);
    }
    let dot: f32 = found[0].vector.data.iter().zip(&found[1].vector.data).map(|(a, b)| a * b).sum();
    assert!(dot.abs() < 1e-5);
    // The last style of a 16 px generator reaches no convolution.
    assert!(sefa(&m, &(5..6), 1).unwrap_err().to_string().contains("no convolution"));
    assert!(sefa(&m, &(6..9), 1).unwrap_err().to_string().contains("0-5"));
}

#[test]
fn ganspace_strength_is_a_standard_deviation_of_w() {
    let m = model(2);
    let found = ganspace(&m, &(0..6), 3).unwrap();
    let z = Philox::new(99, 0).normal(&[4000, D], Device::Cpu).unwrap();
    let w = m.generator.mapping(&m.generator_params, &z).unwrap().to_vec().unwrap();
    for direction in &found {
        let along: Vec<f64> =
            w.chunks(D).map(|w| w.iter().zip(&direction.vector.data).map(|(a, b)| f64::from(a * b)).sum()).collect();
        let mean = along.iter().sum::<f64>() / along.len() as f64;
        let deviation = (along.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / along.len() as f64).sqrt();
        assert!((deviation / direction.about.step - 1.0).abs() < 0.1, "{deviation} {}", direction.about.step);
    }
    assert!(found[0].about.step >= found[1].about.step && found[1].about.step >= found[2].about.step);
}

#[test]
fn a_boundary_finds_what_separates_two_clouds_and_strength_one_crosses_it() {
    let m = model(3);
    let (n, f) = (2000, 6 * D);
    let mut x = codes(n, 4).to_vec().unwrap();
    let labels: Vec<bool> = (0..n).map(|i| i % 4 == 0).collect();
    for (row, yes) in x.chunks_mut(f).zip(&labels) {
        row[17] += if *yes { 6.0 } else { 0.0 };
        // A number that never changes tells nothing and must do no harm.
        row[3] = 2.0;
    }
    let boundary = Boundary::fit(&x, &labels, 1e-3).unwrap();
    assert!(boundary.accuracy(&x, &labels) > 0.98);
    let direction = boundary.direction(&m, "seventeen", &(0..6)).unwrap();
    let largest = direction.vector.data.iter().copied().fold(0.0, f32::max);
    assert_eq!(direction.vector.data[17], largest);
    assert!(largest > 0.9 && direction.vector.data[3] == 0.0);
    assert!((direction.about.step - 6.0).abs() < 0.8, "{}", direction.about.step);
    let without: Vec<f32> = x.chunks(f).zip(&labels).filter(|(_, y)| !**y).flat_map(|(r, _)| r.to_vec()).collect();
    let count = without.len() / f;
    let before = Tensor::from_vec(without, &[count, 6, D], Device::Cpu).unwrap();
    let after = direction.apply(&before, 1.0, None).unwrap().to_vec().unwrap();
    let crossed = after.chunks(f).filter(|x| boundary.score(x) > 0.0).count();
    assert!(crossed as f64 > 0.98 * count as f64, "{crossed} of {count}");
    assert!(Boundary::fit(&x, &vec![true; n], 1.0).unwrap_err().to_string().contains("both kinds"));
}

#[test]
fn a_direction_moves_its_styles_only() {
    let m = model(5);
    let w = codes(2, 6);
    let direction = &sefa(&m, &(2..4), 1).unwrap()[0];
    let step = (2.5 * direction.about.step) as f32;
    for (layers, moved) in [(None, 2..4), (Some(0..1), 0..1), (Some(0..6), 0..6)] {
        let out = direction.apply(&w, 2.5, layers.as_ref()).unwrap().to_vec().unwrap();
        for (i, (a, b)) in w.to_vec().unwrap().iter().zip(&out).enumerate() {
            let expected = if moved.contains(&(i / D % 6)) { a + direction.vector.data[i % D] * step } else { *a };
            assert!((b - expected).abs() < 1e-5);
        }
    }
    for bad in [0..7, 3..3] {
        assert!(direction.apply(&w, 1.0, Some(&bad)).unwrap_err().to_string().contains("0-5"));
    }
}

#[test]
fn a_direction_comes_back_from_its_file_and_only_for_its_generator() {
    let folder = tempfile::tempdir().unwrap();
    let (m, other) = (model(7), model(8));
    let fingerprint = m.generator_params.fingerprint().unwrap();
    let path = folder.path().join("d.safetensors");
    let direction = sefa(&m, &(0..6), 2).unwrap().remove(1);
    direction.write(&path).unwrap();
    assert_eq!(Direction::read(&path, &m.generator.config, &fingerprint).unwrap(), direction);
    let theirs = other.generator_params.fingerprint().unwrap();
    let error = Direction::read(&path, &m.generator.config, &theirs).unwrap_err().to_string();
    assert!(error.contains("another generator") && error.contains("d.safetensors"), "{error}");

    // A file of somebody else: one tensor, no words.
    let foreign = |shape: &[usize]| {
        let path = folder.path().join("smile.safetensors");
        let mut archive = Archive::new();
        let n = shape.iter().product();
        archive.arrays.insert("whatever".into(), Array::new(shape.to_vec(), vec![0.5; n]).unwrap());
        archive.write(&path, FloatDtype::F32).unwrap();
        Direction::read(&path, &m.generator.config, &fingerprint)
    };
    for shape in [vec![D], vec![1, D], vec![6, D], vec![1, 6, D]] {
        let d = foreign(&shape).unwrap();
        assert_eq!((d.about.name.as_str(), d.about.layers.clone(), d.about.step), ("smile", 0..6, 1.0));
    }
    let error = foreign(&[1, 512]).unwrap_err().to_string();
    assert!(error.contains("512 numbers") && error.contains("another's"), "{error}");
}

#[test]
fn mixing_takes_the_styles_that_were_named_and_interpolation_meets_its_ends() {
    let (a, b) = (codes(1, 10), codes(1, 11));
    let mixed = mix(&a, &b, &(2..5)).unwrap().to_vec().unwrap();
    let (a_values, b_values) = (a.to_vec().unwrap(), b.to_vec().unwrap());
    for i in 0..6 * D {
        assert_eq!(mixed[i], if (2..5).contains(&(i / D)) { b_values[i] } else { a_values[i] });
    }
    assert_eq!(mix(&a, &b, &(0..6)).unwrap().to_vec().unwrap(), b_values);
    assert!(mix(&a, &codes(2, 1), &(0..2)).is_err() && mix(&a, &b, &(4..9)).is_err());
    assert_eq!(interpolate(&a, &b, 0.0).unwrap().to_vec().unwrap(), a_values);
    assert_eq!(interpolate(&a, &b, 1.0).unwrap().to_vec().unwrap(), b_values);
}
