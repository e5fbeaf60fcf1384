//! Torch checkpoints by `pytorch-reader`, which interprets the pickle's data and never runs its code.
//!
//! It reads the zip container of torch ≥ 1.6, with any strides, and the older pickle and tar streams.
//! It does not read tensors that were pickled inside Python objects (NVIDIA's network `.pkl` files),
//! nor sparse, quantised and complex ones: these are errors that say so.

use std::any::Any;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::Once;

use pytorch_reader::{DType, PickleError, PickleValue, PytorchError, PytorchReader};
use swinstyle_files::Scratch;

use crate::torch_kinds::{self, Zip};
use crate::{Archive, Array, Dtype, WeightsError, read_numpy, torch_wrap};

/// What the reader says of a file whose root is no dict.
const NOT_A_DICT: &str = "Expected a dictionary at the root";

/// Read all tensors, and the numbers and strings beside them.
pub(crate) fn read(path: &Path, file: &File) -> Result<Archive, WeightsError> {
    match guarded(|| read_unguarded(path, file)) {
        Ok(result) => result,
        Err(message) => Err(WeightsError::malformed(path, format!("the checkpoint reader gave up: {message}"))),
    }
}

fn read_unguarded(path: &Path, file: &File) -> Result<Archive, WeightsError> {
    match torch_kinds::zip(path, file)? {
        Some(Zip::Npz) => return read_numpy::read_npz(path, file),
        Some(Zip::Torch) => {}
        None => torch_kinds::stream(path, file)?,
    }
    match PytorchReader::new(path) {
        Ok(reader) => read_tensors(path, path, file, &reader),
        Err(error) if is_nameless(&error) => {
            read_nameless(path, file).unwrap_or_else(|| Err(explain(path, file, error)))
        }
        Err(error) => Err(explain(path, file, error)),
    }
}

/// The tensors of a file whose root is no dict but a tensor or a list of some: `tensor`, `tensor.0` …; `None` if it is neither.
fn read_nameless(path: &Path, file: &File) -> Option<Result<Archive, WeightsError>> {
    let scratch = Scratch::create(&std::env::temp_dir()).ok()?;
    let copy = scratch.path().join("named.pt");
    torch_wrap::named(file, &copy).ok()?;
    let reader = PytorchReader::new(&copy).ok().filter(|reader| !reader.is_empty())?;
    Some(read_tensors(path, &copy, file, &reader))
}

fn is_nameless(error: &PytorchError) -> bool {
    error.to_string().contains(NOT_A_DICT)
}

/// The tensors of a reader of `container`, in the name of `path`.
fn read_tensors(path: &Path, container: &Path, file: &File, reader: &PytorchReader) -> Result<Archive, WeightsError> {
    if reader.is_empty() {
        return Err(match torch_kinds::of_objects(&torch_kinds::pickle(file)) {
            Some(what) => WeightsError::unsupported(path, what),
            None => WeightsError::not_a_checkpoint(path, "a Python pickle without any tensor in it"),
        });
    }
    let file_bytes = file.metadata().map_err(|error| WeightsError::read(path, error))?.len();
    check_claims(path, reader, file_bytes)?;

    let mut arrays = BTreeMap::new();
    for (name, tensor) in reader.tensors() {
        let dtype = our_dtype(tensor.dtype());
        let bytes = tensor.read().map_err(|error| explain_io(path, error, "a tensor's data"))?;
        let array = Array { shape: tensor.shape().to_vec(), data: dtype.decode(&bytes), dtype };
        if !array.is_consistent() {
            return Err(WeightsError::malformed(path, format!("the size of `{name}`")));
        }
        arrays.insert(name.clone(), array);
    }

    let mut metadata = BTreeMap::new();
    let beside = PytorchReader::read_pickle_data(container, None).map_err(|error| explain(path, file, error))?;
    flatten("", beside, &mut metadata);
    Ok(Archive::from_file(path, arrays, metadata))
}

