//! Inputs and comparisons.

use swinstyle_tensor::{Device, Tensor, rng::Philox};

/// The wgpu device that tests run on; a test that silently skips proves nothing.
pub fn wgpu() -> Device {
    let device = Device::Wgpu(0);
    if let Err(error) = device.check() {
        panic!("the tests need a Vulkan adapter: {error}; `cargo xtask setup` installs Mesa's software one");
    }
    device
}

/// The same normal numbers on the cpu and on wgpu.
pub fn pair(seed: u64, shape: &[usize]) -> [Tensor; 2] {
    let values = Philox::new(seed, 0).normal_vec(shape.iter().product());
    both(values, shape)
}

/// The same values on the cpu and on wgpu.
pub fn both(values: Vec<f32>, shape: &[usize]) -> [Tensor; 2] {
    [Device::Cpu, wgpu()].map(|d| Tensor::from_slice(&values, shape, d).unwrap())
}

/// Asserts that shapes are equal and every element within `relative·|expected| + absolute`; NaN and ∞ must match.
#[track_caller]
pub fn assert_near(what: &str, actual: &Tensor, expected: &Tensor, relative: f32, absolute: f32) {
    assert_eq!(actual.shape(), expected.shape(), "{what}");
    let (a, e) = (actual.to_vec().unwrap(), expected.to_vec().unwrap());
    let mut worst = (0.0_f32, 0);
    for (i, (&a, &e)) in a.iter().zip(&e).enumerate() {
        let same = a == e || (a.is_nan() && e.is_nan());
        let excess = if same { 0.0 } else { (a - e).abs() / (relative * e.abs() + absolute) };
        if excess > worst.0 || excess.is_nan() {
            worst = (excess, i);
        }
    }
    let i = worst.1;
    assert!(worst.0 <= 1.0, "{what}: element {i} of {} is {} instead of {}", a.len(), a[i], e[i]);
}
