//! Long runs of tokens in parts against the whole.

use swinstyle_kit::testing::{assert_close, uniform, wgpu};
use swinstyle_tensor::{DType, Device, Tensor, grad};

use crate::{BiasKind, Layout, Problem, QueryAttention, launch::parts::split, query_attention_kv};

fn problem(sets: usize, tokens: usize, heads: usize, own_queries: bool) -> Problem {
    let layout = Layout::Run { sets, queries: 5, tokens };
    Problem { groups: 1, layout, heads, head_dim: 8, scale: 1.0, bias: BiasKind::None, own_queries }
}

#[test]
fn runs_are_cut_into_equal_parts_until_a_device_is_busy() {
    let parts = |p: Problem| split(&p, DType::F32).map_or(1, |(_, parts)| parts);
    for (p, expected) in [
        (problem(1, 1024, 8, false), 16),
        (problem(16, 1024, 8, false), 2),
        (problem(64, 1024, 8, false), 1),
        (problem(1, 192, 2, false), 2),
        (problem(1, 127, 2, false), 1),
        (problem(1, 256, 2, true), 4),
        (problem(2, 256, 2, true), 1),
        (Problem { bias: BiasKind::Dense, ..problem(1, 1024, 8, false) }, 1),
    ] {
        assert_eq!(parts(p), expected, "{p:?}");
    }
    assert!(split(&problem(1, 1024, 8, false), DType::BF16).is_none());
}

#[test]
fn parts_joined_by_their_log_sum_exps_are_the_whole() {
    // Logits so large that only a shared maximum keeps them finite, and parts that hardly count.
    for (sets, tokens, heads, channels, own) in [(1, 256, 2, 16, true), (3, 192, 1, 5, false)] {
        let on = |device: Device| -> Vec<Tensor> {
            let make = |name: &str, shape: &[usize], scale: f64| {
                let x = uniform(name, shape, DType::F32, Device::Cpu).unwrap().scale(scale).unwrap();
                x.to_device(device).unwrap().as_leaf()
            };
            let q = if own { make("q", &[sets, 7, channels], 30.0) } else { make("q", &[7, channels], 30.0) };
            let kv = make("kv", &[sets, tokens, 2 * channels], 3.0);
            let (y, lse) = query_attention_kv(&q, &kv, None, &QueryAttention::new(heads, channels)).unwrap();
            let g = make("g", y.shape(), 1.0);
            let grads = grad(&[(&y, Some(&g))], &[&q, &kv], false).unwrap();
            [vec![y, lse], grads.into_iter().flatten().collect()].concat()
        };
        let p = problem(sets, tokens, heads, own);
        assert!(split(&p, DType::F32).is_some());
        for (i, (actual, expected)) in on(wgpu()).iter().zip(on(Device::Cpu)).enumerate() {
            assert_close(&format!("{i} of {p:?}"), &actual.to_device(Device::Cpu).unwrap(), &expected, 2e-5);
        }
    }
}
