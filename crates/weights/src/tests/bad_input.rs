//! Each kind of bad file gives its error, in one line that names the file and the reason.

use std::fs;
use std::path::Path;

use super::{forge, golden};
use crate::{Archive, Array, Dtype, FloatDtype, WeightsError};

/// The error of reading `bytes`, held to name the file in one line.
fn error_of(bytes: &[u8]) -> WeightsError {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.pt");
    fs::write(&path, bytes).unwrap();
    named(Archive::read(&path).unwrap_err(), &path)
}

fn named(error: WeightsError, path: &Path) -> WeightsError {
    let line = error.to_string();
    assert!(line.contains(&path.display().to_string()), "{line}");
    assert!(!line.contains('\n'), "{line}");
    error
}

macro_rules! assert_error {
    ($error:expr, $variant:ident, $part:expr) => {
        let error = $error;
        let line = error.to_string();
        assert!(matches!(error, WeightsError::$variant { .. }), "{line}");
        assert!(line.contains($part), "{line}");
    };
}

#[test]
fn missing_empty_and_not_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let absent = folder.path().join("absent.pt");
    assert_error!(named(Archive::read(&absent).unwrap_err(), &absent), Missing, "no such file");
    assert_error!(error_of(b""), Empty, "empty");
    let error = Archive::read(folder.path()).unwrap_err();
    assert_error!(named(error, folder.path()), Read, "a folder, not a file");
}

#[test]
fn files_of_other_kinds_are_named() {
    assert_error!(error_of(b"\x89PNG\r\n\x1a\n...."), NotACheckpoint, "PNG");
    assert_error!(error_of(b"<!doctype html><title>404"), NotACheckpoint, "HTML");
    assert_error!(error_of(b"Not Found"), NotACheckpoint, "looks like text");
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
    assert_error!(error_of(pointer), NotACheckpoint, "git lfs pull");
    let zip = forge::zip(&[("word/document.xml", b"<xml/>")]);
    assert_error!(error_of(&zip), NotACheckpoint, "zip archive of `word/document.xml` without data.pkl");
    assert_error!(error_of(b"\x80\x02}X\x01\0\0\0aK\x01s."), NotACheckpoint, "without any tensor");
    assert_error!(error_of(b"\x80\x02]K\x01a."), NotACheckpoint, "no named tensors");
    assert_error!(error_of(&[7; 600]), NotACheckpoint, "binary data");
}

#[test]
fn truncated_files_say_so() {
    for name in ["stylegan2_tiny_64px.safetensors", "stylegan2_tiny_64px.pt"] {
        let whole = fs::read(golden(&format!("checkpoints/{name}"))).unwrap();
        for length in [whole.len() - 1, whole.len() / 2, 3000, 100] {
            assert_error!(error_of(&whole[..length]), Truncated, "truncated");
        }
    }
}

