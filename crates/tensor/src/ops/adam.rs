//! The fused update of Adam.

use cubecl::prelude::{ComputeClient, Runtime};

use crate::{
    Result, Scalar, Tensor, TensorError,
    cube::{self, CubeArg},
    kernel::{Kernel, launch},
    simd,
};

/// One step of Adam with decoupled weight decay (arXiv 1412.6980, 1711.05101) in one pass.
///
/// `m ← β₁ m + (1−β₁) g`, `v ← β₂ v + (1−β₂) g²`,
/// `p ← p·(1 − lr·decay) − lr · (m/c₁) / (√(v/c₂) + ε)`, with `c_i = 1 − β_iᵗ`.
/// Inputs: p, g, m, v, all of `len` elements; outputs: p, m, v.
#[derive(Debug, Clone, PartialEq)]
pub struct AdamStep {
    /// Shape of the parameter.
    pub shape: Vec<usize>,
    /// Learning rate.
    pub learning_rate: f64,
    /// β₁.
    pub beta1: f64,
    /// β₂.
    pub beta2: f64,
    /// ε.
    pub epsilon: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Steps taken, this one included: t ≥ 1.
    pub step: u64,
}

impl AdamStep {
    /// `[1 − lr·decay, lr/c₁, 1/√c₂]`: what the elements share.
    pub fn factors(&self) -> [f64; 3] {
        let c1 = 1.0 - self.beta1.powf(self.step as f64);
        let c2 = 1.0 - self.beta2.powf(self.step as f64);
        [1.0 - self.learning_rate * self.weight_decay, self.learning_rate / c1, 1.0 / c2.sqrt()]
    }

    /// Applies the step to `(parameter, gradient, first moment, second moment)`; returns the three updated ones.
    pub fn apply(&self, p: &Tensor, g: &Tensor, m: &Tensor, v: &Tensor) -> Result<[Tensor; 3]> {
        for t in [p, g, m, v] {
            if t.shape() != self.shape {
                let detail = format!("{:?} among tensors of the parameter's shape {:?}", t.shape(), self.shape);
                return Err(TensorError::shape("adam", detail));
            }
        }
        let mut out = launch(self, &[p, g, m, v])?.into_iter();
        match (out.next(), out.next(), out.next()) {
            (Some(p), Some(m), Some(v)) => Ok([p, m, v]),
            _ => Err(TensorError::shape("adam", "three outputs expected")),
        }
    }
}

impl Kernel for AdamStep {
    fn name(&self) -> &'static str {
        "adam"
    }

    fn output_shapes(&self) -> Vec<Vec<usize>> {
        vec![self.shape.clone(); 3]
    }

    fn host<T: Scalar>(&self, inputs: &[&[T]], outputs: &mut [&mut [T]]) -> Result<()> {
        let [keep, rate, v_scale] = self.factors().map(T::from_f64);
        let [b1, b2, eps] = [self.beta1, self.beta2, self.epsilon].map(T::from_f64);
        let (n1, n2) = (T::from_f64(1.0 - self.beta1), T::from_f64(1.0 - self.beta2));
        let [po, mo, vo] = outputs else { return Ok(()) };
        let (p, g, m, v) = (inputs[0], inputs[1], inputs[2], inputs[3]);
        simd::dispatch(
            #[inline(always)]
            || {
                for i in 0..p.len().min(po.len()).min(mo.len()).min(vo.len()) {
                    let mi = m[i] * b1 + g[i] * n1;
                    let vi = v[i] * b2 + g[i] * g[i] * n2;
                    mo[i] = mi;
                    vo[i] = vi;
                    po[i] = p[i] * keep - rate * mi / (vi.sqrt() * v_scale + eps);
                }
            },
        );
        Ok(())
    }

    fn cube<R: Runtime>(&self, client: &ComputeClient<R>, inputs: &[CubeArg], outputs: &[CubeArg]) -> Result<()> {
        cube::elementwise::adam(client, self, inputs, outputs)
    }

    fn flops(&self) -> u64 {
        14 * self.shape.iter().product::<usize>() as u64
    }
}
