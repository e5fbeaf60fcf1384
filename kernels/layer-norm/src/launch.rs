//! The operations as kernels: from a problem to its host twin or its CubeCL launches.

use cubecl::prelude::*;
use swinstyle_kit::{
    Blueprint as _, Problem as _, glue,
    tuning::{Place, choose},
};
use swinstyle_tensor::{
    CubeArg, DType, Kernel, Result, Scalar, TensorError,
    cube::{scratch, storage_type},
};

use crate::{
    cube,
    host::{self, Saved},
    problem::Problem,
    tune::Blueprint,
};

/// x `[.., C]`, or x, weight `[C]` and bias `[C]`, to y `[.., C]`, mean `[rows]`, 1/σ `[rows]`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Forward(pub(crate) Problem);

/// The gradient of y, x, mean, 1/σ and the weight, if there is one, to the gradients of x, and if wanted weight and bias.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Gradient {
    pub(crate) problem: Problem,
    /// Weight's and bias's gradients are wanted.
    pub(crate) sums: bool,
}

fn wrong_count(op: &'static str) -> TensorError {
    TensorError::shape(op, "a wrong number of inputs or outputs")
}

impl Kernel for Forward {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn output_shapes(&self) -> Vec<Vec<usize>> {
        let rows = self.0.rows();
        vec![self.0.shape.clone(), vec![rows], vec![rows]]
    }

    fn host<T: Scalar>(&self, inputs: &[&[T]], outputs: &mut [&mut [T]]) -> Result<()> {
        let ([x, affine @ ..], [y, mean, rstd]) = (inputs, outputs) else { return Err(wrong_count("layer_norm")) };
        let c = self.0.channels();
        match affine {
            [weight, bias] => host::forward(&self.0, x, weight, bias, y, mean, rstd),
            _ => host::forward(&self.0, x, &vec![T::ONE; c], &vec![T::ZERO; c], y, mean, rstd),
        }
        Ok(())
    }

    fn cube<R: Runtime>(&self, client: &ComputeClient<R>, inputs: &[CubeArg], outputs: &[CubeArg]) -> Result<()> {
        let ([x, affine @ ..], [y, mean, rstd]) = (inputs, outputs) else { return Err(wrong_count("layer_norm")) };
        // Any buffer stands for an absent one, which is not read.
        let [weight, bias] = if let [weight, bias] = affine { [weight, bias] } else { [x, x] };
        let l = Launch::new("layer_norm", client, &self.0, y)?;
        // SAFETY: the kernel reads and writes rows below `rows`, and vectors below `vectors` of each.
        unsafe {
            cube::forward::launch_unchecked::<R>(
                client,
                l.grid,
                l.dim,
                l.width,
                x.array(),
                weight.array(),
                bias.array(),
                y.array(),
                mean.array(),
                rstd.array(),
                l.rows,
                l.vectors,
                self.0.epsilon as f32,
                u32::from(!affine.is_empty()),
                l.blueprint,
                l.dtype,
            );
        }
        Ok(())
    }

    fn flops(&self) -> u64 {
        self.0.flops()
    }
}

/// Rows whose weight and bias gradients one unit of the first stage adds.
const BLOCK_ROWS: usize = 32;

