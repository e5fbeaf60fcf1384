//! Reverse-mode differentiation to any order.
//!
//! Every taped operation stores its inputs and a rule that computes the inputs' gradients from the output's by
//! taped operations. With `create_graph` the rules run while the tape records, so their results can be
//! differentiated again.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use crate::{Result, Tensor, TensorError};

/// What a backward rule sees.
pub struct Backward<'a> {
    /// Gradient of the scalar objective with respect to the output.
    pub grad: &'a Tensor,
    /// The output itself, on the tape.
    pub output: &'a Tensor,
    /// The inputs, on the tape, in the order in which they were given.
    pub inputs: &'a [Tensor],
    /// Whether the gradient of each input is wanted; a rule may return `None` for the others.
    pub needs: &'a [bool],
}

type Rule = dyn Fn(&Backward) -> Result<Vec<Option<Tensor>>> + Send + Sync;

/// One recorded operation.
#[derive(Clone)]
pub(crate) struct Node(Arc<NodeInner>);

struct NodeInner {
    name: &'static str,
    inputs: Vec<Tensor>,
    rule: Box<Rule>,
}

thread_local! {
    static RECORDING: Cell<bool> = const { Cell::new(true) };
}

struct Restore(bool);

impl Drop for Restore {
    fn drop(&mut self) {
        RECORDING.set(self.0);
    }
}

/// Runs `f` without recording. PyTorch: `torch.no_grad`.
///
/// ```
/// # use swinstyle_tensor::{Device::Cpu, Tensor, no_grad};
/// let x = Tensor::from_slice(&[1.0_f32, 2.0, 3.0, 4.0], &[2, 2], Cpu)?;
/// let y = no_grad(|| x.as_leaf().scale(2.0))?;
/// assert!(!y.is_tracked());
/// # Ok::<(), swinstyle_tensor::TensorError>(())
/// ```
pub fn no_grad<R>(f: impl FnOnce() -> R) -> R {
    let _restore = Restore(RECORDING.replace(false));
    f()
}

/// Whether operations on tracked tensors are recorded: false inside [`no_grad`], and in rules that run without `create_graph`.
///
/// A rule may choose by it between a shorter computation and one that can be differentiated again.
pub fn is_recording() -> bool {
    RECORDING.get()
}

impl Tensor {
    /// Records how `self` was computed from `inputs`, if any of them is tracked and the tape is on.
    ///
    /// `rule` returns one gradient an input, in order, each of the input's shape, made by taped operations; it must not
    /// capture `self` (use [`Backward::output`]), which would keep the tape alive for ever.
    pub fn taped(
        self,
        name: &'static str,
        inputs: &[&Tensor],
        rule: impl Fn(&Backward) -> Result<Vec<Option<Tensor>>> + Send + Sync + 'static,
    ) -> Tensor {
        if !RECORDING.get() || !inputs.iter().any(|t| t.is_tracked()) {
            return self;
        }
        let inputs = inputs.iter().map(|&t| t.clone()).collect();
        self.with_node(Node(Arc::new(NodeInner { name, inputs, rule: Box::new(rule) })))
    }
}

/// Gradients of `Σ_i ⟨outputs_i, cotangents_i⟩` with respect to `inputs`. PyTorch: `torch.autograd.grad`.
///
/// A cotangent of `None` stands for ones. An input that no output depends on gives `None`.
/// With `create_graph` the results are on the tape and can be differentiated again.
/// Errors: a cotangent of another shape, an operation whose derivative is not written, and whatever the rules' operations return.
///
/// ```
/// # use swinstyle_tensor::{Device::Cpu, Tensor, grad};
/// let x = Tensor::from_slice(&[3.0_f32], &[1], Cpu)?.as_leaf();
/// let y = x.square()?;
/// let slope = grad(&[(&y, None)], &[&x], false)?.remove(0);
/// assert_eq!(slope.map(|g| g.to_vec()).transpose()?, Some(vec![6.0]));
/// # Ok::<(), swinstyle_tensor::TensorError>(())
/// ```
pub fn grad(
    outputs: &[(&Tensor, Option<&Tensor>)],
    inputs: &[&Tensor],
    create_graph: bool,
) -> Result<Vec<Option<Tensor>>> {
    if create_graph {
        return run(outputs, inputs);
    }
    let grads = no_grad(|| run(outputs, inputs))?;
    // A rule may hand a cotangent through as it is, and that may be tracked.
    Ok(grads.into_iter().map(|g| g.map(|g| g.detach())).collect())
}

