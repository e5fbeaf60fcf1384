//! The twin against plain loops in f64, fixtures, finite differences, and the limits of the operation.

mod matrix;
mod parts;
mod tokens;

use std::collections::HashMap;

use swinstyle_kit::{
    golden::Fixture,
    testing::{
        assert_close, assert_slice_close, distance, first_order_error, half_types_and_cuda, uniform, wgpu, worst,
    },
};
use swinstyle_tensor::{DType, Device, Result, Tensor, TensorError, grad};

use crate::{Bias, QueryAttention, WindowQueryAttention, query_attention, query_attention_kv, window_query_attention};

/// What `softmax(scale · q kᵀ + bias) v` is, with the log-sum-exp, for one query of one head.
fn attend(q: &[f64], keys: &[(&[f64], &[f64])], scale: f64, bias: impl Fn(usize) -> f64) -> (Vec<f64>, f64) {
    let dot = |k: &[f64]| q.iter().zip(k).map(|(q, k)| q * k).sum::<f64>();
    let logits: Vec<f64> = keys.iter().enumerate().map(|(j, (k, _))| dot(k) * scale + bias(j)).collect();
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let z: f64 = logits.iter().map(|s| (s - max).exp()).sum();
    let mut y = vec![0.0; keys[0].1.len()];
    for (s, (_, v)) in logits.iter().zip(keys) {
        y.iter_mut().zip(*v).for_each(|(y, v)| *y += (s - max).exp() / z * v);
    }
    (y, max + z.ln())
}

/// Whole-map shapes: images, queries, tokens, heads, head_dim, own queries, bias.
type Whole = (usize, usize, usize, usize, usize, bool, bool);
const WHOLE: [Whole; 5] = [
    (2, 18, 65, 2, 16, false, false),
    (3, 5, 33, 3, 5, true, false),
    (2, 17, 16, 2, 3, false, true),
    (2, 4, 131, 1, 40, true, true),
    (1, 1, 1, 1, 1, false, false),
];

fn whole_inputs((b, m, n, heads, d, own, bias): Whole, dtype: DType, device: Device) -> Vec<Tensor> {
    let c = heads * d;
    let make = |name: &str, shape: &[usize]| uniform(name, shape, dtype, device).unwrap().scale(2.0).unwrap();
    let q = if own { make("q", &[b, m, c]) } else { make("q", &[m, c]) };
    let mut xs = vec![q, make("k", &[b, n, c]), make("v", &[b, n, c])];
    xs.extend(bias.then(|| make("bias", &[heads, m, n])));
    xs
}

fn whole(case: Whole, xs: &[Tensor]) -> Result<(Tensor, Tensor)> {
    query_attention(&xs[0], &xs[1], &xs[2], xs.get(3), &QueryAttention::new(case.3, case.3 * case.4))
}

#[test]
fn whole_map_twin_matches_plain_loops() {
    for case in WHOLE {
        let (b, m, n, heads, d, own, _) = case;
        let c = heads * d;
        let xs = whole_inputs(case, DType::F64, Device::Cpu);
        let values: Vec<&[f64]> = xs.iter().map(|x| x.host().unwrap()).collect();
        let (mut y, mut lse) = (vec![0.0; b * m * c], vec![0.0; b * heads * m]);
        for (i, h, r) in (0..b).flat_map(|i| (0..heads).flat_map(move |h| (0..m).map(move |r| (i, h, r)))) {
            let row = |x: usize, j: usize| &values[x][(i * n + j) * c + h * d..][..d];
            let keys: Vec<_> = (0..n).map(|j| (row(1, j), row(2, j))).collect();
            let q = &values[0][(if own { i * m } else { 0 } + r) * c + h * d..][..d];
            let bias = |j: usize| values.get(3).map_or(0.0, |b| b[(h * m + r) * n + j]);
            let (out, l) = attend(q, &keys, (d as f64).powf(-0.5), bias);
            y[(i * m + r) * c + h * d..][..d].copy_from_slice(&out);
            lse[(i * heads + h) * m + r] = l;
        }
        let (got, got_lse) = whole(case, &xs).unwrap();
        assert_eq!((got.shape(), got_lse.shape()), (&[b, m, c][..], &[b, heads, m][..]));
        assert_slice_close::<f64>("y", got.host().unwrap(), &y, 1e-12);
        assert_slice_close::<f64>("lse", got_lse.host().unwrap(), &lse, 1e-12);
        let (got, got_lse) = whole(case, &whole_inputs(case, DType::F32, Device::Cpu)).unwrap();
        assert_slice_close::<f32>("y f32", got.host().unwrap(), &y, 2e-6);
        assert_slice_close::<f32>("lse f32", got_lse.host().unwrap(), &lse, 2e-6);
    }
}

