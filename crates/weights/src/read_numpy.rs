//! NumPy's `.npy` arrays and `.npz` archives of them: codes and directions of other tools.
//!
//! A `.npy` file is a mark, a version, the length of a header, the header (a Python dict literal of three known keys), and the values. Arrays
//! of Python objects are pickles and refused.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use zip::ZipArchive;

use crate::{Archive, Array, Dtype, WeightsError};

/// How a `.npy` file begins.
pub(crate) const MARK: &[u8] = b"\x93NUMPY";
/// What an archive's entries end with.
const ENDING: &str = ".npy";
/// Name of the one array of a `.npy` file, which has none.
const NAME: &str = "array";
/// Largest file that is read: codes and directions have kilobytes, and an archive's entries are unpacked in memory.
const LARGEST: u64 = 1 << 30;

/// Read the array of a `.npy` file.
pub(crate) fn read_npy(path: &Path, mut file: &File) -> Result<Archive, WeightsError> {
    let mut bytes = Vec::new();
    // Its first bytes were read to know it.
    let read = file.rewind().and_then(|()| file.take(LARGEST).read_to_end(&mut bytes));
    read.map_err(|error| WeightsError::read(path, error))?;
    let array = array(path, NAME, &bytes)?;
    Ok(Archive::from_file(path, [(NAME.to_string(), array)].into(), BTreeMap::new()))
}

/// Read the arrays of a `.npz` archive.
pub(crate) fn read_npz(path: &Path, file: &File) -> Result<Archive, WeightsError> {
    let damaged = |error: zip::result::ZipError| WeightsError::malformed(path, format!("zip archive: {error}"));
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(damaged)?;
    let (mut arrays, mut left) = (BTreeMap::new(), LARGEST);
    for index in 0..archive.len() {
        let entry = archive.by_index(index).map_err(damaged)?;
        let name = entry.name().map_err(damaged)?.into_owned();
        let Some(name) = name.strip_suffix(ENDING).map(str::to_string) else { continue };
        let mut bytes = Vec::new();
        entry.take(left + 1).read_to_end(&mut bytes).map_err(|error| WeightsError::malformed(path, error))?;
        left = left
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| WeightsError::unsupported(path, format!("its arrays have more than {LARGEST} bytes")))?;
        arrays.insert(name.clone(), array(path, &name, &bytes)?);
    }
    Ok(Archive::from_file(path, arrays, BTreeMap::new()))
}

/// Whether a zip archive holds arrays and nothing else.
pub(crate) fn is_npz<'a>(mut entries: impl Iterator<Item = &'a str>) -> bool {
    let mut any = false;
    entries.all(|name| {
        any = true;
        name.ends_with(ENDING)
    }) && any
}

/// An array from the bytes of its file.
fn array(path: &Path, name: &str, bytes: &[u8]) -> Result<Array, WeightsError> {
    let damaged = |reason: &str| WeightsError::malformed(path, format!("NumPy array `{name}`: {reason}"));
    let (header, values) = split(bytes).ok_or_else(|| damaged("no whole header"))?;
    let descr = field(header, "descr").ok_or_else(|| damaged("its header names no type"))?;
    let descr = descr.trim_matches(['\'', '"']);
    let dtype = dtype(descr).ok_or_else(|| {
        let hint = "save it as numbers: np.save(file, np.asarray(x, dtype=\"float32\"))";
        WeightsError::unsupported(path, format!("NumPy array `{name}` is of type `{descr}`; {hint}"))
    })?;
    let shape = field(header, "shape").and_then(shape).ok_or_else(|| damaged("its header names no shape"))?;
    let elements = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    let wanted = elements.and_then(|n| n.checked_mul(dtype.size())).ok_or_else(|| damaged("its shape overflows"))?;
    if values.len() < wanted {
        let reason = format!("NumPy array `{name}` has {} of {wanted} bytes", values.len());
        return Err(WeightsError::truncated(path, reason));
    }
    let data = dtype.decode(&values[..wanted]);
    let fortran = field(header, "fortran_order") == Some("True");
    Ok(Array { data: if fortran { row_major(&shape, &data) } else { data }, shape, dtype })
}

/// Header text and values.
fn split(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let rest = bytes.strip_prefix(MARK)?;
    let (&[major, _minor], rest) = rest.split_first_chunk()?;
    let (length, rest) = match major {
        1 => rest.split_first_chunk().map(|(l, rest)| (usize::from(u16::from_le_bytes(*l)), rest))?,
        2 | 3 => rest.split_first_chunk().map(|(l, rest)| (u32::from_le_bytes(*l) as usize, rest))?,
        _ => return None,
    };
    let (header, values) = rest.split_at_checked(length)?;
    Some((std::str::from_utf8(header).ok()?, values))
}

/// The value of a key in the header's dict: a quoted text, a word, or a tuple.
fn field<'a>(header: &'a str, key: &str) -> Option<&'a str> {
    let after = header.split_once(&format!("'{key}':"))?.1.trim_start();
    let end = match after.starts_with('(') {
        true => after.find(')')? + 1,
        false => after.find([',', '}'])?,
    };
    Some(after[..end].trim())
}

fn shape(tuple: &str) -> Option<Vec<usize>> {
    let inside = tuple.strip_prefix('(')?.strip_suffix(')')?;
    inside.split(',').map(str::trim).filter(|d| !d.is_empty()).map(|d| d.parse().ok()).collect()
}

/// The type of a little-endian description such as `<f4`.
fn dtype(descr: &str) -> Option<Dtype> {
    Some(match descr {
        "<f8" => Dtype::F64,
        "<f4" => Dtype::F32,
        "<f2" => Dtype::F16,
        "<i8" => Dtype::I64,
        "<i4" => Dtype::I32,
        "<i2" => Dtype::I16,
        "|i1" => Dtype::I8,
        "<u8" => Dtype::U64,
        "<u4" => Dtype::U32,
        "<u2" => Dtype::U16,
        "|u1" => Dtype::U8,
        "|b1" => Dtype::Bool,
        _ => return None,
    })
}

/// Values whose first axis is the fastest, with the last one the fastest.
fn row_major(shape: &[usize], data: &[f32]) -> Vec<f32> {
    let mut strides = vec![1; shape.len()];
    for axis in 1..shape.len() {
        strides[axis] = strides[axis - 1] * shape[axis - 1];
    }
    let at = |mut index: usize| {
        shape.iter().zip(&strides).rev().fold(0, |at, (&extent, &stride)| {
            let coordinate = index % extent;
            index /= extent;
            at + coordinate * stride
        })
    };
    (0..data.len()).map(|index| data[at(index)]).collect()
}
