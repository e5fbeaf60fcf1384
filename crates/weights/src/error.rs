//! What can be wrong with a weights file, each in one line that names the file and the reason.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use swinstyle_files::{printable, shown};

/// Why weights could not be read, matched or written.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// There is no such file or folder.
    #[error("{}: no such file or folder", shown(.path))]
    Missing {
        /// What was asked for.
        path: PathBuf,
    },
    /// The file has no bytes.
    #[error("{}: the file is empty", shown(.path))]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The file ends before what it declares.
    #[error("{}: truncated: {reason}", shown(.path))]
    Truncated {
        /// The file.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// The file is something else altogether.
    #[error("{}: not a checkpoint: this looks like {looks_like}", shown(.path))]
    NotACheckpoint {
        /// The file.
        path: PathBuf,
        /// What its content says it is, with an article.
        looks_like: String,
    },
    /// The file is of a known format but contradicts itself.
    #[error("{}: damaged: {reason}", shown(.path))]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The contradiction.
        reason: String,
    },
    /// The file is whole but holds what this crate does not read.
    #[error("{}: cannot be read: {what}", shown(.path))]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The thing in it, and the way out where there is one.
        what: String,
    },
    /// Weights that are NaN or infinite.
    #[error("{}: NaN or infinite values in {}", printable(.origin), Listed(.tensors))]
    NotFinite {
        /// The file, or where else the weights came from.
        origin: String,
        /// Every tensor concerned, by name.
        tensors: Vec<NonFinite>,
    },
    /// The names or shapes are not those of the model.
    #[error(transparent)]
    Names(Box<NameMismatch>),
    /// An array's shape does not fit an operation.
    #[error("{operation}: {reason}")]
    Shape {
        /// The function that refused.
        operation: &'static str,
        /// Why, with the shape.
        reason: String,
    },
    /// A value does not fit the type it is to be stored in.
    #[error("{}: not written: {value:?} in `{}` does not fit {dtype}", shown(.path), one_line(.tensor))]
    NotRepresentable {
        /// The file that was to be written.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The first value that does not fit.
        value: f32,
        /// The type asked for.
        dtype: &'static str,
    },
    /// The operating system refused to read.
    #[error("{}: cannot read: {error}", shown(.path))]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Its reason. In the message, hence no `source`.
        error: io::Error,
    },
    /// The operating system refused to write.
    #[error("{}: cannot write: {error}", shown(.path))]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Its reason. In the message, hence no `source`.
        error: io::Error,
    },
}

impl WeightsError {
    /// An error of opening or reading `path`.
    pub(crate) fn read(path: &Path, error: io::Error) -> Self {
        let path = path.to_path_buf();
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing { path },
            _ => Self::Read { path, error },
        }
    }

    pub(crate) fn write(path: &Path, error: io::Error) -> Self {
        let path = path.to_path_buf();
        Self::Write { path, error }
    }

    /// Whether the file's content is at fault, and not its absence, the system's refusal or the one who asks.
    pub fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::Empty { .. } | Self::Truncated { .. } | Self::NotACheckpoint { .. } | Self::Malformed { .. }
        )
    }

    pub(crate) fn malformed(path: &Path, reason: impl fmt::Display) -> Self {
        Self::Malformed { path: path.to_path_buf(), reason: one_line(&reason.to_string()) }
    }

    pub(crate) fn truncated(path: &Path, reason: impl fmt::Display) -> Self {
        Self::Truncated { path: path.to_path_buf(), reason: one_line(&reason.to_string()) }
    }

    pub(crate) fn unsupported(path: &Path, what: impl fmt::Display) -> Self {
        Self::Unsupported { path: path.to_path_buf(), what: one_line(&what.to_string()) }
    }

    pub(crate) fn not_a_checkpoint(path: &Path, looks_like: impl fmt::Display) -> Self {
        Self::NotACheckpoint { path: path.to_path_buf(), looks_like: one_line(&looks_like.to_string()) }
    }
}

/// A tensor with values that are not finite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NonFinite {
    /// Its name.
    pub name: String,
    /// How many values are NaN or infinite.
    pub count: usize,
    /// How many values there are.
    pub of: usize,
}

impl fmt::Display for NonFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} of {})", one_line(&self.name), self.count, self.of)
    }
}

/// A tensor whose shape is not the model's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misshaped {
    /// Its name.
    pub name: String,
    /// The shape in the file.
    pub found: Vec<usize>,
    /// The shape in the model.
    pub expected: Vec<usize>,
}

impl fmt::Display for Misshaped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, found, expected } = self;
        write!(f, "{} is {found:?}, expected {expected:?}", one_line(name))
    }
}

/// How a file's names and shapes differ from a model's. The lists are complete; the message names
/// the first of each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct NameMismatch {
    /// The file, or where else the weights came from.
    pub origin: String,
    /// Expected names that are absent.
    pub missing: Vec<String>,
    /// Names that nothing expects.
    pub surplus: Vec<String>,
    /// Names with another shape than expected.
    pub misshaped: Vec<Misshaped>,
}

impl fmt::Display for NameMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: the tensors do not fit the model", printable(&self.origin))?;
        fn names(names: &[String]) -> Vec<String> {
            names.iter().take(LISTED + 1).map(|n| one_line(n)).collect()
        }
        if !self.missing.is_empty() {
            let (count, first) = (self.missing.len(), names(&self.missing));
            write!(f, "; {count} missing: {}", Capped(&first, count))?;
        }
        if !self.surplus.is_empty() {
            let (count, first) = (self.surplus.len(), names(&self.surplus));
            write!(f, "; {count} surplus: {}", Capped(&first, count))?;
        }
        if !self.misshaped.is_empty() {
            let count = self.misshaped.len();
            write!(f, "; {count} misshaped: {}", Listed(&self.misshaped))?;
        }
        Ok(())
    }
}

/// How many items of a list a message names.
const LISTED: usize = 8;

/// The first items of a list, and how many more there are.
struct Listed<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for Listed<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Capped(self.0, self.0.len()).fmt(f)
    }
}

/// As [`Listed`], for a list of which only the beginning is at hand.
struct Capped<'a, T>(&'a [T], usize);

impl<T: fmt::Display> fmt::Display for Capped<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, item) in self.0.iter().take(LISTED).enumerate() {
            write!(f, "{}{item}", if i > 0 { ", " } else { "" })?;
        }
        match self.1.saturating_sub(LISTED) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// `text` on one line of bearable length: names and reasons come out of files that strangers wrote.
pub(crate) fn one_line(text: &str) -> String {
    const LONGEST: usize = 320;
    let mut line = printable(text).into_owned();
    if let Some((cut, _)) = line.char_indices().nth(LONGEST) {
        line.truncate(cut);
        line.push('…');
    }
    line
}
