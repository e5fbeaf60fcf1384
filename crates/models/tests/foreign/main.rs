//! LPIPS and ArcFace against PyTorch: networks of random weights and few channels, made by `make_fixtures.py`.

use std::path::PathBuf;

use swinstyle_kit::{
    golden::Fixture,
    testing::{uniform, wgpu},
};
use swinstyle_models::foreign::{ArcFace, Lpips};
use swinstyle_tensor::{DType, Device, Tensor, grad};
use swinstyle_weights::{Archive, Array, FloatDtype};

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/foreign").join(format!("{name}.safetensors"))
}

/// Holds a distance and the samples of its gradient against the fixture's for images of `size`.
fn check(name: &str, size: usize, dtype: DType, device: Device, distance: &dyn Fn(&Tensor, &Tensor) -> Tensor) {
    let fixture = Fixture::open(&file(name));
    let [x, y] = ["x", "y"].map(|k| uniform(&format!("{k}{size}"), &[2, size, size, 3], dtype, device).unwrap());
    let (x, y) = (x.as_leaf(), y.as_leaf());
    let loss = distance(&x, &y);
    fixture.assert(&format!("loss{size}"), &[], &loss.reshape(&[1]).unwrap());
    let mut gradients = grad(&[(&loss, None)], &[&x, &y], false).unwrap();
    assert!(gradients.pop().unwrap().is_none(), "the target is taken as constant");
    let every: Vec<usize> = (0..size).step_by((size / 16).max(1)).collect();
    let gradient = gradients.remove(0).unwrap();
    let samples = gradient.index_select(1, &every).unwrap().index_select(2, &every).unwrap();
    fixture.assert_nhwc(&format!("gradient{size}"), &samples);
}

#[test]
fn lpips_of_both_trunks_and_its_gradient_match_pytorch() {
    for (name, sizes) in [("lpips_alex", &[64, 37][..]), ("lpips_vgg", &[32])] {
        let lpips = Lpips::load(&[file(&format!("{name}.weights"))], Device::Cpu).unwrap();
        for &size in sizes {
            for dtype in [DType::F64, DType::F32] {
                check(name, size, dtype, Device::Cpu, &|x, y| lpips.distance(x, y).unwrap());
            }
        }
    }
}

#[test]
fn lpips_matches_pytorch_on_wgpu() {
    let lpips = Lpips::load(&[file("lpips_alex.weights")], wgpu()).unwrap();
    check("lpips_alex", 37, DType::F32, wgpu(), &|x, y| lpips.distance(x, y).unwrap());
}

#[test]
fn lpips_of_equal_images_is_zero_with_a_finite_gradient() {
    let lpips = Lpips::load(&[file("lpips_alex.weights")], Device::Cpu).unwrap();
    // A flat image has pixels whose features are all 0 somewhere.
    let x = Tensor::full(-1.0, &[1, 64, 64, 3], DType::F32, Device::Cpu).unwrap().as_leaf();
    let loss = lpips.distance(&x, &x).unwrap();
    assert_eq!(loss.item().unwrap(), 0.0);
    let gradient = grad(&[(&loss, None)], &[&x], false).unwrap().remove(0).unwrap();
    assert!(gradient.to_vec().unwrap().iter().all(|g| *g == 0.0));
}

#[test]
fn trunk_and_heads_may_lie_in_two_files_and_lpips_needs_both() {
    let whole = Archive::read(file("lpips_vgg.weights")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, keep: &dyn Fn(&str) -> bool| {
        let mut part = Archive::new();
        part.arrays.extend(whole.arrays.iter().filter(|(k, _)| keep(k)).map(|(k, v)| (k.clone(), v.clone())));
        let path = folder.path().join(name);
        part.write(&path, FloatDtype::F32).unwrap();
        path
    };
    let trunk = write("trunk.safetensors", &|k| k.starts_with("features."));
    let heads = write("heads.safetensors", &|k| k.starts_with("lin"));
    let lpips = Lpips::load(&[&trunk, &heads], Device::Cpu).unwrap();
    check("lpips_vgg", 32, DType::F32, Device::Cpu, &|x, y| lpips.distance(x, y).unwrap());

    let error = |paths: &[&PathBuf]| Lpips::load(paths, Device::Cpu).unwrap_err().to_string();
    let said = error(&[&trunk]);
    assert!(said.contains("trunk.safetensors") && said.contains("lin0.model.1.weight"), "{said}");
    let said = error(&[&heads]);
    assert!(said.contains("heads.safetensors") && said.contains("`features.0.weight`"), "{said}");
    let short = write("short.safetensors", &|k| k != "features.17.bias");
    let said = error(&[&short]);
    assert!(said.contains("short.safetensors") && said.contains("`features.17.bias`"), "{said}");
}

#[test]
fn a_misshaped_tensor_is_named_with_both_shapes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("face.safetensors");
    let mut archive = Archive::read(file("arcface.weights")).unwrap();
    archive.arrays.insert("body.1.res_layer.4.bias".into(), Array::new(vec![3], vec![0.0; 3]).unwrap());
    archive.write(&path, FloatDtype::F32).unwrap();
    let said = ArcFace::load(&path, Device::Cpu).unwrap_err().to_string();
    for part in ["face.safetensors", "body.1.res_layer.4.bias", "[3]", "[4]"] {
        assert!(said.contains(part), "{said}");
    }
    archive.arrays.retain(|k, _| !k.starts_with("body.5."));
    archive.arrays.insert("body.1.res_layer.4.bias".into(), Array::new(vec![4], vec![0.0; 4]).unwrap());
    archive.write(&path, FloatDtype::F32).unwrap();
    let said = ArcFace::load(&path, Device::Cpu).unwrap_err().to_string();
    assert!(said.contains("3 of the 5 units halve the image"), "{said}");
}

#[test]
fn arcface_its_embedding_and_gradient_match_pytorch() {
    let face = ArcFace::load(file("arcface.weights"), Device::Cpu).unwrap();
    for (size, dtype) in [(64, DType::F64), (64, DType::F32), (256, DType::F32)] {
        check("arcface", size, dtype, Device::Cpu, &|x, y| face.distance(x, y).unwrap());
        let x = uniform(&format!("x{size}"), &[2, size, size, 3], dtype, Device::Cpu).unwrap();
        Fixture::open(&file("arcface")).assert(&format!("embedding{size}"), &[], &face.embed(&x).unwrap());
    }
}
