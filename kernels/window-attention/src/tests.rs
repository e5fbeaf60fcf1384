//! The twin against plain loops in f64, fixtures, finite differences, and the limits of the operation.

mod matrix;

use std::collections::HashMap;

use swinstyle_kit::{
    golden::Fixture,
    testing::{assert_close, first_order_error, half_types_and_cuda, uniform, wgpu},
};
use swinstyle_tensor::{DType, Device, Result, Tensor, TensorError, grad};

use crate::{Problem, WindowAttention, problem::Partials, shifted_window_attention, window_attention};

/// Odd shapes: (batch, height, width), heads, head_dim, window, shift.
type Case = ([usize; 3], usize, usize, [usize; 2], [usize; 2]);
const CASES: [Case; 7] = [
    ([2, 8, 8], 2, 8, [4, 4], [2, 2]),
    ([2, 10, 7], 1, 5, [4, 4], [2, 1]),
    ([1, 9, 12], 3, 32, [7, 7], [3, 3]),
    ([1, 6, 16], 2, 17, [3, 8], [1, 4]),
    ([2, 2, 2], 2, 3, [7, 7], [3, 3]),
    ([1, 5, 1], 1, 1, [1, 1], [0, 0]),
    ([1, 3, 11], 2, 4, [2, 9], [0, 3]),
];

fn parameters((_, heads, head_dim, window, shift): Case) -> WindowAttention {
    WindowAttention::new(window, shift, heads, heads * head_dim)
}

/// qkv, table and padded token of a case.
fn inputs(case: Case, dtype: DType, device: Device) -> [Tensor; 3] {
    let ([b, h, w], heads, head_dim, window, _) = case;
    let c = heads * head_dim;
    let make = |name: &str, shape: &[usize]| uniform(name, shape, dtype, device).unwrap().scale(2.0).unwrap();
    let table = (2 * window[0] - 1) * (2 * window[1] - 1);
    [make("qkv", &[b, h, w, 3 * c]), make("table", &[table, heads]), make("pad", &[3 * c])]
}

/// The definition, token by token in the padded and shifted frame.
fn naive(case: Case, qkv: &[f64], table: &[f64], pad: &[f64]) -> Vec<f64> {
    let ([batch, height, width], heads, d, [wh, ww], shift) = case;
    let c = heads * d;
    let (ph, pw) = (height.div_ceil(wh) * wh, width.div_ceil(ww) * ww);
    let (sh, sw) = (if ph == wh { 0 } else { shift[0] }, if pw == ww { 0 } else { shift[1] });
    let slice = |p: usize, n: usize, w: usize, s: usize| match s {
        0 => 0,
        _ if p < n - w => 0,
        _ if p < n - s => 1,
        _ => 2,
    };
    let mut y = vec![0.0; batch * height * width * c];
    for (b, ay, ax) in (0..batch).flat_map(|b| (0..ph).flat_map(move |y| (0..pw).map(move |x| (b, y, x)))) {
        let place = |ty: usize, tx: usize| ((ty + sh) % ph, (tx + sw) % pw);
        let token = |ty: usize, tx: usize| match place(ty, tx) {
            (y, x) if y < height && x < width => &qkv[((b * height + y) * width + x) * 3 * c..][..3 * c],
            _ => pad,
        };
        let (y0, x0) = place(ay, ax);
        if y0 >= height || x0 >= width {
            continue;
        }
        let keys: Vec<(usize, usize)> =
            (0..wh).flat_map(|i| (0..ww).map(move |j| (ay / wh * wh + i, ax / ww * ww + j))).collect();
        for head in 0..heads {
            let q = &token(ay, ax)[head * d..][..d];
            let logits: Vec<f64> = keys
                .iter()
                .map(|&(ky, kx)| {
                    let k = &token(ky, kx)[c + head * d..][..d];
                    let dot: f64 = q.iter().zip(k).map(|(q, k)| q * k).sum();
                    let bias = table[((ay + wh - 1 - ky) * (2 * ww - 1) + ax + ww - 1 - kx) * heads + head];
                    let same = slice(ay, ph, wh, sh) == slice(ky, ph, wh, sh)
                        && slice(ax, pw, ww, sw) == slice(kx, pw, ww, sw);
                    dot * (d as f64).powf(-0.5) + bias + if same { 0.0 } else { -100.0 }
                })
                .collect();
            let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let z: f64 = logits.iter().map(|s| (s - max).exp()).sum();
            for (s, &(ky, kx)) in logits.iter().zip(&keys) {
                let v = &token(ky, kx)[2 * c + head * d..][..d];
                let out = &mut y[((b * height + y0) * width + x0) * c + head * d..][..d];
                out.iter_mut().zip(v).for_each(|(o, v)| *o += (s - max).exp() / z * v);
            }
        }
    }
    y
}

