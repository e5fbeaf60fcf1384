//! What can go wrong in a tensor operation.

use crate::{DType, Device};

/// Result of every fallible tensor call.
pub type Result<T> = std::result::Result<T, TensorError>;

/// Errors of the tensor runtime; each names the operation and the values that it met.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TensorError {
    /// Shapes or parameters that the operation does not accept.
    #[error("{op}: {detail}")]
    Shape {
        /// The operation.
        op: &'static str,
        /// What was wrong, with the shapes.
        detail: String,
    },
    /// Inputs on more than one device.
    #[error("{op}: inputs on different devices ({first} and {second}); move them with `to_device`")]
    MixedDevices {
        /// The operation.
        op: &'static str,
        /// Device of the first input.
        first: Device,
        /// Device of the input that differs.
        second: Device,
    },
    /// Inputs of more than one element type.
    #[error("{op}: inputs of different types ({first} and {second}); convert with `to_dtype`")]
    MixedDTypes {
        /// The operation.
        op: &'static str,
        /// Type of the first input.
        first: DType,
        /// Type of the input that differs.
        second: DType,
    },
    /// The element type has no implementation on the device.
    #[error("{op}: {dtype} is not supported on {device}")]
    UnsupportedDType {
        /// The operation.
        op: &'static str,
        /// The element type.
        dtype: DType,
        /// The device.
        device: Device,
    },
    /// A derivative that is not written.
    #[error("{op}: the {order} derivative is not implemented; compute this gradient without create_graph")]
    NotDifferentiable {
        /// The operation.
        op: &'static str,
        /// "first" or "second".
        order: &'static str,
    },
    /// A device that this machine does not have.
    #[error("device {device} is not available: {reason}")]
    NoDevice {
        /// The device as it was asked for.
        device: String,
        /// Why, and what to do.
        reason: String,
    },
    /// Memory could not be had.
    #[error("{op}: out of memory on {device}: {bytes} bytes were asked for")]
    OutOfMemory {
        /// The operation.
        op: &'static str,
        /// The device.
        device: Device,
        /// Bytes asked for.
        bytes: usize,
    },
    /// The device refused a launch, or failed.
    #[error("{op}: {device} failed: {detail}")]
    Backend {
        /// The operation.
        op: &'static str,
        /// The device.
        device: Device,
        /// The driver's words.
        detail: String,
    },
}

impl TensorError {
    /// A [`TensorError::Shape`].
    pub fn shape(op: &'static str, detail: impl Into<String>) -> Self {
        Self::Shape { op, detail: detail.into() }
    }

    /// The error with the device it happened on: kernels know only what kind of device runs them.
    pub(crate) fn on(mut self, on: Device) -> Self {
        match &mut self {
            Self::UnsupportedDType { device, .. } | Self::OutOfMemory { device, .. } | Self::Backend { device, .. } => {
                *device = on;
            }
            _ => {}
        }
        self
    }
}
