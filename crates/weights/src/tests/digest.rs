//! Changed bits are noticed wherever they are; files of others and older ones are read as they are.

use std::collections::HashMap;
use std::fs;

use safetensors::SafeTensors;

use super::golden;
use crate::{Archive, Array, CheckpointHeader, Dtype, FloatDtype, WeightsError, verify};

fn small() -> Archive {
    let mut archive = Archive::new();
    let mut put = |name: &str, dtype, values: &[f32]| {
        let array = Array::new(vec![values.len()], values.to_vec()).unwrap();
        archive.arrays.insert(name.into(), Array { dtype, ..array });
    };
    put("a", Dtype::F32, &[0.5, -2.0]);
    put("b", Dtype::U8, &[1.0, 0.0, 7.0]);
    archive.metadata.insert("note".into(), "text".into());
    archive.set_header(&CheckpointHeader { step: 12, ..CheckpointHeader::default() });
    archive
}

#[test]
fn every_flipped_bit_of_a_file_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    small().write(&path, FloatDtype::F16).unwrap();
    let whole = fs::read(&path).unwrap();
    verify(&path).unwrap();
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            fs::write(&path, &bytes).unwrap();
            assert!(Archive::read(&path).is_err(), "byte {at}, bit {bit}");
            assert!(verify(&path).is_err(), "byte {at}, bit {bit}");
        }
    }
}

#[test]
fn a_changed_value_is_called_damage_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    small().write(&path, FloatDtype::F32).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 0x10;
    fs::write(&path, bytes).unwrap();
    let error = Archive::read(&path).unwrap_err();
    let line = error.to_string();
    assert!(matches!(error, WeightsError::Malformed { .. }) && error.is_damage(), "{line}");
    assert!(line.starts_with(&path.display().to_string()), "{line}");
    assert!(line.contains("bits have changed") && line.contains("fetch or make the file anew"), "{line}");
}

#[test]
fn the_same_content_in_another_order_has_the_same_digest() {
    let folder = tempfile::tempdir().unwrap();
    let (path, other) = (folder.path().join("a.safetensors"), folder.path().join("b.safetensors"));
    small().write(&path, FloatDtype::F16).unwrap();
    let bytes = fs::read(&path).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let metadata: HashMap<String, String> = header.metadata().clone().unwrap();
    assert!(metadata["swinstyle.digest"].starts_with("xxh3-128:"));
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut views = tensors.tensors();
    views.reverse();
    fs::write(&other, safetensors::serialize(views, Some(metadata)).unwrap()).unwrap();
    assert_eq!(Archive::read(&other).unwrap().arrays, Archive::read(&path).unwrap().arrays);
}

#[test]
fn files_without_a_digest_are_read_and_one_of_an_unknown_kind_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let foreign = Archive::read(golden("checkpoints/stylegan2_tiny_64px.safetensors")).unwrap();
    foreign.write(&path, FloatDtype::F32).unwrap();
    let read = Archive::read(&path).unwrap();
    assert_eq!((&read.arrays, &read.metadata), (&foreign.arrays, &foreign.metadata));
    let bytes = fs::read(&path).unwrap();
    let at = bytes.windows(8).position(|b| b == b"xxh3-128").unwrap();
    fs::write(&path, [&bytes[..at], b"sha3-512", &bytes[at + 8..]].concat()).unwrap();
    let line = Archive::read(&path).unwrap_err().to_string();
    assert!(line.contains("sha3-512") && line.contains("no digest that this version knows"), "{line}");
}

#[test]
fn a_header_of_many_tensors_is_refused_before_it_is_parsed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let name = "x".repeat(17 << 20);
    let header = format!(r#"{{"{name}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}}}"#);
    fs::write(&path, super::forge::safetensors(&header, 0)).unwrap();
    let line = Archive::read(&path).unwrap_err().to_string();
    assert!(line.contains("no network here has so many tensors"), "{line}");
}
