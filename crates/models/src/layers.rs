//! Small layers that several networks share, written in taped operations: every order of gradient exists.

use swinstyle_bias_act::{Activation, bias_act};
use swinstyle_tensor::{Result, Tensor, TensorError};

/// Normalises each row to unit mean square: `x / √(mean(x²) + ε)` over the last axis [ref StyleGAN2].
///
/// x `[N, C]`. PyTorch: `x * (x.square().mean(1, keepdim=True) + eps).rsqrt()`.
pub fn pixel_norm(x: &Tensor, epsilon: f64) -> Result<Tensor> {
    let Some(last) = x.shape().len().checked_sub(1) else {
        return Err(TensorError::shape("pixel_norm", "a tensor without axes"));
    };
    x.mul(&x.square()?.mean(&[last])?.add_scalar(epsilon)?.rsqrt()?)
}

/// Makes vectors along an axis unit length: `x / √(Σ x² + ε)`. PyTorch: `F.normalize`, with ε under the root.
pub fn unit_length(x: &Tensor, axis: usize, epsilon: f64) -> Result<Tensor> {
    x.mul(&x.square()?.sum(&[axis])?.add_scalar(epsilon)?.rsqrt()?)
}

/// Minibatch standard deviation [ref StyleGAN2]: appends a channel that holds, for each sample, the mean over pixels and
/// channels of the standard deviation (biased, ε under the root) over its sub-batch.
///
/// x `[N, H, W, C]` → `[N, H, W, C+1]`. Sub-batches have `g = min(group, N)` samples; sample n belongs to sub-batch
/// `n mod (N/g)`. Errors: another rank, N that g does not divide.
pub fn minibatch_stddev(x: &Tensor, group: usize, epsilon: f64) -> Result<Tensor> {
    let &[n, h, w, c] = x.shape() else {
        return Err(TensorError::shape("minibatch_stddev", format!("{:?}: [N, H, W, C] expected", x.shape())));
    };
    let g = group.min(n).max(1);
    if n % g != 0 {
        let detail = format!("a batch of {n} does not split into groups of {g}");
        return Err(TensorError::shape("minibatch_stddev", detail));
    }
    let sets = n / g;
    // Squares and ε want more range than half types have.
    let y = x.to_dtype(x.dtype().wide())?.reshape(&[g, sets, h * w * c])?;
    let centred = y.sub(&y.mean(&[0])?)?;
    let deviation = centred.square()?.mean(&[0])?.add_scalar(epsilon)?.sqrt()?.mean(&[2])?;
    let map = deviation.reshape(&[1, sets, 1, 1, 1])?.broadcast_to(&[g, sets, h, w, 1])?.reshape(&[n, h, w, 1])?;
    Tensor::concat(&[x, &map.to_dtype(x.dtype())?], 3)
}

/// Fully connected layer with the equalised learning rate [ref StyleGAN2]: `gain · activation(x (m/√I · W)ᵀ + m·b)`.
///
/// x `[N, I]`, weight `[O, I]`, bias `[O]` → `[N, O]`; m is `lr_multiplier`. Weights are drawn with deviation 1/m, so that
/// the optimizer's steps are the same in every layer. Errors: shapes that do not fit, and those of [`bias_act`].
pub fn equal_linear(
    x: &Tensor,            // [N, I]
    weight: &Tensor,       // [O, I]
    bias: Option<&Tensor>, // [O]
    lr_multiplier: f64,
    activation: Activation,
    gain: f64,
) -> Result<Tensor> {
    let &[_, inputs] = weight.shape() else {
        return Err(TensorError::shape("equal_linear", format!("weight {:?}: [O, I] expected", weight.shape())));
    };
    let scale = lr_multiplier / (inputs.max(1) as f64).sqrt();
    // Always on the same side: where it is scaled tells in the last bit, and a row must not depend on how many there are.
    let y = x.scale(scale)?.linear(weight, None)?;
    let bias = bias.map(|b| b.scale(lr_multiplier)).transpose()?;
    bias_act(&y, bias.as_ref(), activation, gain, None)
}

#[cfg(test)]
mod tests {
    use swinstyle_kit::{
        golden::Fixture,
        testing::{first_order_error, second_order_error, uniform, wgpu},
    };
    use swinstyle_tensor::{DType, Device, grad};

    use super::*;

