//! The one error type of this crate: every message is one line that names the file or option and the reason.

use std::path::{Path, PathBuf};

use swinstyle_files::shown;

/// What [`crate`]'s functions return.
pub type Result<T, E = DataError> = std::result::Result<T, E>;

/// Why data could not be read, drawn or written.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file or folder that cannot be opened or read.
    #[error("{}: cannot be read: {source}", shown(path))]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file or folder that cannot be created, written or renamed.
    #[error("{}: cannot be written: {source}", shown(path))]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that was read but is no usable image.
    #[error("{}: {reason}", shown(path))]
    BadImage {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A folder that cannot serve as a data set.
    #[error("{}: {reason}", shown(path))]
    BadFolder {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A style name that this build does not draw.
    #[error("unknown portrait style `{name}`; the styles are {}", crate::avatars::Style::NAMES.join(", "))]
    UnknownStyle {
        /// The name that was asked for.
        name: String,
    },
    /// A style definition that the resolver does not understand.
    #[error("portrait style `{style}`: {reason}")]
    BadStyle {
        /// The style's name.
        style: String,
        /// What it does not understand.
        reason: String,
    },
    /// An argument outside what the operation accepts.
    #[error("{what} is {value}; it must be {allowed}")]
    InvalidArgument {
        /// The argument's name.
        what: &'static str,
        /// What was given.
        value: String,
        /// What is accepted.
        allowed: String,
    },
    /// A loader thread that panicked: a defect of this program, not of the data.
    #[error("the batch at image {place}: the loader thread failed: {reason}")]
    LoaderPanic {
        /// The place of the first image of the batch that it was making.
        place: u64,
        /// The panic's message.
        reason: String,
    },
}

impl DataError {
    pub(crate) fn read(path: &Path, source: std::io::Error) -> Self {
        Self::Read { path: path.to_owned(), source }
    }

    pub(crate) fn write(path: &Path, source: std::io::Error) -> Self {
        Self::Write { path: path.to_owned(), source }
    }

    pub(crate) fn bad_image(path: &Path, reason: impl Into<String>) -> Self {
        Self::BadImage { path: path.to_owned(), reason: reason.into() }
    }

    pub(crate) fn bad_folder(path: &Path, reason: impl Into<String>) -> Self {
        Self::BadFolder { path: path.to_owned(), reason: reason.into() }
    }

    pub(crate) fn argument(what: &'static str, value: impl ToString, allowed: impl Into<String>) -> Self {
        Self::InvalidArgument { what, value: value.to_string(), allowed: allowed.into() }
    }
}
