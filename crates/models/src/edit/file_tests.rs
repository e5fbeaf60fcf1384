//! Files of codes and directions: what is in them comes back, by its shape and for the generator that it belongs to.

use std::path::{Path, PathBuf};

use swinstyle_tensor::Device;
use swinstyle_weights::{Archive, Array, Dtype, FloatDtype};

use super::{
    Direction, read_code, sefa,
    tests::{D, model},
    write_code,
};
use crate::{Kinship, LINEAGE, Model, Params};

const STYLES: usize = 6;

/// A file of somebody else: one tensor, no words.
fn foreign(folder: &Path, shape: &[usize], value: f32) -> PathBuf {
    let path = folder.join("smile.safetensors");
    let mut archive = Archive::new();
    let n: usize = shape.iter().product();
    archive.arrays.insert("whatever".into(), Array::new(shape.to_vec(), vec![value; n]).unwrap());
    archive.write(&path, FloatDtype::F32).unwrap();
    path
}

#[test]
fn truth_values_are_no_direction_and_no_code() {
    let (folder, m) = (tempfile::tempdir().unwrap(), model(7));
    let path = folder.path().join("mask.safetensors");
    let mut archive = Archive::new();
    let mask = Array { dtype: Dtype::Bool, ..Array::new(vec![D], vec![1.0; D]).unwrap() };
    archive.arrays.insert("mask".into(), mask);
    archive.write(&path, FloatDtype::F32).unwrap();
    for error in [
        Direction::read(&path, &m, true).map(drop).unwrap_err().to_string(),
        read_code(&path, &m, true).map(drop).unwrap_err().to_string(),
    ] {
        assert!(error.contains("mask.safetensors") && error.contains("truth values"), "{error}");
    }
}

/// Numbers that tell their places.
fn code() -> Array {
    Array::new(vec![STYLES, D], (0..STYLES * D).map(|i| i as f32).collect()).unwrap()
}

/// The model with all weights of its synthesis a little larger, as tuning leaves it.
fn tuned(m: &Model) -> Model {
    let larger = m.generator_params.iter().map(|(n, t)| (n.clone(), t.scale(1.01).unwrap()));
    m.with_generator(larger.collect::<Params>()).unwrap()
}

#[test]
fn directions_and_codes_come_back_and_only_for_their_generator() {
    let folder = tempfile::tempdir().unwrap();
    let (m, other) = (model(7), model(8));
    let (of_direction, of_code) = (folder.path().join("d.safetensors"), folder.path().join("c.safetensors"));
    let direction = sefa(&m, &(0..STYLES), 2, false).unwrap().remove(1);
    direction.write(&of_direction).unwrap();
    write_code(&of_code, code(), &m).unwrap();
    assert_eq!(Direction::read(&of_direction, &m, false).unwrap(), (direction.clone(), Kinship::Same));
    assert_eq!(read_code(&of_code, &m, false).unwrap(), (code(), Kinship::Same));
    let errors = [
        Direction::read(&of_direction, &other, false).map(drop).unwrap_err().to_string(),
        read_code(&of_code, &other, false).map(drop).unwrap_err().to_string(),
    ];
    for (error, name) in errors.iter().zip(["d.safetensors", "c.safetensors"]) {
        assert!(error.contains(name) && error.contains("another generator; --any-generator"), "{error}");
    }
    assert_eq!(Direction::read(&of_direction, &other, true).unwrap(), (direction.clone(), Kinship::Other));
    assert_eq!(read_code(&of_code, &other, true).unwrap(), (code(), Kinship::Other));
    // A direction's name becomes part of the names of files.
    let mut named = direction;
    named.about.name = "x/../../../EVIL2\u{1b}\n".into();
    named.write(&of_direction).unwrap();
    assert_eq!(Direction::read(&of_direction, &m, false).unwrap().0.about.name, "x_.._.._.._EVIL2");
}

#[test]
fn a_directions_name_is_made_safe_for_the_names_of_files() {
    let (folder, m) = (tempfile::tempdir().unwrap(), model(7));
    let path = folder.path().join("d.safetensors");
    let mut direction = sefa(&m, &(0..STYLES), 1, false).unwrap().remove(0);
    direction.about.name = "x/../../../EVIL2\u{1b}\n".into();
    direction.write(&path).unwrap();
    assert_eq!(Direction::read(&path, &m, false).unwrap().0.about.name, "x_.._.._.._EVIL2");
}

