//! What `case()` of `make_golden.py` computes, with our operations: values, gradients, and gradients of gradients.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow, bail};
use swinstyle_models::{Layout, Params, Spec};
use swinstyle_tensor::{Tensor, grad};

use super::{Fixture, Results};

/// A named value and how the file lays it out.
pub(super) struct Named {
    pub(super) name: String,
    pub(super) value: Tensor,
    pub(super) layout: Layout,
}

impl Named {
    pub(super) fn new(name: impl Into<String>, value: Tensor, layout: Layout) -> Self {
        Self { name: name.into(), value, layout }
    }
}

/// The inputs of a case by name; those that the file holds gradients of are leaves of the tape.
pub(super) struct Inputs(BTreeMap<String, (Tensor, Layout)>);

impl Inputs {
    /// Every `in.*` of the file, in the layout that `layout` names.
    pub(super) fn read(f: &Fixture, layout: impl Fn(&str) -> Layout) -> Result<Self> {
        let mut inputs = Self(BTreeMap::new());
        for name in f.under("in.") {
            inputs.insert(f, name, f.tensor(&format!("in.{name}"), layout(name))?, layout(name));
        }
        Ok(inputs)
    }

    /// The parameters of a network, `in.p.*`, and the other inputs as they are named.
    pub(super) fn of_network(f: &Fixture, specs: &[Spec], others: &[(&str, Layout)]) -> Result<Self> {
        let mut inputs = Self(BTreeMap::new());
        let params = f.parameters(specs)?;
        for spec in specs {
            inputs.insert(f, &format!("p.{}", spec.name), params.get(&spec.name)?.clone(), spec.layout);
        }
        for &(name, layout) in others {
            inputs.insert(f, name, f.tensor(&format!("in.{name}"), layout)?, layout);
        }
        Ok(inputs)
    }

    fn insert(&mut self, f: &Fixture, name: &str, value: Tensor, layout: Layout) {
        let value = if f.has(&format!("grad.{name}")) { value.as_leaf() } else { value };
        self.0.insert(name.to_string(), (value, layout));
    }

    /// An input. Errors: the file does not hold it.
    pub(super) fn get(&self, name: &str) -> Result<&Tensor> {
        self.find(name).ok_or_else(|| anyhow!("the file holds no `in.{name}`"))
    }

    /// An input, if the file holds it.
    pub(super) fn find(&self, name: &str) -> Option<&Tensor> {
        self.0.get(name).map(|(value, _)| value)
    }

    /// The parameters of the network.
    pub(super) fn params(&self) -> Params {
        let named = self.0.iter().filter_map(|(name, (v, _))| Some((name.strip_prefix("p.")?.to_string(), v.clone())));
        named.collect()
    }

    fn leaves(&self, f: &Fixture) -> Vec<Named> {
        let leaf = self.0.iter().filter(|(name, _)| f.has(&format!("grad.{name}")));
        leaf.map(|(name, (value, layout))| Named::new(name, value.clone(), *layout)).collect()
    }
}

/// Runs a case.
///
/// The loss is `Σ ⟨out, cot⟩` over the outputs that have a cotangent; `grad.X` is its gradient. Where the file holds
/// directions `v.X`, `S = Σ ⟨grad.X, v.X⟩` is differentiated again: `dd.grad.X = dS/d in.X`, `dd.cot.O = dS/d cot.O`.
pub(super) fn run(
    f: &Fixture,
    inputs: &Inputs,
    forward: impl FnOnce(&Inputs) -> Result<Vec<Named>>,
) -> Result<Results> {
    let mut results = Results::default();
    let outputs = forward(inputs)?;
    for o in &outputs {
        results.put(format!("out.{}", o.name), &o.value, o.layout)?;
    }
    let leaves = inputs.leaves(f);
    if leaves.is_empty() {
        return Ok(results);
    }
    let second = f.under("v.").next().is_some();
    let mut cotangents = Vec::new();
    for o in outputs.iter().filter(|o| f.has(&format!("cot.{}", o.name))) {
        let value = f.tensor(&format!("cot.{}", o.name), o.layout)?;
        let value = if second { value.as_leaf() } else { value };
        cotangents.push((o, Named::new(&o.name, value, o.layout)));
    }
    if cotangents.is_empty() {
        bail!("the file holds gradients but no cotangents (cot.*)");
    }
    let loss: Vec<(&Tensor, Option<&Tensor>)> = cotangents.iter().map(|(o, c)| (&o.value, Some(&c.value))).collect();
    let wrt: Vec<&Tensor> = leaves.iter().map(|l| &l.value).collect();
    let gradients = grad(&loss, &wrt, second)?;
    for (leaf, gradient) in leaves.iter().zip(&gradients) {
        results.put(format!("grad.{}", leaf.name), &or_zero(gradient, &leaf.value)?, leaf.layout)?;
    }
    if !second {
        return Ok(results);
    }
    let mut directions = Vec::new();
    for (leaf, gradient) in leaves.iter().zip(&gradients) {
        if let (Some(gradient), true) = (gradient, f.has(&format!("v.{}", leaf.name))) {
            directions.push((gradient, f.tensor(&format!("v.{}", leaf.name), leaf.layout)?));
        }
    }
    let objective: Vec<(&Tensor, Option<&Tensor>)> = directions.iter().map(|(g, v)| (*g, Some(v))).collect();
    let targets: Vec<(String, &Named)> = leaves
        .iter()
        .map(|l| (format!("dd.grad.{}", l.name), l))
        .chain(cotangents.iter().map(|(_, c)| (format!("dd.cot.{}", c.name), c)))
        .collect();
    let wrt: Vec<&Tensor> = targets.iter().map(|(_, t)| &t.value).collect();
    for ((name, target), gradient) in targets.into_iter().zip(grad(&objective, &wrt, false)?) {
        results.put(name, &or_zero(&gradient, &target.value)?, target.layout)?;
    }
    Ok(results)
}

/// A gradient that no path leads to is zero.
pub(super) fn or_zero(gradient: &Option<Tensor>, like: &Tensor) -> Result<Tensor> {
    match gradient {
        Some(g) => Ok(g.clone()),
        None => Ok(like.zeros_like()?),
    }
}
