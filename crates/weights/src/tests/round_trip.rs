//! What is written is what is read, and the same content is the same bytes.

use half::{bf16, f16};
use safetensors::SafeTensors;

use super::forge;
use super::golden;
use crate::{Archive, Array, CheckpointHeader, DataSource, Dtype, FloatDtype, WeightsError};

fn small() -> Archive {
    let mut archive = Archive::new();
    let values = vec![0.0, -0.0, 1.0 / 3.0, 65504.0, -1e-8, f32::NAN];
    archive.arrays.insert("w".into(), Array::new(vec![2, 3], values).unwrap());
    let scalar = Array::new(vec![], vec![0.1]).unwrap();
    archive.arrays.insert("a \"scalar\" é".into(), scalar);
    archive.arrays.insert("none".into(), Array::new(vec![0, 4], vec![]).unwrap());
    let mut index = Array::new(vec![3], vec![0.0, 7.0, 4097.0]).unwrap();
    index.dtype = Dtype::I32;
    archive.arrays.insert("index".into(), index);
    let mut mask = Array::new(vec![2], vec![1.0, 0.0]).unwrap();
    mask.dtype = Dtype::Bool;
    archive.arrays.insert("mask".into(), mask);
    for i in 0..20 {
        archive.metadata.insert(format!("key{i}"), format!("value {i}\n"));
    }
    archive
}

#[test]
fn f32_comes_back_bit_for_bit_with_integers_and_metadata() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let written = small();
    written.write(&path, FloatDtype::F32).unwrap();
    let read = Archive::read(&path).unwrap();
    assert_eq!(read.metadata, written.metadata);
    assert_eq!(read.origin(), path.display().to_string());
    assert!(read.arrays.keys().eq(written.arrays.keys()));
    for (name, array) in &written.arrays {
        let found = &read.arrays[name];
        assert_eq!((&found.shape, found.dtype), (&array.shape, array.dtype), "{name}");
        let bits = |a: &Array| a.data.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(found), bits(array), "{name}");
    }
}

#[test]
fn f16_and_bf16_round_to_nearest_and_keep_integers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let written = small();
    let third = 1.0f32 / 3.0;
    for (floats, expected, dtype) in [
        (FloatDtype::F16, f16::from_f32(third).to_f32(), Dtype::F16),
        (FloatDtype::Bf16, bf16::from_f32(third).to_f32(), Dtype::Bf16),
    ] {
        written.write(&path, floats).unwrap();
        let read = Archive::read(&path).unwrap();
        let w = read.get("w").unwrap();
        assert_eq!((w.data[2], w.dtype), (expected, dtype));
        assert!(w.data[5].is_nan());
        assert_eq!(read.get("index").unwrap(), written.get("index").unwrap());
        // A second trip changes nothing more.
        read.write(&path, floats).unwrap();
        let again = Archive::read(&path).unwrap();
        assert_eq!(again.get("w").unwrap().data[..5], w.data[..5]);
    }
}

#[test]
fn the_same_content_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = |name: &str| {
        let path = folder.path().join(name);
        small().write(&path, FloatDtype::F16).unwrap();
        std::fs::read(path).unwrap()
    };
    assert_eq!(bytes("a"), bytes("b"));
}

#[test]
fn the_safetensors_crate_reads_what_is_written_and_finds_it_aligned() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    small().write(&path, FloatDtype::F16).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let (header, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(header % 8, 0);
    for (name, info) in metadata.tensors() {
        let element = info.dtype.bitsize() / 8;
        assert_eq!(info.data_offsets.0 % element, 0, "{name}");
    }
    let parsed = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(parsed.len(), 5);
    assert_eq!(parsed.tensor("mask").unwrap().data(), [1, 0]);
    assert_eq!(parsed.tensor("w").unwrap().data()[6..8], f16::from_f32(65504.0).to_le_bytes());
}

#[test]
fn a_large_tensor_is_written_in_chunks_without_a_seam() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let n = (1 << 17) + 3;
    let mut archive = Archive::new();
    let values = (0..n).map(|i| i as f32).collect();
    archive.arrays.insert("w".into(), Array::new(vec![n], values).unwrap());
    archive.write(&path, FloatDtype::F32).unwrap();
    assert_eq!(Archive::read(&path).unwrap().arrays, archive.arrays);
}

#[test]
fn a_torch_checkpoint_written_as_safetensors_is_its_twin() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let torch = Archive::read(golden("checkpoints/stylegan2_tiny_64px.pt")).unwrap();
    torch.write(&path, FloatDtype::F32).unwrap();
    let twin = Archive::read(golden("checkpoints/stylegan2_tiny_64px.safetensors")).unwrap();
    assert_eq!(Archive::read(&path).unwrap().arrays, twin.arrays);
}

