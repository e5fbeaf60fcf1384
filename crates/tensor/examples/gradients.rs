//! A gradient, and a penalty on its norm by a gradient of the gradient: what R1 regularisation does.

use swinstyle_tensor::{Device, Result, Tensor, grad};

/// A small network of two layers: `[N, 2]` to `[N, 1]`.
fn network(x: &Tensor, first: &Tensor, second: &Tensor) -> Result<Tensor> {
    x.linear(first, None)?.softplus()?.linear(second, None)
}

fn main() -> Result<()> {
    let device = Device::from_env()?;
    let tensor = |values: &[f32], shape: &[usize]| Tensor::from_slice(values, shape, device);
    let x = tensor(&[0.5, -1.0, 2.0, 0.25], &[2, 2])?.as_leaf();
    let first = tensor(&[0.3, -0.8, 1.1, 0.4, -0.6, 0.9], &[3, 2])?.as_leaf();
    let second = tensor(&[0.7, -0.2, 0.5], &[1, 3])?.as_leaf();

    let logits = network(&x, &first, &second)?;
    // `create_graph`: the gradient is on the tape and can be differentiated again.
    let Some(gradient) = grad(&[(&logits, None)], &[&x], true)?.remove(0) else { unreachable!("logits depend on x") };
    println!("d logits / d x        {:?}", gradient.to_vec()?);

    // R1: the mean over images of the squared norm of the gradient, as a loss of the weights.
    let penalty = gradient.square()?.sum(&[1])?.mean_all()?;
    println!("R1 penalty            {:.6}", penalty.item()?);
    let of_weights = grad(&[(&penalty, None)], &[&first, &second], false)?;
    for (name, g) in ["first", "second"].iter().zip(of_weights) {
        println!("d penalty / d {name:<7} {:?}", g.map(|g| g.to_vec()).transpose()?);
    }
    Ok(())
}
