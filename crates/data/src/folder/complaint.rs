//! Decoders' complaints in plain words: one line, without the debug text of the libraries.

use std::io::ErrorKind;

use image::ImageError;

/// What is wrong with a file of the format called `format`, and the way out.
pub(super) fn complaint(error: &ImageError, format: &str, limit_bytes: u64) -> String {
    match error {
        ImageError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => "the file is truncated".to_owned(),
        ImageError::IoError(error) => format!("cannot be read: {}", one_line(&error.to_string())),
        ImageError::Limits(_) => format!("needs more than {} MiB to decode: make it smaller first", limit_bytes >> 20),
        ImageError::Unsupported(error) => {
            let why = detail(&error.to_string()).map_or(String::new(), |why| format!(" ({why})"));
            format!("a kind of {format} that is not read{why}: save it anew as an ordinary PNG")
        }
        error => damaged(&error.to_string(), format),
    }
}

/// The line for a decoder's `text` about a damaged file.
pub(crate) fn damaged(text: &str, format: &str) -> String {
    let why = detail(text).map_or(String::new(), |why| format!(": {why}"));
    format!("the {format} file is damaged{why}")
}

/// The decoder's reason, where it can be told in words.
fn detail(text: &str) -> Option<String> {
    let text = one_line(text);
    let says = |part: &str| text.contains(part);
    if says("CRC error") {
        let chunk = chunk(&text).map_or(String::new(), |name| format!(" of its chunk {name}"));
        return Some(format!("a checksum (CRC){chunk} does not match"));
    }
    if ["deflate stream", "huffman", "Huffman", "Bitstream", "BitStream"].into_iter().any(says) {
        return Some("its compressed data are corrupt".into());
    }
    let text = match (text.find("ChunkType {"), chunk(&text)) {
        (Some(start), Some(name)) => {
            let end = text[start..].find('}').map_or(text.len(), |end| start + end + 1);
            format!("{}{name}{}", &text[..start], &text[end..])
        }
        _ => text.clone(),
    };
    // `image` puts the format in front.
    let reason = match text.split_once(": ") {
        Some((head, rest)) if head.starts_with("Format error") => rest,
        _ => &text,
    };
    let reason = reason.trim_matches(['"', '.', ' ']);
    let plain = !reason.is_empty()
        && reason.chars().all(|c| !c.is_control() && !"{}[]\\\"".contains(c))
        && !reason.contains("::");
    plain.then(|| reason.chars().take(160).collect())
}

/// The name in what the PNG decoder says of a chunk: `ChunkType { type: IDAT, critical: true, … }`.
fn chunk(text: &str) -> Option<&str> {
    let name = text.split_once("ChunkType {")?.1.split_once("type: ")?.1.split([',', ' ']).next()?;
    (name.len() == 4 && name.bytes().all(|b| b.is_ascii_alphabetic())).then_some(name)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_text_of_decoders_becomes_words() {
        let dump = "ChunkType { type: IDAT, critical: true, private: false, reserved: false, safecopy: false }";
        for (text, expected) in [
            (
                format!("Format error decoding Png: CRC error: expected 0x1 have 0x2 while decoding {dump} chunk."),
                "the PNG file is damaged: a checksum (CRC) of its chunk IDAT does not match",
            ),
            (
                format!("Chunk {dump} must appear at most once."),
                "the PNG file is damaged: Chunk IDAT must appear at most once",
            ),
            ("Corrupt deflate stream. InvalidHlit".into(), "the PNG file is damaged: its compressed data are corrupt"),
            ("Format error decoding Png: \"No such\nthing\"".into(), "the PNG file is damaged: No such thing"),
            ("Format error decoding Png: Wrapper { inner: [1, 2] }".into(), "the PNG file is damaged"),
            (
                "CRC error in ChunkType { type: \\0x\\u{1}, critical".into(),
                "the PNG file is damaged: a checksum (CRC) does not match",
            ),
        ] {
            assert_eq!(damaged(&text, "PNG"), expected, "{text}");
        }
    }
}
