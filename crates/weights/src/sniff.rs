//! What a file is, by its first bytes: a checkpoint for one of the readers, or something to name in an error.

use crate::read_numpy;

/// How many of a file's first bytes [`sniff`] wants to see: past the tar magic at 257.
pub(crate) const SNIFFED: usize = 512;

/// Longest header that safetensors itself accepts.
pub(crate) const MAX_HEADER: u64 = 100_000_000;

/// A file's kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A safetensors file, or what began as one.
    Safetensors,
    /// A torch container: zip, tar, or a bare pickle stream. NumPy's archives are zips, too.
    Torch,
    /// One NumPy array.
    Numpy,
    /// Neither; the text says what it looks like, with an article.
    Other(&'static str),
}

/// The kind of a file of which `first` are the first [`SNIFFED`] bytes, or all.
pub(crate) fn sniff(first: &[u8]) -> Kind {
    // Safetensors has no magic number: eight bytes of header length, then the JSON's brace. Two lengths
    // in range also open like a zip or a pickle, so this test stands first.
    let header_length = first.first_chunk().map(|b| u64::from_le_bytes(*b));
    let brace = first.get(8) == Some(&b'{');
    if brace && header_length.is_some_and(|n| n <= MAX_HEADER) {
        return Kind::Safetensors;
    }
    if first.starts_with(b"PK\x03\x04") || first.starts_with(b"PK\x05\x06") {
        return Kind::Torch;
    }
    if first.get(257..262) == Some(b"ustar") {
        return Kind::Torch;
    }
    if let [0x80, 0..=5, ..] = first {
        return Kind::Torch;
    }
    if first.starts_with(read_numpy::MARK) {
        return Kind::Numpy;
    }
    if let Some(known) = known_format(first) {
        return Kind::Other(known);
    }
    match (is_text(first), brace) {
        (true, _) => Kind::Other("text"),
        // The length is out of range, and nothing else explains the file: a safetensors file that lies.
        (false, true) => Kind::Safetensors,
        (false, false) => Kind::Other("binary data of no known format"),
    }
}

/// Things that end up under a checkpoint's name, most often because a download went wrong.
fn known_format(first: &[u8]) -> Option<&'static str> {
    let magics: [(&[u8], &'static str); 16] = [
        (b"version https://git-lfs", "a Git LFS pointer (fetch the file itself with `git lfs pull`)"),
        (b"\x89PNG", "a PNG image"),
        (b"\xff\xd8\xff", "a JPEG image"),
        (b"GIF8", "a GIF image"),
        (b"RIFF", "a WebP image or another RIFF file"),
        (b"BM", "a BMP image"),
        (b"%PDF", "a PDF document"),
        (b"\x1f\x8b", "a gzip archive (unpack it first)"),
        (b"BZh", "a bzip2 archive (unpack it first)"),
        (b"\xfd7zXZ", "an xz archive (unpack it first)"),
        (b"\x28\xb5\x2f\xfd", "a zstd archive (unpack it first)"),
        (b"7z\xbc\xaf", "a 7z archive (unpack it first)"),
        (b"\x89HDF", "an HDF5 file, such as Keras writes (PyTorch checkpoints and safetensors are read)"),
        (b"RAR!", "a rar archive (unpack it first)"),
        (b"\x7fELF", "an executable"),
        (b"GGUF", "a GGUF model, the form of language models"),
    ];
    if let Some((_, name)) = magics.iter().find(|(magic, _)| first.starts_with(magic)) {
        return Some(name);
    }
    // Protocol buffers have no magic number either: an ONNX model is a version and then the producer's name.
    if let [0x08, 3..=20, 0x12, 1..=60, ..] = first {
        return Some("an ONNX model (take the PyTorch checkpoint or safetensors that it was exported from)");
    }
    if let [0x08, 1, 0x12, _, ..] = first {
        return Some("a saved model of TensorFlow (PyTorch checkpoints and safetensors are read)");
    }
    let text = first.strip_prefix(b"\xef\xbb\xbf").unwrap_or(first);
    let text = text.trim_ascii_start().to_ascii_lowercase();
    if text.starts_with(b"<!doctype html") || text.starts_with(b"<html") {
        return Some("an HTML page (an error page saved by a download?)");
    }
    if text.starts_with(b"<?xml") {
        return Some("an XML document");
    }
    if text.starts_with(b"{") && is_text(first) {
        return Some("a JSON document");
    }
    None
}

/// Whether the bytes are UTF-8 text; a character cut off at the end is no objection.
fn is_text(bytes: &[u8]) -> bool {
    let valid = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    let printable = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t');
    !valid.is_empty() && valid.chars().all(printable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn safetensors_is_told_from_a_pickle_whose_first_byte_is_the_same() {
        let mut header = 0x280u64.to_le_bytes().to_vec();
        header.extend(b"{}");
        assert_eq!(header[0], 0x80);
        assert_eq!(sniff(&header), Kind::Safetensors);
        assert_eq!(sniff(b"\x80\x02}q\x00."), Kind::Torch);
    }

    #[test]
    fn a_header_length_out_of_range_is_still_called_safetensors() {
        let mut header = u64::MAX.to_le_bytes().to_vec();
        header.extend(b"{\"a\":1}");
        assert_eq!(sniff(&header), Kind::Safetensors);
    }

    #[test]
    fn text_with_a_brace_at_the_eighth_byte_is_text() {
        assert_eq!(sniff(b"weights {not really}"), Kind::Other("text"));
    }

    #[test]
    fn common_mistakes_are_named() {
        let named = |bytes: &[u8], word: &str| match sniff(bytes) {
            Kind::Other(name) => assert!(name.contains(word), "{name}"),
            kind => panic!("{kind:?}"),
        };
        named(b"\x89PNG\r\n\x1a\n", "PNG");
        named(b"\n <!DOCTYPE HTML><html>", "HTML");
        named(b"\x08\x08\x12\x07pytorch\x1a\x05", "ONNX");
        named(b"GGUF\x03\0\0\0", "GGUF");
        named(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS");
        named(b"  {\"error\": \"not found\"}", "JSON");
        named("pas trouvé".as_bytes(), "text");
        named(&"é".as_bytes()[..1], "binary");
        named(&[0, 1, 2, 3, 200, 201, 202, 203, 204, 205], "binary");
    }
}
