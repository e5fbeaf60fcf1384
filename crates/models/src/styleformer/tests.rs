//! The encoder's shapes, gradients and switches.

use swinstyle_kit::testing::{assert_close, distance, first_order_error, uniform};
use swinstyle_tensor::{DType, Device, Tensor, grad};

use super::{Head, Level, PRESETS, Styleformer, StyleformerConfig, map2style};
use crate::{ModelError, Params, Spec, swin::Window};

const CPU: Device = Device::Cpu;
pub(super) const HEADS: [Head; 3] = [Head::LearnableQuery, Head::SelfAttention, Head::Convolution];

/// Four stages on 32 px: maps of 16², 8², 4² and a last stage of 2².
pub(super) fn miniature(head: Head, multi_scale: bool) -> StyleformerConfig {
    let mut c = StyleformerConfig::preset("face256").unwrap();
    (c.image_size, c.generator_size, c.style_dim, c.multi_scale) = (32, 64, 5, multi_scale);
    c.backbone.patch = 2;
    c.backbone.dims = vec![4, 6, 8, 12];
    c.backbone.depths = vec![1, 1, 2, 1];
    c.backbone.heads = vec![1, 2, 2, 3];
    c.backbone.windows = [4, 4, 2, 2].map(Window::Square).to_vec();
    c.backbone.stochastic_depth = 0.0;
    (c.map2style.head, c.map2style.width, c.map2style.heads) = (head, 8, 2);
    c
}

pub(super) fn images(batch: usize, c: &StyleformerConfig, dtype: DType) -> Tensor {
    uniform("images", &[batch, c.image_size, c.image_size, c.backbone.in_channels], dtype, CPU).unwrap()
}

pub(super) fn fresh(encoder: &Styleformer) -> Params {
    Params::init(&encoder.specs(), 1, CPU).unwrap()
}

#[test]
fn in_half_types_the_codes_stay_close_to_those_in_f32_and_gradients_reach_the_f32_weights() {
    for head in HEADS {
        let encoder = Styleformer::new(miniature(head, true)).unwrap();
        let (masters, x) = (fresh(&encoder).leaves(|_| true), images(2, &encoder.config, DType::F32));
        let expected = encoder.forward(&masters, &x, None).unwrap().offsets.to_vec_f64().unwrap();
        for (dtype, limit) in [(DType::F16, 5e-3), (DType::BF16, 5e-2)] {
            let half = masters.to_dtype(dtype, |_| false).unwrap();
            let codes = encoder.forward(&half, &x, None).unwrap().offsets;
            assert_eq!(codes.dtype(), DType::F32);
            let error = distance(&codes.to_vec_f64().unwrap(), &expected);
            assert!(error > 0.0 && error < limit, "{head:?} in {dtype}: {error:e}");
            let weight = masters.get("backbone.features.0.0.weight").unwrap();
            let g = grad(&[(&codes.square().unwrap(), None)], &[weight], false).unwrap().remove(0).unwrap();
            assert!(g.dtype() == DType::F32 && g.to_vec().unwrap().iter().any(|v| *v != 0.0));
        }
    }
}

#[test]
fn presets_are_valid_and_have_the_styles_levels_and_sizes_of_their_generators() {
    let expected = [
        ("avatar64", 10, [8, 16, 32]),
        ("avatar64-cpu", 10, [8, 16, 32]),
        ("face256", 14, [16, 32, 64]),
        ("face1024", 18, [16, 32, 64]),
    ];
    for (name, styles, sides) in expected {
        let c = StyleformerConfig::preset(name).unwrap();
        assert_eq!(c.preset_name(), Some(name));
        let encoder = Styleformer::new(c.clone()).unwrap();
        let levels = c.levels();
        assert_eq!(c.n_styles(), styles);
        assert_eq!(levels.iter().map(|l| l.side).collect::<Vec<_>>(), sides);
        assert_eq!(levels.iter().map(|l| l.styles.clone()).collect::<Vec<_>>(), [0..3, 3..7, 7..styles]);
        let again: StyleformerConfig = serde_json::from_str(&serde_json::to_string(&c).unwrap()).unwrap();
        assert_eq!(c, again);
        let count: usize = encoder.specs().iter().map(|s| s.shape.iter().product::<usize>()).sum();
        let millions = count as f64 / 1e6;
        if name == "avatar64-cpu" {
            assert!((3.0..3.5).contains(&millions), "{millions}");
        }
    }
    assert_eq!(PRESETS, expected.map(|e| e.0));
    assert!(StyleformerConfig::preset("face512").unwrap_err().to_string().contains("avatar64-cpu"));
}

