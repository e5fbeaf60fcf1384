//! The projector's formulas against values by hand, and that it comes nearer.

use super::*;
use swinstyle_models::{
    Lineage, mean_w,
    stylegan2::{Channels, Generator, GeneratorConfig},
};
use swinstyle_tensor::Device;
use swinstyle_weights::CheckpointHeader;

fn model() -> Model {
    let config = GeneratorConfig {
        size: 16,
        style_dim: 8,
        mapping_layers: 2,
        mapping_lr_multiplier: 0.01,
        channels: Channels(vec![8, 8, 8]),
    };
    let generator = Generator::new(config).unwrap();
    let generator_params = Params::init(&generator.specs(), 1, Device::Cpu).unwrap();
    let w_avg = mean_w(&generator, &generator_params, Device::Cpu).unwrap();
    let header = CheckpointHeader::default();
    let lineage = Lineage::default();
    Model { generator, generator_params, lineage, w_avg, encoder: None, discriminator: None, header }
}

fn distance(a: &Tensor, b: &Tensor) -> f64 {
    l2(a, b).unwrap().item().unwrap()
}

fn from_average() -> ProjectOptions {
    ProjectOptions { from_average: true, learning_rate: 0.1, steps: 120, ..ProjectOptions::default() }
}

#[test]
fn the_projector_finds_its_way_back_to_an_image_of_the_generator() {
    let m = model();
    let z = Philox::new(5, 0).normal(&[1, 8], Device::Cpu).unwrap();
    let target = m.generate(&z, 1.0).unwrap();
    let mut said = Vec::new();
    let found = project(&m, &target, &from_average(), &mut |step, total, loss| said.push((step, total, loss))).unwrap();
    assert_eq!(found.w_plus.shape(), [1, 6, 8]);
    let (before, after) = (distance(&found.before, &target), distance(&found.image, &target));
    assert!(after < 0.05 * before, "{before} {after}");
    assert_eq!(said.last().map(|s| (s.0, s.1)), Some((120, 120)));
    // In W all layers have one code; W+ has more freedom and ends no farther.
    let single = ProjectOptions { single_w: true, ..from_average() };
    let single = project(&m, &target, &single, &mut |_, _, _| {}).unwrap();
    let codes = single.w_plus.to_vec().unwrap();
    assert!(codes.chunks(8).all(|c| c == &codes[..8]));
    assert!(distance(&single.image, &target) < 0.2 * before);
}

#[test]
fn tuning_changes_the_weights_and_brings_any_image_nearer() {
    let m = model();
    let target = Philox::new(9, 0).normal(&[1, 16, 16, 3], Device::Cpu).unwrap().scale(0.3).unwrap();
    let plain = project(&m, &target, &from_average(), &mut |_, _, _| {}).unwrap();
    let options = ProjectOptions { tune: 60, ..from_average() };
    let tuned = project(&m, &target, &options, &mut |_, _, _| {}).unwrap();
    assert_eq!(plain.w_plus.to_vec().unwrap(), tuned.w_plus.to_vec().unwrap());
    assert!(distance(&tuned.image, &target) < 0.95 * distance(&plain.image, &target));
    let weights = |m: &Model| m.generator_params.fingerprint().unwrap();
    assert!(weights(&plain.model) == weights(&m) && weights(&tuned.model) != weights(&m));
}

#[test]
fn optimised_noise_stays_white() {
    let m = model();
    let target = Philox::new(9, 0).normal(&[1, 16, 16, 3], Device::Cpu).unwrap().scale(0.3).unwrap();
    let options = ProjectOptions { noise_weight: 1e3, steps: 40, ..from_average() };
    let found = project(&m, &target, &options, &mut |_, _, _| {}).unwrap();
    let mut changed = 0;
    for (name, map) in found.model.generator_params.iter().filter(|(n, _)| n.starts_with("noises.")) {
        let mean = map.mean_all().unwrap().item().unwrap();
        let square = map.square().unwrap().mean_all().unwrap().item().unwrap();
        assert!(mean.abs() < 1e-4 && (square - 1.0).abs() < 1e-3, "{name}: {mean} {square}");
        changed += usize::from(map.to_vec().unwrap() != m.generator_params.get(name).unwrap().to_vec().unwrap());
    }
    assert!(changed > 0);
}

#[test]
fn the_correlation_of_stripes_is_the_appendixs_sum_over_the_pyramid() {
    let stripes = |side: usize, width: usize| {
        let values = (0..side * side).map(|i| if (i / side / width).is_multiple_of(2) { 1.0 } else { -1.0 }).collect();
        let map = Tensor::from_vec(values, &[1, side, side, 1], Device::Cpu).unwrap();
        correlation(&map).unwrap().item().unwrap()
    };
    // 8 x 8 is one level: 1 along the stripes, (-1)^2 across those of one pixel, and 0 across those of two.
    assert!((stripes(8, 1) - 2.0).abs() < 1e-6 && (stripes(8, 2) - 1.0).abs() < 1e-6);
    // 16 x 16 in stripes of two pixels: 1 + 0, then stripes of one pixel with the values 2 and -2: 4^2 + (-4)^2.
    assert!((stripes(16, 2) - 33.0).abs() < 1e-4, "{}", stripes(16, 2));
}

#[test]
fn the_scale_of_w_is_a_distance_over_all_components() {
    let tensor = |values: Vec<f32>, shape: &[usize]| Tensor::from_vec(values, shape, Device::Cpu).unwrap();
    // Squared distances of 4 and 8 from the mean.
    let (w, mean) = (tensor(vec![1.0, 2.0, 3.0, -2.0], &[2, 2]), tensor(vec![1.0, 0.0], &[2]));
    assert!((sigma_w(&w, &mean).unwrap() - 6.0_f64.sqrt()).abs() < 1e-6);
    // Unit normal numbers in 64 components lie 8 from their mean.
    let w = Philox::new(3, 0).normal(&[5000, 64], Device::Cpu).unwrap();
    let sigma = sigma_w(&w, &tensor(vec![0.0; 64], &[64])).unwrap();
    assert!((sigma - 8.0).abs() < 0.02, "{sigma}");
}

#[test]
fn noise_on_the_code_fades_as_a_square_over_three_quarters_of_the_steps() {
    for (step, expected) in [(0, 0.05), (375, 0.0125), (600, 0.002), (750, 0.0), (999, 0.0)] {
        assert!((code_noise(step, 1000) - expected).abs() < 1e-12, "{step}");
    }
}

#[test]
fn the_learning_rate_rises_stands_and_falls() {
    assert!(ramp(0, 100) < 0.25 && (ramp(50, 100) - 1.0).abs() < 1e-12 && ramp(99, 100) < 0.01);
}

#[test]
fn what_cannot_be_projected_is_an_error() {
    let m = model();
    let image = |s: usize| Tensor::from_vec(vec![0.0_f32; s * s * 3], &[1, s, s, 3], Device::Cpu).unwrap();
    let go = |image: &Tensor, options: &ProjectOptions| {
        project(&m, image, options, &mut |_, _, _| {}).map(drop).unwrap_err().to_string()
    };
    assert!(go(&image(32), &from_average()).contains("16 px"));
    assert!(go(&image(16), &ProjectOptions::default()).contains("encoder"));
}
