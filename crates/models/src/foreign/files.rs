//! Tensors by name from one or several files of weights.

use std::path::Path;

use swinstyle_tensor::{Device, Tensor};
use swinstyle_weights::{Archive, Array, layout::oihw_to_hwio};

use crate::{ModelError, Result};

/// The files of one network, read whole.
pub(super) struct Files {
    /// The network, for errors.
    what: &'static str,
    archives: Vec<Archive>,
}

impl Files {
    /// Reads the files. Errors: what cannot be read, and values that are not finite.
    pub(super) fn read(what: &'static str, paths: &[impl AsRef<Path>]) -> Result<Self> {
        let archives = paths.iter().map(|p| {
            let archive = Archive::read(p)?;
            archive.check_finite()?;
            Ok(archive)
        });
        Ok(Self { what, archives: archives.collect::<Result<_>>()? })
    }

    /// The files' names, for errors.
    fn origin(&self) -> String {
        self.archives.iter().map(Archive::origin).collect::<Vec<_>>().join(", ")
    }

    /// An error about these files.
    pub(super) fn error(&self, detail: impl std::fmt::Display) -> ModelError {
        ModelError::config(self.what, format!("{}: {detail}", self.origin()))
    }

    /// The tensor of that name, if any file has it.
    pub(super) fn find(&self, name: &str) -> Option<&Array> {
        self.archives.iter().find_map(|a| a.arrays.get(name))
    }

    /// The tensor of that name.
    pub(super) fn get(&self, name: &str) -> Result<&Array> {
        self.find(name).ok_or_else(|| self.error(format_args!("there is no tensor `{name}`")))
    }

    /// The tensor of that name, whose shape must be `shape`; 0 stands for any extent but 0.
    pub(super) fn shaped(&self, name: &str, shape: &[usize]) -> Result<&Array> {
        let array = self.get(name)?;
        let fits = |(&found, &expected): (&usize, &usize)| found > 0 && (expected == 0 || found == expected);
        if array.shape.len() != shape.len() || !array.shape.iter().zip(shape).all(fits) {
            let wanted: Vec<String> =
                shape.iter().map(|d| if *d == 0 { "any".to_string() } else { d.to_string() }).collect();
            let detail =
                format_args!("`{name}` has shape {:?}, [{}] expected", array.shape, wanted.join(", ")).to_string();
            return Err(self.error(detail));
        }
        Ok(array)
    }

    /// A vector of `len` values.
    pub(super) fn vector(&self, name: &str, len: usize) -> Result<&[f32]> {
        Ok(&self.shaped(name, &[len])?.data)
    }

    /// A convolution's weight, stored `[O, I, k, k]`, as `[k, k, I, O]`; `outputs` 0 takes what there is.
    pub(super) fn conv(&self, name: &str, [outputs, inputs, k]: [usize; 3]) -> Result<Array> {
        Ok(oihw_to_hwio(self.shaped(name, &[outputs, inputs, k, k])?)?)
    }
}

/// An array as a tensor on a device.
pub(super) fn tensor(array: Array, device: Device) -> Result<Tensor> {
    Ok(Tensor::from_vec(array.data, &array.shape, device)?)
}
