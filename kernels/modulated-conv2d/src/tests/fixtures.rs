//! The `modconv` fixtures computed by PyTorch in f64: values, gradients and second-order results.

use std::collections::BTreeMap;

use swinstyle_kit::{
    golden::Fixture,
    testing::{distance, half_types_and_cuda, wgpu},
};
use swinstyle_tensor::{DType, Device, Result, Tensor, grad};

use crate::*;

/// Axes that bring a stored tensor into our layout: images are NCHW there and weights OIHW.
fn axes(tensor: &str) -> &'static [usize] {
    match tensor.rsplit('.').next() {
        Some("x" | "y" | "noise") => &[0, 2, 3, 1],
        Some("w") => &[2, 3, 1, 0],
        _ => &[],
    }
}

const INPUTS: [&str; 10] = ["x", "w", "s", "f", "wlat", "affine_w", "affine_b", "noise", "noise_strength", "bias"];

/// The layer that the fixture describes.
fn forward(fixture: &Fixture, t: &BTreeMap<&str, Tensor>) -> Result<Tensor> {
    let number = |key: &str| fixture.params[key].as_f64().unwrap();
    let weight_gain = 1.0 / ((t["w"].len() / t["w"].shape()[3]) as f64).sqrt();
    let up = number("up") as usize;
    let mut conv = ModulatedConv { up, down: 1, demodulate: true, eps: 1e-8, weight_gain, fir: Some(&t["f"]) };
    let Some(latent) = t.get("wlat") else {
        conv.down = number("down") as usize;
        conv.demodulate = fixture.params["demodulate"].as_bool().unwrap();
        return modulated_conv2d(&t["x"], &t["w"], &t["s"], &conv);
    };
    let scale = 1.0 / (latent.shape()[1] as f64).sqrt();
    let style = latent.linear(&t["affine_w"].scale(scale)?, Some(&t["affine_b"]))?;
    let activation =
        LeakyRelu { slope: number("slope"), gain: number("gain"), clamp: fixture.params["clamp"].as_f64() };
    let noise = Some((&t["noise"], &t["noise_strength"]));
    styled_conv2d(&t["x"], &t["w"], &style, &conv, noise, Some(&t["bias"]), Some(activation))
}

/// What some gradients may be off in a half type, in the norm. A demodulated result does not change with its style's length, so with
/// respect to styles two gradients, each rounded, cancel but for a rest; and rounding moves points across the kinks of activation and
/// clamp, of which a sum over a small image has few.
const LOOSE: f64 = 0.3;

/// Asserts every result that the fixture holds; in half types those of first order, as regularisations are computed in f32.
fn check(fixture: &Fixture, device: Device) {
    let read = |name: String| fixture.tensor(&name, axes(&name), device);
    let inputs = INPUTS.into_iter().filter(|n| fixture.has(&format!("in.{n}")));
    let leaves: BTreeMap<&str, Tensor> = inputs.map(|n| (n, read(format!("in.{n}")).as_leaf())).collect();
    let y = forward(fixture, &leaves).unwrap();
    let half = y.dtype() != DType::F32;
    let assert = |name: String, actual: &Tensor| {
        let kinked = name != "out.y" && fixture.params["slope"].is_number();
        if !half || !(kinked || name == "grad.s") {
            return fixture.assert(&name, axes(&name), actual);
        }
        let expected = fixture.tensor(&name, axes(&name), Device::Cpu).to_vec_f64().unwrap();
        let error = distance(&actual.to_vec_f64().unwrap(), &expected);
        assert!(error < LOOSE, "{} {name} in {} on {device}: {error:e}", fixture.name, y.dtype());
    };
    assert("out.y".into(), &y);

    let cotangent = read("cot.y".into()).as_leaf();
    let loss = y.mul(&cotangent).unwrap().sum_all().unwrap();
    let names: Vec<&str> = leaves.keys().copied().filter(|n| fixture.has(&format!("grad.{n}"))).collect();
    let mut wanted: Vec<&Tensor> = names.iter().map(|n| &leaves[n]).collect();
    let grads = grad(&[(&loss, None)], &wanted, true).unwrap();
    let mut objective = Tensor::full(0.0, &[], y.dtype(), device).unwrap();
    for (name, g) in names.iter().zip(grads) {
        let g = g.unwrap();
        assert(format!("grad.{name}"), &g);
        if fixture.has(&format!("v.{name}")) {
            let direction = g.mul(&read(format!("v.{name}"))).unwrap().sum_all().unwrap();
            objective = objective.add(&direction).unwrap();
        }
    }

    if half {
        return;
    }
    wanted.push(&cotangent);
    let seconds = grad(&[(&objective, None)], &wanted, false).unwrap();
    let names = names.iter().map(|n| format!("dd.grad.{n}")).chain(["dd.cot.y".to_string()]);
    for ((name, leaf), second) in names.zip(&wanted).zip(seconds) {
        assert(name, &second.unwrap_or_else(|| leaf.zeros_like().unwrap()));
    }
}

#[test]
fn fixtures_hold_on_cpu_to_second_order() {
    let all = Fixture::family("modconv");
    assert_eq!(all.len(), 22);
    all.iter().for_each(|f| check(f, Device::Cpu));
}

#[test]
fn fixtures_hold_on_wgpu_to_second_order() {
    let device = wgpu();
    // Resampling both ways, the epilogue and its clamp, no demodulation, whole vectors and tails.
    for case in ["k3_down2_demod", "k1_up2_plain", "k3_up2_demod_4x4", "styled_layer_up1", "styled_layer_up2_clamp"] {
        check(&Fixture::case(&format!("modconv/{case}")), device);
    }
}

#[test]
fn fixtures_hold_in_half_types_and_on_emulated_cuda() {
    for (device, dtype) in half_types_and_cuda() {
        for case in
            ["k3_down2_demod", "k1_up2_plain", "k3_up1_demod_tails_33x17", "styled_layer_up1", "styled_layer_up2_clamp"]
        {
            check(&Fixture::case(&format!("modconv/{case}")).stored_as(dtype), device);
        }
    }
}
