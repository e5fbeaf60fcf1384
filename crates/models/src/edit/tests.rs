//! Directions are what their formulas say, and codes change only where they should.

use swinstyle_tensor::{Device, Tensor, rng::Philox};
use swinstyle_weights::CheckpointHeader;

use super::{Boundary, ganspace, interpolate, mix, sefa};
use crate::{
    Lineage, Model, Params, mean_w,
    stylegan2::{Channels, Generator, GeneratorConfig},
};

pub(super) const D: usize = 12;

pub(super) fn model(seed: u64) -> Model {
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
    let lineage = Lineage::default();
    Model { generator, generator_params, lineage, w_avg, encoder: None, discriminator: None, header }
}

fn codes(n: usize, seed: u64) -> Tensor {
    Philox::new(seed, 0).normal(&[n, 6, D], Device::Cpu).unwrap()
}

#[test]
fn sefa_gives_the_eigenvectors_of_the_stacked_modulation_weights() {
    let m = model(1);
    // Style 1 is read by convs.0 (and by a toRGB), style 2 by convs.1; style 5, the last, by a toRGB alone.
    let cases: [(_, _, &[&str]); 4] = [
        (1..3, false, &["convs.0", "convs.1"]),
        (1..3, true, &["convs.0", "convs.1"]),
        (4..6, false, &["convs.3"]),
        (4..6, true, &["convs.3", "to_rgbs.1"]),
    ];
    for (layers, normalise, names) in cases {
        let found = sefa(&m, &layers, D, normalise).unwrap();
        let rows = |name: &&str| -> Vec<Vec<f32>> {
            let weight = m.generator_params.get(&format!("{name}.conv.modulation.weight")).unwrap().to_vec().unwrap();
            let length = |row: &[f32]| if normalise { row.iter().map(|x| x * x).sum::<f32>().sqrt() } else { 1.0 };
            weight.chunks(D).map(|row| row.iter().map(|x| x / length(row)).collect()).collect()
        };
        let rows: Vec<Vec<f32>> = names.iter().flat_map(rows).collect();
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
        let total: f64 = found.iter().map(|d| d.about.measured["eigenvalue"].as_f64().unwrap()).sum();
        // Rows of length 1 are as many as the trace says.
        assert!(!normalise || (total - rows.len() as f64).abs() < 1e-4, "{total}");
        assert_eq!(found[0].about.method, if normalise { "sefa-normalised" } else { "sefa" });
    }
    assert!(sefa(&m, &(5..6), 1, false).unwrap_err().to_string().contains("no convolution"));
    assert!(sefa(&m, &(5..6), 1, true).is_ok());
    assert!(sefa(&m, &(6..9), 1, false).unwrap_err().to_string().contains("0-5"));
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
    let boundary = Boundary::fisher(&x, &labels, 1e-3).unwrap();
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
    assert!(Boundary::fisher(&x, &vec![true; n], 1.0).unwrap_err().to_string().contains("both kinds"));
}

#[test]
fn the_support_vector_machine_is_scikit_learns() {
    // SVC(kernel="linear", C=1, tol=1e-9) of scikit-learn 1.9; 7 of the 60 lie on the wrong side.
    let (normal, offset) = ([1.90855467, 0.35101965, -0.80076137, 0.31730176, 1.05976674], 2.22992825);
    let number = |i: usize, k: usize| ((i * (7 + 3 * k) + i * i * (k + 1)) % 23) as f64 / 10.0 - 1.1 + 0.5 * k as f64;
    let x = |i: usize| (0..5).map(move |k| number(i, k)).collect::<Vec<_>>();
    let label = |i: usize| {
        let x = x(i);
        x[0] - x[2] + 0.5 * x[4] + ((i * 5 % 7) as f64 - 3.0) * 0.2 > 0.3
    };
    let labels: Vec<bool> = (0..60).map(label).collect();
    let codes: Vec<f32> = (0..60).flat_map(|i| x(i).into_iter().map(|v| v as f32)).collect();
    assert_eq!(labels.iter().filter(|l| **l).count(), 23);
    let boundary = Boundary::svm(&codes, &labels).unwrap();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let cosine =
        dot(&boundary.normal, &normal) / (dot(&boundary.normal, &boundary.normal) * dot(&normal, &normal)).sqrt();
    assert!(cosine > 0.9999, "{cosine} {:?}", boundary.normal);
    assert!((boundary.offset - offset).abs() < 0.02 * offset, "{}", boundary.offset);
    let wrong = (0..60).filter(|&i| (boundary.score(&codes[i * 5..][..5]) > 0.0) != labels[i]).count();
    assert_eq!(wrong, 7);
    assert!(Boundary::svm(&codes, &[false; 60]).unwrap_err().to_string().contains("both kinds"));
}

#[test]
fn a_direction_moves_its_styles_only() {
    let m = model(5);
    let w = codes(2, 6);
    let direction = &sefa(&m, &(2..4), 1, false).unwrap()[0];
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
    for bad in [f64::NAN, f64::INFINITY, 1e300] {
        assert!(direction.apply(&w, bad, None).unwrap_err().to_string().contains("strength"));
    }
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
