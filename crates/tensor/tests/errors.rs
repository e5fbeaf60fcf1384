//! Whatever is asked wrongly is an error that names the operation and the values: never a panic, never a wrong result.

use swinstyle_kit::testing::wgpu;
use swinstyle_tensor::{DType, Device, Result, Tensor, TensorError, cube, grad, ops::AdamStep};

fn zeros(shape: &[usize]) -> Tensor {
    Tensor::full(0.0, shape, DType::F32, Device::Cpu).unwrap()
}

/// Asserts a shape error of `op` whose text holds each of `words`.
#[track_caller]
fn refused(op: &str, words: &[&str], result: Result<Tensor>) {
    let error = result.unwrap_err();
    assert!(matches!(&error, TensorError::Shape { op: named, .. } if *named == op), "{op}: {error:?}");
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "{text:?} does not say {word:?}");
    }
}

#[test]
fn shapes_that_do_not_broadcast_are_named() {
    let (a, b) = (zeros(&[2, 3]), zeros(&[2, 4]));
    refused("add", &["[2, 3]", "[2, 4]"], a.add(&b));
    refused("sub", &["[2, 3]", "[2, 4]"], a.sub(&b));
    refused("mul", &["[2, 3]", "[2, 4]"], a.mul(&b));
    refused("div", &["[2, 3]", "[2, 4]"], a.div(&b));
    refused("maximum", &["[2, 3]", "[2, 4]"], a.maximum(&b));
    refused("broadcast_to", &["[2, 3]", "[2, 4]"], a.broadcast_to(&[2, 4]));
    refused("broadcast_to", &["[2, 3]", "[3]"], a.broadcast_to(&[3]));
    refused("sum_to", &["[2, 3]", "[2]"], a.sum_to(&[2]));
    refused("sum_to", &["[2, 3]", "[1, 2, 3]"], a.sum_to(&[1, 2, 3]));
}

#[test]
fn axes_that_do_not_exist_or_repeat_are_refused() {
    let x = zeros(&[2, 3]);
    refused("sum", &["axis 2", "[2, 3]"], x.sum(&[2]));
    refused("sum", &["axis 1", "twice"], x.sum(&[1, 1]));
    refused("sum", &["axis 0", "twice"], x.mean(&[0, 0]));
    refused("max", &["axis 7"], x.max_detached(&[7]));
    refused("permute", &["[0, 0]"], x.permute(&[0, 0]));
    refused("permute", &["[0]"], x.permute(&[0]));
    refused("permute", &["[1, 0, 2]"], x.permute(&[1, 0, 2]));
    refused("transpose", &["[3]"], zeros(&[3]).transpose());
    refused("slice", &["axis 2"], x.slice(2, 0, 1));
    refused("pad", &["axis 2"], x.pad(2, 0, 1));
    refused("concat", &["axis 2"], Tensor::concat(&[&x, &x], 2));
    refused("log_softmax", &[], zeros(&[]).softmax());
}

#[test]
fn layouts_that_do_not_fit_are_refused() {
    let x = zeros(&[2, 3]);
    refused("reshape", &["[2, 3]", "[7]"], x.reshape(&[7]));
    refused("slice", &["2 positions from 2", "[2, 3]"], x.slice(1, 2, 2));
    refused("concat", &["[2, 3]", "[3, 3]"], Tensor::concat(&[&x, &zeros(&[3, 3])], 1));
    refused("concat", &["[2, 3]", "[2]"], Tensor::concat(&[&x, &zeros(&[2])], 0));
    refused("concat", &["no tensors"], Tensor::concat(&[], 0));
}

#[test]
fn products_of_other_lengths_are_refused() {
    let x = zeros(&[2, 3]);
    refused("matmul", &["[2, 3]", "[4, 2]"], x.matmul(&zeros(&[4, 2])));
    refused("matmul", &["[2, 3]ᵀ", "[3, 2]"], x.matmul_with(&zeros(&[3, 2]), true, false));
    refused("matmul", &["[3]"], x.matmul(&zeros(&[3])));
    refused("matmul", &["[4, 2, 3]", "[5, 3, 2]"], zeros(&[4, 2, 3]).matmul(&zeros(&[5, 3, 2])));
    refused("linear", &["[2, 3]", "[4, 2]"], x.linear(&zeros(&[4, 2]), None));
    refused("linear", &["[4, 3]", "[5]"], x.linear(&zeros(&[4, 3]), Some(&zeros(&[5]))));
    refused("linear", &["[]"], zeros(&[]).linear(&zeros(&[4, 3]), None));
}

