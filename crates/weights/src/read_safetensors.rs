//! The safetensors reader: eight bytes of length, a JSON header, then the values.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use memmap2::Mmap;
use safetensors::tensor::{Metadata, TensorInfo};

use crate::digest::{self, Digest};
use crate::sniff::MAX_HEADER;
use crate::{Archive, Array, Dtype, WeightsError};

/// Bytes of the header's length.
const LENGTH: usize = 8;

/// Longest header that is parsed: some hundred thousand tensors, where the largest training state here has thousands. The format itself allows
/// six times as much, which takes seconds and hundreds of megabytes to parse.
pub(crate) const LONGEST_HEADER: u64 = 16 << 20;

/// Read all tensors and the metadata, the digest checked and taken off.
pub(crate) fn read(path: &Path, file: &File) -> Result<Archive, WeightsError> {
    let bytes = map(path, file)?;
    let (header, values) = split(path, &bytes)?;
    let (stored, mut metadata) = (stored(path, &header, values)?, text(&header));
    check_digest(path, &stored, &metadata)?;
    metadata.remove(digest::KEY);
    let array = |t: Stored| Array { shape: t.shape.to_vec(), data: t.dtype.decode(t.bytes), dtype: t.dtype };
    let arrays = stored.into_iter().map(|(name, tensor)| (name, array(tensor))).collect();
    Ok(Archive::from_file(path, arrays, metadata))
}

/// How much of a file is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// The header and the file's length, which takes no longer for a large file.
    Lengths,
    /// Every bit, where the file has a digest.
    Digest,
}

/// Check a file without keeping its values; the metadata.
pub(crate) fn verify(path: &Path, file: &File, look: Look) -> Result<BTreeMap<String, String>, WeightsError> {
    let bytes = map(path, file)?;
    let (header, values) = split(path, &bytes)?;
    let metadata = text(&header);
    if look == Look::Digest {
        check_digest(path, &stored(path, &header, values)?, &metadata)?;
    }
    Ok(metadata)
}

/// A tensor in a mapped file.
struct Stored<'a> {
    dtype: Dtype,
    shape: &'a [usize],
    bytes: &'a [u8],
}

/// The tensors by name.
fn stored<'a>(
    path: &Path,
    header: &'a Metadata,
    values: &'a [u8],
) -> Result<BTreeMap<String, Stored<'a>>, WeightsError> {
    let one = |(name, info): (String, &'a TensorInfo)| {
        let dtype = our_dtype(info.dtype).ok_or_else(|| {
            let theirs = info.dtype;
            WeightsError::unsupported(path, format!("tensor `{name}` is of type {theirs}"))
        })?;
        let (start, end) = info.data_offsets;
        // `split` proved the range; this is only to have no index that could panic.
        let bytes =
            values.get(start..end).ok_or_else(|| WeightsError::malformed(path, format!("the offsets of `{name}`")))?;
        Ok((name, Stored { dtype, shape: &info.shape, bytes }))
    };
    header.tensors().into_iter().map(one).collect()
}

/// Compare the file's digest, if it has one, with its content's.
fn check_digest(
    path: &Path,
    tensors: &BTreeMap<String, Stored>,
    metadata: &BTreeMap<String, String>,
) -> Result<(), WeightsError> {
    let Some(said) = digest::said(path, metadata)? else { return Ok(()) };
    let mut digest = Digest::new(metadata);
    for (name, tensor) in tensors {
        digest.tensor(name, tensor.dtype, tensor.shape);
        digest.bytes(tensor.bytes);
    }
    digest.check(path, said)
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
    if length > LONGEST_HEADER {
        let reason =
            format!("its header has {length} bytes, more than {LONGEST_HEADER}: no network here has so many tensors");
        return Err(WeightsError::unsupported(path, reason));
    }
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