/// Windowed shapes: groups (0: no group axis), batch, height, width, window, heads, head_dim, bias ('n', 'd', 't'), padding.
type Windowed = (usize, [usize; 3], [usize; 2], usize, usize, char, bool);
const WINDOWED: [Windowed; 5] = [
    (0, [2, 8, 8], [4, 4], 2, 8, 't', false),
    (2, [1, 7, 5], [4, 4], 2, 5, 't', true),
    (3, [2, 4, 6], [2, 3], 1, 16, 'd', false),
    (0, [1, 3, 11], [2, 9], 3, 4, 'd', true),
    (2, [1, 9, 9], [8, 8], 1, 3, 'n', true),
];

/// q, kv, padding, bias.
fn window_inputs((g, [b, h, w], [wh, ww], heads, d, bias, pad): Windowed, dtype: DType, device: Device) -> Vec<Tensor> {
    let (lead, c, n) = (if g == 0 { vec![] } else { vec![g] }, heads * d, wh * ww);
    let make = |name: &str, shape: &[usize]| {
        uniform(name, &[&lead, shape].concat(), dtype, device).unwrap().scale(2.0).unwrap()
    };
    let mut xs = vec![make("q", &[n, c]), make("kv", &[b, h, w, 2 * c])];
    xs.extend(pad.then(|| make("pad", &[2 * c])));
    match bias {
        'd' => xs.push(make("bias", &[heads, n, n])),
        't' => xs.push(make("table", &[(2 * wh - 1) * (2 * ww - 1), heads])),
        _ => {}
    }
    xs
}

fn windowed((_, _, window, heads, d, bias, pad): Windowed, xs: &[Tensor]) -> Result<Tensor> {
    let p = WindowQueryAttention::new(window, heads, heads * d);
    let rest = &xs[2 + usize::from(pad)..];
    let bias = match bias {
        'd' => Bias::Dense(&rest[0]),
        't' => Bias::Table(&rest[0]),
        _ => Bias::None,
    };
    window_query_attention(&xs[0], &xs[1], pad.then(|| &xs[2]), bias, &p)
}

fn naive_windows(case: Windowed) -> Vec<f64> {
    let (g, [batch, height, width], [wh, ww], heads, d, bias, pad) = case;
    let (c, n) = (heads * d, wh * ww);
    let xs = window_inputs(case, DType::F64, Device::Cpu);
    let values: Vec<&[f64]> = xs.iter().map(|x| x.host().unwrap()).collect();
    let zeros = vec![0.0; g.max(1) * 2 * c];
    let padding = if pad { values[2] } else { &zeros };
    let bias_values = if bias == 'n' { &[][..] } else { values[values.len() - 1] };
    let mut y = Vec::new();
    for (g, b, r, x) in (0..g.max(1))
        .flat_map(|g| (0..batch).map(move |b| (g, b)))
        .flat_map(|(g, b)| (0..height).flat_map(move |r| (0..width).map(move |x| (g, b, r, x))))
    {
        let query = r % wh * ww + x % ww;
        let token = |j: usize| match (r / wh * wh + j / ww, x / ww * ww + j % ww) {
            (r, x) if r < height && x < width => {
                &values[1][(((g * batch + b) * height + r) * width + x) * 2 * c..][..2 * c]
            }
            _ => &padding[g * 2 * c..][..2 * c],
        };
        for head in 0..heads {
            let keys: Vec<_> = (0..n).map(|j| (&token(j)[head * d..][..d], &token(j)[c + head * d..][..d])).collect();
            let bias = |j: usize| match bias {
                'd' => bias_values[((g * heads + head) * n + query) * n + j],
                't' => {
                    let (dy, dx) = (query / ww + wh - 1 - j / ww, query % ww + ww - 1 - j % ww);
                    bias_values[((g * (2 * wh - 1) + dy) * (2 * ww - 1) + dx) * heads + head]
                }
                _ => 0.0,
            };
            let q = &values[0][(g * n + query) * c + head * d..][..d];
            y.extend(attend(q, &keys, (d as f64).powf(-0.5), bias).0);
        }
    }
    y
}

