//! Dynamic loss scaling for f16 (arXiv 1710.03740, §3.2): the gradient of S·loss, so that small gradients stay in f16's range.
//!
//! A step whose gradient is not finite is skipped and halves S; after enough good steps in a row S doubles. bf16 has the range of
//! f32 and needs none.

use swinstyle_tensor::{DType, Device, Tensor};
use swinstyle_weights::Archive;

use crate::{Gradients, Result, TrainError, run::Losses};

/// S at the start.
const START: f64 = 65_536.0;
/// S at most: beyond it f16 gradients overflow whatever the loss.
const MOST: f64 = 16_777_216.0;
/// Good steps in a row after which S doubles.
const INTERVAL: u64 = 2000;

/// The scale of one network's loss.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LossScale {
    /// Names in the metrics: the scale, and the share of steps that were skipped.
    names: [&'static str; 2],
    scale: f64,
    /// Good steps since the scale changed.
    good: u64,
}

impl LossScale {
    /// A scale where the networks compute in f16.
    pub(crate) fn new(precision: DType, names: [&'static str; 2]) -> Option<Self> {
        (precision == DType::F16).then_some(Self { names, scale: START, good: 0 })
    }

    /// Takes note of a step; false if it must be skipped.
    fn judge(&mut self, finite: bool) -> bool {
        self.good = if finite { self.good + 1 } else { 0 };
        if !finite {
            self.scale = (self.scale / 2.0).max(1.0);
        } else if self.good == INTERVAL {
            self.scale = (self.scale * 2.0).min(MOST);
            self.good = 0;
        }
        finite
    }

    /// What a loss is multiplied by before its gradient is taken.
    pub(crate) fn factor(scale: &Option<Self>) -> f64 {
        scale.as_ref().map_or(1.0, |s| s.scale)
    }

    /// Brings the gradients of a step back to their size and adjusts the scale, which goes among the `losses`; false if the step must be
    /// skipped. Waits for the device in f16, and does nothing without a scale.
    pub(crate) fn settle(scale: &mut Option<Self>, gradients: &mut Gradients, losses: &mut Losses) -> Result<bool> {
        let Some(scale) = scale else { return Ok(true) };
        let used = scale.scale;
        let good = scale.judge(gradients.unscale(used)?);
        let scalar = |v: f64| Tensor::full(v, &[], DType::F32, Device::Cpu);
        losses.push((scale.names[0], scalar(used)?));
        losses.push((scale.names[1], scalar(if good { 0.0 } else { 1.0 })?));
        Ok(good)
    }

    fn key(&self) -> String {
        format!("scaling.{}", self.names[0])
    }

    /// Puts the state into an archive.
    pub(crate) fn save(&self, archive: &mut Archive) {
        archive.metadata.insert(self.key(), format!("{} {}", self.scale, self.good));
    }

    /// Takes the state back; a run that was not in f16 before begins with a fresh scale.
    pub(crate) fn load(&mut self, archive: &Archive) -> Result<()> {
        let Some(text) = archive.metadata.get(&self.key()) else { return Ok(()) };
        let parsed = text.split_once(' ').and_then(|(s, n)| Some((s.parse().ok()?, n.parse().ok()?)));
        (self.scale, self.good) = parsed.filter(|(s, _)| *s >= 1.0).ok_or_else(|| {
            TrainError::run(archive.origin(), format!("its loss scale `{text}` is not one of this program"))
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use swinstyle_models::Params;

    use super::*;
    use crate::{Adam, AdamOptions};

    /// One step down `p · factor`, computed in f16; whether it was done.
    fn step(scale: &mut Option<LossScale>, params: &mut Params, adam: &mut Adam, factor: f64) -> bool {
        let leaves = params.leaves(|_| true);
        let half = leaves.to_dtype(DType::F16, |_| false).unwrap();
        let loss = half.get("p").unwrap().scale(factor).unwrap().to_dtype(DType::F32).unwrap().sum_all().unwrap();
        let mut gradients = Gradients::default();
        gradients.add(&loss, LossScale::factor(scale), &leaves, adam).unwrap();
        let good = LossScale::settle(scale, &mut gradients, &mut Losses::new()).unwrap();
        if good {
            gradients.apply(params, adam, &AdamOptions::new(0.1, 0.0, 0.9)).unwrap();
        }
        good
    }

    #[test]
    fn an_infinite_gradient_skips_the_step_and_halves_the_scale_until_it_fits() {
        let p = Tensor::from_vec(vec![1.0_f32], &[1], Device::Cpu).unwrap();
        let mut params: Params = [("p".to_string(), p)].into_iter().collect();
        let mut adam = Adam::new(&params, |_| true).unwrap();
        let mut scale = LossScale::new(DType::F16, ["scale", "skipped"]);
        let value = |params: &Params| params.get("p").unwrap().to_vec().unwrap()[0];
        // 65536 is beyond f16, so the first gradient is infinite.
        assert!(!step(&mut scale, &mut params, &mut adam, 1.0));
        assert_eq!((value(&params), adam.step, LossScale::factor(&scale)), (1.0, 0, START / 2.0));
        assert!(step(&mut scale, &mut params, &mut adam, 1.0) && adam.step == 1);
        let before = value(&params);
        assert!(before < 1.0);
        // A gradient that f16 alone would lose: 2⁻³⁰ is below its smallest number, 2⁻²⁴. A fresh optimiser does not weigh it by the last one.
        let mut adam = Adam::new(&params, |_| true).unwrap();
        assert!(step(&mut scale, &mut params, &mut adam, 0.5_f64.powi(30)));
        assert!(value(&params) < before);
    }

    #[test]
    fn the_scale_doubles_after_good_steps_in_a_row_and_stays_in_its_bounds() {
        let mut s = LossScale::new(DType::F16, ["scale", "skipped"]).unwrap();
        (0..INTERVAL - 1).for_each(|_| assert!(s.judge(true)));
        assert_eq!(s.scale, START);
        s.judge(true);
        assert_eq!(s.scale, 2.0 * START);
        (0..40).for_each(|_| assert!(!s.judge(false)));
        assert_eq!((s.scale, s.good), (1.0, 0));
        assert!(LossScale::new(DType::BF16, ["scale", "skipped"]).is_none());
    }

    #[test]
    fn a_saved_scale_comes_back_and_a_broken_one_is_an_error() {
        let mut s = LossScale::new(DType::F16, ["scale", "skipped"]).unwrap();
        s.judge(false);
        s.judge(true);
        let mut archive = Archive::new();
        s.save(&mut archive);
        let mut other = LossScale::new(DType::F16, ["scale", "skipped"]).unwrap();
        other.load(&archive).unwrap();
        assert_eq!((other.scale, other.good), (s.scale, s.good));
        archive.metadata.insert(s.key(), "NaN 3".to_string());
        assert!(other.load(&archive).unwrap_err().to_string().contains("NaN 3"));
    }
}
