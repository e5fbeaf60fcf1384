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
}

impl Schedule {
    /// The factor after `images` of `total`, rising linearly over the first `warmup` images.
    pub fn factor(self, images: u64, warmup: u64, total: u64) -> f64 {
        if images < warmup {
            return (images + 1) as f64 / (warmup + 1) as f64;
        }
        match self {
            Self::Constant => 1.0,
            Self::Cosine => {
                let part = (images - warmup) as f64 / total.saturating_sub(warmup).max(1) as f64;
                0.5 * (1.0 + (std::f64::consts::PI * part.min(1.0)).cos())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warm_up_rises_and_the_cosine_falls_to_zero() {
        let f = |i| Schedule::Cosine.factor(i, 100, 1100);
        assert!(f(0) > 0.0 && f(0) < 0.02);
        assert!((f(100) - 1.0).abs() < 1e-12 && (f(600) - 0.5).abs() < 1e-12 && f(1100) < 1e-12);
        assert_eq!(f(99), 100.0 / 101.0);
        assert_eq!(Schedule::Constant.factor(5000, 100, 1100), 1.0);
    }
}
