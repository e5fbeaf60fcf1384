//! The name of an input in the record of results.

use std::{
    fs::{self, Metadata},
    path::Path,
    time::SystemTime,
};

/// The name under which the record keeps an input: its whole path without links.
///
/// What comes through a pipe is never the same again, whatever the path says.
pub(super) fn origin(path: &Path) -> String {
    let whole = fs::canonicalize(path).unwrap_or_else(|_| std::path::absolute(path).unwrap_or_else(|_| path.into()));
    if fs::metadata(path).as_ref().is_ok_and(|m: &Metadata| !m.is_file()) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        return format!("{} at {} s", lossless(&whole), now.as_secs_f64());
    }
    lossless(&whole)
}

/// A path as text from which it could be told from every other.
fn lossless(path: &Path) -> String {
    path.to_str().map_or_else(|| format!("{path:?}"), str::to_string)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn links_and_other_spellings_have_the_name_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("a"), "a").unwrap();
        fs::write(at("b"), "a").unwrap();
        std::os::unix::fs::symlink("a", at("soft")).unwrap();
        assert_eq!((origin(&at("soft")), origin(&at("./a"))), (origin(&at("a")), origin(&at("a"))));
        assert_ne!(origin(&at("a")), origin(&at("b")));
    }
}
