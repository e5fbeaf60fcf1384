//! What can go wrong in a training run.

use std::path::PathBuf;

use swinstyle_data::DataError;
use swinstyle_models::ModelError;
use swinstyle_tensor::TensorError;
use swinstyle_weights::WeightsError;

/// Result of every fallible call of this crate.
pub type Result<T> = std::result::Result<T, TrainError>;

/// Errors of training.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A configuration file or override that makes no run.
    #[error("{path}: {detail}")]
    Config {
        /// The file, or the override as it was typed.
        path: String,
        /// What is wrong.
        detail: String,
    },
    /// A run folder that cannot be used.
    #[error("{path}: {detail}")]
    Run {
        /// The folder or file.
        path: PathBuf,
        /// What is wrong, and the way out.
        detail: String,
    },
    /// A loss that is not a number.
    #[error("{loss} is {value} at step {step} (images {indices:?} of the data set); {last_good}")]
    NotFinite {
        /// The loss.
        loss: &'static str,
        /// NaN or infinity.
        value: f64,
        /// The step, from 0.
        step: u64,
        /// The images of the batch.
        indices: Vec<u64>,
        /// Where to go on from.
        last_good: String,
    },
    /// A network failed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// An operation failed.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// Data could not be had.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A checkpoint could not be read or written.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

impl TrainError {
    /// A [`TrainError::Run`].
    pub fn run(path: impl Into<PathBuf>, detail: impl Into<String>) -> Self {
        Self::Run { path: path.into(), detail: detail.into() }
    }
}
