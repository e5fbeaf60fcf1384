//! The safetensors writer. Our own, since the safetensors crate orders metadata by a random hash and does not fsync.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use serde::ser::{SerializeMap, Serializer};

use crate::digest::{self, Digest};
use crate::read_safetensors::LONGEST_HEADER;
use crate::{Archive, Array, Dtype, FloatDtype, WeightsError};

/// Name that the format keeps for itself.
const METADATA: &str = "__metadata__";

/// A file that is checked and laid out but not yet written.
pub(crate) struct Plan<'a> {
    header: Vec<u8>,
    tensors: Vec<(&'a Array, Dtype)>,
}

/// Check all that can be checked before a file is created, and lay the file out.
pub(crate) fn plan<'a>(path: &Path, archive: &'a Archive, floats: FloatDtype) -> Result<Plan<'a>, WeightsError> {
    let mut tensors: Vec<(&str, &Array, Dtype)> = Vec::with_capacity(archive.arrays.len());
    for (name, array) in &archive.arrays {
        check(path, name, array)?;
        let dtype = match array.dtype.is_float() {
            true => floats.into(),
            false => array.dtype,
        };
        if let Some(&value) = array.data.iter().find(|&&value| !dtype.can_store(value)) {
            return Err(WeightsError::NotRepresentable {
                path: path.to_path_buf(),
                tensor: name.clone(),
                value,
                dtype: dtype.name(),
            });
        }
        tensors.push((name, array, dtype));
    }
    let mut metadata = archive.metadata.clone();
    metadata.insert(digest::KEY.to_string(), digest_of(&archive.metadata, &tensors));
    // Wide elements first keeps every tensor aligned to its element; the sort is stable, so names stay in order.
    tensors.sort_by_key(|(_, _, dtype)| std::cmp::Reverse(dtype.size()));
    let header = header(&metadata, &tensors).map_err(|error| WeightsError::write(path, error))?;
    let tensors = tensors.into_iter().map(|(_, array, dtype)| (array, dtype));
    Ok(Plan { header, tensors: tensors.collect() })
}

/// The digest of the bytes that will be written; the tensors are in the order of their names.
fn digest_of(metadata: &BTreeMap<String, String>, tensors: &[(&str, &Array, Dtype)]) -> String {
    let mut digest = Digest::new(metadata);
    for (name, array, dtype) in tensors {
        digest.tensor(name, *dtype, &array.shape);
        // Writing to a digest cannot fail.
        let _ = encode(array, *dtype, |bytes| {
            digest.bytes(bytes);
            Ok(())
        });
    }
    digest.text()
}

/// The bytes of a tensor, some thousand values at a time, so that a large one is not held twice.
fn encode(array: &Array, dtype: Dtype, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    const VALUES: usize = 1 << 16;
    let mut bytes = Vec::new();
    for values in array.data.chunks(VALUES) {
        bytes.clear();
        dtype.encode(values, &mut bytes);
        take(&bytes)?;
    }
    Ok(())
}

fn check(path: &Path, name: &str, array: &Array) -> Result<(), WeightsError> {
    let wrong = |reason: String| {
        let line = format!("{}: not written: {reason}", path.display());
        Err(WeightsError::Shape { operation: "Archive::write", reason: line })
    };
    if name == METADATA {
        return wrong(format!("no tensor may be called `{METADATA}`"));
    }
    if !array.is_consistent() {
        let (shape, values) = (&array.shape, array.data.len());
        return wrong(format!("`{name}` has {values} values, its shape is {shape:?}"));
    }
    Ok(())
}

/// Length and JSON, padded with spaces so that the values begin at a multiple of eight.
fn header(metadata: &BTreeMap<String, String>, tensors: &[(&str, &Array, Dtype)]) -> io::Result<Vec<u8>> {
    let mut json = Vec::new();
    let mut serializer = serde_json::Serializer::new(&mut json);
    let mut map = serializer.serialize_map(None)?;
    if !metadata.is_empty() {
        map.serialize_entry(METADATA, metadata)?;
    }
    let mut start = 0;
    for (name, array, dtype) in tensors {
        let end = start + array.data.len() * dtype.size();
        let info = serde_json::json!({
            "dtype": dtype.name(),
            "shape": array.shape,
            "data_offsets": [start, end],
        });
        map.serialize_entry(name, &info)?;
        start = end;
    }
    SerializeMap::end(map)?;
    json.resize(json.len().next_multiple_of(8), b' ');
    if json.len() as u64 > LONGEST_HEADER {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the names and metadata take more than the 16 MiB that are read back",
        ));
    }
    let mut header = (json.len() as u64).to_le_bytes().to_vec();
    header.append(&mut json);
    Ok(header)
}

impl Plan<'_> {
    /// Write the whole file.
    pub(crate) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(&self.header)?;
        for (array, dtype) in &self.tensors {
            encode(array, *dtype, |bytes| out.write_all(bytes))?;
        }
        Ok(())
    }
}
