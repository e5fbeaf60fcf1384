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
///
/// `rectified` makes it RAdam (arXiv 1908.03265, as `torch.optim.RAdam`): with `ρ_∞ = 2/(1−β₂) − 1` and
/// `ρ_t = ρ_∞ − 2t β₂ᵗ/(1−β₂ᵗ)`, the step is `lr·r·(m/c₁)·√c₂/(√v + ε)` where ρ_t > 5,
/// `r = √((ρ_t−4)(ρ_t−2)ρ_∞ / ((ρ_∞−4)(ρ_∞−2)ρ_t))`, and `lr·(m/c₁)` before: the first second moments are not to be trusted.
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
    /// Whether the variance of the adaptive rate is rectified (RAdam).
    pub rectified: bool,
}

impl AdamStep {
    /// `[k, r, s, e]` of `p ← k·p − r·m/(s·√v + e)`: what the elements share.
    pub fn factors(&self) -> [f64; 4] {
        let t = self.step as f64;
        let (c1, c2) = (1.0 - self.beta1.powf(t), 1.0 - self.beta2.powf(t));
        let keep = 1.0 - self.learning_rate * self.weight_decay;
        let rate = self.learning_rate / c1;
        if !self.rectified {
            return [keep, rate, 1.0 / c2.sqrt(), self.epsilon];
        }
        let most = 2.0 / (1.0 - self.beta2) - 1.0;
        let rho = most - 2.0 * t * (1.0 - c2) / c2;
        if rho <= 5.0 {
            return [keep, rate, 0.0, 1.0];
        }
        let r = ((rho - 4.0) * (rho - 2.0) * most / ((most - 4.0) * (most - 2.0) * rho)).sqrt();
        [keep, rate * r * c2.sqrt(), 1.0, self.epsilon]
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
        let [keep, rate, v_scale, eps] = self.factors().map(T::from_f64);
        let [b1, b2] = [self.beta1, self.beta2].map(T::from_f64);
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
