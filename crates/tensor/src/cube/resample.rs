//! Separable resampling by gathering.

use cubecl::prelude::{ComputeClient, Runtime};

use super::CubeArg;
use super::glue::missing;
use crate::{Result, ops::Resample};

/// Launches a [`Resample`].
pub fn resample<R: Runtime>(_client: &ComputeClient<R>, _op: &Resample, _x: &CubeArg, _y: &CubeArg) -> Result<()> {
    Err(missing("resample"))
}