#[test]
fn twin_matches_plain_loops_over_odd_shapes() {
    for case in CASES {
        let [qkv, table, pad] = inputs(case, DType::F64, Device::Cpu);
        let expected = naive(case, qkv.host().unwrap(), table.host().unwrap(), pad.host().unwrap());
        let shape = [&case.0[..], &[case.1 * case.2]].concat();
        let expected = Tensor::from_vec(expected, &shape, Device::Cpu).unwrap();
        let y = window_attention(&qkv, Some(&pad), &table, &parameters(case)).unwrap();
        assert_close(&format!("{case:?} f64"), &y, &expected, 1e-12);
        let [qkv, table, pad] = inputs(case, DType::F32, Device::Cpu);
        let y = window_attention(&qkv, Some(&pad), &table, &parameters(case)).unwrap();
        assert_close(&format!("{case:?} f32"), &y, &expected, 2e-6);
    }
}

#[test]
fn gradients_match_finite_differences() {
    for case in CASES {
        let p = parameters(case);
        let f = |xs: &[Tensor]| window_attention(&xs[0], Some(&xs[2]), &xs[1], &p);
        let error = first_order_error(&f, &inputs(case, DType::F64, Device::Cpu)).unwrap();
        assert!(error < 1e-6, "{case:?}: {error:e}");
    }
}

/// Values and gradients of every fixture.
fn check_fixtures(names: &[&str], device: Device, dtype: DType) {
    let wanted = |f: &Fixture| names.is_empty() || names.iter().any(|n| f.name.ends_with(n));
    for f in Fixture::family("window_attention").into_iter().filter(wanted).map(|f| f.stored_as(dtype)) {
        let pair = |key: &str| [0, 1].map(|i| f.params[key][i].as_u64().unwrap() as usize);
        let (heads, channels) = (f.params["heads"].as_u64().unwrap(), f.params["channels"].as_u64().unwrap());
        let p = WindowAttention::new(pair("window"), pair("shift"), heads as usize, channels as usize);
        let wanted = ["x", "qkv_w", "proj_w", "rel_bias_table", "qkv_b", "proj_b"];
        let leaves: HashMap<&str, Tensor> = wanted
            .into_iter()
            .filter(|n| f.has(&format!("in.{n}")))
            .map(|n| (n, f.tensor(&format!("in.{n}"), &[], device).as_leaf()))
            .collect();
        let get = |n: &str| leaves.get(n);
        let y = shifted_window_attention(
            &leaves["x"],
            &leaves["qkv_w"],
            get("qkv_b"),
            &leaves["proj_w"],
            get("proj_b"),
            &leaves["rel_bias_table"],
            &p,
        )
        .unwrap();
        f.assert("out.y", &[], &y);
        let (names, tensors): (Vec<&str>, Vec<&Tensor>) = leaves.iter().map(|(n, t)| (*n, t)).unzip();
        let cot = f.tensor("cot.y", &[], device);
        for (name, g) in names.iter().zip(grad(&[(&y, Some(&cot))], &tensors, false).unwrap()) {
            f.assert(&format!("grad.{name}"), &[], &g.unwrap());
        }
    }
}

