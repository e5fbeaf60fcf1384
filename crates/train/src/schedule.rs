//! Learning-rate schedules.

use serde::{Deserialize, Serialize};

/// Factor on the learning rate over a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// 1 after the warm-up.
    Constant,
    /// Half a cosine from 1 after the warm-up to 0 at the end (arXiv 1608.03983 without restarts).
    Cosine,
    /// Multiplied by `decay_factor` at each of `decay_images`. PyTorch: `MultiStepLR`.
    Step,
}

/// A schedule with its lengths in images.
#[derive(Debug, Clone, Copy)]
pub struct Course<'a> {
    /// Its form.
    pub schedule: Schedule,
    /// Images over which the rate rises linearly from 0.
    pub warmup: u64,
    /// Images of the run.
    pub total: u64,
    /// Where [`Schedule::Step`] falls, in images.
    pub decay_images: &'a [u64],
    /// By what it falls there.
    pub decay_factor: f64,
}

impl Course<'_> {
    /// The factor after `images`.
    pub fn factor(&self, images: u64) -> f64 {
        if images < self.warmup {
            return (images + 1) as f64 / (self.warmup + 1) as f64;
        }
        match self.schedule {
            Schedule::Constant => 1.0,
            Schedule::Cosine => {
                let part = (images - self.warmup) as f64 / self.total.saturating_sub(self.warmup).max(1) as f64;
                0.5 * (1.0 + (std::f64::consts::PI * part.min(1.0)).cos())
            }
            Schedule::Step => {
                let passed = self.decay_images.iter().filter(|&&at| images >= at).count();
                self.decay_factor.powi(passed as i32)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn course(schedule: Schedule) -> Course<'static> {
        Course { schedule, warmup: 100, total: 1100, decay_images: &[600, 900], decay_factor: 0.1 }
    }

    #[test]
    fn the_warm_up_rises_and_the_cosine_falls_to_zero() {
        let f = |i| course(Schedule::Cosine).factor(i);
        assert!(f(0) > 0.0 && f(0) < 0.02);
        assert!((f(100) - 1.0).abs() < 1e-12 && (f(600) - 0.5).abs() < 1e-12 && f(1100) < 1e-12);
        assert_eq!(f(99), 100.0 / 101.0);
        assert_eq!(course(Schedule::Constant).factor(5000), 1.0);
    }

    #[test]
    fn steps_multiply() {
        let f = |i| course(Schedule::Step).factor(i);
        assert_eq!((f(50), f(599), f(600)), (51.0 / 101.0, 1.0, 0.1));
        assert!((f(900) - 0.01).abs() < 1e-15 && (f(5000) - 0.01).abs() < 1e-15);
    }
}
