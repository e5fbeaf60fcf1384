//! The safetensors reader: eight bytes of length, a JSON header, then the values.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use memmap2::Mmap;
use safetensors::tensor::Metadata;

use crate::sniff::MAX_HEADER;
use crate::{Archive, Array, Dtype, WeightsError};

/// Bytes of the header's length.
const LENGTH: usize = 8;

/// Read all tensors and the metadata.
pub(crate) fn read(path: &Path, file: &File) -> Result<Archive, WeightsError> {
    let bytes = map(path, file)?;
    let (header, values) = split(path, &bytes)?;
    let mut arrays = BTreeMap::new();
    for (name, info) in header.tensors() {
        let dtype = our_dtype(info.dtype).ok_or_else(|| {
            let theirs = info.dtype;
            WeightsError::unsupported(path, format!("tensor `{name}` is of type {theirs}"))
        })?;
        let (start, end) = info.data_offsets;
        // `split` proved the range; this is only to have no index that could panic.
        let stored =
            values.get(start..end).ok_or_else(|| WeightsError::malformed(path, format!("the offsets of `{name}`")))?;
        let array = Array { shape: info.shape.clone(), data: dtype.decode(stored), dtype };
        arrays.insert(name, array);
    }
    Ok(Archive::from_file(path, arrays, text(&header)))
}

/// Check that the header parses and that the file is as long as it says; the metadata.
pub(crate) fn verify(path: &Path, file: &File) -> Result<BTreeMap<String, String>, WeightsError> {
    let bytes = map(path, file)?;
    let (header, _) = split(path, &bytes)?;
    Ok(text(&header))
}

fn map(path: &Path, file: &File) -> Result<Mmap, WeightsError> {
    // SAFETY: the bytes must not change while they are mapped. The map lives for one call, which copies out of it,
    // and writers of checkpoints replace files by renaming, which leaves the mapped one as it is. A program that
    // shortens the file in place during that call would end this process with SIGBUS, as with every mmap.
    unsafe { Mmap::map(file) }.map_err(|error| WeightsError::read(path, error))
}

/// The parsed header and the bytes of the values, their lengths and offsets checked against each other.
///
/// The pieces of `SafeTensors::deserialize`, taken apart to tell a short file from a lying header.
fn split<'a>(path: &Path, bytes: &'a [u8]) -> Result<(Metadata, &'a [u8]), WeightsError> {
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH>() else {
        return Err(WeightsError::truncated(path, "no whole header length"));
    };
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER {
        let reason = format!("it claims a header of {length} bytes, more than the format allows");
        return Err(WeightsError::malformed(path, reason));
    }
    // At most 100 MB, so it fits a usize of any width.
    let Some((json, values)) = rest.split_at_checked(length as usize) else {
        let reason = format!("the header has {} of {length} bytes", rest.len());
        return Err(WeightsError::truncated(path, reason));
    };
    // Parsing also proves that the tensors lie one after another without gaps and that shapes, types and
    // lengths agree, with checked arithmetic.
    let header: Metadata =
        serde_json::from_slice(json).map_err(|error| WeightsError::malformed(path, format!("header: {error}")))?;
    let declared = header.data_len();
    match values.len() {
        actual if actual < declared => {
            Err(WeightsError::truncated(path, format!("the values have {actual} of {declared} bytes")))
        }
        actual if actual > declared => {
            Err(WeightsError::malformed(path, format!("{} bytes follow the last tensor", actual - declared)))
        }
        _ => Ok((header, values)),
    }
}

fn text(header: &Metadata) -> BTreeMap<String, String> {
    let metadata = header.metadata().iter().flatten();
    metadata.map(|(k, v)| (k.clone(), v.clone())).collect()
}

fn our_dtype(theirs: safetensors::Dtype) -> Option<Dtype> {
    use safetensors::Dtype as T;
    Some(match theirs {
        T::F64 => Dtype::F64,
        T::F32 => Dtype::F32,
        T::F16 => Dtype::F16,
        T::BF16 => Dtype::Bf16,
        T::I64 => Dtype::I64,
        T::I32 => Dtype::I32,
        T::I16 => Dtype::I16,
        T::I8 => Dtype::I8,
        T::U64 => Dtype::U64,
        T::U32 => Dtype::U32,
        T::U16 => Dtype::U16,
        T::U8 => Dtype::U8,
        T::BOOL => Dtype::Bool,
        // Complex numbers and those of less than 16 bits, which no checkpoint of these networks holds.
        _ => return None,
    })
}