#[test]
fn files_of_others_are_taken_by_their_shape_alone() {
    let (folder, m) = (tempfile::tempdir().unwrap(), model(7));
    for shape in [vec![D], vec![1, D], vec![1, 1, D], vec![STYLES, D], vec![1, STYLES, D]] {
        let path = foreign(folder.path(), &shape, 0.5);
        let (d, kinship) = Direction::read(&path, &m, false).unwrap();
        assert_eq!((d.about.name.as_str(), d.about.layers.clone(), d.about.step), ("smile", 0..STYLES, 1.0));
        assert_eq!((d.vector.shape.last(), kinship), (Some(&D), Kinship::Unknown));
        let (code, kinship) = read_code(&path, &m, false).unwrap();
        assert_eq!((code.shape, code.data, kinship), (vec![STYLES, D], vec![0.5; STYLES * D], Kinship::Unknown));
    }
    let refused = |shape: &[usize], value: f32| -> [String; 2] {
        let path = foreign(folder.path(), shape, value);
        let direction = Direction::read(&path, &m, true).map(drop).unwrap_err().to_string();
        [direction, read_code(&path, &m, true).map(drop).unwrap_err().to_string()]
    };
    // The right number of numbers is not enough.
    for shape in
        [vec![D, STYLES], vec![STYLES * D], vec![2, STYLES / 2, D], vec![D, 1], vec![2, STYLES, D], vec![512], vec![]]
    {
        for error in refused(&shape, 0.5) {
            let named = error.contains("smile.safetensors") && error.contains(&format!("of shape {shape:?}"));
            assert!(named && error.contains("[6, 12]"), "{error}");
            assert_eq!(error.contains("swapped"), shape == [D, STYLES], "{error}");
        }
    }
    for (value, word) in [(f32::NAN, "NaN"), (f32::NEG_INFINITY, "-inf")] {
        assert!(refused(&[D], value).iter().all(|e| e.contains("smile.safetensors") && e.contains(word)));
    }
}

#[test]
fn a_code_is_no_direction_and_a_direction_no_code() {
    let (folder, m) = (tempfile::tempdir().unwrap(), model(7));
    let path = folder.path().join("x.safetensors");
    write_code(&path, code(), &m).unwrap();
    let error = Direction::read(&path, &m, true).map(drop).unwrap_err().to_string();
    assert!(error.contains("x.safetensors: this is a code, not a direction"), "{error}");
    // A code of an older version has no words beside the tensor.
    let mut old = Archive::new();
    old.arrays.insert("w_plus".into(), code());
    old.write(&path, FloatDtype::F32).unwrap();
    assert_eq!(read_code(&path, &m, false).unwrap(), (code(), Kinship::Unknown));
    assert!(Direction::read(&path, &m, true).map(drop).unwrap_err().to_string().contains("this is a code"));
    sefa(&m, &(0..STYLES), 1, false).unwrap()[0].write(&path).unwrap();
    let error = read_code(&path, &m, true).map(drop).unwrap_err().to_string();
    assert!(error.contains("x.safetensors: this is a direction, not a code"), "{error}");
    // What is neither says what would be one.
    std::fs::write(&path, b"<!DOCTYPE html><html>").unwrap();
    let error = Direction::read(&path, &m, true).map(drop).unwrap_err().to_string();
    assert!(error.contains("HTML") && error.contains("save_file({\"direction\": array}"), "{error}");
}

#[test]
fn a_tuned_generator_takes_what_was_made_for_its_parent_and_the_other_way_round() {
    let (folder, m) = (tempfile::tempdir().unwrap(), model(7));
    let child = tuned(&m);
    let grandchild = tuned(&child);
    assert_eq!(grandchild.lineage().unwrap().ancestors().len(), 2);
    let path = folder.path().join("d.safetensors");
    for (maker, users) in [(&m, [&child, &grandchild]), (&child, [&m, &grandchild])] {
        sefa(maker, &(0..STYLES), 1, false).unwrap()[0].write(&path).unwrap();
        for user in users {
            assert_eq!(Direction::read(&path, user, false).unwrap().1, Kinship::Relative);
        }
        write_code(&path, code(), maker).unwrap();
        for user in users {
            assert_eq!(read_code(&path, user, false).unwrap().1, Kinship::Relative);
        }
    }
}

#[test]
fn a_generator_keeps_its_name_and_its_ancestors_in_every_type_of_file() {
    let folder = tempfile::tempdir().unwrap();
    let (mut m, path) = (tuned(&model(7)), folder.path().join("m.safetensors"));
    let lineage = m.lineage().unwrap();
    for floats in [FloatDtype::F16, FloatDtype::F32, FloatDtype::Bf16] {
        m.save(&path, floats).unwrap();
        m = Model::load(&path, Device::Cpu).unwrap();
        assert_eq!(m.lineage().unwrap(), lineage, "{floats:?}");
    }
    // Rounded weights are others in their bits, but not by name.
    assert_ne!(m.generator_params.fingerprint().unwrap(), lineage.own());
    // A file without a lineage has the name of its weights; what is no lineage is an error.
    let mut archive = Archive::read(&path).unwrap();
    let mut header = archive.header().unwrap().unwrap();
    header.config[LINEAGE] = "a".into();
    archive.set_header(&header);
    assert!(Model::from_archive(&archive, Device::Cpu).unwrap_err().to_string().contains("lineage"));
    header.config.as_object_mut().unwrap().remove(LINEAGE);
    archive.set_header(&header);
    let nameless = Model::from_archive(&archive, Device::Cpu).unwrap();
    assert_eq!(nameless.lineage().unwrap().own(), nameless.generator_params.fingerprint().unwrap());
}
