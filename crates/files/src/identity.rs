//! Which file a path means, whatever way it is spelt.

use std::path::Path;

/// A file by what the system knows it as: links of both kinds, `./` and other spellings of one file are equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum FileId {
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
    pub fn of(path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(path).ok().map(|m| Self::Inode(m.dev(), m.ino()))
    }

    /// The file that a path leads to, if there is one.
    #[cfg(not(unix))]
    pub fn of(path: &Path) -> Option<Self> {
        std::fs::canonicalize(path).ok().map(Self::Path)
    }
}

/// Whether two paths lead to one file that is there, by whatever spelling or link.
pub fn same_file(one: &Path, other: &Path) -> bool {
    FileId::of(one).is_some_and(|id| FileId::of(other) == Some(id))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn links_of_both_kinds_and_other_spellings_are_the_same_file() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("a"), "a").unwrap();
        std::fs::write(at("b"), "a").unwrap();
        std::fs::hard_link(at("a"), at("hard")).unwrap();
        std::os::unix::fs::symlink("a", at("soft")).unwrap();
        let id = FileId::of(&at("a")).unwrap();
        for same in ["hard", "soft", "./a"] {
            assert_eq!(FileId::of(&at(same)), Some(id.clone()), "{same}");
        }
        assert_ne!(FileId::of(&at("b")), Some(id));
        assert_eq!(FileId::of(&at("absent")), None);
        assert!(!same_file(&at("absent"), &at("absent")));
    }
}