#[test]
fn resampling_wants_images_and_sizes_that_exist() {
    refused("resize_bilinear", &["[2, 3]", "NHWC"], zeros(&[2, 3]).resize_bilinear(4, 4, false));
    refused("resize_bilinear", &["0×4"], zeros(&[1, 2, 3, 1]).resize_bilinear(0, 4, false));
    refused("pool_area", &["4×0"], zeros(&[1, 2, 3, 1]).pool_area(4, 0));
    refused("pool_area", &["[1, 0, 3, 1]"], zeros(&[1, 0, 3, 1]).pool_area(1, 1));
}

#[test]
fn empty_tensors_are_worked_on_like_others() {
    let x = zeros(&[0, 3]);
    assert_eq!(x.exp().unwrap().shape(), [0, 3]);
    assert_eq!(x.add(&zeros(&[3])).unwrap().shape(), [0, 3]);
    assert_eq!(x.sum(&[0]).unwrap().to_vec().unwrap(), [0.0; 3]);
    assert_eq!(x.sum_all().unwrap().item().unwrap(), 0.0);
    assert_eq!(x.transpose().unwrap().shape(), [3, 0]);
    assert_eq!(x.pad(0, 1, 1).unwrap().to_vec().unwrap(), [0.0; 6]);
    assert_eq!(zeros(&[2, 3]).slice(1, 1, 0).unwrap().shape(), [2, 0]);
    assert_eq!(Tensor::concat(&[&x, &zeros(&[2, 3])], 0).unwrap().shape(), [2, 3]);
    assert_eq!(zeros(&[2, 0]).matmul(&zeros(&[0, 4])).unwrap().to_vec().unwrap(), [0.0; 8]);
    assert_eq!(x.linear(&zeros(&[4, 3]), Some(&zeros(&[4]))).unwrap().shape(), [0, 4]);
    assert_eq!(zeros(&[0, 2, 2, 1]).resize_bilinear(4, 4, false).unwrap().shape(), [0, 4, 4, 1]);
    assert_eq!(zeros(&[1, 2, 2, 0]).pool_area(1, 1).unwrap().shape(), [1, 1, 1, 0]);
}

#[test]
fn sizes_beyond_memory_are_errors() {
    let (x, most) = (zeros(&[1, 1]), usize::MAX);
    refused("fill", &["too large"], Tensor::full(0.0, &[most, 2], DType::F32, Device::Cpu));
    refused("from_vec", &["too large"], Tensor::from_vec(vec![0.0_f32], &[1 << 40, 1 << 40], Device::Cpu));
    refused("reshape", &["too large"], x.reshape(&[most, most]));
    refused("add", &["too large"], x.broadcast_to(&[most, most]));
    refused("slice", &["axis 0"], x.slice(0, most, most));
    refused("pad", &["too large"], x.pad(0, most, most));
    refused("pad", &["too large"], zeros(&[1, 0]).pad(0, most, 1));
    refused("resize_bilinear", &["too large"], zeros(&[1, 1, 1, 1]).resize_bilinear(1 << 32, 1 << 32, true));
    refused("resize_bilinear", &["too large"], zeros(&[1, 1, 1, 1]).resize_bilinear(1 << 40, 1, false));
    refused("pool_area", &["too large"], zeros(&[1, 1, 1, 1]).pool_area(1, most));
    let product = zeros(&[1 << 40, 0]).matmul(&zeros(&[0, 1 << 40]));
    refused("matmul", &["too large"], product);
}

#[test]
fn memory_that_cannot_be_had_is_an_error_with_its_size() {
    // 2⁵⁰ elements pass the arithmetic and exceed every address space.
    let error = Tensor::full(0.0, &[1 << 50], DType::F32, Device::Cpu).unwrap_err();
    assert!(matches!(error, TensorError::OutOfMemory { op: "fill", device: Device::Cpu, bytes } if bytes == 1 << 52));
    let error = zeros(&[1]).broadcast_to(&[1 << 25, 1 << 25]).unwrap_err();
    assert!(matches!(error, TensorError::OutOfMemory { op: "add", .. }), "{error}");
    let device = wgpu();
    let error = Tensor::full(0.0, &[1 << 50], DType::F32, device).unwrap_err();
    assert!(matches!(error, TensorError::OutOfMemory { .. }), "{error:?}");
    // The device still works.
    assert_eq!(Tensor::full(2.0, &[3], DType::F32, device).unwrap().to_vec().unwrap(), [2.0; 3]);
}

#[test]
fn an_optimizer_step_wants_four_tensors_of_the_parameters_shape() {
    let step = AdamStep {
        shape: vec![2, 3],
        learning_rate: 1e-3,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.0,
        step: 1,
        rectified: false,
    };
    let (x, other) = (zeros(&[2, 3]), zeros(&[2]));
    assert!(step.apply(&x, &[&x], &x, &x).is_ok());
    refused("adam", &["[2]", "[2, 3]"], step.apply(&x, &[&other], &x, &x).map(|[p, ..]| p));
    refused("adam", &["[2]", "[2, 3]"], step.apply(&x, &[&x], &x, &other).map(|[p, ..]| p));
}

