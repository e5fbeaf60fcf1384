//! The fused update of Adam.

use cubecl::prelude::{ComputeClient, Runtime};
use rayon::prelude::*;

use super::{PARALLEL_MIN, slots};
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
/// Inputs: p, m, v and g, all of `len` elements; outputs: p, m, v. Where p is a pack ([`Tensor::pack`]) there may be several gradients, those
/// of its tensors in their order: on the cpu each is read where it lies, other devices pack them first.
///
/// `rectified` makes it RAdam (arXiv 1908.03265, as `torch.optim.RAdam`): with `ρ_∞ = 2/(1−β₂) − 1` and
/// `ρ_t = ρ_∞ − 2t β₂ᵗ/(1−β₂ᵗ)`, the step is `lr·r·(m/c₁)·√c₂/(√v + ε)` where ρ_t > 5,
/// `r = √((ρ_t−4)(ρ_t−2)ρ_∞ / ((ρ_∞−4)(ρ_∞−2)ρ_t))`, and `lr·(m/c₁)` before: the first second moments are not to be trusted.
#[derive(Debug, Clone, PartialEq)]
pub struct AdamStep {
    /// Shape of the parameter; for a pack its length.
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

    /// Applies the step to parameter, gradient, first and second moment; returns the three updated ones.
    ///
    /// Errors: shapes that differ, gradients that are not those of the pack.
    pub fn apply(&self, p: &Tensor, gradients: &[&Tensor], m: &Tensor, v: &Tensor) -> Result<[Tensor; 3]> {
        let packed = match gradients {
            [_] => None,
            _ => Tensor::packed(gradients),
        };
        let gradients = packed.as_ref().map_or(gradients.to_vec(), |one| vec![one]);
        let wrong = [p, m, v].into_iter().find(|t| t.shape() != self.shape);
        let alone = gradients.iter().copied().find(|g| gradients.len() == 1 && g.shape() != self.shape);
        if let Some(t) = wrong.or(alone) {
            let detail = format!("{:?} among tensors of the parameter's shape {:?}", t.shape(), self.shape);
            return Err(TensorError::shape("adam", detail));
        }
        let lengths: Vec<usize> = gradients.iter().map(|g| g.len()).collect();
        if gradients.is_empty() || slots(&lengths).1 != p.len() {
            let detail = format!("gradients of {lengths:?} elements for a pack of {}", p.len());
            return Err(TensorError::shape("adam", detail));
        }
        let mut out = launch(self, &[&[p, m, v], &gradients[..]].concat())?.into_iter();
        match (out.next(), out.next(), out.next()) {
            (Some(p), Some(m), Some(v)) => Ok([p, m, v]),
            _ => Err(TensorError::shape("adam", "three outputs expected")),
        }
    }
}

/// Elements that a thread updates at a time.
const BLOCK: usize = 1 << 13;

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
        let ([p, m, v, gradients @ ..], [po, mo, vo]) = (inputs, outputs) else { return Ok(()) };
        let (starts, total) = slots(&gradients.iter().map(|g| g.len()).collect::<Vec<_>>());
        // The tensors that lie in a block of the pack, one after the other.
        let block = |start: usize, po: &mut [T], mo: &mut [T], vo: &mut [T]| {
            let end = start + po.len();
            let mut at = start;
            let mut i = starts.partition_point(|&s| s <= start) - 1;
            while at < end {
                let last = starts.get(i + 1).copied().unwrap_or(total).min(end);
                let filled = (starts[i] + gradients[i].len()).clamp(at, last);
                let to = filled - start;
                if filled > at {
                    let g = &gradients[i][at - starts[i]..filled - starts[i]];
                    let (p, m, v) = (&p[at..filled], &m[at..filled], &v[at..filled]);
                    let own = at - start..to;
                    let (po, mo, vo) = (&mut po[own.clone()], &mut mo[own.clone()], &mut vo[own]);
                    simd::dispatch(
                        #[inline(always)]
                        || {
                            for i in 0..g.len().min(po.len()).min(mo.len()).min(vo.len()) {
                                let mi = m[i] * b1 + g[i] * n1;
                                let vi = v[i] * b2 + g[i] * g[i] * n2;
                                mo[i] = mi;
                                vo[i] = vi;
                                po[i] = p[i] * keep - rate * mi / (vi.sqrt() * v_scale + eps);
                            }
                        },
                    );
                }
                // Between the tensors nothing is learnt.
                let gap = to..last - start;
                po[gap.clone()].copy_from_slice(&p[filled..last]);
                mo[gap.clone()].copy_from_slice(&m[filled..last]);
                vo[gap].copy_from_slice(&v[filled..last]);
                (at, i) = (last, i + 1);
            }
        };
        if total < PARALLEL_MIN {
            block(0, po, mo, vo);
            return Ok(());
        }
        let blocks = po.par_chunks_mut(BLOCK).zip(mo.par_chunks_mut(BLOCK)).zip(vo.par_chunks_mut(BLOCK));
        blocks.enumerate().for_each(|(i, ((po, mo), vo))| block(i * BLOCK, po, mo, vo));
        Ok(())
    }

    fn cube<R: Runtime>(&self, client: &ComputeClient<R>, inputs: &[CubeArg], outputs: &[CubeArg]) -> Result<()> {
        cube::update::adam(client, self, inputs, outputs)
    }

    fn flops(&self) -> u64 {
        14 * self.shape.iter().product::<usize>() as u64
    }
}