#[test]
fn windowed_twin_matches_plain_loops() {
    for case in WINDOWED {
        let expected = naive_windows(case);
        let y = windowed(case, &window_inputs(case, DType::F64, Device::Cpu)).unwrap();
        assert_slice_close::<f64>(&format!("{case:?}"), y.host().unwrap(), &expected, 1e-12);
        let y = windowed(case, &window_inputs(case, DType::F32, Device::Cpu)).unwrap();
        assert_slice_close::<f32>(&format!("{case:?} f32"), y.host().unwrap(), &expected, 2e-6);
        let lead = if case.0 == 0 { vec![] } else { vec![case.0] };
        assert_eq!(y.shape(), [&lead, &case.1[..], &[case.3 * case.4]].concat());
    }
}

#[test]
fn gradients_match_finite_differences() {
    for case in WHOLE {
        let f = |xs: &[Tensor]| Ok(whole(case, xs)?.0);
        let error = first_order_error(&f, &whole_inputs(case, DType::F64, Device::Cpu)).unwrap();
        assert!(error < 1e-6, "{case:?}: {error:e}");
    }
    for case in WINDOWED {
        let f = |xs: &[Tensor]| windowed(case, xs);
        let error = first_order_error(&f, &window_inputs(case, DType::F64, Device::Cpu)).unwrap();
        assert!(error < 1e-6, "{case:?}: {error:e}");
    }
}

/// Values and gradients of the fixtures whose name ends with one of `names` (all, if empty).
fn check_fixtures(names: &[&str], device: Device, dtype: DType) {
    let wanted = |f: &Fixture| names.is_empty() || names.iter().any(|n| f.name.ends_with(n));
    for f in Fixture::family("query_attention").into_iter().filter(wanted).map(|f| f.stored_as(dtype)) {
        let number = |key: &str| f.params[key].as_u64().unwrap() as usize;
        let all = ["queries", "tokens", "wq", "wk", "wv", "wo", "bq", "bk", "bv", "bo", "bias"];
        let x: HashMap<&str, Tensor> = all
            .into_iter()
            .filter(|n| f.has(&format!("in.{n}")))
            .map(|n| (n, f.tensor(&format!("in.{n}"), &[], device).as_leaf()))
            .collect();
        let q = x["queries"].linear(&x["wq"], Some(&x["bq"])).unwrap();
        let k = x["tokens"].linear(&x["wk"], Some(&x["bk"])).unwrap();
        let v = x["tokens"].linear(&x["wv"], Some(&x["bv"])).unwrap();
        let p = QueryAttention::new(number("heads"), number("channels"));
        let (y, lse) = query_attention(&q, &k, &v, x.get("bias"), &p).unwrap();
        let y = y.linear(&x["wo"], Some(&x["bo"])).unwrap();
        f.assert("out.y", &[], &y);
        f.assert("out.lse", &[], &lse);
        assert!(!lse.is_tracked());
        let (names, tensors): (Vec<&str>, Vec<&Tensor>) = x.iter().map(|(n, t)| (*n, t)).unzip();
        let cot = f.tensor("cot.y", &[], device);
        for (name, g) in names.iter().zip(grad(&[(&y, Some(&cot))], &tensors, false).unwrap()) {
            let g = g.unwrap();
            if *name == "bk" {
                // A constant added to all keys changes no probability: the gradient is zero but for rounding.
                let scale = f.tensor("grad.wk", &[], Device::Cpu).to_vec_f64().unwrap();
                let scale = scale.iter().fold(1.0_f64, |m, v| m.max(v.abs()));
                let (d, _) = worst(&g.to_vec_f64().unwrap(), &vec![0.0; g.len()]);
                println!("{}: grad.bk {d:e} of {scale:e}", f.name);
                let rounding = match dtype {
                    DType::F16 => 1e-3,
                    DType::BF16 => 1e-2,
                    _ => 1e-6,
                };
                assert!(d <= rounding * scale, "{}: grad.bk {d:e}", f.name);
            } else if dtype == DType::BF16 {
                // Rounded after each of three products, forwards and backwards: 1.1 % were seen.
                let expected = f.tensor(&format!("grad.{name}"), &[], Device::Cpu).to_vec_f64().unwrap();
                let error = distance(&g.to_vec_f64().unwrap(), &expected);
                assert!(error < 2e-2, "{} grad.{name} on {device}: {error:e}", f.name);
            } else {
                f.assert(&format!("grad.{name}"), &[], &g);
            }
        }
    }
}

