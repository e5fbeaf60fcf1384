//! What the tape records, keeps and forgets, whatever the operations.

use swinstyle_tensor::{grad, no_grad};

use crate::gradients::{random, tensor};

#[test]
fn an_input_that_nothing_depends_on_has_no_gradient() {
    let (x, unused) = (random("x", &[3]).as_leaf(), random("u", &[3]).as_leaf());
    let y = x.square().unwrap();
    let grads = grad(&[(&y, None)], &[&unused, &x], false).unwrap();
    assert!(grads[0].is_none());
    assert!(grads[1].is_some());
    let cut = grad(&[(&x.detach().square().unwrap(), None)], &[&x], false).unwrap();
    assert!(cut[0].is_none());
}

#[test]
fn gradients_reach_intermediate_results_and_the_output_itself() {
    let x = tensor(&[3.0], &[1]).as_leaf();
    let middle = x.square().unwrap();
    let y = middle.square().unwrap();
    let values: Vec<f64> = grad(&[(&y, None)], &[&x, &middle, &y], false)
        .unwrap()
        .into_iter()
        .map(|g| g.unwrap().item().unwrap())
        .collect();
    assert_eq!(values, [108.0, 18.0, 1.0]);
}

#[test]
fn several_outputs_add_up_with_their_cotangents() {
    let x = tensor(&[1.0, 2.0], &[2]).as_leaf();
    let (a, b) = (x.scale(3.0).unwrap(), x.square().unwrap());
    let c = tensor(&[1.0, 10.0], &[2]);
    let g = grad(&[(&a, Some(&c)), (&b, None)], &[&x], false).unwrap();
    assert_eq!(g[0].as_ref().unwrap().to_vec_f64().unwrap(), [5.0, 34.0]);
}

#[test]
fn gradients_without_create_graph_are_untracked() {
    let x = random("x", &[3]).as_leaf();
    let y = x.square().unwrap().add(&x).unwrap();
    let tracked_cotangent = random("c", &[3]).as_leaf();
    for cotangent in [None, Some(&tracked_cotangent)] {
        let plain = grad(&[(&y, cotangent), (&x, cotangent)], &[&x, &y], false).unwrap();
        assert!(plain.iter().all(|g| !g.as_ref().unwrap().is_tracked()));
    }
    let graph = grad(&[(&y, None)], &[&x], true).unwrap();
    assert!(graph[0].as_ref().unwrap().is_tracked());
}

#[test]
fn nothing_is_recorded_under_no_grad_and_recording_returns_after_it() {
    let x = random("x", &[3]).as_leaf();
    let hidden = no_grad(|| x.square()).unwrap();
    assert!(!hidden.is_tracked());
    assert!(x.square().unwrap().is_tracked());
    let after_panic = std::panic::catch_unwind(|| no_grad(|| std::panic::resume_unwind(Box::new(()))));
    assert!(after_panic.is_err());
    assert!(x.square().unwrap().is_tracked());
}

#[test]
fn third_derivatives_exist() {
    let x = tensor(&[2.0], &[1]).as_leaf();
    let mut y = x.square().unwrap().square().unwrap();
    for expected in [32.0, 48.0, 48.0, 24.0] {
        y = grad(&[(&y, None)], &[&x], true).unwrap().remove(0).unwrap();
        assert_eq!(y.item().unwrap(), expected);
    }
}

#[test]
fn shared_subexpressions_are_visited_once() {
    let x = tensor(&[1.0], &[1]).as_leaf();
    let mut y = x.clone();
    for _ in 0..60 {
        y = y.add(&y).unwrap();
    }
    // Path by path this would take 2⁶⁰ steps.
    let g = grad(&[(&y, None)], &[&x], false).unwrap().remove(0).unwrap();
    assert_eq!(g.item().unwrap(), 2.0_f64.powi(60));
}

#[test]
fn long_chains_do_not_overflow_a_small_stack() {
    let chain = || {
        let x = tensor(&[1.0], &[1]).as_leaf();
        let mut y = x.clone();
        for _ in 0..10_000 {
            y = y.add(&x).unwrap();
        }
        let first = grad(&[(&y.square().unwrap(), None)], &[&x], true).unwrap().remove(0).unwrap();
        assert_eq!(first.item().unwrap(), 2.0 * 10_001.0 * 10_001.0);
        let second = grad(&[(&first, None)], &[&x], false).unwrap().remove(0).unwrap();
        assert_eq!(second.item().unwrap(), 2.0 * 10_001.0 * 10_001.0);
        // Dropping the tape must not recurse either.
        drop((y, first));
    };
    std::thread::Builder::new().stack_size(2 << 20).spawn(chain).unwrap().join().unwrap();
}
