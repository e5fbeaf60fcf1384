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

#[test]
fn ranger_centralises_gradients_over_the_axes_that_pytorch_has_behind_the_first() {
    use swinstyle_models::{Init, Layout};
    let spec = |name: &str, shape: &[usize]| Spec::new(name, shape, Init::Constant(0.0));
    // Own float64 code from the description of pSp's Ranger: 14 steps with its constants, lr=.1, weight_decay=.01; both regimes of RAdam
    // and two steps of Lookahead.
    let cases: [(Spec, &[f64]); 6] = [
        (spec("linear", &[2, 3]), &[-0.483360341, 0.030539084, 0.453394098, -0.023264638, 0.338381941, -0.215147177]),
        (
            spec("conv", &[1, 2, 2, 2]).stored(Layout::Oihw),
            &[
                -0.484460927,
                -0.009110414,
                0.452608983,
                0.00094642,
                0.402562196,
                -0.190353642,
                0.323506775,
                -0.397686515,
            ],
        ),
        (
            spec("modulated", &[1, 2, 2, 2]).stored(Layout::ModulatedOihw),
            &[-0.503479015, 0.011093188, 0.432933108, 0.020244179, 0.38346317, -0.170399633, 0.302865559, -0.378007752],
        ),
        (
            spec("stacked", &[2, 2, 3]).stacked(),
            &[
                -0.483360341,
                0.030539084,
                0.453394098,
                -0.023264638,
                0.338381941,
                -0.215147177,
                0.319968997,
                -0.361205857,
                0.240214752,
                -0.369295533,
                0.143303358,
                -0.565237515,
            ],
        ),
        (spec("bias", &[3]), &[-0.48749519, 0.02657047, 0.448421741]),
        (spec("stacked_bias", &[1, 3]).stacked(), &[-0.48749519, 0.02657047, 0.448421741]),
    ];
    let options = AdamOptions {
        algorithm: Algorithm::Ranger,
        epsilon: 6.1e-5,
        weight_decay: 0.01,
        ..AdamOptions::new(0.1, 0.95, 0.999)
    };
    let specs: Vec<Spec> = cases.iter().map(|(s, _)| s.clone()).collect();
    let tensor = |spec: &Spec, value: &dyn Fn(usize) -> usize, middle: f32| {
        let n = spec.shape.iter().product();
        let values = (0..n).map(|i| value(i) as f32 / 10.0 - middle).collect();
        Tensor::from_vec(values, &spec.shape, Device::Cpu).unwrap()
    };
    let start =
        || specs.iter().map(|s| (format!("net.{}", s.name), tensor(s, &|i| i * 5 % 11, 0.5))).collect::<Params>();
    let run = |options: &AdamOptions| {
        let mut params = start();
        let mut adam = Adam::new(&params, |_| true).unwrap().laid_out("net.", &specs);
        let names = adam.names();
        for t in 1..=14 {
            let of = |name: &String| specs.iter().find(|s| format!("net.{}", s.name) == *name).unwrap();
            let gradient = |name| Some(tensor(of(name), &|i| (t * 7 + i * 3 + i * t) % 19, 0.9));
            let gradients: Vec<_> = names.iter().map(gradient).collect();
            adam.update(&mut params, &gradients, options).unwrap();
        }
        params
    };
    let centralised = run(&options);
    for (spec, expected) in &cases {
        let found = centralised.get(&format!("net.{}", spec.name)).unwrap().to_vec().unwrap();
        let near = found.iter().zip(*expected).all(|(a, e)| (f64::from(*a) - e).abs() < 3e-6);
        assert!(near && found.len() == expected.len(), "{}: {found:?} {expected:?}", spec.name);
    }
    // Without it, the first numbers of all are those of the vector.
    let plain = run(&AdamOptions { centralise: false, ..options });
    let found = plain.get("net.linear").unwrap().to_vec().unwrap();
    assert!(found.iter().zip(cases[4].1).all(|(a, e)| (f64::from(*a) - e).abs() < 3e-6), "{found:?}");
}

fn tensors(count: usize, device: Device) -> Vec<Tensor> {
    let make = |i: usize| {
        let n = 1 + i * 37 % 211;
        let values = (0..n).map(|j| ((i * 7 + j * 3) % 19) as f32 / 10.0 - 0.9).collect();
        Tensor::from_vec(values, &[1, n], device).unwrap()
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
            assert_eq!(value.shape()[0], 1);
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
