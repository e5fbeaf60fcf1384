//! Noise maps that are optimised along with a code, and stay noise.

use swinstyle_models::Params;
use swinstyle_tensor::{Tensor, no_grad};

use super::CODE;
use crate::{Result, TrainError};

/// Sides of noise maps up to which their correlation is looked at.
const SMALLEST: usize = 8;

/// `Σ mean(n · shifted n)²` over both axes and a pyramid of the map down to 8 x 8: 0 for white noise, so that no picture hides in it.
///
/// Each level is twice the 2 x 2 means of the one before, which keeps the variance of white noise at 1, as the appendix says. The
/// projectors that NVIDIA published leave out the factor 2, so that the term of a level is 1/16 of that of the finer one.
pub(super) fn correlation(map: &Tensor, // [1, S, S, 1]
) -> Result<Tensor> {
    let mut map = map.clone();
    let mut total: Option<Tensor> = None;
    loop {
        let side = map.shape()[1];
        for axis in [1, 2] {
            let shifted = Tensor::concat(&[&map.slice(axis, side - 1, 1)?, &map.slice(axis, 0, side - 1)?], axis)?;
            let term = map.mul(&shifted)?.mean_all()?.square()?;
            total = Some(match total {
                Some(t) => t.add(&term)?,
                None => term,
            });
        }
        if side <= SMALLEST {
            break;
        }
        map = map.pool_area(side / 2, side / 2)?.scale(2.0)?;
    }
    total.ok_or_else(|| TrainError::Config { path: "noise".into(), detail: "an empty map".into() })
}

/// Noise maps of mean 0 and variance 1.
pub(super) fn normalise(free: &mut Params) -> Result<()> {
    let maps: Vec<(String, Tensor)> =
        free.iter().filter(|(n, _)| *n != CODE).map(|(n, t)| (n.clone(), t.clone())).collect();
    no_grad(|| {
        for (name, map) in maps {
            let centred = map.sub(&map.mean_all()?)?;
            let variance = centred.square()?.mean_all()?.add_scalar(1e-12)?;
            free.insert(name, centred.mul(&variance.rsqrt()?)?);
        }
        Ok(())
    })
}