#[test]
fn each_preset_made_narrow_gives_a_style_a_layer() {
    for name in PRESETS {
        let mut c = StyleformerConfig::preset(name).unwrap();
        // The same stages, heads' steps and windows, with few channels and pixels.
        c.image_size = 16 * c.backbone.patch;
        c.style_dim = 7;
        c.backbone.dims.iter_mut().zip(&c.backbone.heads).for_each(|(d, h)| *d = 2 * h);
        c.backbone.depths.iter_mut().for_each(|d| *d = 2);
        (c.map2style.width, c.map2style.heads) = (8, 2);
        let encoder = Styleformer::new(c.clone()).unwrap();
        let y = encoder.forward(&fresh(&encoder), &images(2, &c, DType::F32), None).unwrap();
        assert_eq!(y.offsets.shape(), [2, c.n_styles(), 7], "{name}");
        let sides: Vec<usize> = y.maps.iter().map(|m| m.shape()[1]).collect();
        assert_eq!(sides, [4, 8, 16]);
        assert_eq!(y.backbone.pooled.shape(), [2, *c.backbone.dims.last().unwrap()]);
    }
}

#[test]
fn every_parameter_has_a_gradient_with_every_switch() {
    for (head, multi_scale) in HEADS.iter().flat_map(|&h| [(h, true), (h, false)]) {
        let mut c = miniature(head, multi_scale);
        c.map2style.shared_trunk = !multi_scale;
        let encoder = Styleformer::new(c).unwrap();
        let p = fresh(&encoder).leaves(|_| true);
        let y = encoder.forward(&p, &images(2, &encoder.config, DType::F32), None).unwrap().offsets;
        let leaves: Vec<&Tensor> = p.iter().map(|(_, t)| t).collect();
        let cotangent = uniform("cotangent", y.shape(), DType::F32, CPU).unwrap();
        let grads = grad(&[(&y, Some(&cotangent))], &leaves, false).unwrap();
        for ((name, _), g) in p.iter().zip(grads) {
            let g = g.unwrap_or_else(|| panic!("{head:?} {multi_scale}: {name} has no gradient")).to_vec().unwrap();
            assert!(g.iter().all(|v| v.is_finite()) && g.iter().any(|v| *v != 0.0), "{head:?} {multi_scale}: {name}");
        }
    }
}

#[test]
fn gradients_match_finite_differences_with_every_head() {
    for (head, multi_scale, shared) in
        [(HEADS[0], true, false), (HEADS[0], true, true), (HEADS[1], false, false), (HEADS[2], true, false)]
    {
        let mut c = miniature(head, multi_scale);
        // One style in the fine level.
        (c.generator_size, c.backbone.depths, c.map2style.shared_trunk) = (32, vec![1; 4], shared);
        let encoder = Styleformer::new(c.clone()).unwrap();
        let specs = encoder.specs();
        let mut inputs = vec![images(1, &c, DType::F64)];
        let parameter = |s: &Spec| uniform(&s.name, &s.shape, DType::F64, CPU).unwrap();
        inputs.extend(specs.iter().map(parameter));
        let error = first_order_error(
            &|xs| {
                let p: Params = specs.iter().zip(&xs[1..]).map(|(s, x)| (s.name.clone(), x.clone())).collect();
                match encoder.forward(&p, &xs[0], None) {
                    Ok(y) => Ok(y.offsets),
                    Err(ModelError::Tensor(e)) => Err(e),
                    Err(e) => panic!("{e}"),
                }
            },
            &inputs,
        );
        assert!(error.as_ref().is_ok_and(|&e| e < 1e-5), "{head:?}: {error:?}");
    }
}

#[test]
fn heads_run_together_give_what_each_gives_alone() {
    for head in [Head::LearnableQuery, Head::SelfAttention] {
        let c = miniature(head, true);
        let encoder = Styleformer::new(c.clone()).unwrap();
        let p = fresh(&encoder);
        let level = Level { name: "medium", stage: 1, side: 8, styles: 3..7 };
        let map = uniform("map", &[3, 8, 8, 8], DType::F32, CPU).unwrap();
        let together = map2style::forward(&c.map2style, &p, &level, &map).unwrap();
        assert_eq!(together.shape(), [3, 4, 5]);
        for g in 0..4 {
            let own: Params = p
                .iter()
                .filter(|(n, _)| n.starts_with("heads.medium."))
                .map(|(n, t)| (n.clone(), t.slice(0, g, 1).unwrap()))
                .collect();
            let single = Level { styles: 3 + g..4 + g, ..level.clone() };
            let alone = map2style::forward(&c.map2style, &own, &single, &map).unwrap();
            assert_close(&format!("{head:?} head {g}"), &together.slice(1, g, 1).unwrap(), &alone, 1e-5);
        }
    }
}