impl Kernel for Gradient {
    fn name(&self) -> &'static str {
        "layer_norm_grad"
    }

    fn output_shapes(&self) -> Vec<Vec<usize>> {
        let c = self.problem.channels();
        let sums = if self.sums { vec![vec![c], vec![c]] } else { Vec::new() };
        std::iter::once(self.problem.shape.clone()).chain(sums).collect()
    }

    fn host<T: Scalar>(&self, inputs: &[&[T]], outputs: &mut [&mut [T]]) -> Result<()> {
        let ([grad, x, mean, rstd, weight @ ..], [dx, sums @ ..]) = (inputs, outputs) else {
            return Err(wrong_count("layer_norm_grad"));
        };
        let ones = vec![T::ONE; if weight.is_empty() { self.problem.channels() } else { 0 }];
        let weight = weight.first().copied().unwrap_or(&ones[..]);
        let saved = Saved { x, weight, mean, rstd };
        let sums = if let [dweight, dbias] = sums { Some([&mut **dweight, &mut **dbias]) } else { None };
        host::gradient(&self.problem, grad, &saved, dx, sums);
        Ok(())
    }

    fn cube<R: Runtime>(&self, client: &ComputeClient<R>, inputs: &[CubeArg], outputs: &[CubeArg]) -> Result<()> {
        let ([grad, x, mean, rstd, weight @ ..], [dx, sums @ ..]) = (inputs, outputs) else {
            return Err(wrong_count("layer_norm_grad"));
        };
        let c = self.problem.channels();
        let l = Launch::new("layer_norm_grad", client, &self.problem, dx)?;
        // SAFETY: rows and vectors are checked against `rows` and `vectors`.
        unsafe {
            if l.rows > 0 {
                cube::gradient::launch_unchecked::<R>(
                    client,
                    l.grid,
                    l.dim,
                    l.width,
                    grad.array(),
                    x.array(),
                    // Any buffer stands for an absent one, which is not read.
                    weight.first().unwrap_or(x).array(),
                    mean.array(),
                    rstd.array(),
                    dx.array(),
                    l.rows,
                    l.vectors,
                    u32::from(!weight.is_empty()),
                    l.blueprint,
                    l.dtype,
                );
            }
        }
        let [dweight, dbias] = sums else { return Ok(()) };
        let blocks = l.rows.div_ceil(BLOCK_ROWS);
        // Partial sums stay in f32 whatever the storage: [blocks, 2, C].
        let partial = scratch(client, blocks * 2 * c, DType::F32);
        let (stage, units) = (glue::grid((blocks * l.vectors).div_ceil(UNITS as usize)), CubeDim::new_1d(UNITS));
        // SAFETY: rows and vectors are checked against `rows` and `vectors`, blocks against `blocks`, columns against 2·C.
        unsafe {
            if l.rows > 0 {
                cube::weight_gradient_blocks::launch_unchecked::<R>(
                    client,
                    stage,
                    units,
                    l.width,
                    grad.array(),
                    x.array(),
                    mean.array(),
                    rstd.array(),
                    partial.array(),
                    l.rows,
                    l.vectors,
                    BLOCK_ROWS,
                    l.dtype,
                );
            }
            cube::weight_gradient_sum::launch_unchecked::<R>(
                client,
                glue::grid(2 * c),
                units,
                partial.array(),
                dweight.array(),
                dbias.array(),
                blocks,
                c,
                UNITS as usize,
                l.dtype,
            );
        }
        Ok(())
    }

    fn flops(&self) -> u64 {
        2 * self.problem.flops()
    }
}

/// Units of the cubes that sum weight and bias gradients.
const UNITS: u32 = 256;

/// What the launches share.
struct Launch {
    grid: CubeCount,
    dim: CubeDim,
    width: usize,
    rows: usize,
    /// Vectors of one row.
    vectors: usize,
    blueprint: Blueprint,
    dtype: StorageType,
}

impl Launch {
    fn new<R: Runtime>(op: &'static str, client: &ComputeClient<R>, p: &Problem, y: &CubeArg) -> Result<Self> {
        if u32::try_from(y.len).is_err() {
            return Err(TensorError::shape(op, format!("{} elements are more than 32-bit indices reach", y.len)));
        }
        let blueprint = choose(Place::Cube, op, p, &glue::limits(client), Blueprint::default_for(p));
        Ok(Self {
            grid: glue::grid(p.rows().div_ceil(blueprint.rows as usize)),
            dim: CubeDim::new_2d(blueprint.units, blueprint.rows),
            width: blueprint.vector_width,
            rows: p.rows(),
            vectors: p.channels() / blueprint.vector_width,
            blueprint,
            dtype: storage_type(op, client, y.dtype)?,
        })
    }
}
