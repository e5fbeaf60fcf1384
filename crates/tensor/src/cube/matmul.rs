//! Matrix products by cubek-matmul.

use cubecl::prelude::{ComputeClient, Runtime};

use super::CubeArg;
use super::glue::missing;
use crate::{Result, ops::Matmul};

/// Launches a [`Matmul`]; `inputs` are A, B and, with a bias, the row that is added.
pub fn matmul<R: Runtime>(_client: &ComputeClient<R>, _op: &Matmul, _inputs: &[CubeArg], _c: &CubeArg) -> Result<()> {
    Err(missing("matmul"))
}
