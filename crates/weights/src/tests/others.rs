//! Files of other tools: arrays of NumPy, torch files without names, and what is refused by its name.

use std::fs;
use std::path::Path;

use super::forge;
use crate::{Archive, Array, Dtype, WeightsError};

/// A `.npy` file as NumPy 1 and 2 write it.
fn npy(descr: &str, fortran: &str, shape: &str, values: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}");
    let padded = format!("{header:<117}\n");
    [b"\x93NUMPY\x01\x00".as_slice(), &(padded.len() as u16).to_le_bytes(), padded.as_bytes(), values].concat()
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn read(folder: &Path, bytes: &[u8]) -> Result<Archive, WeightsError> {
    let path = folder.join("file");
    fs::write(&path, bytes).unwrap();
    Archive::read(&path)
}

fn refusal(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let line = read(folder.path(), bytes).unwrap_err().to_string();
    assert!(line.contains("file: ") && !line.contains('\n'), "{line}");
    line
}

#[test]
fn numpy_arrays_are_read_in_both_orders_and_several_types() {
    let folder = tempfile::tempdir().unwrap();
    let values = floats(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let array = |bytes: &[u8]| read(folder.path(), bytes).unwrap().get_or_only("w_plus").unwrap().clone();
    let rows = array(&npy("<f4", "False", "(2, 3)", &values));
    assert_eq!((rows.shape, rows.data), (vec![2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
    let columns = array(&npy("<f4", "True", "(2, 3)", &values));
    assert_eq!((columns.shape, columns.data), (vec![2, 3], vec![1.0, 3.0, 5.0, 2.0, 4.0, 6.0]));
    let doubles = array(&npy("<f8", "False", "(1,)", &(-2.5f64).to_le_bytes()));
    assert_eq!((doubles.shape, doubles.data, doubles.dtype), (vec![1], vec![-2.5], Dtype::F64));
    assert_eq!(array(&npy("<f4", "False", "()", &floats(&[7.0]))).shape, Vec::<usize>::new());
}

#[test]
fn numpy_archives_are_read_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let one = npy("<f4", "False", "(1, 2)", &floats(&[1.0, 2.0]));
    let two = npy("|u1", "False", "(3,)", &[1, 2, 3]);
    let archive = read(folder.path(), &forge::zip(&[("w.npy", &one), ("b.npy", &two)])).unwrap();
    assert_eq!(archive.get("w").unwrap().data, [1.0, 2.0]);
    assert_eq!(archive.get("b").unwrap().data, [1.0, 2.0, 3.0]);
    assert!(archive.get_or_only("w_plus").is_err());
}

#[test]
fn damaged_and_hostile_numpy_files_are_refused() {
    let values = floats(&[1.0; 4]);
    assert!(refusal(&npy("|O", "False", "(1,)", &values)).contains("is of type `|O`; save it as numbers"));
    assert!(refusal(&npy("<f4", "False", "(5,)", &values)).contains("has 16 of 20 bytes"));
    assert!(refusal(&npy("<f4", "False", "(4294967296, 4294967296, 4)", &values)).contains("overflows"));
    assert!(refusal(&npy("<f4", "False", "(-1,)", &values)).contains("names no shape"));
    assert!(refusal(&npy("<f4", "False", "", &values)).contains("names no shape"));
    assert!(refusal(b"\x93NUMPY\x01\x00\xff\xff{").contains("no whole header"));
    assert!(refusal(b"\x93NUMPY").contains("no whole header"));
}

/// The pickle of a tensor alone, from that of `{"w": tensor}`.
fn bare() -> Vec<u8> {
    let named = forge::pickle_of_one_tensor("FloatStorage", 2, &[1, 2], &[2, 1]);
    let tensor = named.strip_prefix(b"\x80\x02}U\x01w").unwrap().strip_suffix(b"s.").unwrap();
    [b"\x80\x02", tensor, b"."].concat()
}

#[test]
fn a_torch_file_of_one_tensor_or_a_list_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let expected = Array::new(vec![1, 2], vec![0.5, -3.0]).unwrap();
    let data = floats(&[0.5, -3.0]);
    let archive = read(folder.path(), &forge::torch(&bare(), &data)).unwrap();
    assert_eq!(archive.get_or_only("w_plus").unwrap(), &expected);
    assert_eq!(archive.origin(), folder.path().join("file").display().to_string());
    let tensor = &bare()[2..bare().len() - 1];
    let list = [b"\x80\x02](", tensor, tensor, b"e."].concat();
    let archive = read(folder.path(), &forge::torch(&list, &data)).unwrap();
    assert_eq!((archive.get("tensor.0").unwrap(), archive.get("tensor.1").unwrap()), (&expected, &expected));

    // The older stream: magic number, protocol, system, object, storages' keys, the storage's count and bytes.
    let stream = [
        b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}U\x0dlittle_endian\x88s.".as_slice(),
        &bare(),
        b"\x80\x02]U\x010a.",
        &2u64.to_le_bytes(),
        &data,
    ]
    .concat();
    let archive = read(folder.path(), &stream).unwrap();
    assert_eq!(archive.get_or_only("w_plus").unwrap(), &expected);
}

#[test]
fn containers_of_other_things_are_called_by_their_name() {
    let torch = |pickle: &[u8]| refusal(&forge::torch(pickle, &[]));
    assert!(torch(b"\x80\x02]K\x01a.").contains("a Python pickle of `list`"));
    assert!(refusal(b"\x80\x02}U\x01Gctorch_utils.persistence\n_x\n)Rs.").contains("StyleGAN2-ADA or StyleGAN3"));
    assert!(refusal(b"\x80\x02cdnnlib.tflib.network\nNetwork\n)\x81.").contains("convert_weight.py"));
    assert!(refusal(b"\x80\x02cdnnlib.tflib.network\nNetwork\n)\x81\x85.").contains("convert_weight.py"));
    assert!(refusal(b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n)R.").contains("np.save"));
    let script = forge::zip(&[("m/data.pkl", b"\x80\x02}."), ("m/constants.pkl", b"x"), ("m/code/a.py", b"x")]);
    assert!(refusal(&script).contains("TorchScript"));
    assert!(
        refusal(&forge::zip(&[("a/1.png", b"x"), ("a/2.png", b"x")])).contains("a zip archive of `a/1.png`, `a/2.png`")
    );
    assert!(refusal(&forge::zip(&[])).contains("an empty zip archive"));
}

#[test]
fn a_pickle_of_a_million_entries_is_refused_before_it_is_parsed() {
    let large = [b"\x80\x02}(".to_vec(), vec![b'N'; 9 << 20], b"u.".to_vec()].concat();
    for file in [forge::torch(&large, &[]), large] {
        assert!(refusal(&file).contains("no network here has so many entries"));
    }
}
