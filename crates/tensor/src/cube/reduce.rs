//! Reductions in a fixed order.

use cubecl::prelude::{ComputeClient, Runtime};

use super::CubeArg;
use super::glue::missing;
use crate::{Result, ops::Reduce};

/// Launches a [`Reduce`].
pub fn reduce<R: Runtime>(_client: &ComputeClient<R>, _op: &Reduce, _x: &CubeArg, _y: &CubeArg) -> Result<()> {
    Err(missing("reduce"))
}
