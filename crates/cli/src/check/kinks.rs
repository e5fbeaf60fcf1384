//! Kinks of activations: a value that lies within rounding of one may fall on either side of it, and gradients jump where it does.
//!
//! Which side each value of a run was on is recorded at the launches; a run in float64 is then led to the same sides. What is left between the
//! two runs is rounding, and the values that had to be led are named.

use std::{cell::RefCell, collections::HashMap, fmt, rc::Rc};

use serde::Serialize;
use swinstyle_tensor::{
    DType, Kinks, Result, Tensor,
    probe::{Turn, stand_in_for_launches},
};

/// A piece of an activation between its kinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    /// At −bound or below.
    Low,
    /// Above it, not above 0.
    Negative,
    /// Above 0, below bound.
    Positive,
    /// At the bound or above.
    High,
}

impl Side {
    fn of(y: f64, bound: f64) -> Self {
        if y >= bound {
            Self::High
        } else if y > 0.0 {
            Self::Positive
        } else if y > -bound {
            Self::Negative
        } else {
            Self::Low
        }
    }

    /// The value of this side that is nearest to y; `least` is the smallest step away from a kink that a value may take.
    fn nearest(self, bound: f64, least: f64) -> f64 {
        match self {
            Self::High => bound,
            Self::Positive => least,
            Self::Negative => -least,
            Self::Low => -bound,
        }
    }
}

/// Sides of all values of the launches with kinks, in order.
#[derive(Debug, Default)]
pub(super) struct Sides(Vec<Vec<Side>>);

/// Runs `f` and records the sides of its activations.
pub(super) fn record<R>(f: impl FnOnce() -> R) -> (R, Sides) {
    let sides = Rc::new(RefCell::new(Sides::default()));
    let seen = sides.clone();
    let stand_in = move |turn: &Turn| -> Result<Vec<Tensor>> {
        let made = (turn.run)(turn.inputs)?;
        if let Some(Kinks { bound }) = turn.kinks {
            // A number in f32 is compared with the bound in f32.
            let bound = if made[0].dtype() == DType::F64 { bound } else { f64::from(bound as f32) };
            let values = made[0].to_vec_f64()?;
            seen.borrow_mut().0.push(values.into_iter().map(|y| Side::of(y, bound)).collect());
        }
        Ok(made)
    };
    let result = stand_in_for_launches(stand_in, f);
    (result, sides.take())
}

/// Values of one activation that lie on another side in float64.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Kink {
    /// The layer, by the parameter that it reads, or the operation and its number among those with kinks.
    pub layer: String,
    /// How many.
    pub units: usize,
    /// How far the farthest of them lies from its kink in float64.
    pub distance: f64,
}

impl fmt::Display for Kink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { layer, units, distance } = self;
        write!(f, "{layer}, {units} unit{} {distance:.1e} from it", if *units == 1 { "" } else { "s" })
    }
}

/// Names of parameters by the place of their values in memory.
pub(super) type Names = Rc<RefCell<HashMap<usize, String>>>;

/// Leads launches in float64 to recorded sides.
#[derive(Default)]
pub(super) struct Guide {
    sides: Rc<Sides>,
    names: Names,
    /// Launches with kinks so far.
    at: usize,
    /// What was led, with the values of that launch as they were, by the launch's number.
    pub(super) led: HashMap<usize, (Kink, Vec<f64>)>,
    /// Whether the two runs have launches of different shapes.
    pub(super) lost: bool,
}

impl Guide {
    pub(super) fn new(sides: Rc<Sides>, names: Names) -> Self {
        Self { sides, names, at: 0, led: HashMap::new(), lost: false }
    }

    /// Brings what a launch has made to the recorded sides; `each` sees the launch's number and its values as they were.
    pub(super) fn lead(&mut self, turn: &Turn, made: &mut [Tensor]) -> Result<Option<(usize, Vec<f64>)>> {
        let Some(Kinks { bound }) = turn.kinks else { return Ok(None) };
        let number = self.at;
        self.at += 1;
        let values = made[0].to_vec_f64()?;
        let Some(wanted) = self.sides.0.get(number).filter(|s| s.len() == values.len()) else {
            self.lost = true;
            return Ok(None);
        };
        let scale = values.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
        // Far below what a result could show, far above the smallest numbers.
        let least = (scale * 1e-18).max(1e-200);
        let (mut led, mut units, mut distance) = (values.clone(), 0, 0.0_f64);
        for (y, &side) in led.iter_mut().zip(wanted) {
            if Side::of(*y, bound) != side {
                let to = side.nearest(bound, least);
                distance = distance.max((*y - to).abs());
                *y = to;
                units += 1;
            }
        }
        if units > 0 {
            made[0] = Tensor::from_vec(led, made[0].shape(), made[0].device())?;
            let layer = self.layer(turn, number);
            self.led.insert(number, (Kink { layer, units, distance }, values.clone()));
        }
        Ok(Some((number, values)))
    }

    /// Whether the recorded run had more launches than this one.
    pub(super) fn is_complete(&self) -> bool {
        !self.lost && self.at == self.sides.0.len()
    }

    /// `convs.2` of a launch that reads `p.convs.2.activate.bias`.
    fn layer(&self, turn: &Turn, number: usize) -> String {
        let of = |t: &&Tensor| Some(t.host::<f64>().ok()?.as_ptr() as usize);
        let names = self.names.borrow();
        let named = turn.inputs.iter().rev().filter_map(of).find_map(|place| names.get(&place));
        match named {
            Some(name) => {
                let name = name.strip_prefix("in.").unwrap_or(name);
                let name = name.strip_prefix("p.").unwrap_or(name);
                let layer = name.strip_suffix(".bias").map(|n| n.strip_suffix(".activate").unwrap_or(n));
                format!("layer {}", layer.unwrap_or(name))
            }
            None => format!("{} {}", turn.kernel, number + 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_one_side_and_the_nearest_value_of_a_side_lies_on_it() {
        for bound in [2.0, f64::INFINITY] {
            for (y, side) in [(1.0, Side::Positive), (-1.0, Side::Negative), (0.0, Side::Negative)] {
                assert_eq!(Side::of(y, bound), side);
                assert_eq!(Side::of(side.nearest(bound, 1e-9), bound), side);
            }
        }
        assert_eq!((Side::of(2.0, 2.0), Side::of(-2.5, 2.0)), (Side::High, Side::Low));
    }
}
