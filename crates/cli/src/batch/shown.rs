//! Paths as people and JSON see them.

use std::{fmt, path::Path};

use serde::{Serialize, Serializer};

/// A path in a message ([`swinstyle_files::shown`]) or in a document, where bytes that are not UTF-8 become U+FFFD and JSON's own rules
/// escape the rest. `serde` alone refuses such paths.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown<'a>(pub(crate) &'a Path);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&swinstyle_files::shown(self.0))
    }
}

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_string_lossy())
    }
}

/// As [`Shown`], for a field of a document.
pub(crate) fn serialize_path<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    Shown(path).serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_one_line_for_people_and_lossy_text_in_json() {
        let path = Path::new("a\n\u{1b}[31mb.png");
        assert_eq!(Shown(path).to_string(), "a\\n\\u{1b}[31mb.png");
        assert_eq!(serde_json::to_value(Shown(path)).unwrap(), "a\n\u{1b}[31mb.png");
        #[cfg(unix)]
        {
            use std::os::unix::ffi::OsStrExt;
            let path = Path::new(std::ffi::OsStr::from_bytes(b"bad\xff.png"));
            assert_eq!(serde_json::to_value(Shown(path)).unwrap(), "bad\u{fffd}.png");
        }
    }
}
