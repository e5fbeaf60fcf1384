//! What a file that is no PNG, JPEG or WebP image is, by its first bytes, and the way out.

use std::path::Path;

/// How many of a file's first bytes [`refusal`] wants to see: past the marks of tar.
pub(super) const SNIFFED: usize = 512;

/// Marks at the beginning of files, longer ones before those that they begin with.
const IMAGES: [(&[u8], &str); 31] = [
    (b"GIF8", "a GIF image"),
    (b"BM", "a BMP image"),
    (b"8BPS", "a PSD (Photoshop) image"),
    (b"gimp xcf", "an XCF (GIMP) image"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL image"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 image"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (b"\0\0\x01\0", "an ICO image"),
    (b"icns", "an ICNS image"),
    (b"qoif", "a QOI image"),
    (b"farbfeld", "a farbfeld image"),
    (b"#?RADIANCE", "an HDR image"),
    (b"\x76\x2f\x31\x01", "an EXR image"),
    (b"DDS ", "a DDS image"),
    (b"\x0a\x05\x01", "a PCX image"),
    (b"FUJIFILMCCD-RAW", "a camera's raw image"),
    (b"FOVb", "a camera's raw image"),
    (b"IIU\0", "a camera's raw image"),
    (b"IIRO", "a camera's raw image"),
    (b"IIRS", "a camera's raw image"),
    (b"MMOR", "a camera's raw image"),
    (b"II*\0", TIFF),
    (b"MM\0*", TIFF),
    (b"II+\0", TIFF),
    (b"MM\0+", TIFF),
    (b"<svg", "an SVG drawing"),
    (b"%PDF", "a PDF document"),
    (b"%!PS", "a PostScript document"),
    (b"\xc5\xd0\xd3\xc6", "a PostScript document"),
    (b"SIMPLE  =", "a FITS image"),
];
const TIFF: &str = "a TIFF image";
/// Endings of raw formats whose files begin as TIFF.
const RAW: [&str; 9] = ["dng", "nef", "nrw", "cr2", "arw", "srw", "pef", "3fr", "iiq"];

const OTHERS: [(&[u8], &str); 16] = [
    (b"PK\x03\x04", "a zip archive: unpack it and give the folder"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\x1f\x8b", "a gzip archive: unpack it and give the folder"),
    (b"BZh", "a bzip2 archive: unpack it and give the folder"),
    (b"\xfd7zXZ", "an xz archive: unpack it and give the folder"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive: unpack it and give the folder"),
    (b"7z\xbc\xaf", "a 7z archive: unpack it and give the folder"),
    (b"Rar!", "a RAR archive: unpack it and give the folder"),
    (b"\x93NUMPY", "a NumPy array: write it as PNG first"),
    (b"\x89HDF", "an HDF5 file: write its images as PNG first"),
    (b"version https://git-lfs", "a Git LFS pointer: fetch the file itself with git lfs pull"),
    (b"\x1a\x45\xdf\xa3", "a video: take images from it first"),
    (b"FLV", "a video: take images from it first"),
    (b"\0\0\x01\xba", "a video: take images from it first"),
    (b"\x7fELF", "an executable"),
    (b"SQLite format 3", "a database"),
];

/// Why a file that begins with `first` and is of no format that is read cannot be used.
pub(super) fn refusal(path: &Path, first: &[u8]) -> String {
    if let Some(image) = image(path, first) {
        return format!("{image}; only PNG, JPEG and WebP are read: convert it to PNG first");
    }
    let known = OTHERS.iter().find(|(mark, _)| first.starts_with(mark)).map(|(_, name)| *name);
    let behind = [
        (257, &b"ustar"[..], "a tar archive: unpack it and give the folder"),
        (4, b"ftyp", "a video: take images from it first"),
    ];
    let behind = behind.into_iter().find(|(at, mark, _)| first.get(*at..at + mark.len()) == Some(mark)).map(|b| b.2);
    match known.or(behind).or_else(|| text(first)) {
        Some(other) => format!("not a PNG, JPEG or WebP image: this looks like {other}"),
        None => "not a PNG, JPEG or WebP image".to_owned(),
    }
}

fn image(path: &Path, first: &[u8]) -> Option<&'static str> {
    // ISO's media files say what they are behind the length of their first box.
    if first.get(4..8) == Some(b"ftyp") {
        return Some(match first.get(8..12)? {
            b"avif" | b"avis" => "an AVIF image",
            b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" | b"hevm" | b"hevs" | b"mif1" | b"msf1" => {
                // A HEIF file without a codec's brand in front names it among the others.
                let others = first.get(16..).unwrap_or_default();
                if others.chunks_exact(4).take_while(|b| *b != b"meta").any(|b| b == b"avif") {
                    "an AVIF image"
                } else {
                    "a HEIC image"
                }
            }
            b"crx " => "a camera's raw image",
            b"jxl " => "a JPEG XL image",
            b"jp2 " | b"jpx " => "a JPEG 2000 image",
            _ => return None,
        });
    }
    // A portable map's kind is followed by a space.
    if let [b'P', b'1'..=b'7', space, ..] = first
        && space.is_ascii_whitespace()
    {
        return Some("a portable map (PBM, PGM, PPM)");
    }
    let found = IMAGES.iter().find(|(mark, _)| first.starts_with(mark))?.1;
    let ending = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
    let raw = found == TIFF && ending.is_some_and(|e| RAW.contains(&e.as_str()));
    Some(if raw { "a camera's raw image" } else { found })
}

/// Text that stands for something.
fn text(first: &[u8]) -> Option<&'static str> {
    // A character may be cut off at the end.
    let whole = match std::str::from_utf8(first) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => std::str::from_utf8(&first[..error.valid_up_to()]).ok()?,
        Err(_) => return None,
    };
    let text = whole.trim_start_matches('\u{feff}').trim_start().to_ascii_lowercase();
    if text.is_empty() || text.chars().any(|c| c.is_control() && !c.is_whitespace()) {
        return None;
    }
    Some(match () {
        () if text.starts_with("<!doctype html") || text.starts_with("<html") => {
            "an HTML page (an error page saved by a download?)"
        }
        () if text.contains("<svg") => "an SVG drawing: draw it as PNG first",
        () => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_that_are_not_read_are_named_by_their_content_with_the_way_out() {
        let cases: [(&[u8], &str); 22] = [
            (b"GIF89a\x01\0", "a GIF image"),
            (b"BM\x36\0\0\0", "a BMP image"),
            (b"II*\0\x08\0\0\0", "a TIFF image"),
            (b"MM\0*\0\0\0\x08", "a TIFF image"),
            (b"8BPS\0\x01", "a PSD (Photoshop) image"),
            (b"\0\0\0\x20ftypavif\0\0\0\0avifmif1", "an AVIF image"),
            (b"\0\0\0\x20ftypmif1\0\0\0\0mif1avif", "an AVIF image"),
            (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC image"),
            (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "a HEIC image"),
            (b"\0\0\0\x18ftypcrx \0\0\0\x01", "a camera's raw image"),
            (b"FUJIFILMCCD-RAW 0201", "a camera's raw image"),
            (b"\xff\x0a\xfa\x7f", "a JPEG XL image"),
            (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image"),
            (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 image"),
            (b"qoif\0\0\0\x01", "a QOI image"),
            (b"P6\n3 2\n255\n", "a portable map"),
            (b"\0\0\x01\0\x01\0", "an ICO image"),
            (b"\x76\x2f\x31\x01\x02", "an EXR image"),
            (b"#?RADIANCE\n", "an HDR image"),
            (b"DDS |", "a DDS image"),
            (b"%PDF-1.7", "a PDF document"),
            (b"<svg xmlns=\"http://www.w3.org/2000/svg\">", "an SVG drawing"),
        ];
        for (first, name) in cases {
            // Whatever the file is called.
            let said = refusal(Path::new("photo.jpg"), first);
            assert!(said.starts_with(name) && said.ends_with("convert it to PNG first"), "{said}");
        }
        assert!(refusal(Path::new("a.NEF"), b"MM\0*\0\0\0\x08").starts_with("a camera's raw image"));
    }

    #[test]
    fn other_files_are_named_too() {
        for (first, name) in [
            (&b"PK\x03\x04\x14\0"[..], "a zip archive: unpack it"),
            (b"\x93NUMPY\x01\0v\0", "a NumPy array"),
            (b"<!DOCTYPE html><html>", "an HTML page"),
            (b"<?xml version=\"1.0\"?>\n<svg>", "an SVG drawing"),
            (b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer"),
            (b"\0\0\0\x20ftypmp42", "a video"),
        ] {
            let said = refusal(Path::new("x.png"), first);
            assert!(
                said.starts_with("not a PNG, JPEG or WebP image: this looks like ") && said.contains(name),
                "{said}"
            );
        }
        for unknown in [&b"this is a letter"[..], b"\x01\x02\x03\xfe", b"", b"   "] {
            assert_eq!(refusal(Path::new("x.png"), unknown), "not a PNG, JPEG or WebP image");
        }
    }
}
