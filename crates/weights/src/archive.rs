//! The map from names to arrays that every file becomes, and the checks on it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::header::{CheckpointHeader, KEY};
use crate::sniff::{Kind, SNIFFED, sniff};
use crate::{
    Array, FloatDtype, Misshaped, NameMismatch, NonFinite, WeightsError, read_safetensors, read_torch, write_atomic,
    write_safetensors,
};

/// Named arrays in the order of their names, with text beside them.
///
/// Like the pair of `torch.load` and `torch.save` for a state dict, without the pickle.
#[derive(Debug, Clone, PartialEq)]
pub struct Archive {
    /// The tensors. Nested dicts of a torch file are flattened with dots: `g_ema.convs.0.conv.weight`.
    pub arrays: BTreeMap<String, Array>,
    /// Text beside the tensors: safetensors' `__metadata__`, or a torch file's numbers and strings under
    /// dotted names (`opts.stylegan_size`).
    pub metadata: BTreeMap<String, String>,
    /// Where the weights came from, for messages.
    origin: String,
}

impl Default for Archive {
    fn default() -> Self {
        Self { arrays: BTreeMap::new(), metadata: BTreeMap::new(), origin: "weights in memory".to_string() }
    }
}

impl Archive {
    /// An archive without tensors.
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn from_file(path: &Path, arrays: BTreeMap<String, Array>, metadata: BTreeMap<String, String>) -> Self {
        Self { arrays, metadata, origin: path.display().to_string() }
    }