/// Refuse tensors that are much larger together than the file: a view with stride 0 turns four bytes into any
/// shape. Weights shared by several names are read once for each, so some excess is honest.
fn check_claims(path: &Path, reader: &PytorchReader, file_bytes: u64) -> Result<(), WeightsError> {
    let sizes = reader.tensors().values().map(|t| t.byte_len() as u64);
    let claimed = sizes.fold(0u64, u64::saturating_add);
    let honest = file_bytes.saturating_mul(4).saturating_add(64 << 20);
    if claimed <= honest {
        return Ok(());
    }
    let reason = format!("its tensors claim {claimed} bytes, the file has {file_bytes}");
    Err(WeightsError::malformed(path, reason))
}

/// Numbers and strings under dotted names, as the tensors are named.
fn flatten(name: &str, value: PickleValue, into: &mut BTreeMap<String, String>) {
    let inside = |key: &str| match name {
        "" => key.to_string(),
        _ => format!("{name}.{key}"),
    };
    let text = match value {
        PickleValue::Dict(entries) => {
            for (key, value) in entries {
                flatten(&inside(&key), value, into);
            }
            return;
        }
        PickleValue::List(items) => {
            for (i, value) in items.into_iter().enumerate() {
                flatten(&inside(&i.to_string()), value, into);
            }
            return;
        }
        PickleValue::Bool(value) => value.to_string(),
        PickleValue::Int(value) => value.to_string(),
        PickleValue::Float(value) => value.to_string(),
        PickleValue::String(value) => value,
        // Tensors come out here too, as they do not concern a map of text.
        PickleValue::None | PickleValue::Bytes(_) | PickleValue::Unsupported(_) => return,
    };
    into.insert(name.to_string(), text);
}

fn our_dtype(theirs: DType) -> Dtype {
    match theirs {
        DType::F64 => Dtype::F64,
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::Bf16,
        DType::I64 => Dtype::I64,
        DType::I32 => Dtype::I32,
        DType::I16 => Dtype::I16,
        DType::I8 => Dtype::I8,
        DType::U64 => Dtype::U64,
        DType::U32 => Dtype::U32,
        DType::U16 => Dtype::U16,
        DType::U8 => Dtype::U8,
        DType::Bool => Dtype::Bool,
    }
}

/// The reader's error in our words. Some kinds it tells apart only by text; the version is pinned and tests
/// hold the texts.
fn explain(path: &Path, file: &File, error: PytorchError) -> WeightsError {
    match error {
        PytorchError::Io(error) => explain_io(path, error, "the container"),
        PytorchError::Pickle(PickleError::Io(error)) => explain_io(path, error, "the pickle"),
        PytorchError::Zip(error) => match has_zip_directory(file) {
            true => WeightsError::malformed(path, format!("zip archive: {error}")),
            false => WeightsError::truncated(path, "a zip archive without its closing directory"),
        },
        PytorchError::Tar(error) => explain_io(path, error, "tar archive"),
        PytorchError::Pickle(PickleError::UnsupportedType(name)) => match known_object(file) {
            Some(what) => WeightsError::unsupported(path, what),
            None => WeightsError::unsupported(
                path,
                format!(
                    "it holds tensors inside the Python object `{name}`; save what counts: torch.save(model.state_dict(), …)"
                ),
            ),
        },
        PytorchError::Pickle(PickleError::NoDataSource) => {
            WeightsError::not_a_checkpoint(path, "a bare pickle whose tensors are elsewhere")
        }
        other => {
            let text = other.to_string();
            let says = |part: &str| text.contains(part);
            if says("TAR file missing") {
                WeightsError::not_a_checkpoint(path, "a tar archive without a checkpoint in it")
            } else if says(NOT_A_DICT) {
                let found = text.rsplit_once("found ").map_or("something else", |(_, found)| found);
                match known_object(file).or_else(|| {
                    // A list that holds no tensors is no more than that.
                    let classes = torch_kinds::of_objects(&torch_kinds::pickle(file));
                    classes.filter(|_| found != "list" && found != "tuple")
                }) {
                    Some(what) => WeightsError::unsupported(path, what),
                    None => WeightsError::not_a_checkpoint(
                        path,
                        format!("a Python pickle of `{found}`, no named tensors (torch.save a dict of tensors)"),
                    ),
                }
            } else if says("Big-endian") {
                WeightsError::unsupported(path, "it was saved on a big-endian machine")
            } else if says("storage persistent id has") {
                let what = "it holds Python classes beside its tensors, as by torch.save(model); torch.save(model.state_dict()) instead";
                WeightsError::unsupported(path, what)
            } else if says("expected a storage, got object") {
                let what = torch_kinds::of_objects(&torch_kinds::pickle(file));
                WeightsError::unsupported(
                    path,
                    what.unwrap_or("its tensors are pickled inside Python objects; torch.save a state_dict"),
                )
            } else {
                WeightsError::malformed(path, text)
            }
        }
    }
}

