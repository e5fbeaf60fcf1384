//! Gradients of an optimiser's parameters: added up over the parts of a batch, unscaled, clipped; a few launches for all.

use swinstyle_models::Params;
use swinstyle_tensor::{Tensor, grad, no_grad};

use crate::{Adam, AdamOptions, Result, TrainError, run::Losses};

/// Gradients of the parameters of an optimiser, added up over the parts of a batch.
#[derive(Debug, Default)]
pub struct Gradients {
    sums: Vec<Option<Tensor>>,
}

impl Gradients {
    /// Adds `weight` times the gradient of `loss` with respect to those of `leaves` that `adam` updates.
    pub fn add(&mut self, loss: &Tensor, weight: f64, leaves: &Params, adam: &Adam) -> Result<()> {
        let names = adam.names();
        let inputs = names.iter().map(|n| leaves.get(n)).collect::<std::result::Result<Vec<_>, _>>()?;
        let loss = if weight == 1.0 { loss.clone() } else { loss.scale(weight)? };
        let mut new = grad(&[(&loss, None)], &inputs, false)?;
        if self.sums.is_empty() {
            self.sums = new;
            return Ok(());
        }
        let both = |i: &usize| self.sums[*i].is_some() && new[*i].is_some();
        let shared: Vec<usize> = (0..new.len()).filter(both).collect();
        let sums: Vec<Tensor> = shared.iter().filter_map(|&i| self.sums[i].take()).collect();
        let parts: Vec<Tensor> = shared.iter().filter_map(|&i| new[i].take()).collect();
        no_grad(|| {
            for group in Tensor::packs(&sums.iter().collect::<Vec<_>>()) {
                let shapes: Vec<&[usize]> = group.iter().map(|&i| sums[i].shape()).collect();
                let of = |all: &[Tensor]| Tensor::pack(&group.iter().map(|&i| &all[i]).collect::<Vec<_>>());
                let added = of(&sums)?.add(&of(&parts)?)?.unpack(&shapes)?;
                group.iter().zip(added).for_each(|(&i, t)| self.sums[shared[i]] = Some(t));
            }
            Ok::<_, TrainError>(())
        })?;
        for (sum, new) in self.sums.iter_mut().zip(new) {
            *sum = sum.take().or(new);
        }
        Ok(())
    }

    /// Replaces every gradient by what `f` makes of the packs that they are in.
    fn map(&mut self, f: impl FnMut(&Tensor) -> swinstyle_tensor::Result<Tensor>) -> Result<()> {
        let all: Vec<&Tensor> = self.sums.iter().flatten().collect();
        let mapped = no_grad(|| Tensor::map_packed(&all, f))?;
        self.sums.iter_mut().flatten().zip(mapped).for_each(|(g, new)| *g = new);
        Ok(())
    }

    /// Divides all of them by the scale of the loss; false if a number is not finite. Waits for the device, once.
    pub(crate) fn unscale(&mut self, scale: f64) -> Result<bool> {
        let mut sums = Vec::new();
        self.map(|pack| {
            let g = pack.scale(1.0 / scale)?;
            // 0·x is 0 but for infinities and NaN.
            sums.push(g.scale(0.0)?.sum_all()?);
            Ok(g)
        })?;
        let sums = Tensor::to_vecs(&sums.iter().collect::<Vec<_>>())?;
        Ok(sums.iter().flatten().all(|s| *s == 0.0))
    }

    /// Scales all of them down so that their common 2-norm is at most `limit`, and puts the norm before among the `losses`
    /// under `name`; a limit of 0 does nothing. PyTorch: `clip_grad_norm_`. Nothing is read back from the device.
    ///
    /// The sum of squares goes over packs of the gradients in the order of their names, so it does not depend on how the weights lie.
    pub(crate) fn clip(&mut self, limit: f64, name: &'static str, losses: &mut Losses) -> Result<()> {
        if limit <= 0.0 {
            return Ok(());
        }
        let mut squares: Option<Tensor> = None;
        self.map(|pack| {
            let own = pack.square()?.sum_all()?;
            squares = Some(match squares.take() {
                Some(s) => s.add(&own)?,
                None => own,
            });
            Ok(pack.clone())
        })?;
        let Some(squares) = squares else { return Ok(()) };
        let norm = squares.sqrt()?;
        let factor = norm.add_scalar(1e-6)?.recip()?.scale(limit)?.clamp(0.0, 1.0)?;
        self.map(|pack| pack.mul(&factor))?;
        losses.push((name, norm));
        Ok(())
    }