    /// Read a safetensors file or a torch checkpoint, whichever the content is.
    ///
    /// # Errors
    /// Every variant of [`WeightsError`] that names a path and is not about writing.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, WeightsError> {
        let path = path.as_ref();
        let (kind, file) = open(path)?;
        match kind {
            Kind::Safetensors => read_safetensors::read(path, &file),
            Kind::Torch => read_torch::read(path, &file),
            Kind::Other(looks_like) => Err(WeightsError::not_a_checkpoint(path, looks_like)),
        }
    }

    /// Write a safetensors file: floating-point arrays as `floats`, integer ones in their own type.
    ///
    /// The same content gives the same bytes, and the file is replaced whole or not at all
    /// ([`write_atomic`]).
    ///
    /// # Errors
    /// [`WeightsError::NotRepresentable`] when a finite value would become infinite or an integer would change,
    /// [`WeightsError::Shape`] when an array contradicts itself, [`WeightsError::Write`] for the rest.
    pub fn write(&self, path: impl AsRef<Path>, floats: FloatDtype) -> Result<(), WeightsError> {
        let path = path.as_ref();
        let plan = write_safetensors::plan(path, self, floats)?;
        write_atomic(path, |out| plan.write(out))
    }

    /// Where the weights came from: a path, or "weights in memory".
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The array called `name`.
    ///
    /// # Errors
    /// [`WeightsError::Names`] when there is none.
    pub fn get(&self, name: &str) -> Result<&Array, WeightsError> {
        self.arrays.get(name).ok_or_else(|| {
            WeightsError::Names(Box::new(NameMismatch {
                origin: self.origin.clone(),
                missing: vec![name.to_string()],
                surplus: Vec::new(),
                misshaped: Vec::new(),
            }))
        })
    }

    /// The arrays whose names begin with `prefix`, without it: `subset("g_ema.")` is the generator's state dict.
    /// Metadata and origin go along.
    pub fn subset(&self, prefix: &str) -> Self {
        let inside = self.arrays.iter().filter_map(|(name, array)| {
            let name = name.strip_prefix(prefix)?;
            Some((name.to_string(), array.clone()))
        });
        Self { arrays: inside.collect(), metadata: self.metadata.clone(), origin: self.origin.clone() }
    }

    /// Add every array of `other` under `prefix` and its name.
    pub fn extend(&mut self, prefix: &str, other: Self) {
        let arrays = other.arrays.into_iter();
        self.arrays.extend(arrays.map(|(name, array)| (format!("{prefix}{name}"), array)));
    }

    /// Hold names and shapes against a model's.
    ///
    /// # Errors
    /// [`WeightsError::Names`] with all that are missing, surplus or misshaped.
    pub fn match_names<N, S>(&self, expected: &[(N, S)]) -> Result<(), WeightsError>
    where
        N: AsRef<str>,
        S: AsRef<[usize]>,
    {
        let expected: BTreeMap<&str, &[usize]> =
            expected.iter().map(|(name, shape)| (name.as_ref(), shape.as_ref())).collect();
        let (mut missing, mut misshaped) = (Vec::new(), Vec::new());
        for (&name, &shape) in &expected {
            match self.arrays.get(name) {
                None => missing.push(name.to_string()),
                Some(array) if array.shape != shape => misshaped.push(Misshaped {
                    name: name.to_string(),
                    found: array.shape.clone(),
                    expected: shape.to_vec(),
                }),
                Some(_) => {}
            }
        }
        let surplus: Vec<String> =
            self.arrays.keys().filter(|name| !expected.contains_key(name.as_str())).cloned().collect();
        if missing.is_empty() && surplus.is_empty() && misshaped.is_empty() {
            return Ok(());
        }
        Err(WeightsError::Names(Box::new(NameMismatch { origin: self.origin.clone(), missing, surplus, misshaped })))
    }

    /// Refuse NaN and infinity.
    ///
    /// # Errors
    /// [`WeightsError::NotFinite`] with every tensor that has such values.
    pub fn check_finite(&self) -> Result<(), WeightsError> {
        let tensors: Vec<NonFinite> = self
            .arrays
            .iter()
            .filter_map(|(name, array)| {
                let count = array.data.iter().filter(|v| !v.is_finite()).count();
                (count > 0).then(|| NonFinite { name: name.clone(), count, of: array.data.len() })
            })
            .collect();
        if tensors.is_empty() {
            return Ok(());
        }
        Err(WeightsError::NotFinite { origin: self.origin.clone(), tensors })
    }

    /// The header of a native checkpoint; `None` for a file that is not one.
    ///
    /// # Errors
    /// [`WeightsError::Malformed`] when there is a header that does not parse.
    pub fn header(&self) -> Result<Option<CheckpointHeader>, WeightsError> {
        parse_header(Path::new(&self.origin), &self.metadata)
    }

    /// Put a header into the metadata, in place of an older one.
    pub fn set_header(&mut self, header: &CheckpointHeader) {
        // Through `Value`, whose text cannot fail; and its sorted keys keep the bytes reproducible.
        let json = serde_json::json!(header).to_string();
        self.metadata.insert(KEY.to_string(), json);
    }
}

/// Open a regular file and tell its kind.
pub(crate) fn open(path: &Path) -> Result<(Kind, File), WeightsError> {
    let read_error = |error| WeightsError::read(path, error);
    // Before opening: to open a pipe would wait for its writer.
    let about = std::fs::metadata(path).map_err(read_error)?;
    if !about.is_file() {
        let what = match about.is_dir() {
            true => "this is a folder, not a file",
            false => "this is not a regular file",
        };
        return Err(read_error(std::io::Error::other(what)));
    }
    let file = File::open(path).map_err(read_error)?;
    let mut first = Vec::with_capacity(SNIFFED);
    (&file).take(SNIFFED as u64).read_to_end(&mut first).map_err(read_error)?;
    match first.len() {
        0 => Err(WeightsError::Empty { path: path.to_path_buf() }),
        _ => Ok((sniff(&first), file)),
    }
}

/// The native header in a file's metadata, if there is one.
pub(crate) fn parse_header(
    path: &Path,
    metadata: &BTreeMap<String, String>,
) -> Result<Option<CheckpointHeader>, WeightsError> {
    let parse = |json: &String| {
        serde_json::from_str(json)
            .map_err(|error| WeightsError::malformed(path, format!("the checkpoint's header: {error}")))
    };
    metadata.get(KEY).map(parse).transpose()
}