fn run(outputs: &[(&Tensor, Option<&Tensor>)], inputs: &[&Tensor]) -> Result<Vec<Option<Tensor>>> {
    let wanted: HashSet<u64> = inputs.iter().map(|t| t.id()).collect();
    let leads = reaches(outputs, &wanted);
    // Tensors are numbered as they are made, so descending order is a reverse topological order.
    let mut pending: BTreeMap<u64, (Tensor, Tensor)> = BTreeMap::new();
    for (output, cotangent) in outputs {
        let seed = match cotangent {
            Some(c) if c.shape() == output.shape() => (*c).clone(),
            Some(c) => {
                let detail = format!("cotangent {:?} for an output of shape {:?}", c.shape(), output.shape());
                return Err(TensorError::shape("grad", detail));
            }
            None => Tensor::full(1.0, output.shape(), output.dtype(), output.device())?,
        };
        accumulate(&mut pending, output, seed)?;
    }
    let mut found: HashMap<u64, Tensor> = HashMap::new();
    while let Some((id, (tensor, gradient))) = pending.pop_last() {
        if wanted.contains(&id) {
            found.insert(id, gradient.clone());
        }
        let Some(node) = tensor.node() else { continue };
        let node = &node.0;
        let needs: Vec<bool> = node.inputs.iter().map(|t| leads.contains(&t.id())).collect();
        if !needs.contains(&true) {
            continue;
        }
        let step = Backward { grad: &gradient, output: &tensor, inputs: &node.inputs, needs: &needs };
        let grads = (node.rule)(&step)?;
        for ((input, g), need) in node.inputs.iter().zip(grads).zip(&needs) {
            let (true, Some(g)) = (*need, g) else { continue };
            if g.shape() != input.shape() {
                let detail = format!("its rule gave {:?} for an input of shape {:?}", g.shape(), input.shape());
                return Err(TensorError::shape(node.name, detail));
            }
            accumulate(&mut pending, input, g)?;
        }
    }
    Ok(inputs.iter().map(|t| found.get(&t.id()).cloned()).collect())
}

fn accumulate(pending: &mut BTreeMap<u64, (Tensor, Tensor)>, tensor: &Tensor, gradient: Tensor) -> Result<()> {
    match pending.get_mut(&tensor.id()) {
        Some((_, sum)) => *sum = sum.add(&gradient)?,
        None => {
            pending.insert(tensor.id(), (tensor.clone(), gradient));
        }
    }
    Ok(())
}

/// Ids of the tensors from which a path leads back to a wanted one (the wanted ones included).
fn reaches(outputs: &[(&Tensor, Option<&Tensor>)], wanted: &HashSet<u64>) -> HashSet<u64> {
    let mut graph: BTreeMap<u64, Tensor> = BTreeMap::new();
    let mut stack: Vec<Tensor> = outputs.iter().map(|(t, _)| (*t).clone()).collect();
    while let Some(t) = stack.pop() {
        if graph.contains_key(&t.id()) {
            continue;
        }
        if let Some(node) = t.node() {
            stack.extend(node.0.inputs.iter().filter(|i| i.is_tracked()).cloned());
        }
        graph.insert(t.id(), t);
    }
    let mut leads = HashSet::new();
    // Ascending order visits inputs before what was computed from them.
    for (id, t) in graph {
        let through = t.node().is_some_and(|n| n.0.inputs.iter().any(|i| leads.contains(&i.id())));
        if wanted.contains(&id) || through {
            leads.insert(id);
        }
    }
    leads
}

/// What a dropped node owned.
type Remains = (Vec<Tensor>, Box<Rule>);

thread_local! {
    /// Nodes met while another one is being freed; `None` while none is.
    static GRAVEYARD: RefCell<Option<Vec<Remains>>> = const { RefCell::new(None) };
}

impl Drop for NodeInner {
    /// Frees long chains without recursion: a deep graph would otherwise overflow a small stack.
    fn drop(&mut self) {
        let rule = std::mem::replace(&mut self.rule, Box::new(|_| Ok(Vec::new())));
        let mut mine = Some((std::mem::take(&mut self.inputs), rule));
        // Without the list (the thread is ending) `mine` is dropped here, recursively.
        let _ = GRAVEYARD.try_with(|graveyard| {
            if let Some(list) = graveyard.borrow_mut().as_mut() {
                list.extend(mine.take());
                return;
            }
            graveyard.replace(Some(Vec::new()));
            drop(mine.take());
            loop {
                let next = graveyard.borrow_mut().as_mut().and_then(Vec::pop);
                match next {
                    Some(dead) => drop(dead),
                    None => break,
                }
            }
            graveyard.replace(None);
        });
    }
}
