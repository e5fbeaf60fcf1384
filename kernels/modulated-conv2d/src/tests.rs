//! What the room promises: twin against naive sums, finite differences to second order, fixtures, device against twin.

mod device;
mod fixtures;
mod gradients;
mod matrix;
mod naive;
mod to_rgb;

use swinstyle_kit::testing::uniform;
use swinstyle_tensor::{DType, Device, Tensor};

use crate::{ConvGeometry, Problem};

/// A reproducible tensor on the cpu.
fn data(name: &str, shape: &[usize], dtype: DType) -> Tensor {
    uniform(name, shape, dtype, Device::Cpu).unwrap()
}

/// Batch, channels in and out, and a geometry with its input: odd sizes, tails of every vector width, every kind of stride and pad.
fn problems() -> Vec<Problem> {
    let make = |batch, i, o, input: [usize; 2], geometry: ConvGeometry| {
        let [kh, kw] = geometry.kernel;
        let weight = if geometry.transpose { [kh, kw, o, i] } else { [kh, kw, i, o] };
        Problem::new(&[batch, input[0], input[1], i], &weight, &geometry).unwrap()
    };
    let conv = |k, input, stride, pad| ConvGeometry::convolution(k, input, stride, pad).unwrap();
    let transposed = |k, input, stride| ConvGeometry::transposed(k, input, stride).unwrap();
    let mut all = vec![
        make(2, 3, 5, [6, 7], conv([3, 3], [6, 7], 1, 1)),
        make(1, 33, 17, [5, 9], conv([3, 3], [5, 9], 1, 1)),
        make(1, 16, 32, [8, 8], conv([3, 3], [8, 8], 1, 1)),
        make(2, 40, 49, [4, 4], conv([3, 3], [4, 4], 1, 1)),
        make(1, 20, 70, [3, 31], conv([3, 3], [3, 31], 1, 1)),
        make(3, 1, 1, [4, 5], conv([1, 1], [4, 5], 1, 0)),
        make(2, 18, 3, [5, 6], conv([1, 1], [5, 6], 1, 0)),
        make(1, 7, 9, [9, 8], conv([3, 3], [9, 8], 2, 0)),
        make(1, 6, 20, [9, 10], conv([3, 5], [9, 10], 2, 2)),
        make(2, 3, 24, [8, 12], conv([4, 4], [8, 12], 4, 0)),
        make(1, 5, 4, [7, 7], conv([7, 7], [7, 7], 3, 3)),
        make(1, 4, 6, [3, 2], conv([3, 3], [3, 2], 1, 4)),
        make(2, 6, 5, [5, 4], transposed([3, 3], [5, 4], 2)),
        make(1, 17, 34, [4, 6], transposed([3, 3], [4, 6], 2)),
        make(1, 3, 4, [3, 5], transposed([2, 5], [3, 5], 3)),
        make(1, 5, 3, [4, 4], transposed([1, 1], [4, 4], 2)),
        make(2, 8, 8, [1, 1], transposed([4, 4], [1, 1], 1)),
        // Enough channels and tiles for Winograd's form on the cpu.
        make(2, 36, 41, [13, 15], conv([3, 3], [13, 15], 1, 1)),
        make(1, 64, 32, [18, 16], conv([3, 3], [18, 16], 1, 0)),
    ];
    // Both factors at once, unequal negative and large pads, an output that outruns the input.
    let odd =
        ConvGeometry { kernel: [3, 4], up: 3, down: 2, pad: [-2, 5], output: [7, 9], flip: true, transpose: false };
    all.push(make(2, 5, 7, [6, 4], odd));
    all.push(make(1, 4, 18, [6, 5], ConvGeometry { up: 2, down: 4, flip: false, ..odd }));
    all.push(make(1, 4, 3, [2, 2], ConvGeometry { up: 1, down: 1, pad: [30, -30], ..odd }));
    let adjoints: Vec<Problem> = all.iter().map(Problem::adjoint).collect();
    all.extend(adjoints);
    all
}

/// Shapes as they appear in failures.
fn label(p: &Problem) -> String {
    format!("{:?} by {:?}, {:?}", p.input_shape(), p.weight_shape(), p.geometry)
}