#[test]
fn a_shared_trunk_gives_what_the_papers_heads_give_with_its_weights_in_each() {
    for head in [Head::LearnableQuery, Head::SelfAttention] {
        let mut c = miniature(head, true);
        c.map2style.shared_trunk = true;
        let encoder = Styleformer::new(c.clone()).unwrap();
        let p = fresh(&encoder);
        let mut apart = c.clone();
        apart.map2style.shared_trunk = false;
        // Stacked as often as each head of its own needs it.
        let repeated: Params = Styleformer::new(apart.clone())
            .unwrap()
            .specs()
            .iter()
            .map(|s| (s.name.clone(), p.get(&s.name).unwrap().broadcast_to(&s.shape).unwrap()))
            .collect();
        let count = |p: &Params| p.iter().map(|(_, t)| t.shape().iter().product::<usize>()).sum::<usize>();
        assert!(count(&p) < count(&repeated));
        for level in c.levels() {
            let map = uniform("map", &[3, level.side, level.side, 8], DType::F32, CPU).unwrap();
            let shared = map2style::forward(&c.map2style, &p, &level, &map).unwrap();
            let own = map2style::forward(&apart.map2style, &repeated, &level, &map).unwrap();
            assert_close(&format!("{head:?} {}", level.name), &shared, &own, 1e-5);
        }
    }
}

#[test]
fn an_image_is_encoded_alike_alone_and_in_a_batch_and_twice_to_the_bit() {
    for head in HEADS {
        let encoder = Styleformer::new(miniature(head, true)).unwrap();
        let p = fresh(&encoder);
        let batch = images(3, &encoder.config, DType::F32);
        let run = |x: &Tensor| encoder.forward(&p, x, None).unwrap().offsets;
        let all = run(&batch);
        assert_eq!(all.to_vec().unwrap(), run(&batch).to_vec().unwrap());
        for i in 0..3 {
            assert_close("alone", &run(&batch.slice(0, i, 1).unwrap()), &all.slice(0, i, 1).unwrap(), 1e-5);
        }
    }
}

#[test]
fn a_fresh_encoder_starts_near_the_average() {
    let encoder = Styleformer::new(StyleformerConfig::preset("avatar64-cpu").unwrap()).unwrap();
    let p = fresh(&encoder);
    let x = images(1, &encoder.config, DType::F32);
    let w_avg = uniform("w_avg", &[64], DType::F32, CPU).unwrap();
    let w = encoder.encode(&p, &x, &w_avg).unwrap();
    assert_eq!(w.shape(), [1, 10, 64]);
    let distance = w.sub(&w_avg).unwrap().square().unwrap().mean_all().unwrap().item().unwrap().sqrt();
    assert!(distance > 1e-4 && distance < 0.2, "{distance}");
    let layers = uniform("w_avg", &[10, 64], DType::F32, CPU).unwrap();
    assert!(encoder.encode(&p, &x, &layers).is_ok());
    assert!(
        encoder
            .encode(&p, &x, &uniform("w", &[65], DType::F32, CPU).unwrap())
            .unwrap_err()
            .to_string()
            .contains("[65]")
    );
}

#[test]
fn a_generator_without_fine_styles_needs_no_fine_map() {
    let mut c = miniature(Head::LearnableQuery, true);
    c.generator_size = 16;
    let encoder = Styleformer::new(c.clone()).unwrap();
    assert_eq!(c.levels().len(), 2);
    assert!(encoder.specs().iter().all(|s| !s.name.starts_with("lateral.0") && !s.name.starts_with("heads.fine")));
    let y = encoder.forward(&fresh(&encoder), &images(1, &c, DType::F32), None).unwrap();
    assert_eq!(y.offsets.shape(), [1, 6, 5]);
}

#[test]
fn wrong_sizes_and_images_are_errors_that_name_them() {
    let good = miniature(Head::LearnableQuery, true);
    let refuse = |change: &dyn Fn(&mut StyleformerConfig), part: &str| {
        let mut c = good.clone();
        change(&mut c);
        let error = Styleformer::new(c).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    refuse(&|c| c.image_size = 48, "image_size 48");
    refuse(&|c| c.image_size = 16, "image_size 16");
    refuse(&|c| c.generator_size = 100, "generator_size 100");
    refuse(&|c| c.style_dim = 0, "style_dim is 0");
    refuse(&|c| c.map2style.heads = 3, "map2style.heads 3");
    refuse(&|c| c.map2style.window = 3, "map2style.window 3");
    refuse(&|c| c.map2style.mlp_ratio = -1.0, "map2style.mlp_ratio is -1");
    refuse(&|c| c.backbone.classes = Some(10), "backbone.classes 10");
    refuse(&|c| c.backbone.patch = 0, "patch is 0");
    let two = |c: &mut StyleformerConfig| {
        c.backbone.dims.truncate(2);
        c.backbone.depths.truncate(2);
        c.backbone.heads.truncate(2);
        c.backbone.windows.truncate(2);
    };
    refuse(&two, "three stages");

    let encoder = Styleformer::new(good).unwrap();
    let image = uniform("image", &[1, 64, 64, 3], DType::F32, CPU).unwrap();
    assert!(encoder.forward(&fresh(&encoder), &image, None).unwrap_err().to_string().contains("[1, 64, 64, 3]"));

    let text = serde_json::to_string(&encoder.config).unwrap().replacen("style_dim", "style_dims", 1);
    assert!(serde_json::from_str::<StyleformerConfig>(&text).unwrap_err().to_string().contains("style_dims"));
}