#[test]
fn safetensors_headers_that_lie_are_refused_without_allocating() {
    let huge = format!(r#"{{"x":{{"dtype":"F32","shape":[{0}],"data_offsets":[0,{1}]}}}}"#, 1u64 << 50, 1u64 << 52);
    assert_error!(error_of(&forge::safetensors(&huge, 8)), Truncated, "8 of 4503599627370496");
    let overflow = r#"{"x":{"dtype":"F32","shape":[18446744073709551615,4],"data_offsets":[0,8]}}"#;
    assert_error!(error_of(&forge::safetensors(overflow, 8)), Malformed, "overflow");
    let disagree = r#"{"x":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#;
    assert_error!(error_of(&forge::safetensors(disagree, 8)), Malformed, "invalid shape");
    let overlap =
        r#"{"x":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},"y":{"dtype":"U8","shape":[8],"data_offsets":[4,12]}}"#;
    assert_error!(error_of(&forge::safetensors(overlap, 12)), Malformed, "invalid offset");
    let fits = r#"{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    assert_error!(error_of(&forge::safetensors(fits, 9)), Malformed, "1 bytes follow");
    assert_error!(error_of(&forge::safetensors(r#"{"x":"#, 8)), Malformed, "header");

    let mut lying = forge::safetensors(fits, 8);
    lying[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_error!(error_of(&lying), Malformed, "18446744073709551615");
    lying[..8].copy_from_slice(&90_000_000u64.to_le_bytes());
    assert_error!(error_of(&lying), Truncated, "of 90000000 bytes");
}

#[test]
fn element_types_that_are_not_read_are_named() {
    let complex = r#"{"x":{"dtype":"C64","shape":[1],"data_offsets":[0,8]}}"#;
    assert_error!(error_of(&forge::safetensors(complex, 8)), Unsupported, "`x` is of type C64");
    let pickle = forge::pickle_of_one_tensor("ComplexFloatStorage", 1, &[1], &[1]);
    assert_error!(error_of(&forge::torch(&pickle, &[0; 8])), Unsupported, "ComplexFloatStorage");
}

#[test]
fn torch_views_that_claim_more_than_the_file_are_refused() {
    // Four bytes seen with stride 0 as a gigabyte.
    let pickle = forge::pickle_of_one_tensor("FloatStorage", 1, &[1 << 14, 1 << 14], &[0, 0]);
    assert_error!(error_of(&forge::torch(&pickle, &[0; 4])), Malformed, "claim 1073741824 bytes");
    // A storage longer than its data.
    let pickle = forge::pickle_of_one_tensor("FloatStorage", 64, &[64], &[1]);
    assert_error!(error_of(&forge::torch(&pickle, &[0; 4])), Truncated, "only 1 are available");
}

#[test]
fn tensors_pickled_inside_objects_are_explained() {
    // What pickle.dump makes of a module: the storage is a call of torch.storage._load_from_bytes.
    let pickle = b"\x80\x02}U\x01wctorch._utils\n_rebuild_tensor_v2\n(ctorch.storage\n_load_from_bytes\n\
        U\x01x\x85RK\x00K\x01\x85K\x01\x85\x89}tRs.";
    assert_error!(error_of(pickle), Unsupported, "torch.save a state_dict");
}

#[test]
fn a_pickle_that_wants_to_run_code_runs_none() {
    let folder = tempfile::tempdir().unwrap();
    let victim = folder.path().join("victim");
    let command = format!("touch {}", victim.display());
    let mut pickle = b"\x80\x02cposix\nsystem\nX".to_vec();
    pickle.extend((command.len() as u32).to_le_bytes());
    pickle.extend(command.as_bytes());
    pickle.extend(b"\x85R.");
    assert_error!(error_of(&pickle), NotACheckpoint, "pickle");
    assert!(!victim.exists());
}

#[test]
fn names_with_line_breaks_stay_in_one_line() {
    let header = r#"{"a\nb":{"dtype":"C64","shape":[1],"data_offsets":[0,8]}}"#;
    assert_error!(error_of(&forge::safetensors(header, 8)), Unsupported, r"a\nb");
}

#[test]
fn nan_weights_are_named() {
    let mut archive = Archive::new();
    for i in 0..12 {
        let values = vec![1.0, f32::NAN, f32::INFINITY];
        archive.arrays.insert(format!("w{i:02}"), Array::new(vec![3], values).unwrap());
    }
    archive.arrays.insert("fine".into(), Array::new(vec![1], vec![1.0]).unwrap());
    let line = archive.check_finite().unwrap_err().to_string();
    assert!(line.starts_with("weights in memory: NaN or infinite values in w00 (2 of 3), w01"), "{line}");
    assert!(line.ends_with("w07 (2 of 3) and 4 more"), "{line}");
}

#[test]
fn missing_surplus_and_misshaped_names_are_listed() {
    let archive = Archive::read(golden("checkpoints/stylegan2_tiny_64px.safetensors")).unwrap();
    let mut expected: Vec<(String, Vec<usize>)> =
        archive.arrays.iter().map(|(name, array)| (name.clone(), array.shape.clone())).collect();
    archive.match_names(&expected).unwrap();

    expected.retain(|(name, _)| name != "latent_avg");
    expected.push(("w_avg".into(), vec![16]));
    let bent = expected.iter_mut().find(|(name, _)| name == "g_ema.style.1.weight").unwrap();
    bent.1 = vec![16, 32];
    let WeightsError::Names(names) = archive.match_names(&expected).unwrap_err() else {
        panic!("another error");
    };
    assert_eq!(names.missing, ["w_avg"]);
    assert_eq!(names.surplus, ["latent_avg"]);
    let line = names.to_string();
    assert!(line.contains("stylegan2_tiny_64px.safetensors: "), "{line}");
    let tail = "; 1 missing: w_avg; 1 surplus: latent_avg; \
        1 misshaped: g_ema.style.1.weight is [16, 16], expected [16, 32]";
    assert!(line.ends_with(tail), "{line}");

    let nothing: [(&str, [usize; 0]); 0] = [];
    let line = archive.match_names(&nothing).unwrap_err().to_string();
    assert!(line.contains("126 surplus: ") && line.ends_with(" and 118 more"), "{line}");
    assert!(archive.get("absent").unwrap_err().to_string().contains("1 missing: absent"));
}

#[test]
fn values_that_do_not_fit_are_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let mut archive = Archive::new();
    archive.arrays.insert("big".into(), Array::new(vec![2], vec![1.0, 7e4]).unwrap());
    let error = archive.write(&path, FloatDtype::F16).unwrap_err();
    assert_error!(named(error, &path), NotRepresentable, "70000.0 in `big` does not fit F16");
    archive.write(&path, FloatDtype::Bf16).unwrap();

    let mut index = Array::new(vec![1], vec![0.5]).unwrap();
    index.dtype = Dtype::I64;
    archive.arrays.insert("index".into(), index);
    let error = archive.write(&path, FloatDtype::F32).unwrap_err();
    assert_error!(error, NotRepresentable, "does not fit I64");

    archive.arrays.get_mut("index").unwrap().data.clear();
    assert_error!(archive.write(&path, FloatDtype::F32).unwrap_err(), Shape, "has 0 values");
    assert!(Array::new(vec![usize::MAX, 2], vec![]).is_err());
    // The one good write is still there, alone.
    assert_eq!(Archive::read(&path).unwrap().arrays.len(), 1);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
