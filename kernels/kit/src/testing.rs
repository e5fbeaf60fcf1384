//! The test harness: reproducible inputs, comparisons that show where, and finite differences to second order.

use swinstyle_tensor::{DType, Device, Result, Scalar, Tensor, TensorError, cube::dry::Chip, grad};

/// Uniform numbers in [−1, 1), exact in f32: `z = splitmix64(fnv1a64(name) + (i+1)·φ)`, `u = (z >> 40)/2²³ − 1`.
///
/// The fixtures' script uses the same formula, so both can make the same data from a name.
pub fn hash_uniform(name: &str, len: usize) -> Vec<f32> {
    let seed = name.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01B3));
    (1..=len as u64)
        .map(|i| {
            let mut z = seed.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^= z >> 31;
            (z >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

/// A tensor of [`hash_uniform`] numbers; f64 only on the cpu.
pub fn uniform(name: &str, shape: &[usize], dtype: DType, device: Device) -> Result<Tensor> {
    let values = hash_uniform(name, shape.iter().product());
    match dtype {
        DType::F64 => Tensor::from_vec(values.into_iter().map(f64::from).collect(), shape, device),
        _ => Tensor::from_vec(values, shape, device),
    }
}

/// The wgpu device that tests run on.
///
/// Panics where none exists: a test that silently skips proves nothing.
pub fn wgpu() -> Device {
    let device = Device::Wgpu(0);
    if let Err(error) = device.check() {
        panic!("the tests need a Vulkan adapter: {error}; `cargo xtask setup` installs Mesa's software one");
    }
    device
}

/// The emulated CUDA device: kernels as CUDA C++, run by the host thread by thread. Nothing, said aloud, where there is no C++ compiler.
pub fn emulated_cuda() -> Option<Device> {
    let device = Device::Emulated(Chip::Sm90);
    match device.check() {
        Ok(()) => Some(device),
        Err(error) => {
            eprintln!("SKIPPED on emulated CUDA: {error}");
            None
        }
    }
}

/// Where fixtures are checked beside f32 on the cpu and on wgpu: the half types on every device that has them, and all types on
/// emulated CUDA.
pub fn half_types_and_cuda() -> Vec<(Device, DType)> {
    let half = [DType::F16, DType::BF16];
    let mut all = half.map(|dtype| (Device::Cpu, dtype)).to_vec();
    for dtype in half {
        match wgpu().check_dtype(dtype) {
            Ok(()) => all.push((wgpu(), dtype)),
            Err(error) => eprintln!("SKIPPED: {error}"),
        }
    }
    if let Some(cuda) = emulated_cuda() {
        all.extend([DType::F32, DType::F16, DType::BF16].map(|dtype| (cuda, dtype)));
    }
    all
}

/// Largest absolute difference, and where it is.
pub fn worst(actual: &[f64], expected: &[f64]) -> (f64, usize) {
    assert_eq!(actual.len(), expected.len(), "lengths differ");
    actual.iter().zip(expected).enumerate().fold((0.0, 0), |(worst, at), (i, (a, e))| {
        let d = (a - e).abs();
        // A NaN must not compare as small.
        if d > worst || d.is_nan() { (if d.is_nan() { f64::INFINITY } else { d }, i) } else { (worst, at) }
    })
}

/// `‖actual − expected‖ / ‖expected‖` in the Euclidean norm, or the distance alone where the expected is 0; infinite for NaN.
pub fn distance(actual: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(actual.len(), expected.len(), "lengths differ");
    let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|d| d * d).sum::<f64>().sqrt();
    let (d, scale) = (norm(&mut actual.iter().zip(expected).map(|(a, e)| a - e)), norm(&mut expected.iter().copied()));
    let relative = if scale > 0.0 { d / scale } else { d };
    if relative.is_nan() { f64::INFINITY } else { relative }
}

/// Asserts `max |actual − expected| ≤ tolerance · max(1, max |expected|)`, naming the element that is worst.
#[track_caller]
pub fn assert_close(what: &str, actual: &Tensor, expected: &Tensor, tolerance: f64) {
    assert_eq!(actual.shape(), expected.shape(), "{what}: shapes");
    let (a, e) = (values(actual), values(expected));
    let scale = e.iter().fold(1.0_f64, |m, v| m.max(v.abs()));
    let (d, at) = worst(&a, &e);
    assert!(
        d <= tolerance * scale,
        "{what}: element {at} is {} instead of {} (tolerance {:e})",
        a[at],
        e[at],
        tolerance * scale
    );
}

/// Asserts that an f32 result agrees with values computed in f64.
#[track_caller]
pub fn assert_slice_close<T: Scalar>(what: &str, actual: &[T], expected: &[f64], tolerance: f64) {
    let a: Vec<f64> = actual.iter().map(|v| v.to_f64()).collect();
    let scale = expected.iter().fold(1.0_f64, |m, v| m.max(v.abs()));
    let (d, at) = worst(&a, expected);
    assert!(d <= tolerance * scale, "{what}: element {at} is {} instead of {}", a[at], expected[at]);
}

/// Asserts that `f` gives each image of a batch the bits that it gives the image alone, for the first image to all of them at once.
///
/// `batch`: tensors with one entry an image on the first axis, which results have too.
#[track_caller]
pub fn assert_same_alone(what: &str, batch: &[&Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let bits = |first: usize, count: usize| -> Vec<u32> {
        let images: Result<Vec<Tensor>> = batch.iter().map(|t| t.slice(0, first, count)).collect();
        match images.and_then(|images| f(&images)?.to_vec()) {
            Ok(values) => values.into_iter().map(f32::to_bits).collect(),
            Err(error) => panic!("{what}: {count} images: {error}"),
        }
    };
    let images = batch[0].shape()[0];
    let alone: Vec<Vec<u32>> = (0..images).map(|i| bits(i, 1)).collect();
    for count in 2..=images {
        let together = bits(0, count);
        for (i, (together, alone)) in together.chunks(together.len() / count).zip(&alone).enumerate() {
            let differing = together.iter().zip(alone).filter(|(a, b)| a != b).count();
            assert!(
                differing == 0 && together.len() == alone.len(),
                "{what}: {differing} numbers of image {i} of {count} differ from it alone"
            );
        }
    }
}

fn values(t: &Tensor) -> Vec<f64> {
    match t.to_vec_f64() {
        Ok(v) => v,
        Err(error) => panic!("reading back: {error}"),
    }
}

/// A function of several tensors, as the checks below take it.
pub type Function<'a> = dyn Fn(&[Tensor]) -> Result<Tensor> + 'a;

/// Compares the gradients of `⟨f(x), c⟩` (c fixed and uneven) in every input with central differences along two directions.
///
/// Inputs must be f64 on the cpu. Returns the worst relative error; a sound rule in f64 is below 1e-6.
pub fn first_order_error(f: &Function, inputs: &[Tensor]) -> Result<f64> {
    let objective = |xs: &[Tensor]| -> Result<Tensor> {
        let y = f(xs)?;
        let c = uniform("cotangent", y.shape(), y.dtype(), y.device())?.add_scalar(0.3)?;
        y.mul(&c)?.sum_all()
    };
    directional_error(&objective, inputs)
}

/// Compares second derivatives with central differences of first ones: the objective is
/// `Σ_i ⟨∂⟨f(x), c⟩/∂x_i, v_i⟩` with fixed `v_i`, differentiated through the tape.
///
/// Inputs must be f64 on the cpu. Returns the worst relative error.
pub fn second_order_error(f: &Function, inputs: &[Tensor]) -> Result<f64> {
    let objective = |xs: &[Tensor]| -> Result<Tensor> {
        let xs: Vec<Tensor> = xs.iter().map(|x| if x.is_tracked() { x.clone() } else { x.as_leaf() }).collect();
        let y = f(&xs)?;
        let c = uniform("cotangent", y.shape(), y.dtype(), y.device())?.add_scalar(0.3)?;
        let refs: Vec<&Tensor> = xs.iter().collect();
        let grads = grad(&[(&y.mul(&c)?.sum_all()?, None)], &refs, true)?;
        let mut total = Tensor::full(0.0, &[], y.dtype(), y.device())?;
        for (i, g) in grads.into_iter().enumerate() {
            let Some(g) = g else { continue };
            let v = uniform(&format!("direction {i}"), g.shape(), g.dtype(), g.device())?;
            total = total.add(&g.mul(&v)?.sum_all()?)?;
        }
        Ok(total)
    };
    directional_error(&objective, inputs)
}

fn directional_error(objective: &Function, inputs: &[Tensor]) -> Result<f64> {
    let leaves: Vec<Tensor> = inputs.iter().map(Tensor::as_leaf).collect();
    let refs: Vec<&Tensor> = leaves.iter().collect();
    let value = objective(&leaves)?;
    let grads = grad(&[(&value, None)], &refs, false)?;
    let mut worst = 0.0_f64;
    for (i, g) in grads.iter().enumerate() {
        for direction in ["a", "b"] {
            let x = &inputs[i];
            let v = uniform(&format!("{direction}{i}"), x.shape(), x.dtype(), x.device())?;
            let step = 1e-5;
            let at = |sign: f64| -> Result<f64> {
                let mut xs = inputs.to_vec();
                xs[i] = x.add(&v.scale(sign * step)?)?;
                objective(&xs)?.item()
            };
            let numeric = (at(1.0)? - at(-1.0)?) / (2.0 * step);
            let analytic = match g {
                Some(g) => g.mul(&v)?.sum_all()?.item()?,
                None => 0.0,
            };
            if !numeric.is_finite() || !analytic.is_finite() {
                return Err(TensorError::shape(
                    "finite differences",
                    format!("input {i}: {numeric} against {analytic}"),
                ));
            }
            worst = worst.max((numeric - analytic).abs() / numeric.abs().max(analytic.abs()).max(1e-2));
        }
    }
    Ok(worst)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn x(shape: &[usize]) -> Tensor {
        uniform("x", shape, DType::F64, Device::Cpu).unwrap()
    }

    #[test]
    fn a_right_gradient_passes_both_orders_and_a_wrong_one_fails() {
        let right = |xs: &[Tensor]| xs[0].mul(&xs[1])?.tanh();
        let inputs = [x(&[3, 4]), uniform("y", &[4], DType::F64, Device::Cpu).unwrap()];
        assert!(first_order_error(&right, &inputs).unwrap() < 1e-7);
        assert!(second_order_error(&right, &inputs).unwrap() < 1e-6);
        let wrong = |xs: &[Tensor]| {
            let y = xs[0].detach().square()?;
            Ok(y.taped("wrong", &[&xs[0]], |b| Ok(vec![Some(b.grad.mul(&b.inputs[0])?)])))
        };
        assert!(first_order_error(&wrong, &inputs[..1]).unwrap() > 0.1);
    }
}
