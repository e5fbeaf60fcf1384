//! The updates of weights: Adam, and the running average.

use cubecl::prelude::*;

use super::{
    CubeArg,
    glue::{check_len, scratch, storage_type, units},
    pack::pack,
};
use crate::{
    Result, TensorError,
    ops::{AdamStep, Average},
};

/// Elements of a vector; buffers are padded to whole ones.
const WIDTH: usize = 4;

#[cube(launch_unchecked)]
fn adam_kernel<F: Float, N: Size>(
    p: &Array<Vector<F, N>>,
    g: &Array<Vector<F, N>>,
    m: &Array<Vector<F, N>>,
    v: &Array<Vector<F, N>>,
    p_out: &mut Array<Vector<F, N>>,
    m_out: &mut Array<Vector<F, N>>,
    v_out: &mut Array<Vector<F, N>>,
    factors: AdamFactors,
    vectors: usize,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS < vectors {
        let g = Vector::<f32, N>::cast_from(g[ABSOLUTE_POS]);
        let m = Vector::<f32, N>::cast_from(m[ABSOLUTE_POS]) * Vector::new(factors.beta1)
            + g * Vector::new(factors.one_minus_beta1);
        let v = Vector::<f32, N>::cast_from(v[ABSOLUTE_POS]) * Vector::new(factors.beta2)
            + g * g * Vector::new(factors.one_minus_beta2);
        let denominator = v.sqrt() * Vector::new(factors.v_scale) + Vector::new(factors.epsilon);
        let p = Vector::<f32, N>::cast_from(p[ABSOLUTE_POS]) * Vector::new(factors.keep)
            - Vector::new(factors.rate) * m / denominator;
        p_out[ABSOLUTE_POS] = Vector::cast_from(p);
        m_out[ABSOLUTE_POS] = Vector::cast_from(m);
        v_out[ABSOLUTE_POS] = Vector::cast_from(v);
    }
}

/// What the elements of an [`AdamStep`] share.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct AdamFactors {
    keep: f32,
    rate: f32,
    v_scale: f32,
    beta1: f32,
    beta2: f32,
    one_minus_beta1: f32,
    one_minus_beta2: f32,
    epsilon: f32,
}

/// Launches an [`AdamStep`].
pub fn adam<R: Runtime>(
    client: &ComputeClient<R>,
    op: &AdamStep,
    inputs: &[CubeArg],
    outputs: &[CubeArg],
) -> Result<()> {
    let ([p, m, v, gradients @ ..], [p_out, m_out, v_out]) = (inputs, outputs) else {
        return Err(TensorError::shape("adam", "p, m, v and gradients, and three outputs expected"));
    };
    check_len("adam", p_out.len)?;
    let g = match gradients {
        [g] => g.clone(),
        _ => {
            let g = scratch(client, p_out.len, p_out.dtype);
            pack(client, gradients, &g)?;
            g
        }
    };
    let [keep, rate, v_scale, epsilon] = op.factors().map(|v| v as f32);
    let [beta1, beta2, one_minus_beta1, one_minus_beta2] =
        [op.beta1, op.beta2, 1.0 - op.beta1, 1.0 - op.beta2].map(|v| v as f32);
    let vectors = p_out.len.div_ceil(WIDTH);
    let (grid, cube) = units(vectors);
    let dtype = storage_type("adam", client, p_out.dtype)?;
    // SAFETY: each unit touches one vector below `vectors`; all buffers have the parameter's length, padded to vectors.
    unsafe {
        adam_kernel::launch_unchecked::<R>(
            client,
            grid,
            cube,
            WIDTH,
            p.padded(WIDTH),
            g.padded(WIDTH),
            m.padded(WIDTH),
            v.padded(WIDTH),
            p_out.padded(WIDTH),
            m_out.padded(WIDTH),
            v_out.padded(WIDTH),
            AdamFactorsLaunch::new(keep, rate, v_scale, beta1, beta2, one_minus_beta1, one_minus_beta2, epsilon),
            vectors,
            dtype,
        );
    }
    Ok(())
}

#[cube(launch_unchecked)]
fn average_kernel<F: Float, N: Size>(
    average: &Array<Vector<F, N>>,
    x: &Array<Vector<F, N>>,
    y: &mut Array<Vector<F, N>>,
    keep: f32,
    take: f32,
    vectors: usize,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS < vectors {
        let old = Vector::<f32, N>::cast_from(average[ABSOLUTE_POS]) * Vector::new(keep);
        let new = Vector::<f32, N>::cast_from(x[ABSOLUTE_POS]) * Vector::new(take);
        y[ABSOLUTE_POS] = Vector::cast_from(old + new);
    }
}

/// Launches an [`Average`].
pub fn average<R: Runtime>(
    client: &ComputeClient<R>,
    op: &Average,
    old: &CubeArg,
    x: &CubeArg,
    y: &CubeArg,
) -> Result<()> {
    check_len("average", y.len)?;
    let vectors = y.len.div_ceil(WIDTH);
    let (grid, cube) = units(vectors);
    let dtype = storage_type("average", client, y.dtype)?;
    // SAFETY: each unit touches one vector below `vectors`, which all three padded buffers hold.
    unsafe {
        average_kernel::launch_unchecked::<R>(
            client,
            grid,
            cube,
            WIDTH,
            old.padded(WIDTH),
            x.padded(WIDTH),
            y.padded(WIDTH),
            op.decay as f32,
            (1.0 - op.decay) as f32,
            vectors,
            dtype,
        );
    }
    Ok(())
}
