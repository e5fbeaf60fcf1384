//! The host twin against sums written from the definition in f64.

use swinstyle_kit::testing::assert_close;
use swinstyle_tensor::{DType, Device, Tensor};

use super::{data, label, problems};
use crate::{Fused, LeakyRelu, Problem, conv2d_weight_grad, fused_conv2d};

/// Calls `f(output index, input index, weight index)` for every product of the convolution's definition.
fn products(p: &Problem, mut f: impl FnMut(usize, usize, usize)) {
    let g = &p.geometry;
    let ([n, h, w, i], [_, oh, ow, o]) = (p.input_shape(), p.output_shape());
    let [kh, kw] = g.kernel;
    let at = |o: usize, k: usize, pad: isize, len: usize| {
        let frame = (o * g.down + k) as isize - pad;
        let inside = frame >= 0 && frame % g.up as isize == 0 && frame / (g.up as isize) < len as isize;
        inside.then(|| frame as usize / g.up)
    };
    for b in 0..n {
        for (oy, ox) in (0..oh).flat_map(|y| (0..ow).map(move |x| (y, x))) {
            for (ky, kx) in (0..kh).flat_map(|y| (0..kw).map(move |x| (y, x))) {
                let (Some(iy), Some(ix)) = (at(oy, ky, g.pad[0], h), at(ox, kx, g.pad[1], w)) else { continue };
                let tap = if g.flip { (kh - 1 - ky) * kw + kw - 1 - kx } else { ky * kw + kx };
                for (ci, co) in (0..i).flat_map(|a| (0..o).map(move |b| (a, b))) {
                    let weight = if g.transpose { (tap * o + co) * i + ci } else { (tap * i + ci) * o + co };
                    f(((b * oh + oy) * ow + ox) * o + co, ((b * h + iy) * w + ix) * i + ci, weight);
                }
            }
        }
    }
}

struct Case {
    x: Tensor,
    weight: Tensor,
    pre: Tensor,
    post: Tensor,
    noise: Tensor,
    strength: Tensor,
    bias: Tensor,
    grad: Tensor,
}

impl Case {
    fn new(p: &Problem, dtype: DType) -> Self {
        let ([n, _, _, i], [_, oh, ow, o]) = (p.input_shape(), p.output_shape());
        Self {
            x: data("x", &p.input_shape(), dtype),
            weight: data("w", &p.weight_shape(), dtype),
            pre: data("pre", &[n, i], dtype),
            post: data("post", &[n, o], dtype),
            noise: data("noise", &[if o % 2 == 0 { n } else { 1 }, oh, ow, 1], dtype),
            strength: data("strength", &[1], dtype),
            bias: data("bias", &[o], dtype),
            grad: data("g", &p.output_shape(), dtype),
        }
    }
}

fn vec(t: &Tensor) -> Vec<f64> {
    t.to_vec_f64().unwrap()
}

/// Rounding of a sum of so many products of numbers below 1, whose partial sums outgrow the (clamped) result.
fn tolerance(p: &Problem, dtype: DType) -> f64 {
    let terms = p.in_channels * p.geometry.kernel.iter().product::<usize>();
    match dtype {
        DType::F64 => 1e-13,
        _ => 1e-6 * (terms as f64).sqrt().max(4.0),
    }
}

#[test]
fn convolution_with_every_fusion_is_the_sum_of_its_definition() {
    for p in problems() {
        for dtype in [DType::F32, DType::F64] {
            let c = Case::new(&p, dtype);
            let (x, w, pre, post) = (vec(&c.x), vec(&c.weight), vec(&c.pre), vec(&c.post));
            let ([n, h, wd, i], [_, oh, ow, o]) = (p.input_shape(), p.output_shape());
            let (mut plain, mut scaled) = (vec![0.0; n * oh * ow * o], vec![0.0; n * oh * ow * o]);
            products(&p, |at, from, weight| {
                plain[at] += x[from] * w[weight];
                scaled[at] += x[from] * pre[from / (h * wd * i) * i + from % i] * w[weight];
            });
            let tensor = |v: Vec<f64>| Tensor::from_vec(v, &p.output_shape(), Device::Cpu).unwrap();
            let check = |what: &str, fused: &Fused, expected: &[f64]| {
                let y = fused_conv2d(&c.x, &c.weight, fused, &p.geometry).unwrap();
                assert_close(
                    &format!("{what} {dtype}: {}", label(&p)),
                    &y,
                    &tensor(expected.to_vec()),
                    tolerance(&p, dtype),
                );
            };
            check("plain", &Fused::default(), &plain);
            for (at, v) in scaled.iter_mut().enumerate() {
                *v *= post[at / (oh * ow * o) * o + at % o];
            }
            check("scaled", &Fused { pre: Some(&c.pre), post: Some(&c.post), ..Fused::default() }, &scaled);
            let (noise, strength, bias) = (vec(&c.noise), vec(&c.strength)[0], vec(&c.bias));
            let activation = LeakyRelu { clamp: Some(1.5), ..LeakyRelu::STYLEGAN2 };
            for (at, v) in scaled.iter_mut().enumerate() {
                let z = *v + strength * noise[at / o % noise.len()] + bias[at % o];
                *v = (activation.gain * if z > 0.0 { z } else { activation.slope * z }).clamp(-1.5, 1.5);
            }
            let fused = Fused {
                pre: Some(&c.pre),
                post: Some(&c.post),
                noise: Some((&c.noise, &c.strength)),
                bias: Some(&c.bias),
                activation: Some(activation),
            };
            check("styled", &fused, &scaled);
        }
    }
}