#[test]
fn fixtures_pass_on_cpu() {
    check_fixtures(&[], Device::Cpu, DType::F32);
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    // Enough windows for several of them in a run of partial sums.
    let case: Case = ([3, 30, 31], 2, 8, [4, 4], [2, 2]);
    let all = |threads: usize| -> Vec<Vec<f32>> {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
            let xs = inputs(case, DType::F32, Device::Cpu).map(|x| x.as_leaf());
            let y = window_attention(&xs[0], Some(&xs[2]), &xs[1], &parameters(case)).unwrap();
            let grads = grad(&[(&y.square().unwrap(), None)], &[&xs[0], &xs[1], &xs[2]], false).unwrap();
            grads.into_iter().map(|g| g.unwrap().to_vec().unwrap()).chain([y.to_vec().unwrap()]).collect()
        })
    };
    assert_eq!(all(1), all(3));
}

#[test]
fn large_logits_neither_overflow_nor_lose_the_sum() {
    let case: Case = ([1, 4, 4], 1, 4, [4, 4], [0, 0]);
    let [qkv, table, pad] = inputs(case, DType::F32, Device::Cpu);
    let y = window_attention(&qkv.scale(300.0).unwrap(), Some(&pad), &table, &parameters(case)).unwrap();
    let [qkv, table, pad] = inputs(case, DType::F64, Device::Cpu);
    let expected = window_attention(&qkv.scale(300.0).unwrap(), Some(&pad), &table, &parameters(case)).unwrap();
    assert_close("large logits", &y, &expected, 1e-3);
}

#[test]
fn a_second_derivative_is_a_clear_error() {
    let case = CASES[1];
    let xs = inputs(case, DType::F64, Device::Cpu).map(|x| x.as_leaf());
    let refs = [&xs[0], &xs[1], &xs[2]];
    let y = window_attention(&xs[0], Some(&xs[2]), &xs[1], &parameters(case)).unwrap();
    for g in grad(&[(&y, None)], &refs, true).unwrap() {
        let error = grad(&[(&g.unwrap().square().unwrap(), None)], &refs, false).unwrap_err();
        assert_eq!(error, TensorError::NotDifferentiable { op: "window_attention", order: "second" });
    }
}

#[test]
fn padding_has_no_gradient_where_there_is_none() {
    let case: Case = ([1, 8, 4], 1, 4, [4, 4], [2, 2]);
    let xs = inputs(case, DType::F64, Device::Cpu).map(|x| x.as_leaf());
    let y = window_attention(&xs[0], Some(&xs[2]), &xs[1], &parameters(case)).unwrap();
    assert!(grad(&[(&y, None)], &[&xs[2]], false).unwrap()[0].is_none());
}

#[test]
fn bad_shapes_are_errors_that_name_them() {
    let t = |shape: &[usize]| Tensor::full(0.5, shape, DType::F32, Device::Cpu).unwrap();
    let p = WindowAttention::new([4, 4], [2, 2], 2, 8);
    let fails = |r: Result<Tensor>, word: &str| {
        let message = r.unwrap_err().to_string();
        assert!(message.starts_with("window_attention: ") && message.contains(word), "{message}");
    };
    let (qkv, table) = (t(&[1, 8, 8, 24]), t(&[49, 2]));
    fails(window_attention(&t(&[8, 8, 24]), None, &table, &p), "[8, 8, 24]");
    fails(window_attention(&t(&[1, 8, 8, 25]), None, &table, &p), "25");
    fails(window_attention(&qkv, None, &t(&[49, 3]), &p), "[49, 3]");
    fails(window_attention(&qkv, Some(&t(&[8])), &table, &p), "pad_qkv");
    fails(window_attention(&qkv, None, &table, &WindowAttention { heads: 0, ..p }), "heads");
    fails(window_attention(&qkv, None, &table, &WindowAttention { heads: usize::MAX, ..p }), "heads");
    fails(window_attention(&qkv, None, &table, &WindowAttention { shift: [4, 0], ..p }), "shift");
    fails(window_attention(&qkv, None, &table, &WindowAttention { window: [0, 4], ..p }), "window");
    fails(window_attention(&qkv, None, &table, &WindowAttention { window: [1 << 20, 1 << 20], ..p }), "window");
    fails(window_attention(&qkv, None, &table, &WindowAttention { window: [usize::MAX, 4], ..p }), "window");
    fails(window_attention(&qkv, None, &table, &WindowAttention { scale: f64::NAN, ..p }), "scale");
}

