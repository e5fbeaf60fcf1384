//! Swin against torchvision's outputs and gradients, and its behaviour on odd sizes.

use swinstyle_kit::{
    golden::Fixture,
    testing::{first_order_error, hash_uniform, uniform},
};
use swinstyle_tensor::{DType, Device, Tensor, grad, rng::Philox};

use super::{Swin, SwinConfig, SwinOutput, Window};
use crate::{Layout, Params, Spec};

const CPU: Device = Device::Cpu;

fn config(patch: usize, dims: &[usize], depths: &[usize], heads: &[usize], windows: &[Window]) -> SwinConfig {
    SwinConfig {
        in_channels: 3,
        patch,
        dims: dims.to_vec(),
        depths: depths.to_vec(),
        heads: heads.to_vec(),
        windows: windows.to_vec(),
        mlp_ratio: 2.0,
        classes: Some(10),
        stochastic_depth: 0.0,
    }
}

fn mini() -> Swin {
    Swin::new(config(4, &[16, 32], &[2, 2], &[2, 4], &[Window::Square(4); 2])).unwrap()
}

/// Axes that bring a stored parameter into its layout in memory.
fn axes(spec: &Spec) -> &'static [usize] {
    if spec.layout == Layout::Oihw { &[2, 3, 1, 0] } else { &[] }
}

fn assert_outputs(f: &Fixture, y: &SwinOutput) {
    for (name, value) in
        [("embed", &y.embed), ("norm", &y.norm), ("pooled", &y.pooled), ("logits", y.logits.as_ref().unwrap())]
    {
        // The embedding of the 224-pixel image is not in its fixture.
        if f.has(&format!("out.{name}")) {
            f.assert(&format!("out.{name}"), &[], value);
        }
    }
    for (i, stage) in y.stages.iter().enumerate() {
        f.assert(&format!("out.stage{i}"), &[], stage);
    }
}

#[test]
fn outputs_and_every_gradient_match_torchvision() {
    let f = Fixture::case("swin/mini_w4_32px");
    let swin = mini();
    let specs = swin.specs();
    let stored: Params =
        specs.iter().map(|s| (s.name.clone(), f.tensor(&format!("in.p.{}", s.name), axes(s), CPU))).collect();
    let p = stored.leaves(|_| true);
    let image = f.nhwc("in.image", CPU).as_leaf();
    let y = swin.forward(&p, &image, None).unwrap();
    assert_outputs(&f, &y);
    assert_eq!(y.blocks.len(), 4);

    let cot = |name: &str| f.tensor(&format!("cot.{name}"), &[], CPU);
    let objective = [(y.logits.as_ref().unwrap(), Some(&cot("logits"))), (&y.stages[1], Some(&cot("stage1")))];
    let mut leaves = vec![&image];
    leaves.extend(specs.iter().map(|s| p.get(&s.name).unwrap()));
    let grads = grad(&objective, &leaves, false).unwrap();
    f.assert_nhwc("grad.image", grads[0].as_ref().unwrap());
    for (spec, g) in specs.iter().zip(&grads[1..]) {
        f.assert(&format!("grad.p.{}", spec.name), axes(spec), g.as_ref().unwrap());
    }
}

#[test]
fn swin_tiny_matches_torchvision_with_the_weights_of_the_formula() {
    let mut tiny = config(4, &[96, 192, 384, 768], &[2, 2, 6, 2], &[3, 6, 12, 24], &[Window::Square(7); 4]);
    (tiny.mlp_ratio, tiny.classes) = (4.0, Some(1000));
    let swin = Swin::new(tiny).unwrap();
    let first = Fixture::case("swin/swin_t_64px");
    let weights = first.params["weights"].as_object().unwrap();
    assert_eq!(weights.len(), swin.specs().len());
    let p: Params = swin
        .specs()
        .iter()
        .map(|s| {
            let [base, scale] = [1, 2].map(|i| weights[&s.name][i].as_f64().unwrap() as f32);
            let shape = s.stored_shape();
            let values = hash_uniform(&s.name, shape.iter().product()).into_iter().map(|u| u * scale + base).collect();
            let t = Tensor::from_vec::<f32>(values, &shape, CPU).unwrap();
            (s.name.clone(), if axes(s).is_empty() { t } else { t.permute(axes(s)).unwrap() })
        })
        .collect();
    for f in [first, Fixture::case("swin/swin_t_224px")] {
        assert_outputs(&f, &swin.forward(&p, &f.nhwc("in.image", CPU), None).unwrap());
    }
}

