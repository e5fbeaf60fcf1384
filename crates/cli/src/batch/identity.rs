//! Which file a path means, whatever way it is spelt.

use std::{
    fs::{self, Metadata},
    path::Path,
    time::SystemTime,
};

/// A file by what the system knows it as: links of both kinds, `./` and other spellings of one file are equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum FileId {
    /// Device and number of the inode.
    #[cfg(unix)]
    Inode(u64, u64),
    /// The path without links, where there are no inodes.
    #[cfg(not(unix))]
    Path(std::path::PathBuf),
}

impl FileId {
    /// The file that a path leads to, if there is one.
    #[cfg(unix)]
    pub(super) fn of(path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(path).ok().map(|m| Self::Inode(m.dev(), m.ino()))
    }

    /// The file that a path leads to, if there is one.
    #[cfg(not(unix))]
    pub(super) fn of(path: &Path) -> Option<Self> {
        fs::canonicalize(path).ok().map(Self::Path)
    }
}

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
    fn links_of_both_kinds_and_other_spellings_are_the_same_file() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("a"), "a").unwrap();
        fs::write(at("b"), "a").unwrap();
        fs::hard_link(at("a"), at("hard")).unwrap();
        std::os::unix::fs::symlink("a", at("soft")).unwrap();
        let id = FileId::of(&at("a")).unwrap();
        for same in ["hard", "soft", "./a"] {
            assert_eq!(FileId::of(&at(same)), Some(id.clone()), "{same}");
        }
        assert_ne!(FileId::of(&at("b")), Some(id));
        assert_eq!(FileId::of(&at("absent")), None);
        assert_eq!((origin(&at("soft")), origin(&at("./a"))), (origin(&at("a")), origin(&at("a"))));
        assert_ne!(origin(&at("a")), origin(&at("b")));
    }
}
