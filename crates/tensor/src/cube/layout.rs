//! Layout kernels: permute, slice, pad, concat.

use cubecl::prelude::{ComputeClient, Runtime};

use super::CubeArg;
use super::glue::missing;
use crate::{
    Result,
    ops::{Concat, Pad, Permute, Slice},
};

/// Launches a [`Permute`].
pub fn permute<R: Runtime>(_client: &ComputeClient<R>, _op: &Permute, _x: &CubeArg, _y: &CubeArg) -> Result<()> {
    Err(missing("permute"))
}

/// Launches a [`Slice`].
pub fn slice<R: Runtime>(_client: &ComputeClient<R>, _op: &Slice, _x: &CubeArg, _y: &CubeArg) -> Result<()> {
    Err(missing("slice"))
}

/// Launches a [`Pad`].
pub fn pad<R: Runtime>(_client: &ComputeClient<R>, _op: &Pad, _x: &CubeArg, _y: &CubeArg) -> Result<()> {
    Err(missing("pad"))
}

/// Launches a [`Concat`].
pub fn concat<R: Runtime>(_client: &ComputeClient<R>, _op: &Concat, _inputs: &[CubeArg], _y: &CubeArg) -> Result<()> {
    Err(missing("concat"))
}
