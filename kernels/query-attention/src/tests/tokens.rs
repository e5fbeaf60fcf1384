//! Both associations of attention to unprojected tokens: fixtures, each other in f64, finite differences to second order.

use std::collections::HashMap;

use swinstyle_kit::{
    golden::Fixture,
    testing::{assert_close, first_order_error, second_order_error, uniform, wgpu},
};
use swinstyle_tensor::{DType, Device, Result, Tensor, grad};

use crate::{
    QueryAttention, token_query_attention,
    tokens::{Sizes, absorbed, projected},
};

/// Which association.
#[derive(Debug, Clone, Copy)]
enum Form {
    Projected,
    Absorbed,
}

fn attend(form: Form, xs: &[&Tensor], bias: Option<&Tensor>, attention: &QueryAttention) -> Result<Tensor> {
    let (q, x, w, b) = (xs[0], xs[1], xs[2], xs.get(3).copied());
    match form {
        Form::Projected => projected(q, x, w, b, bias, attention),
        Form::Absorbed => {
            let sizes = Sizes::of(q, x, w, b, bias, attention)?;
            absorbed(&sizes, q, x, w, b, bias, attention.scale)
        }
    }
}

fn check_fixtures(form: Form, device: Device) {
    for f in Fixture::family("query_attention") {
        let number = |key: &str| f.params[key].as_u64().unwrap() as usize;
        let names = ["queries", "tokens", "wq", "wk", "wv", "wo", "bq", "bk", "bv", "bo", "bias"];
        let there = names.into_iter().filter(|n| f.has(&format!("in.{n}")));
        let x: HashMap<&str, Tensor> =
            there.map(|n| (n, f.tensor(&format!("in.{n}"), &[], device).as_leaf())).collect();
        let q = x["queries"].linear(&x["wq"], Some(&x["bq"])).unwrap();
        let w = Tensor::concat(&[&x["wk"], &x["wv"]], 0).unwrap();
        let b = Tensor::concat(&[&x["bk"], &x["bv"]], 0).unwrap();
        let p = QueryAttention::new(number("heads"), number("channels"));
        let y = attend(form, &[&q, &x["tokens"], &w, &b], x.get("bias"), &p).unwrap();
        let y = y.linear(&x["wo"], Some(&x["bo"])).unwrap();
        f.assert("out.y", &[], &y);
        // The gradient of bk is zero but for rounding, and exactly zero where it is absorbed.
        let (names, tensors): (Vec<&str>, Vec<&Tensor>) =
            x.iter().map(|(n, t)| (*n, t)).filter(|(n, _)| *n != "bk").unzip();
        let cot = f.tensor("cot.y", &[], device);
        for (name, g) in names.iter().zip(grad(&[(&y, Some(&cot))], &tensors, false).unwrap()) {
            f.assert(&format!("grad.{name}"), &[], &g.unwrap());
        }
    }
}

#[test]
fn fixtures_pass_in_both_forms_on_cpu_and_wgpu() {
    for form in [Form::Projected, Form::Absorbed] {
        check_fixtures(form, Device::Cpu);
    }
    check_fixtures(Form::Absorbed, wgpu());
}

/// Images, queries, tokens, heads, head_dim, channels of the tokens, own queries.
type Case = (usize, usize, usize, usize, usize, usize, bool);
const CASES: [Case; 4] =
    [(2, 3, 17, 2, 5, 7, false), (3, 4, 9, 3, 2, 6, true), (1, 1, 33, 1, 4, 4, false), (2, 5, 1, 2, 3, 5, true)];

fn inputs((b, m, n, h, d, i, own): Case) -> Vec<Tensor> {
    let c = h * d;
    let q: &[usize] = if own { &[b, m, c] } else { &[m, c] };
    let shapes: [(&str, &[usize]); 4] = [("q", q), ("x", &[b, n, i]), ("w", &[2 * c, i]), ("b", &[2 * c])];
    let make =
        |(name, shape): (&str, &[usize])| uniform(name, shape, DType::F64, Device::Cpu).unwrap().scale(1.5).unwrap();
    shapes.into_iter().map(make).collect()
}

#[test]
fn the_forms_are_the_same_function() {
    for case in CASES {
        let xs = inputs(case);
        let xs: Vec<&Tensor> = xs.iter().collect();
        let bias = uniform("bias", &[case.3, case.1, case.2], DType::F64, Device::Cpu).unwrap();
        let attention = QueryAttention::new(case.3, case.3 * case.4);
        for (xs, bias) in [(&xs[..], Some(&bias)), (&xs[..3], None)] {
            let of = |form| attend(form, xs, bias, &attention).unwrap();
            assert_close(&format!("{case:?}"), &of(Form::Absorbed), &of(Form::Projected), 1e-12);
        }
    }
}

#[test]
fn the_absorbed_form_has_gradients_to_second_order() {
    for case in CASES {
        let attention = QueryAttention::new(case.3, case.3 * case.4);
        let f = move |xs: &[Tensor]| attend(Form::Absorbed, &xs.iter().collect::<Vec<_>>(), None, &attention);
        let (first, second) =
            (first_order_error(&f, &inputs(case)).unwrap(), second_order_error(&f, &inputs(case)).unwrap());
        assert!(first < 1e-6 && second < 1e-6, "{case:?}: {first:e}, {second:e}");
    }
}

#[test]
fn few_queries_are_absorbed_and_shapes_that_do_not_fit_are_named() {
    let new = |shape: &[usize]| uniform("x", shape, DType::F32, Device::Cpu).unwrap();
    let absorbs = |m: usize, n: usize, heads: usize, c: usize| {
        let (q, x, w) = (new(&[m, c]), new(&[1, n, c]), new(&[2 * c, c]));
        Sizes::of(&q, &x, &w, None, None, &QueryAttention::new(heads, c)).unwrap().absorb()
    };
    assert!(absorbs(18, 1024, 8, 512) && absorbs(2, 64, 2, 32) && !absorbs(64, 64, 2, 32));
    let attention = QueryAttention::new(2, 8);
    let refuse = |q: &[usize], x: &[usize], w: &[usize], b: &[usize], parts: &[&str]| {
        let (q, x, w, b) = (new(q), new(x), new(w), new(b));
        let error = token_query_attention(&q, &x, &w, Some(&b), None, &attention).unwrap_err().to_string();
        assert!(parts.iter().all(|p| error.contains(p)), "{error}");
    };
    refuse(&[3, 8], &[2, 4], &[16, 4], &[16], &["tokens", "[2, 4]"]);
    refuse(&[3, 8], &[2, 5, 4], &[16, 3], &[16], &["[2, 5, 4]", "[16, 3]"]);
    refuse(&[3, 8], &[2, 5, 4], &[16, 4], &[8], &["[8]"]);
    refuse(&[3, 3, 8], &[2, 5, 4], &[16, 4], &[16], &["[3, 3, 8]", "[2, 5, 4]"]);
    refuse(&[3, 7], &[2, 5, 4], &[14, 4], &[14], &["7 channels", "2 heads"]);
}