#[test]
fn weight_gradient_is_the_sum_of_its_definition() {
    for p in problems() {
        for dtype in [DType::F32, DType::F64] {
            let c = Case::new(&p, dtype);
            let (x, g, pre, post) = (vec(&c.x), vec(&c.grad), vec(&c.pre), vec(&c.post));
            let ([_, h, wd, i], [_, oh, ow, o]) = (p.input_shape(), p.output_shape());
            let len = p.weight_shape().iter().product();
            let (mut plain, mut scaled) = (vec![0.0; len], vec![0.0; len]);
            products(&p, |to, from, weight| {
                plain[weight] += x[from] * g[to];
                let s = pre[from / (h * wd * i) * i + from % i] * post[to / (oh * ow * o) * o + to % o];
                scaled[weight] += x[from] * g[to] * s;
            });
            let tensor = |v: Vec<f64>| Tensor::from_vec(v, &p.weight_shape(), Device::Cpu).unwrap();
            let scales = [(None, None, plain), (Some(&c.pre), Some(&c.post), scaled)];
            for (pre, post, expected) in scales {
                let dw = conv2d_weight_grad(&c.x, &c.grad, pre, post, &p.geometry).unwrap();
                let what = format!("pre {} {dtype}: {}", pre.is_some(), label(&p));
                assert_close(&what, &dw, &tensor(expected), tolerance(&p, dtype) * 2.0);
            }
        }
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let direct = problems()[1];
    let winograd = *problems().iter().find(|p| p.in_channels == 36).unwrap();
    for p in [direct, winograd] {
        bits_do_not_depend_on_the_number_of_threads(&p);
    }
}

fn bits_do_not_depend_on_the_number_of_threads(p: &Problem) {
    let c = Case::new(p, DType::F32);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let y = fused_conv2d(&c.x, &c.weight, &Fused::default(), &p.geometry).unwrap();
            let dw = conv2d_weight_grad(&c.x, &c.grad, None, None, &p.geometry).unwrap();
            (y.to_vec().unwrap(), dw.to_vec().unwrap())
        })
    };
    assert!(run(1) == run(3));
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let t = |s: &[usize]| data("t", s, DType::F32);
    let (x, w) = (t(&[2, 5, 5, 4]), t(&[3, 3, 4, 6]));
    let bad = |e: swinstyle_tensor::Result<Tensor>, word: &str| {
        let text = e.unwrap_err().to_string();
        assert!(text.contains(word), "{text}");
    };
    bad(crate::conv2d(&x, &t(&[3, 3, 5, 6]), 1, 1), "channels");
    bad(crate::conv2d(&x, &w, 0, 1), "stride 0");
    bad(crate::conv2d(&x, &t(&[7, 7, 4, 6]), 1, 0), "kernel");
    bad(crate::conv2d(&t(&[5, 5, 4]), &w, 1, 1), "[N, H, W, I]");
    bad(crate::conv_transpose2d(&x, &w, 0), "stride 0");
    let g = crate::ConvGeometry::same([3, 3], [5, 5]);
    bad(crate::scaled_conv2d(&x, &w, Some(&t(&[2, 6])), None, &g), "pre");
    bad(crate::scaled_conv2d(&x, &w, None, Some(&t(&[1, 6])), &g), "post");
    bad(crate::noise_bias_act(&x, Some((&t(&[2, 5, 4, 1]), &t(&[1]))), None, LeakyRelu::LINEAR), "noise");
    bad(crate::noise_bias_act(&x, None, Some(&t(&[3])), LeakyRelu::LINEAR), "bias");
    bad(crate::noise_bias_act(&x, None, None, LeakyRelu { slope: -0.1, ..LeakyRelu::LINEAR }), "slope");
    let fir = t(&[4, 4]);
    let m = crate::ModulatedConv { up: 1, down: 1, demodulate: true, eps: 1e-8, weight_gain: 0.1, fir: Some(&fir) };
    let s = t(&[2, 4]);
    bad(crate::modulated_conv2d(&x, &w, &t(&[2, 5]), &m), "style");
    bad(crate::modulated_conv2d(&x, &w, &s, &crate::ModulatedConv { up: 2, down: 2, ..m }), "up 2, down 2");
    bad(crate::modulated_conv2d(&x, &w, &s, &crate::ModulatedConv { up: 2, fir: None, ..m }), "filter");
}

#[test]
fn a_filter_of_taps_resamples_like_its_outer_product() {
    use swinstyle_upfirdn2d::{separable_filter, setup_filter};
    let taps = [1.0, 3.0, 3.0, 2.0];
    let (one, whole) = (
        separable_filter(&taps, DType::F64, Device::Cpu).unwrap(),
        setup_filter(&taps, DType::F64, Device::Cpu).unwrap(),
    );
    let operand = |name: &str, shape: &[usize]| data(name, shape, DType::F64);
    let (x, style) = (operand("x", &[2, 4, 6, 3]), operand("s", &[2, 3]));
    for (up, down) in [(2, 1), (1, 2)] {
        for k in [1, 3] {
            let weight = operand("w", &[k, k, 3, 2]);
            let [a, b] = [&one, &whole].map(|fir| {
                let conv =
                    crate::ModulatedConv { up, down, demodulate: true, eps: 1e-8, weight_gain: 0.3, fir: Some(fir) };
                crate::modulated_conv2d(&x, &weight, &style, &conv).unwrap()
            });
            assert_close(&format!("up {up}, down {down}, {k} taps"), &a, &b, 1e-13);
        }
    }
}
