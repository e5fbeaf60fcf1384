//! On the cpu an image has the same bits alone and in a batch, in every operation that images pass through and in whole networks.

mod networks;
mod operations;

use swinstyle_kit::testing::uniform;
use swinstyle_tensor::{DType, Device, Tensor};

/// Images of a batch at most.
const MOST: usize = 9;

/// Numbers of a name on the cpu.
fn data(name: &str, shape: &[usize]) -> Tensor {
    uniform(name, shape, DType::F32, Device::Cpu).unwrap()
}

/// [`data`] of a batch of [`MOST`] images.
fn batch(name: &str, image: &[usize]) -> Tensor {
    data(name, &[&[MOST], image].concat())
}