#[test]
fn gradients_match_finite_differences_on_padded_rectangular_windows_and_odd_maps() {
    let windows = [Window::Rectangle([2, 4]), Window::Square(3)];
    let mut c = config(2, &[4, 6], &[2, 1], &[2, 1], &windows);
    c.classes = None;
    let swin = Swin::new(c).unwrap();
    let specs = swin.specs();
    let mut inputs = vec![uniform("image", &[1, 7, 10, 3], DType::F64, CPU).unwrap()];
    let parameter = |s: &Spec| uniform(&s.name, &s.shape, DType::F64, CPU).unwrap();
    inputs.extend(specs.iter().map(parameter));
    let error = first_order_error(
        &|xs| {
            let p: Params = specs.iter().zip(&xs[1..]).map(|(s, x)| (s.name.clone(), x.clone())).collect();
            match swin.forward(&p, &xs[0], None) {
                Ok(y) => Ok(y.norm),
                Err(crate::ModelError::Tensor(e)) => Err(e),
                Err(e) => panic!("{e}"),
            }
        },
        &inputs,
    );
    assert!(error.as_ref().is_ok_and(|&e| e < 1e-5), "{error:?}");
}

#[test]
fn maps_halve_rounding_up_and_pixels_beyond_the_last_patch_are_ignored() {
    let swin = mini();
    let p = Params::init(&swin.specs(), 1, CPU).unwrap();
    let image = uniform("image", &[2, 23, 39, 3], DType::F32, CPU).unwrap();
    let y = swin.forward(&p, &image, None).unwrap();
    assert_eq!(y.stages[0].shape(), [2, 5, 9, 16]);
    assert_eq!(y.stages[1].shape(), [2, 3, 5, 32]);
    let cropped = image.slice(1, 0, 20).unwrap().slice(2, 0, 36).unwrap();
    let same = swin.forward(&p, &cropped, None).unwrap();
    assert_eq!(y.norm.to_vec().unwrap(), same.norm.to_vec().unwrap());
}

#[test]
fn stochastic_depth_drops_whole_images_reproducibly_and_only_when_asked() {
    let mut c = mini().config;
    c.stochastic_depth = 0.5;
    let swin = Swin::new(c).unwrap();
    let p = Params::init(&swin.specs(), 1, CPU).unwrap();
    let image = uniform("image", &[1, 32, 32, 3], DType::F32, CPU).unwrap();
    let images = Tensor::concat(&[&image; 8], 0).unwrap();
    let run = |rng: Option<&mut Philox>| swin.forward(&p, &images, rng).unwrap();
    let plain = run(None);
    let (a, b) = (run(Some(&mut Philox::new(3, 0))), run(Some(&mut Philox::new(3, 0))));
    assert_eq!(a.pooled.to_vec().unwrap(), b.pooled.to_vec().unwrap());
    // The first block never drops; by the last one, equal images have gone different ways.
    assert_eq!(a.blocks[0].to_vec().unwrap(), plain.blocks[0].to_vec().unwrap());
    let rows = |t: &Tensor| t.to_vec().unwrap().chunks(32).map(<[f32]>::to_vec).collect::<Vec<_>>();
    assert!(rows(&a.pooled).iter().any(|r| *r != rows(&a.pooled)[0]));
    assert!(rows(&plain.pooled).iter().all(|r| *r == rows(&plain.pooled)[0]));
}

#[test]
fn wrong_sizes_and_images_are_errors_that_name_them() {
    let good = mini().config;
    let refuse = |c: SwinConfig, part: &str| {
        let error = Swin::new(c).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    refuse(SwinConfig { heads: vec![3, 4], ..good.clone() }, "heads [3, 4]");
    refuse(SwinConfig { depths: vec![2], ..good.clone() }, "depths has 1");
    refuse(SwinConfig { depths: vec![2, 0], ..good.clone() }, "depths[1] is 0");
    refuse(SwinConfig { windows: vec![Window::Square(0); 2], ..good.clone() }, "windows[0] is 0");
    refuse(SwinConfig { patch: 0, ..good.clone() }, "patch is 0");
    refuse(SwinConfig { mlp_ratio: f64::NAN, ..good.clone() }, "mlp_ratio");
    refuse(SwinConfig { stochastic_depth: 1.0, ..good.clone() }, "stochastic_depth is 1");
    refuse(SwinConfig { dims: vec![], ..good }, "dims has 0 stages");

    let swin = mini();
    let p = Params::init(&swin.specs(), 1, CPU).unwrap();
    for shape in [&[1, 32, 32, 4][..], &[1, 3, 32, 3], &[32, 32, 3]] {
        let image = uniform("image", shape, DType::F32, CPU).unwrap();
        let error = swin.forward(&p, &image, None).unwrap_err().to_string();
        assert!(error.contains(&format!("{shape:?}")), "{error}");
    }
}

#[test]
fn windows_are_numbers_or_pairs_and_unknown_keys_are_refused() {
    let text = r#"{"patch": 4, "dims": [8, 16], "depths": [1, 1], "heads": [1, 2], "windows": [4, [2, 8]]}"#;
    let c: SwinConfig = serde_json::from_str(text).unwrap();
    assert_eq!(c.windows, [Window::Square(4), Window::Rectangle([2, 8])]);
    assert_eq!((c.in_channels, c.mlp_ratio, c.classes), (3, 4.0, None));
    let again: SwinConfig = serde_json::from_str(&serde_json::to_string(&c).unwrap()).unwrap();
    assert_eq!(c, again);
    let unknown = text.replacen("patch", "path", 1);
    assert!(serde_json::from_str::<SwinConfig>(&unknown).unwrap_err().to_string().contains("path"));
}
