//! Devices, buffers and errors.

use std::time::{Duration, Instant};

use swinstyle_tensor::{
    DType, Device, Tensor, TensorError,
    cube::{cuda_device_count, describe, wgpu_adapters},
};

use crate::support::{pair, wgpu};

#[test]
fn adapters_come_hardware_first_and_the_description_names_the_opened_one() {
    let device = wgpu();
    let adapters = wgpu_adapters();
    assert!(!adapters.is_empty());
    assert!(adapters.windows(2).all(|p| p[0].software <= p[1].software), "{adapters:?}");
    let d = describe(device).unwrap();
    assert_eq!((d.name.as_str(), d.software), (adapters[0].name.as_str(), adapters[0].software));
    assert!(d.dtypes.contains(&DType::F32) && d.max_allocation > 0 && d.max_units >= 64, "{d:?}");
    assert_eq!(describe(Device::Cpu).unwrap().dtypes, [DType::F32, DType::F64]);
}

#[test]
fn a_software_adapter_is_never_the_default() {
    let software = match Device::best() {
        Device::Wgpu(i) => wgpu_adapters()[i].software,
        _ => false,
    };
    assert!(!software);
}

#[test]
fn an_index_without_an_adapter_is_an_error_that_counts_them() {
    wgpu();
    let error = Device::Wgpu(97).check().unwrap_err();
    assert!(matches!(error, TensorError::NoDevice { .. }));
    let text = error.to_string();
    assert!(text.contains("wgpu:97") && text.contains("index 97 does not exist"), "{text}");
}

#[test]
fn cuda_without_a_driver_is_an_error_at_once() {
    let start = Instant::now();
    let count = cuda_device_count();
    let error = Tensor::full(0.0, &[2], DType::F32, Device::Cuda(count)).unwrap_err();
    assert!(matches!(error, TensorError::NoDevice { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(2));
    if count == 0 {
        assert!(error.to_string().contains("NVIDIA driver"), "{error}");
    }
}

#[test]
fn mixed_devices_and_types_are_errors() {
    let [cpu, gpu] = pair(1, &[3]);
    assert!(matches!(cpu.add(&gpu), Err(TensorError::MixedDevices { .. })));
    assert!(matches!(gpu.add(&cpu), Err(TensorError::MixedDevices { .. })));
    assert!(matches!(
        Tensor::full(0.0, &[2], DType::F64, wgpu()),
        Err(TensorError::UnsupportedDType { dtype: DType::F64, .. })
    ));
    assert!(matches!(Tensor::from_vec(vec![1.0_f64], &[1], wgpu()), Err(TensorError::UnsupportedDType { .. })));
    let half = Tensor::full(1.0, &[3], DType::F16, wgpu());
    if let Ok(half) = half {
        assert!(matches!(gpu.add(&half), Err(TensorError::MixedDTypes { .. })));
    }
}

#[test]
fn half_precision_is_computed_in_f32_and_stored_rounded() {
    for dtype in describe(wgpu()).unwrap().dtypes {
        let x = Tensor::full(0.3, &[5], dtype, wgpu()).unwrap();
        let y = x.mul(&x).unwrap().affine(2.0, 1.0).unwrap();
        assert_eq!(y.dtype(), dtype);
        let tolerance = match dtype {
            DType::BF16 => 1e-2,
            DType::F16 => 1e-3,
            _ => 1e-6,
        };
        assert!(y.to_vec().unwrap().iter().all(|v| (v - 1.18).abs() < tolerance), "{y:?}: {:?}", y.to_vec());
    }
}

#[test]
fn a_buffer_beyond_the_limit_is_out_of_memory_and_the_device_goes_on() {
    let device = wgpu();
    let error = Tensor::full(0.0, &[1 << 40], DType::F32, device).unwrap_err();
    let bytes = 4 << 40;
    assert_eq!(error, TensorError::OutOfMemory { op: "fill", device, bytes });
    assert_eq!(Tensor::full(1.0, &[3], DType::F32, device).unwrap().to_vec().unwrap(), [1.0; 3]);
}

#[test]
fn tensors_made_on_one_thread_are_used_on_others() {
    let x = pair(5, &[1000])[1].clone();
    let expected = x.square().unwrap().add_scalar(1.0).unwrap().to_vec().unwrap();
    let squares: Vec<Tensor> =
        std::thread::scope(|s| (0..4).map(|_| s.spawn(|| x.square().unwrap())).map(|h| h.join().unwrap()).collect());
    let results: Vec<Vec<f32>> = std::thread::scope(|s| {
        let handles: Vec<_> =
            squares.iter().map(|y| s.spawn(|| y.add_scalar(1.0).unwrap().to_vec().unwrap())).collect();
        handles.into_iter().map(|h| h.join().unwrap()).collect()
    });
    assert!(results.iter().all(|r| *r == expected));
}

#[test]
fn uploads_and_downloads_keep_every_bit() {
    for len in [0, 1, 3, 4, 1001] {
        let [cpu, gpu] = pair(len as u64, &[len]);
        assert_eq!(cpu.to_vec().unwrap(), gpu.to_vec().unwrap());
        assert_eq!(
            cpu.to_device(wgpu()).unwrap().to_device(Device::Cpu).unwrap().to_vec().unwrap(),
            cpu.to_vec().unwrap()
        );
    }
    wgpu().synchronize().unwrap();
}