#[test]
fn an_empty_batch_gives_an_empty_result() {
    let p = WindowAttention::new([4, 4], [2, 2], 2, 8);
    let t = |shape: &[usize]| Tensor::full(0.5, shape, DType::F32, Device::Cpu).unwrap().as_leaf();
    let (qkv, table) = (t(&[0, 8, 8, 24]), t(&[49, 2]));
    let y = window_attention(&qkv, None, &table, &p).unwrap();
    assert_eq!(y.shape(), [0, 8, 8, 8]);
    let g = grad(&[(&y, None)], &[&table], false).unwrap().remove(0).unwrap();
    assert!(g.to_vec().unwrap().iter().all(|&v| v == 0.0));
}

/// Values and gradients on wgpu against the twin.
#[test]
fn cube_kernels_match_the_twin_on_wgpu() {
    // Vectors of 4, 2 and 1; small windows that share a cube; more runs than on the cpu, of several windows; keys in more than one
    // tile; a head whose tokens are gathered in two passes.
    let several: Case = ([2, 10, 36], 1, 8, [2, 2], [1, 1]);
    let runs = |device| {
        let [qkv, table, _] = inputs(several, DType::F32, Device::Cpu);
        let problem = Problem::new(qkv.shape(), None, table.shape(), &parameters(several)).unwrap();
        Partials::new(&problem, true, false, device).chunks
    };
    assert_eq!((runs(Device::Cpu).count, runs(wgpu()).count, runs(wgpu()).length), (60, 90, 2));
    for case in [CASES[0], CASES[1], ([1, 8, 9], 1, 50, [8, 8], [4, 4]), several] {
        let [on_cpu, on_wgpu] = [Device::Cpu, wgpu()].map(|device| {
            let xs = inputs(case, DType::F32, Device::Cpu).map(|x| x.to_device(device).unwrap().as_leaf());
            let y = window_attention(&xs[0], Some(&xs[2]), &xs[1], &parameters(case)).unwrap();
            let cot = uniform("cotangent", y.shape(), DType::F32, device).unwrap();
            let mut out = grad(&[(&y, Some(&cot))], &[&xs[0], &xs[1], &xs[2]], false).unwrap();
            out.push(Some(y));
            out
        });
        for (name, (a, b)) in ["qkv", "table", "pad", "y"].into_iter().zip(on_wgpu.into_iter().zip(on_cpu)) {
            match (a, b) {
                (Some(a), Some(b)) => assert_close(&format!("{case:?} {name}"), &a, &b, 3e-6),
                (a, b) => assert!(a.is_none() && b.is_none()),
            }
        }
    }
}

#[test]
fn fixtures_pass_on_wgpu() {
    check_fixtures(&["w4_s2_h1_pad10x7", "w4_s2_h2_nobias", "w4x8_s2x4_h2_rect"], wgpu(), DType::F32);
}

#[test]
fn fixtures_pass_in_half_types_and_on_emulated_cuda() {
    for (device, dtype) in half_types_and_cuda() {
        check_fixtures(&["w4_s2_h1_pad10x7", "w4_s2_h2_nobias", "w4x8_s2x4_h2_rect", "w7_s3_h3_d32"], device, dtype);
    }
}