/// What the pickle's classes say of the file, where they say more than that torch wrote it.
fn known_object(file: &File) -> Option<&'static str> {
    let pickle = torch_kinds::pickle(file);
    ["torch_utils.persistence", "dnnlib"]
        .iter()
        .any(|sign| pickle.windows(sign.len()).any(|w| w == sign.as_bytes()))
        .then(|| torch_kinds::of_objects(&pickle))?
}

/// What an I/O error means: the system's refusal, a file that ends early, or content that contradicts itself.
fn explain_io(path: &Path, error: io::Error, what: &str) -> WeightsError {
    if error.raw_os_error().is_some() {
        return WeightsError::read(path, error);
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof => WeightsError::truncated(path, format!("{what}: {error}")),
        _ => WeightsError::malformed(path, format!("{what}: {error}")),
    }
}

/// Whether the file ends with a zip's closing record, which is what truncation takes first.
fn has_zip_directory(mut file: &File) -> bool {
    /// The record without the comment whose length its last two bytes give.
    const RECORD: usize = 22;
    const FARTHEST: u64 = RECORD as u64 + u16::MAX as u64;
    let mut tail = Vec::new();
    let read = file
        .seek(SeekFrom::End(0))
        .and_then(|length| file.seek(SeekFrom::Start(length.saturating_sub(FARTHEST))))
        .and_then(|_| file.take(FARTHEST).read_to_end(&mut tail));
    let closes = |(at, record): (usize, &[u8])| {
        let comment = usize::from(u16::from_le_bytes([record[RECORD - 2], record[RECORD - 1]]));
        record.starts_with(b"PK\x05\x06") && at + RECORD + comment == tail.len()
    };
    read.is_ok() && tail.windows(RECORD).enumerate().any(closes)
}

thread_local! {
    /// Whether this thread is inside [`guarded`].
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Run `body`; a panic in it becomes its message.
///
/// `pytorch-reader`, `zip` and `tar` mean to return errors for every input, but they parse files from strangers with
/// indexing and arithmetic that we have not proved, and a panic there would take a whole batch of images down.
/// The process has one panic hook, so it is wrapped once and stays silent only for threads that are in here.
fn guarded<T>(body: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            // A thread that is being torn down has no such variable any more, and is not in here either.
            if !QUIET.try_with(Cell::get).unwrap_or(false) {
                previous(info);
            }
        }));
    });
    QUIET.set(true);
    // Unwind safety: what `body` leaves half done is dropped with it.
    let result = panic::catch_unwind(AssertUnwindSafe(body));
    QUIET.set(false);
    result.map_err(|payload| message(&*payload))
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| text.to_string());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_the_reader_becomes_its_message() {
        let index = std::hint::black_box(3);
        assert_eq!(guarded(|| 7), Ok(7));
        assert!(guarded(|| [0; 3][index]).unwrap_err().contains("out of bounds"));
        assert_eq!(guarded(|| -> () { panic!("{index} tries") }).unwrap_err(), "3 tries");
    }
}
