//! Numbers in the header of a model file that no network has: one line with the file, the key and the range, before anything is allocated.

use std::time::Instant;

use serde_json::json;

use super::*;
use crate::{Lineage, stylegan2::Channels};

/// A model file of 8 px, as [`Model::save`] writes it.
fn model_file(path: &Path) -> Archive {
    let channels = Channels(vec![4, 4]);
    let config = GeneratorConfig { size: 8, style_dim: 4, mapping_layers: 1, mapping_lr_multiplier: 0.01, channels };
    let generator = Generator::new(config).unwrap();
    let generator_params = Params::init(&generator.specs(), 1, Device::Cpu).unwrap();
    let w_avg = Tensor::from_vec(vec![0.0; 4], &[4], Device::Cpu).unwrap();
    let (header, lineage) = (CheckpointHeader::default(), Lineage::default());
    let model = Model { generator, generator_params, w_avg, encoder: None, discriminator: None, header, lineage };
    model.save(path, FloatDtype::F32).unwrap();
    Archive::read(path).unwrap()
}

/// The refusal of the file with one number of its configuration changed.
fn refusal(path: &Path, archive: &Archive, key: &str, value: Value) -> String {
    let mut header = archive.header().unwrap().unwrap();
    let part = header.config.pointer_mut(key).unwrap_or_else(|| panic!("{key}"));
    *part = value;
    let mut changed = archive.clone();
    changed.set_header(&header);
    changed.write(path, FloatDtype::F32).unwrap();
    let begun = Instant::now();
    let line = Model::load(path, Device::Cpu).unwrap_err().to_string();
    assert!(begun.elapsed().as_secs_f64() < 1.0, "{key} took {:?}", begun.elapsed());
    assert!(line.starts_with(&path.display().to_string()) && !line.contains('\n'), "{line}");
    line
}

#[test]
fn numbers_that_no_generator_has_are_refused_with_file_key_and_range() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let archive = model_file(&path);
    Model::load(&path, Device::Cpu).unwrap();
    for (key, value, parts) in [
        ("/generator/mapping_layers", json!(1_000_000_000_u64), &["mapping_layers is 1000000000", "from 0 to 64"][..]),
        ("/generator/mapping_layers", json!(1_u64 << 62), &["mapping_layers is", "from 0 to 64"]),
        ("/generator/mapping_layers", json!(u64::MAX), &["mapping_layers"]),
        ("/generator/mapping_layers", json!(0), &["mapping_layers is 0", "from 1 to 64"]),
        ("/generator/mapping_layers", json!(-1), &["mapping_layers in the file's configuration", "-1"]),
        ("/generator/mapping_layers", json!(1.5), &["mapping_layers", "1.5"]),
        ("/generator/mapping_layers", Value::Null, &["mapping_layers", "null"]),
        (
            "/generator/mapping_lr_multiplier",
            json!(1e308),
            &["mapping_lr_multiplier is 1e308; it must be from 1e-6 to 100.0"],
        ),
        ("/generator/mapping_lr_multiplier", json!(-0.01), &["mapping_lr_multiplier is -0.01"]),
        ("/generator/mapping_lr_multiplier", json!(0), &["mapping_lr_multiplier is 0"]),
        ("/generator/style_dim", json!(0), &["style_dim is 0", "from 1 to 16384"]),
        ("/generator/style_dim", json!(1_u64 << 40), &["style_dim is 1099511627776"]),
        ("/generator/size", json!(1_u64 << 50), &["size is 1125899906842624", "from 8 to 4096"]),
        ("/generator/size", json!(48), &["size 48 is not a power of two"]),
        ("/generator/channels/1", json!(1_u64 << 61), &["channels[1] is", "from 1 to 65536"]),
        ("/generator/channels/0", json!("many"), &["channels[0] in the file's configuration"]),
    ] {
        let line = refusal(&path, &archive, key, value);
        assert!(parts.iter().all(|part| line.contains(part)), "{key}: {line}");
    }
}

#[test]
fn sizes_that_are_not_those_of_the_tensors_name_the_tensors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let archive = model_file(&path);
    for (key, value, part) in [
        // In range, and hundreds of gigabytes if it were believed.
        ("/generator/style_dim", json!(16_384), "style.1.weight is [4, 4], expected [16384, 16384]"),
        ("/generator/mapping_layers", json!(64), "126 missing: style.10.bias"),
        ("/generator/channels/0", json!(16_384), "misshaped: "),
    ] {
        let line = refusal(&path, &archive, key, value);
        assert!(line.contains("the tensors do not fit the model") && line.contains(part), "{key}: {line}");
    }
}

#[test]
fn a_checkpoint_of_the_port_without_noise_maps_is_read_with_zeros_and_a_note() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let native = model_file(&path);
    let mut foreign = Archive::new();
    for (name, array) in &native.arrays {
        if let Some(name) = name.strip_prefix("generator.").filter(|n| !n.starts_with("noises.")) {
            foreign.arrays.insert(format!("g_ema.{name}"), array.clone());
        }
    }
    foreign.write(&path, FloatDtype::F32).unwrap();
    let model = Model::load(&path, Device::Cpu).unwrap();
    let maps: Vec<f32> = (0..3)
        .flat_map(|i| model.generator_params.get(&format!("noises.noise_{i}")).unwrap().to_vec().unwrap())
        .collect();
    assert_eq!((maps.len(), maps.iter().all(|&v| v == 0.0)), (16 + 64 + 64, true));
    let notes = swinstyle_files::take_notes();
    assert!(notes.iter().any(|n| n.contains("no noise maps") && n.contains("model.safetensors")), "{notes:?}");
    // Some of them are a damaged file.
    foreign.arrays.insert("g_ema.noises.noise_0".into(), native.arrays["generator.noises.noise_0"].clone());
    foreign.write(&path, FloatDtype::F32).unwrap();
    assert!(Model::load(&path, Device::Cpu).unwrap_err().to_string().contains("missing: noises.noise_1"));
}