#[test]
fn fixtures_pass_on_cpu() {
    check_fixtures(&[], Device::Cpu, DType::F32);
}

#[test]
fn groups_are_independent_attentions() {
    let case = WINDOWED[1];
    let xs = window_inputs(case, DType::F32, Device::Cpu);
    let together = windowed(case, &xs).unwrap();
    for g in 0..case.0 {
        let own: Vec<Tensor> = xs.iter().map(|x| x.slice(0, g, 1).unwrap().reshape(&x.shape()[1..]).unwrap()).collect();
        let alone = windowed(case, &own).unwrap();
        let part = together.slice(0, g, 1).unwrap().reshape(alone.shape()).unwrap();
        assert_eq!(alone.to_vec().unwrap(), part.to_vec().unwrap());
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    // Enough windows for several of them in a run of partial sums.
    let case: Windowed = (2, [3, 30, 31], [4, 4], 2, 8, 't', true);
    let all = |threads: usize| -> Vec<Vec<f32>> {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
            let xs: Vec<Tensor> = window_inputs(case, DType::F32, Device::Cpu).iter().map(Tensor::as_leaf).collect();
            let y = windowed(case, &xs).unwrap();
            let refs: Vec<&Tensor> = xs.iter().collect();
            let grads = grad(&[(&y.square().unwrap(), None)], &refs, false).unwrap();
            grads.into_iter().map(|g| g.unwrap().to_vec().unwrap()).chain([y.to_vec().unwrap()]).collect()
        })
    };
    assert_eq!(all(1), all(3));
}

#[test]
fn a_second_derivative_is_a_clear_error() {
    let case = WHOLE[2];
    let xs: Vec<Tensor> = whole_inputs(case, DType::F64, Device::Cpu).iter().map(Tensor::as_leaf).collect();
    let refs: Vec<&Tensor> = xs.iter().collect();
    let y = whole(case, &xs).unwrap().0;
    for g in grad(&[(&y, None)], &refs, true).unwrap() {
        let error = grad(&[(&g.unwrap().square().unwrap(), None)], &refs, false).unwrap_err();
        assert_eq!(error, TensorError::NotDifferentiable { op: "query_attention", order: "second" });
    }
}

#[test]
fn bad_shapes_are_errors_that_name_them() {
    let t = |shape: &[usize]| Tensor::full(0.5, shape, DType::F32, Device::Cpu).unwrap();
    let fails = |message: String, word: &str| {
        assert!(message.starts_with("query_attention: ") && message.contains(word), "{message}");
    };
    let p = QueryAttention::new(2, 8);
    let (q, kv) = (t(&[3, 8]), t(&[2, 5, 16]));
    let whole = |q: &Tensor, kv: &Tensor, bias: Option<&Tensor>, p: &QueryAttention| {
        query_attention_kv(q, kv, bias, p).map(|_| ()).unwrap_err().to_string()
    };
    fails(whole(&t(&[8]), &kv, None, &p), "[8]");
    fails(whole(&t(&[3, 3, 8]), &kv, None, &p), "[3, 3, 8]");
    fails(whole(&q, &t(&[2, 5, 15]), None, &p), "15");
    fails(whole(&q, &t(&[5, 16]), None, &p), "[5, 16]");
    fails(whole(&q, &t(&[2, 0, 16]), None, &p), "token");
    fails(whole(&q, &kv, Some(&t(&[2, 3, 4])), &p), "[2, 3, 4]");
    fails(whole(&q, &kv, None, &QueryAttention { heads: 3, ..p }), "3 heads");
    fails(whole(&q, &kv, None, &QueryAttention { heads: 0, ..p }), "0 heads");
    fails(whole(&q, &kv, None, &QueryAttention { scale: f64::INFINITY, ..p }), "scale");
    fails(query_attention(&q, &t(&[2, 5, 8]), &t(&[2, 4, 8]), None, &p).unwrap_err().to_string(), "[2, 4, 8]");

    let p = WindowQueryAttention::new([2, 2], 2, 8);
    let (q, kv) = (t(&[4, 8]), t(&[1, 4, 4, 16]));
    let windowed = |q: &Tensor, kv: &Tensor, pad: Option<&Tensor>, bias: Bias, p: &WindowQueryAttention| {
        window_query_attention(q, kv, pad, bias, p).unwrap_err().to_string()
    };
    fails(windowed(&t(&[5, 8]), &kv, None, Bias::None, &p), "[5, 8]");
    fails(windowed(&t(&[2, 4, 8]), &kv, None, Bias::None, &p), "[2, 4, 8]");
    fails(windowed(&q, &t(&[4, 4, 16]), None, Bias::None, &p), "[4, 4, 16]");
    fails(windowed(&q, &kv, Some(&t(&[8])), Bias::None, &p), "pad_kv");
    fails(windowed(&q, &kv, None, Bias::Table(&t(&[9, 3])), &p), "[9, 3]");
    fails(windowed(&q, &kv, None, Bias::Dense(&t(&[2, 4, 5])), &p), "[2, 4, 5]");
    fails(windowed(&q, &kv, None, Bias::None, &WindowQueryAttention { window: [0, 2], ..p }), "window");
    fails(windowed(&q, &kv, None, Bias::None, &WindowQueryAttention { window: [usize::MAX, 2], ..p }), "window");
}

