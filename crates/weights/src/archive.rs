//! The map from names to arrays that every file becomes, and the checks on it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use swinstyle_files::Durability;

use crate::header::{CheckpointHeader, KEY};
use crate::sniff::{Kind, SNIFFED, sniff};
use crate::{
    Array, FloatDtype, NameMismatch, Part, WeightsError, read_numpy, read_safetensors, read_torch, write_safetensors,
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

    /// Read a safetensors file, a torch checkpoint or NumPy arrays, whichever the content is.
    ///
    /// # Errors
    /// Every variant of [`WeightsError`] that names a path and is not about writing.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, WeightsError> {
        let path = path.as_ref();
        let (kind, file) = open(path)?;
        match kind {
            Kind::Safetensors => read_safetensors::read(path, &file),
            Kind::Torch => read_torch::read(path, &file),
            Kind::Numpy => read_numpy::read_npy(path, &file),
            Kind::Other(looks_like) => Err(WeightsError::not_a_checkpoint(path, looks_like)),
        }
    }

    /// Write a safetensors file: floating-point arrays as `floats`, integer ones in their own type.
    ///
    /// The same content gives the same bytes, a digest is put beside them that every reading checks, and the file is replaced whole or not
    /// at all ([`write_atomic`]).
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

    /// The array called `name`, or the only one there is: files of other tools call a code or a direction as they like.
    ///
    /// # Errors
    /// [`WeightsError::Names`] when there are several, and none is called so.
    pub fn get_or_only(&self, name: &str) -> Result<&Array, WeightsError> {
        match (self.arrays.get(name), self.arrays.len()) {
            (None, 1) => self.arrays.values().next().map_or_else(|| self.get(name), Ok),
            _ => self.get(name),
        }
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

    /// The arrays whose names begin with `prefix`, without it, borrowed.
    pub fn part(&self, prefix: &str) -> Part<'_> {
        Part::new(
            &self.origin,
            self.arrays.iter().filter_map(|(name, array)| Some((name.strip_prefix(prefix)?, array))),
        )
    }

    /// [`Part::match_names`] of all arrays.
    ///
    /// # Errors
    /// [`WeightsError::Names`] with all that are missing, surplus or misshaped.
    pub fn match_names<N, S>(&self, expected: &[(N, S)]) -> Result<(), WeightsError>
    where
        N: AsRef<str>,
        S: AsRef<[usize]>,
    {
        self.part("").match_names(expected)
    }

    /// Refuse NaN and infinity.
    ///
    /// # Errors
    /// [`WeightsError::NotFinite`] with every tensor that has such values.
    pub fn check_finite(&self) -> Result<(), WeightsError> {
        self.part("").check_finite()
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

/// [`swinstyle_files::write_atomic`], flushed to the disk, with an error that names the path.
///
/// # Errors
/// [`WeightsError::Write`] naming `path`, for what `fill` returns as for what is refused.
pub fn write_atomic(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), WeightsError> {
    swinstyle_files::write_atomic(path, Durability::Synced, fill).map_err(|error| WeightsError::write(path, error))
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
        return Err(read_error(io::Error::other(what)));
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
