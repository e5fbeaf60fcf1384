//! The optimisers against PyTorch's, many parameters against each alone, and how many launches an update is.

use super::*;
use swinstyle_tensor::Device;

const STEPS: [[f32; 2]; 9] = [
    [0.5, -1.0],
    [0.25, 2.0],
    [-0.5, 1.0],
    [0.125, 0.5],
    [1.0, -0.75],
    [0.3, 0.2],
    [-0.1, 0.9],
    [0.7, -0.4],
    [0.05, 0.6],
];

fn options(algorithm: Algorithm) -> AdamOptions {
    AdamOptions { algorithm, weight_decay: 0.01, ..AdamOptions::new(0.1, 0.9, 0.99) }
}

/// What nine steps from (1, −2) end at.
fn run(algorithm: Algorithm) -> Vec<f32> {
    let mut params: Params =
        [("p".to_string(), Tensor::from_vec(vec![1.0_f32, -2.0], &[2], Device::Cpu).unwrap())].into_iter().collect();
    let mut adam = Adam::new(&params, |_| true).unwrap();
    for g in STEPS {
        let gradient = Tensor::from_vec(g.to_vec(), &[2], Device::Cpu).unwrap();
        adam.update(&mut params, &[Some(gradient)], &options(algorithm)).unwrap();
    }
    params.get("p").unwrap().to_vec().unwrap()
}

#[test]
fn nine_steps_match_pytorchs_optimisers() {
    // PyTorch 2.15 in float64: Adam, AdamW, RAdam(decoupled_weight_decay=True), each with lr=.1, betas=(.9, .99), eps=1e-8,
    // weight_decay=.01; Ranger is RAdam with `p = slow = slow + (p - slow)/2` after the sixth step.
    let expected = [
        (Algorithm::Adam, [0.500688096, -2.185945288]),
        (Algorithm::AdamW, [0.503553639, -2.179874393]),
        (Algorithm::RAdam, [0.839493316, -2.126012886]),
        (Algorithm::Ranger, [0.908559335, -2.066113756]),
    ];
    for (algorithm, expected) in expected {
        for (a, e) in run(algorithm).iter().zip(expected) {
            assert!((f64::from(*a) - e).abs() < 2e-6, "{algorithm:?}: {a} {e}");
        }
    }
}
fn tensors(count: usize, device: Device) -> Vec<Tensor> {
    let make = |i: usize| {
        let n = 1 + i * 37 % 211;
        let values = (0..n).map(|j| ((i * 7 + j * 3) % 19) as f32 / 10.0 - 0.9).collect();
        Tensor::from_vec(values, &[n, 1], device).unwrap()
    };
    (0..count).map(make).collect()
}

fn named(tensors: Vec<Tensor>) -> Params {
    tensors.into_iter().enumerate().map(|(i, t)| (format!("{i:03}"), t)).collect()
}

#[test]
fn many_parameters_have_the_bits_of_each_alone_whatever_gradients_are_missing() {
    for algorithm in [Algorithm::Adam, Algorithm::AdamW, Algorithm::RAdam, Algorithm::Ranger] {
        let (mut all, o) = (named(tensors(9, Device::Cpu)), options(algorithm));
        let mut adam = Adam::new(&all, |_| true).unwrap();
        let mut apart: Vec<Params> = all.iter().map(|(n, t)| [(n.clone(), t.clone())].into_iter().collect()).collect();
        let mut adams: Vec<Adam> = apart.iter().map(|p| Adam::new(p, |_| true).unwrap()).collect();
        for step in 0..14 {
            let gradients: Vec<Option<Tensor>> = tensors(9, Device::Cpu)
                .into_iter()
                .enumerate()
                // Every third step some have none, as in a step of R1.
                .map(|(i, t)| (step % 3 != 0 || i % 4 != 1).then(|| t.scale(1.0 / (step + i + 1) as f64).unwrap()))
                .collect();
            adam.update(&mut all, &gradients, &o).unwrap();
            for ((p, adam), g) in apart.iter_mut().zip(&mut adams).zip(&gradients) {
                adam.update(p, std::slice::from_ref(g), &o).unwrap();
            }
        }
        for ((p, one), (name, value)) in apart.iter().zip(&adams).zip(all.iter()) {
            let bits = |t: &Tensor| t.to_vec().unwrap().into_iter().map(f32::to_bits).collect::<Vec<_>>();
            assert_eq!(bits(p.get(name).unwrap()), bits(value), "{algorithm:?} {name}");
            assert_eq!(bits(one.m.get(name).unwrap()), bits(adam.m.get(name).unwrap()), "{algorithm:?} {name}");
            assert_eq!(value.shape()[1], 1);
        }
    }
}

#[test]
fn an_update_of_hundreds_of_parameters_is_a_few_launches() {
    use swinstyle_tensor::{
        counters::region,
        cube::dry::{Chip, launches},
    };
    const COUNT: usize = 200;
    // A chip that is not there shows every launch that a device would get.
    for device in [Device::Cpu, Device::Dry(Chip::Sm90)] {
        let mut params = named(tensors(COUNT, device));
        let mut average = params.clone();
        let mut adam = Adam::new(&params, |_| true).unwrap();
        let gradients: Vec<Option<Tensor>> = tensors(COUNT, device).into_iter().map(Some).collect();
        let mut steps = Vec::new();
        for _ in 0..3 {
            launches(Chip::Sm90).unwrap();
            let (outcome, counts) = region(|| {
                adam.update(&mut params, &gradients, &options(Algorithm::AdamW))?;
                Ok::<_, TrainError>(average.ema_update(&params, 0.99)?)
            });
            outcome.unwrap();
            steps.push((counts.launches, launches(Chip::Sm90).unwrap().len()));
        }
        // Once the weights lie packed: Adam and the average. The device gathers the gradients, 30 a launch.
        let on_device = if device == Device::Cpu { 0 } else { COUNT.div_ceil(30) + 2 };
        assert_eq!(steps[1..], [(2, on_device); 2], "{device}: {steps:?}");
    }
}