#[test]
fn values_must_fill_their_shape() {
    refused("from_vec", &["3 values", "[2, 2]"], Tensor::from_vec(vec![1.0_f32; 3], &[2, 2], Device::Cpu));
    refused("from_vec", &["1 values", "[0]"], Tensor::from_slice(&[1.0_f64], &[0], Device::Cpu));
    let error = zeros(&[2]).item().unwrap_err();
    assert!(matches!(error, TensorError::Shape { op: "item", .. }), "{error}");
}

#[test]
fn types_are_not_mixed() {
    let (single, double) = (zeros(&[2, 2]), Tensor::full(0.0, &[2, 2], DType::F64, Device::Cpu).unwrap());
    for result in [
        single.add(&double),
        double.mul(&single),
        single.maximum(&double),
        single.matmul(&double),
        single.linear(&double, None),
        Tensor::concat(&[&single, &double], 0),
    ] {
        let error = result.unwrap_err();
        assert!(matches!(error, TensorError::MixedDTypes { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("f32") && text.contains("f64") && text.contains("to_dtype"), "{text}");
    }
    assert!(matches!(single.host::<f64>(), Err(TensorError::UnsupportedDType { op: "host", .. })));
    let there = single.to_device(wgpu()).unwrap();
    assert!(matches!(there.to_dtype(DType::F64), Err(TensorError::UnsupportedDType { op: "to_dtype", .. })));
}

#[test]
fn devices_are_not_mixed() {
    let (here, there) = (zeros(&[2, 2]), zeros(&[2, 2]).to_device(wgpu()).unwrap());
    for result in [
        here.add(&there),
        there.sub(&here),
        here.matmul(&there),
        here.linear(&there, None),
        Tensor::concat(&[&there, &here], 0),
    ] {
        let error = result.unwrap_err();
        assert!(matches!(error, TensorError::MixedDevices { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("cpu") && text.contains("wgpu") && text.contains("to_device"), "{text}");
    }
    assert!(there.host::<f32>().is_err());
}

#[test]
fn double_precision_stays_on_the_cpu() {
    let device = wgpu();
    let double = Tensor::full(1.0, &[2], DType::F64, Device::Cpu).unwrap();
    for result in [
        double.to_device(device),
        Tensor::from_vec(vec![1.0_f64], &[1], device),
        Tensor::full(0.0, &[1], DType::F64, device),
    ] {
        let error = result.unwrap_err();
        assert!(matches!(error, TensorError::UnsupportedDType { dtype: DType::F64, .. }), "{error:?}");
    }
}

#[test]
fn an_absent_device_is_named_with_a_reason() {
    let mut absent = vec![Device::Cuda(63), Device::Wgpu(63)];
    if cube::cuda_device_count() == 0 {
        absent.push(Device::Cuda(0));
    }
    for device in absent {
        for error in [
            device.check().unwrap_err(),
            Tensor::full(0.0, &[1], DType::F32, device).unwrap_err(),
            Tensor::from_vec(vec![0.0_f32], &[1], device).unwrap_err(),
            zeros(&[1]).to_device(device).unwrap_err(),
        ] {
            let TensorError::NoDevice { device: named, reason } = &error else { panic!("{error:?}") };
            assert_eq!(*named, device.to_string());
            assert!(!reason.is_empty());
        }
        assert!(!swinstyle_tensor::available(device));
    }
}

#[test]
fn gradients_refuse_cotangents_and_rules_of_another_shape() {
    let x = zeros(&[2, 3]).as_leaf();
    let y = x.square().unwrap();
    let error = grad(&[(&y, Some(&zeros(&[3])))], &[&x], false).unwrap_err();
    assert!(matches!(error, TensorError::Shape { op: "grad", .. }), "{error}");
    let wrong = x.detach().taped("wrong_rule", &[&x], |b| Ok(vec![Some(b.grad.sum(&[0])?)]));
    let error = grad(&[(&wrong, None)], &[&x], false).unwrap_err();
    assert!(matches!(error, TensorError::Shape { op: "wrong_rule", .. }), "{error}");
}

#[test]
fn a_derivative_that_is_not_written_says_so() {
    let x = zeros(&[2]).as_leaf();
    let y = x.detach().taped("opaque", &[&x], |_| Err(TensorError::NotDifferentiable { op: "opaque", order: "first" }));
    let error = grad(&[(&y, None)], &[&x], false).unwrap_err();
    assert!(error.to_string().contains("opaque: the first derivative is not implemented"), "{error}");
}