#[test]
fn every_element_type_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("types");
    let cases: [(&str, Dtype, &[u8], f32); 13] = [
        ("F64", Dtype::F64, &(-2.5f64).to_le_bytes(), -2.5),
        ("F32", Dtype::F32, &(-2.5f32).to_le_bytes(), -2.5),
        ("F16", Dtype::F16, &f16::from_f32(-2.5).to_le_bytes(), -2.5),
        ("BF16", Dtype::Bf16, &bf16::from_f32(-2.5).to_le_bytes(), -2.5),
        ("I64", Dtype::I64, &(-70_000i64).to_le_bytes(), -70_000.0),
        ("I32", Dtype::I32, &(-70_000i32).to_le_bytes(), -70_000.0),
        ("I16", Dtype::I16, &(-700i16).to_le_bytes(), -700.0),
        ("I8", Dtype::I8, &[0xff], -1.0),
        ("U64", Dtype::U64, &70_000u64.to_le_bytes(), 70_000.0),
        ("U32", Dtype::U32, &70_000u32.to_le_bytes(), 70_000.0),
        ("U16", Dtype::U16, &60_000u16.to_le_bytes(), 60_000.0),
        ("U8", Dtype::U8, &[255], 255.0),
        ("BOOL", Dtype::Bool, &[1], 1.0),
    ];
    for (name, dtype, bytes, value) in cases {
        assert_eq!((dtype.name(), dtype.size()), (name, bytes.len()));
        let end = bytes.len();
        let header = format!(r#"{{"x":{{"dtype":"{name}","shape":[1],"data_offsets":[0,{end}]}}}}"#);
        let file = [forge::safetensors(&header, 0), bytes.to_vec()].concat();
        std::fs::write(&path, file).unwrap();
        let archive = Archive::read(&path).unwrap();
        let x = archive.get("x").unwrap();
        assert_eq!((x.dtype, x.data.as_slice()), (dtype, [value].as_slice()));
        if !dtype.is_float() {
            archive.write(&path, FloatDtype::F16).unwrap();
            assert_eq!(Archive::read(&path).unwrap().arrays, archive.arrays);
        }
    }
}

#[test]
fn strided_torch_tensors_are_read_in_logical_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("transposed.pt");
    let data: Vec<u8> = (0..6u8).flat_map(|v| f32::from(v).to_le_bytes()).collect();
    let pickle = forge::pickle_of_one_tensor("FloatStorage", 6, &[3, 2], &[1, 3]);
    std::fs::write(&path, forge::torch(&pickle, &data)).unwrap();
    let archive = Archive::read(&path).unwrap();
    let w = archive.get("w").unwrap();
    assert_eq!(w.shape, [3, 2]);
    assert_eq!(w.data, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
}

#[test]
fn half_precision_torch_tensors_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("half.pt");
    for (storage, data) in
        [("HalfStorage", f16::from_f32(-0.5).to_le_bytes()), ("BFloat16Storage", bf16::from_f32(-0.5).to_le_bytes())]
    {
        let pickle = forge::pickle_of_one_tensor(storage, 1, &[1], &[1]);
        std::fs::write(&path, forge::torch(&pickle, &data)).unwrap();
        assert_eq!(Archive::read(&path).unwrap().get("w").unwrap().data, [-0.5]);
    }
}

#[test]
fn numbers_and_strings_of_a_torch_file_become_metadata() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("opts.pt");
    let tensor = forge::pickle_of_one_tensor("FloatStorage", 1, &[1], &[1]);
    // {"w": tensor, "opts": {"stylegan_size": 1024, "device": "cuda", "none": None}}
    let opts = b"U\x04opts}(U\x0dstylegan_sizeM\x00\x04U\x06deviceU\x04cudaU\x04noneNus.";
    let pickle = [&tensor[..tensor.len() - 1], opts].concat();
    std::fs::write(&path, forge::torch(&pickle, &1f32.to_le_bytes())).unwrap();
    let archive = Archive::read(&path).unwrap();
    assert_eq!(archive.arrays.len(), 1);
    let metadata: Vec<_> = archive.metadata.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(metadata, [("opts.device", "cuda"), ("opts.stylegan_size", "1024")]);
}

fn header() -> CheckpointHeader {
    CheckpointHeader {
        architecture: "swinstyleformer".into(),
        preset: "avatar64".into(),
        config: serde_json::json!({"windows": [4, 4, 8], "lr": 1e-4}),
        step: 12_000,
        images_seen: 192_000,
        data: DataSource {
            description: "avataaars, 64 px".into(),
            licence: "free for personal and commercial use".into(),
            attribution: "Pablo Stanley".into(),
        },
        seed: u64::MAX,
        created_by: "swinstyle 0.1.0".into(),
    }
}

#[test]
fn the_header_comes_back_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let mut archive = small();
    archive.set_header(&header());
    archive.write(&path, FloatDtype::F16).unwrap();
    assert_eq!(Archive::read(&path).unwrap().header().unwrap(), Some(header()));
}

#[test]
fn a_header_of_another_version_is_read_and_a_broken_one_is_an_error() {
    let mut archive = Archive::new();
    let put = |archive: &mut Archive, json: &str| {
        archive.metadata.insert("swinstyle".into(), json.into());
    };
    put(&mut archive, r#"{"preset": "face256", "a_later_key": [1], "data": {"url": "x"}}"#);
    let found = archive.header().unwrap().unwrap();
    assert_eq!((found.preset.as_str(), found.step), ("face256", 0));
    put(&mut archive, r#"{"step": "many"}"#);
    assert!(matches!(archive.header(), Err(WeightsError::Malformed { .. })));
}