    /// Value, gradients and gradients of gradients of a fixture; `nhwc` names the inputs stored as NCHW.
    fn check(
        name: &str,
        device: Device,
        inputs: &[&str],
        second: &[&str],
        nhwc: bool,
        f: &dyn Fn(&[Tensor]) -> Tensor,
    ) {
        let fixture = Fixture::case(name);
        let axes = |key: &str| -> &[usize] { if nhwc && key != "b" { &[0, 2, 3, 1] } else { &[] } };
        let leaf = |key: String, axes: &[usize]| fixture.tensor(&key, axes, device).as_leaf();
        let xs: Vec<Tensor> = inputs.iter().map(|k| leaf(format!("in.{k}"), axes(k))).collect();
        let y = f(&xs);
        fixture.assert("out.y", axes("y"), &y);
        let cot = leaf("cot.y".to_string(), axes("y"));
        let refs: Vec<&Tensor> = xs.iter().collect();
        let grads = grad(&[(&y, Some(&cot))], &refs, true).unwrap();
        for (k, g) in inputs.iter().zip(&grads) {
            fixture.assert(&format!("grad.{k}"), axes(k), g.as_ref().unwrap());
        }
        let directions: Vec<Tensor> = second.iter().map(|k| leaf(format!("v.{k}"), axes(k))).collect();
        let place = |k: &str| inputs.iter().position(|i| *i == k).unwrap();
        let outputs: Vec<(&Tensor, Option<&Tensor>)> =
            second.iter().zip(&directions).map(|(k, v)| (grads[place(k)].as_ref().unwrap(), Some(v))).collect();
        let targets: Vec<&Tensor> = refs.iter().copied().chain([&cot]).collect();
        let again = grad(&outputs, &targets, false).unwrap();
        for (k, g) in inputs.iter().zip(&again) {
            // A gradient that does not depend on an input is stored as zeros and found as none.
            if let Some(g) = g {
                fixture.assert(&format!("dd.grad.{k}"), axes(k), g);
            }
        }
        fixture.assert("dd.cot.y", axes("y"), again[inputs.len()].as_ref().unwrap());
    }

    fn check_all(device: Device) {
        check("layers/pixel_norm", device, &["x"], &["x"], false, &|xs| pixel_norm(&xs[0], 1e-8).unwrap());
        for (name, group) in [("b4_g4", 4), ("b8_g4", 4), ("b2_g2", 2)] {
            let name = format!("layers/minibatch_stddev_{name}");
            check(&name, device, &["x"], &["x"], true, &|xs| minibatch_stddev(&xs[0], group, 1e-8).unwrap());
        }
        check("layers/equal_linear_lrmul", device, &["x", "w", "b"], &["x", "w"], false, &|xs| {
            equal_linear(&xs[0], &xs[1], Some(&xs[2]), 0.01, Activation::LEAKY_RELU, 2.0_f64.sqrt()).unwrap()
        });
    }

    #[test]
    fn the_fixtures_pass_to_second_order_on_cpu() {
        check_all(Device::Cpu);
    }

    #[test]
    fn the_fixtures_pass_to_second_order_on_wgpu() {
        check_all(wgpu());
    }

    #[test]
    fn gradients_of_both_orders_match_finite_differences() {
        let x = |shape: &[usize]| uniform("x", shape, DType::F64, Device::Cpu).unwrap();
        let functions: [(&swinstyle_kit::testing::Function, Tensor); 2] =
            [(&|xs| pixel_norm(&xs[0], 1e-2), x(&[3, 5])), (&|xs| minibatch_stddev(&xs[0], 2, 1e-2), x(&[4, 2, 3, 2]))];
        for (f, x) in functions {
            let (first, second) =
                (first_order_error(f, std::slice::from_ref(&x)).unwrap(), second_order_error(f, &[x]).unwrap());
            assert!(first < 1e-6 && second < 1e-6, "{first:e}, {second:e}");
        }
    }

    #[test]
    fn equal_linear_gives_the_same_on_either_side_of_the_scaling() {
        let tensor = |name: &str, shape: &[usize]| uniform(name, shape, DType::F64, Device::Cpu).unwrap();
        let w = tensor("w", &[4, 9]);
        let many = tensor("x", &[12, 9]);
        let apply = |x: &Tensor| equal_linear(x, &w, None, 0.5, Activation::Linear, 1.0).unwrap().to_vec_f64().unwrap();
        let (all, one) = (apply(&many), apply(&many.slice(0, 0, 1).unwrap()));
        let expected = |o: usize| -> f64 {
            let (x, w) = (many.to_vec_f64().unwrap(), w.to_vec_f64().unwrap());
            (0..9).map(|i| x[i] * w[o * 9 + i]).sum::<f64>() * 0.5 / 3.0
        };
        for o in 0..4 {
            assert!((all[o] - expected(o)).abs() < 1e-14 && (one[o] - expected(o)).abs() < 1e-14);
        }
    }

    #[test]
    fn bad_shapes_are_errors() {
        let x = uniform("x", &[3, 2, 2, 4], DType::F32, Device::Cpu).unwrap();
        assert!(minibatch_stddev(&x, 2, 1e-8).is_err());
        assert!(minibatch_stddev(&x.reshape(&[3, 16]).unwrap(), 3, 1e-8).is_err());
        assert!(pixel_norm(&x.reshape(&[48]).unwrap().slice(0, 0, 1).unwrap().reshape(&[]).unwrap(), 1e-8).is_err());
        assert!(equal_linear(&x, &x, None, 1.0, Activation::Linear, 1.0).is_err());
    }
}
