//! Stochastic depth (arXiv 1603.09382): in training a residual branch is dropped for whole images.

use swinstyle_tensor::{Tensor, rng::Philox};

use crate::Result;

/// Drop probabilities and random numbers of one training pass.
pub(super) struct StochasticDepth<'a> {
    last: f64,
    blocks: usize,
    rng: Option<&'a mut Philox>,
}

impl<'a> StochasticDepth<'a> {
    /// Block `b` of `blocks` drops with probability `last · b / (blocks − 1)`; without random numbers nothing is dropped.
    pub fn new(last: f64, blocks: usize, rng: Option<&'a mut Philox>) -> Self {
        Self { last, blocks, rng }
    }

    /// The branch, zeroed for some images and scaled by 1/(1 − p) for the others. torchvision: `StochasticDepth(p, "row")`.
    pub fn apply(
        &mut self,
        branch: Tensor, // [N, H, W, C]
        block: usize,
    ) -> Result<Tensor> {
        let p = self.last * block as f64 / self.blocks.saturating_sub(1).max(1) as f64;
        let Some(rng) = self.rng.as_deref_mut().filter(|_| p > 0.0) else {
            return Ok(branch);
        };
        let images = branch.shape()[0];
        let factors = (0..images).map(|_| if f64::from(rng.uniform()) < p { 0.0 } else { (1.0 / (1.0 - p)) as f32 });
        let factors = Tensor::from_vec(factors.collect::<Vec<f32>>(), &[images, 1, 1, 1], branch.device())?;
        Ok(branch.mul(&factors.to_dtype(branch.dtype())?)?)
    }
}