#[test]
fn empty_batches_and_no_queries_give_empty_results() {
    let t = |shape: &[usize]| Tensor::full(0.5, shape, DType::F32, Device::Cpu).unwrap().as_leaf();
    let p = QueryAttention::new(2, 8);
    for (m, b) in [(3, 0), (0, 2)] {
        let (q, kv) = (t(&[m, 8]), t(&[b, 5, 16]));
        let (y, lse) = query_attention_kv(&q, &kv, None, &p).unwrap();
        assert_eq!((y.shape(), lse.shape()), (&[b, m, 8][..], &[b, 2, m][..]));
        let grads = grad(&[(&y, None)], &[&q, &kv], false).unwrap();
        for (g, x) in grads.into_iter().zip([&q, &kv]) {
            let g = g.unwrap();
            assert_eq!(g.shape(), x.shape());
            assert!(g.to_vec().unwrap().iter().all(|&v| v == 0.0));
        }
    }
}

/// Asserts that result and gradients on wgpu agree with the twin's.
fn compare(what: &str, inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let [on_cpu, on_wgpu] = [Device::Cpu, wgpu()].map(|device| {
        let xs: Vec<Tensor> = inputs.iter().map(|x| x.to_device(device).unwrap().as_leaf()).collect();
        let refs: Vec<&Tensor> = xs.iter().collect();
        let y = f(&xs).unwrap();
        let cot = uniform("cotangent", y.shape(), DType::F32, device).unwrap();
        let mut out = grad(&[(&y, Some(&cot))], &refs, false).unwrap();
        out.push(Some(y));
        out
    });
    for (i, (a, b)) in on_wgpu.into_iter().zip(on_cpu).enumerate() {
        assert_close(&format!("{what} {i}"), &a.unwrap(), &b.unwrap(), 3e-6);
    }
}

#[test]
fn cube_kernels_match_the_twin_on_wgpu() {
    // Tiles in several turns, queries of each image, dense biases, a head whose tokens are gathered in two passes.
    for case in [WHOLE[3], (2, 70, 5, 1, 52, false, true)] {
        // The tensor crate tests concatenation: here it happens before the devices part.
        let mut xs = whole_inputs(case, DType::F32, Device::Cpu);
        let v = xs.remove(2);
        xs[1] = Tensor::concat(&[&xs[1], &v], 2).unwrap();
        let p = QueryAttention::new(case.3, case.3 * case.4);
        compare(&format!("{case:?}"), &xs, |xs| Ok(query_attention_kv(&xs[0], &xs[1], xs.get(2), &p)?.0));
    }
    // Groups, padding, tables; a run of several windows.
    let several: Windowed = (0, [2, 12, 24], [2, 2], 2, 4, 't', false);
    for case in [WINDOWED[1], WINDOWED[3], several] {
        compare(&format!("{case:?}"), &window_inputs(case, DType::F32, Device::Cpu), |xs| windowed(case, xs));
    }
}

#[test]
fn fixtures_pass_on_wgpu() {
    check_fixtures(&["m17_n65_c32_h2_tails", "m10_n16_c32_h2_bias", "m1_n1_c8_h1"], wgpu(), DType::F32);
}

#[test]
fn fixtures_pass_in_half_types_and_on_emulated_cuda() {
    let names = ["m10_n16_c32_h2_bias", "m17_n65_c32_h2_tails", "m18_n256_c32_h1_long"];
    for (device, dtype) in half_types_and_cuda() {
        check_fixtures(&names[..if dtype == DType::BF16 { 1 } else { 3 }], device, dtype);
    }
}
