//! What a torch container is when it is no checkpoint that can be read: its kind, and the way out.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use zip::ZipArchive;

use crate::{WeightsError, read_numpy};

/// Largest pickle that is parsed: that of a training state of thousands of tensors has some hundred kilobytes, and parsing takes far more
/// time and memory than a pickle has bytes.
const LARGEST_PICKLE: u64 = 8 << 20;
/// How much of a pickle is searched for the names of classes.
const SEARCHED: u64 = 1 << 20;

/// What a zip archive is by the names in it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Zip {
    /// A torch checkpoint, or at least laid out like one.
    Torch,
    /// NumPy arrays.
    Npz,
}

/// The kind of a zip archive; `None` where the directory cannot be read, which the checkpoint's reader explains.
///
/// # Errors
/// An archive of something else, one too large to parse, a TorchScript module.
pub(crate) fn zip(path: &Path, file: &File) -> Result<Option<Zip>, WeightsError> {
    let Ok(mut archive) = ZipArchive::new(BufReader::new(file)) else { return Ok(None) };
    let names = names(&archive);
    if read_numpy::is_npz(names.iter().map(String::as_str)) {
        return Ok(Some(Zip::Npz));
    }
    let Some(pickle) = names.iter().find(|n| n.ends_with("data.pkl")) else {
        let some: Vec<String> = names.iter().take(3).map(|n| format!("`{n}`")).collect();
        let what = match some.is_empty() {
            true => "an empty zip archive".to_string(),
            false => format!(
                "a zip archive of {} without data.pkl (unpack it, and name the file that is meant)",
                some.join(", ")
            ),
        };
        return Err(WeightsError::not_a_checkpoint(path, what));
    };
    if names.iter().any(|n| n.ends_with("constants.pkl")) {
        let what = "a TorchScript module: load it in Python (torch.jit.load) and torch.save its state_dict()";
        return Err(WeightsError::unsupported(path, what));
    }
    if let Ok(entry) = archive.by_name(pickle)
        && entry.size() > LARGEST_PICKLE
    {
        return Err(too_large(path, entry.size()));
    }
    Ok(Some(Zip::Torch))
}

/// Refuse a stream of pickles that is too large to parse, unless its tensors' bytes stand outside of the pickles.
///
/// # Errors
/// One without torch's magic number that is larger than any pickle that is read.
pub(crate) fn stream(path: &Path, file: &File) -> Result<(), WeightsError> {
    /// In the first pickle, as bytes or as text.
    const MAGIC: [&[u8]; 2] = [b"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", b"119547037146038801333356"];
    let begin = beginning(file);
    let first = &begin[..begin.len().min(64)];
    // What only the reader of its container can tell.
    let container = begin.starts_with(b"PK") || begin.get(257..262) == Some(b"ustar");
    let torch = container || MAGIC.iter().any(|magic| first.windows(magic.len()).any(|w| w == *magic));
    let length = file.metadata().map_or(0, |m| m.len());
    match !torch && length > LARGEST_PICKLE {
        true => {
            Err(of_objects(&begin)
                .map_or_else(|| too_large(path, length), |what| WeightsError::unsupported(path, what)))
        }
        false => Ok(()),
    }
}

/// The entries of an archive; names that do not decode are none that anybody here looks for.
fn names<R: Read + Seek>(archive: &ZipArchive<R>) -> Vec<String> {
    archive.file_names().filter_map(|name| Some(name.ok()?.into_owned())).collect()
}

fn too_large(path: &Path, bytes: u64) -> WeightsError {
    let reason =
        format!("its pickle has {bytes} bytes, more than {LARGEST_PICKLE}: no network here has so many entries");
    WeightsError::unsupported(path, reason)
}

/// What a pickle of Python objects is, by the names of classes in it, with the way out.
pub(crate) fn of_objects(pickle: &[u8]) -> Option<&'static str> {
    const SIGNS: [(&str, &str); 5] = [
        (
            "torch_utils.persistence",
            "it is a network pickle of StyleGAN2-ADA or StyleGAN3 (`torch_utils.persistence`), which holds Python code that is never run; load it with \
             its repository and torch.save({\"g_ema\": …, \"latent_avg\": …}) under the common PyTorch port's names",
        ),
        (
            "dnnlib",
            "it is a network pickle of TensorFlow's StyleGAN (`dnnlib.tflib.network`); the common PyTorch port's convert_weight.py makes a .pt file of it \
             that can be read",
        ),
        (
            "torch._utils",
            "its tensors are pickled inside Python objects, as by pickle.dump; load it in Python and torch.save a state_dict",
        ),
        ("numpy", "it is a pickle of NumPy arrays; np.save or np.savez them, or torch.save a dict of tensors"),
        ("tensorflow", "it is a pickle of TensorFlow objects; save the weights as safetensors or a PyTorch state_dict"),
    ];
    let holds = |sign: &str| pickle.windows(sign.len()).any(|w| w == sign.as_bytes());
    SIGNS.iter().find(|(sign, _)| holds(sign)).map(|(_, what)| *what)
}

/// The first bytes of a container's pickle: the zip's entry, or the stream itself.
pub(crate) fn pickle(file: &File) -> Vec<u8> {
    let Ok(mut archive) = ZipArchive::new(BufReader::new(file)) else { return beginning(file) };
    let Some(name) = names(&archive).into_iter().find(|n| n.ends_with("data.pkl")) else { return Vec::new() };
    let mut bytes = Vec::new();
    // Half of it is enough to search.
    let _ = archive.by_name(&name).map(|entry| entry.take(SEARCHED).read_to_end(&mut bytes));
    bytes
}

fn beginning(mut file: &File) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = file.rewind().and_then(|()| file.take(SEARCHED).read_to_end(&mut bytes));
    bytes
}
