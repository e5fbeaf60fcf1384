//! What can go wrong in building, loading or running a network.

use swinstyle_tensor::TensorError;

/// Result of every fallible call of this crate.
pub type Result<T> = std::result::Result<T, ModelError>;

/// Errors of the networks.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A parameter that the network reads is not there.
    #[error("the parameter `{0}` is missing")]
    MissingParameter(String),
    /// A configuration that makes no network.
    #[error("{what}: {detail}")]
    Config {
        /// The network or key.
        what: &'static str,
        /// What is wrong, with the values.
        detail: String,
    },
    /// A file whose content makes no network.
    #[error("{origin}: {reason}")]
    File {
        /// The file.
        origin: String,
        /// What is wrong with it; in the message, hence no `source`.
        reason: Box<ModelError>,
    },
    /// An operation failed.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// A checkpoint could not be read, written or matched.
    #[error(transparent)]
    Weights(#[from] swinstyle_weights::WeightsError),
}

impl ModelError {
    /// A [`ModelError::Config`].
    pub fn config(what: &'static str, detail: impl Into<String>) -> Self {
        Self::Config { what, detail: detail.into() }
    }

    /// The same with the file that it is about, where it does not name it yet.
    pub(crate) fn in_file(self, origin: &str) -> Self {
        match self {
            Self::Weights(_) | Self::File { .. } => self,
            reason => Self::File { origin: origin.to_string(), reason: Box::new(reason) },
        }
    }
}