    /// One step of the optimiser.
    pub fn apply(&self, params: &mut Params, adam: &mut Adam, options: &AdamOptions) -> Result<()> {
        adam.update(params, &self.sums, options)
    }
}

/// One optimiser step down the gradient of `loss` with respect to the leaves that `adam` updates.
pub(crate) fn descend(
    loss: &Tensor,
    leaves: &Params,
    params: &mut Params,
    adam: &mut Adam,
    options: &AdamOptions,
) -> Result<()> {
    let mut gradients = Gradients::default();
    gradients.add(loss, 1.0, leaves, adam)?;
    gradients.apply(params, adam, options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use swinstyle_tensor::{DType, Device};

    #[test]
    fn clipping_bounds_the_common_norm_and_parts_add_up() {
        let leaf = |v: Vec<f32>| Tensor::from_vec(v, &[2], Device::Cpu).unwrap().as_leaf();
        let leaves: Params =
            [("a".to_string(), leaf(vec![3.0, 0.0])), ("b".to_string(), leaf(vec![0.0, 4.0]))].into_iter().collect();
        let adam = Adam::new(&leaves, |_| true).unwrap();
        let loss = leaves.get("a").unwrap().square().unwrap().sum_all().unwrap();
        let loss = loss.add(&leaves.get("b").unwrap().square().unwrap().sum_all().unwrap()).unwrap();
        // The gradient is twice the leaves: (6, 0) and (0, 8), of norm 10.
        let mut gradients = Gradients::default();
        gradients.add(&loss, 0.25, &leaves, &adam).unwrap();
        gradients.add(&loss, 0.75, &leaves, &adam).unwrap();
        let mut losses = Losses::new();
        gradients.clip(0.0, "norm", &mut losses).unwrap();
        assert!(losses.is_empty());
        gradients.clip(100.0, "norm", &mut losses).unwrap();
        assert!((losses[0].1.item().unwrap() - 10.0).abs() < 1e-5);
        assert_eq!(gradients.sums[0].as_ref().unwrap().to_vec().unwrap(), [6.0, 0.0]);
        gradients.clip(5.0, "norm", &mut losses).unwrap();
        let clipped = gradients.sums[1].as_ref().unwrap().to_vec().unwrap();
        assert!((clipped[1] - 4.0).abs() < 1e-5, "{clipped:?}");
    }

    #[test]
    fn unscaling_and_clipping_many_gradients_are_a_few_launches_and_one_wait() {
        use swinstyle_tensor::counters::region;
        let make = |i: usize| Some(Tensor::full(0.5, &[1 + i % 7, 3], DType::F32, Device::Cpu).unwrap());
        let mut gradients = Gradients { sums: (0..150).map(make).collect() };
        let values: usize = gradients.sums.iter().flatten().map(Tensor::len).sum();
        gradients.sums[3] = None;
        let missing = 4 * 3;
        let mut losses = Losses::new();
        let (finite, counts) = region(|| gradients.unscale(0.25).unwrap());
        assert!(finite && counts.launches <= 4 && (counts.downloads, counts.waits) == (1, 0), "{counts:?}");
        let ((), counts) = region(|| gradients.clip(1.0, "norm", &mut losses).unwrap());
        assert!(counts.launches <= 8 && counts.downloads == 0, "{counts:?}");
        let norm = (4.0 * (values - missing) as f64).sqrt();
        assert!((losses[0].1.item().unwrap() - norm).abs() < 1e-3 * norm);
        let clipped = gradients.sums[149].as_ref().unwrap().to_vec().unwrap();
        assert!(gradients.sums[3].is_none() && clipped.iter().all(|v| (f64::from(*v) - 2.0 / norm).abs() < 1e-6));
        // One number that is not finite is found in the pack.
        gradients.sums[5] = Some(Tensor::from_vec(vec![1.0, f32::INFINITY], &[2], Device::Cpu).unwrap());
        assert!(!gradients.unscale(1.0).unwrap());
    }
}
