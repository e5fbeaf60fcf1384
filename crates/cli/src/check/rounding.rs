//! What float32's rounding may do to a case, where one draw of it, PyTorch's, does not settle the matter.
//!
//! The case is computed in float64, led to the sides of its activations on which the device's values fell, and then again a few times with
//! every number that a kernel reads off by up to a unit of float32's rounding, times what a sum of so many products adds to it.
//! How far the results scatter says how well the case is conditioned; it is taken from float64, so that a fault of the code for float32 does
//! not excuse itself.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap, HashSet},
    rc::Rc,
};

use anyhow::Result;
use swinstyle_tensor::{
    Tensor,
    probe::{Turn, stand_in_for_launches},
};

use super::{
    Fixture, Results,
    kinks::{Guide, Kink, Sides},
};

/// Draws of the rounding. The largest of eight is below a quarter of what comes next once in some thousand cases.
const DRAWS: u64 = 8;
/// Factor on the largest draw, which is that of PyTorch's `f32_err`.
pub(super) const OF_DRAWS: f64 = 4.0;
/// Half a unit of float32's last place, of a number between 1 and 2.
const UNIT: f64 = f64::EPSILON * (1_u64 << 28) as f64;
/// Error of a sum of n random products that are added one after another, in that of one rounding times √n.
const OF_SUMS: f64 = 0.4;
/// Products that are added one after another at most: longer sums are cut.
const LONGEST_SUM: f64 = 4608.0;
/// The same of sums over axes, which have blocks of so many rows.
const LONGEST_REDUCTION: f64 = 256.0;

/// What float64 says about a case.
pub(super) struct Opinion {
    /// Its results, on the sides of the device's values.
    pub(super) results: Results,
    /// How far rounding moves the worst number of each result.
    pub(super) scatter: BTreeMap<String, f64>,
    /// Activations whose values lay within rounding of a kink, and fell on the other side there.
    pub(super) kinks: Vec<Kink>,
}

/// Computes a case in float64 on the sides given, and how rounding would move it.
///
/// `None` where the device's launches were not those of the host, or a value is on another side although rounding does not reach so far.
pub(super) fn opinion(
    fixture: &Fixture,
    sides: Sides,
    compute: impl Fn(&Fixture) -> Result<Results>,
) -> Result<Option<Opinion>> {
    let sides = Rc::new(sides);
    let base = Pass::new(fixture, &sides, None);
    let results = base.run(fixture, &compute)?;
    let base = base.0.take();
    if !base.guide.is_complete() {
        return Ok(None);
    }
    let led = Rc::new(base.guide.led);
    let mut scatter: BTreeMap<String, f64> = BTreeMap::new();
    let mut reach: HashMap<usize, f64> = HashMap::new();
    for draw in 1..=DRAWS {
        let pass = Pass::new(fixture, &sides, Some((draw, led.clone())));
        let drawn = pass.run(fixture, &compute)?;
        for (name, value) in &drawn.0 {
            let moved = results.0.get(name).map_or(f64::INFINITY, |base| value.distance(base));
            let entry = scatter.entry(name.clone()).or_default();
            *entry = entry.max(moved);
        }
        for (launch, moved) in pass.0.take().reach {
            let entry = reach.entry(launch).or_default();
            *entry = entry.max(moved);
        }
    }
    let mut kinks: Vec<(&usize, &Kink)> = led.iter().map(|(launch, (kink, _))| (launch, kink)).collect();
    kinks.sort_by_key(|(launch, _)| **launch);
    let within =
        |(launch, kink): &(&usize, &Kink)| kink.distance <= OF_DRAWS * reach.get(launch).copied().unwrap_or(0.0);
    if !kinks.iter().all(within) {
        return Ok(None);
    }
    let kinks = kinks.into_iter().map(|(_, kink)| kink.clone()).collect();
    Ok(Some(Opinion { results, scatter, kinks }))
}

/// The launches that were led in the undisturbed pass, with their values before.
type Led = Rc<HashMap<usize, (Kink, Vec<f64>)>>;

/// One pass in float64.
#[derive(Default)]
struct State {
    guide: Guide,
    /// The number of the draw, and what to compare with.
    draw: Option<(u64, Led)>,
    /// Launches so far.
    launches: u64,
    /// Places of values that a bound has cut: whoever reads them compares them with it.
    cut: HashSet<usize>,
    /// By launch with kinks that were met: how far the worst value moved.
    reach: HashMap<usize, f64>,
}

struct Pass(Rc<RefCell<State>>);

impl Pass {
    fn new(fixture: &Fixture, sides: &Rc<Sides>, draw: Option<(u64, Led)>) -> Self {
        Self(Rc::new(RefCell::new(State {
            guide: Guide::new(sides.clone(), fixture.names.clone()),
            draw,
            ..State::default()
        })))
    }

    fn run(&self, fixture: &Fixture, compute: impl Fn(&Fixture) -> Result<Results>) -> Result<Results> {
        let state = self.0.clone();
        let stand_in = move |turn: &Turn| state.borrow_mut().launch(turn);
        stand_in_for_launches(stand_in, || compute(fixture))
    }
}

impl State {
    fn launch(&mut self, turn: &Turn) -> swinstyle_tensor::Result<Vec<Tensor>> {
        self.launches += 1;
        let mut made = match &self.draw {
            None => (turn.run)(turn.inputs)?,
            Some((draw, _)) => {
                let amplitude = UNIT * growth(turn);
                let off = |(i, t): (usize, &&Tensor)| match t.host::<f64>() {
                    Ok(values) if !self.cut.contains(&(values.as_ptr() as usize)) => {
                        let seed = (draw << 48) ^ (self.launches << 8) ^ i as u64;
                        Tensor::from_vec(disturbed(values, amplitude, seed), t.shape(), t.device())
                    }
                    _ => Ok((*t).clone()),
                };
                let inputs: Vec<Tensor> =
                    turn.inputs.iter().enumerate().map(off).collect::<swinstyle_tensor::Result<_>>()?;
                (turn.run)(&inputs.iter().collect::<Vec<_>>())?
            }
        };
        if let Some((number, before)) = self.guide.lead(turn, &mut made)?
            && let Some((_, led)) = &self.draw
            && let Some((_, base)) = led.get(&number)
        {
            self.reach.insert(number, before.iter().zip(base).fold(0.0, |m: f64, (a, b)| m.max((a - b).abs())));
        }
        if turn.kinks.is_some_and(|k| k.bound.is_finite())
            && let Ok(values) = made[0].host::<f64>()
        {
            self.cut.insert(values.as_ptr() as usize);
        }
        Ok(made)
    }
}

/// By how much a launch's sums are worse than one rounding.
fn growth(turn: &Turn) -> f64 {
    let longest = if turn.kernel == "sum" { LONGEST_REDUCTION } else { LONGEST_SUM };
    let products = turn.flops as f64 / 2.0 / turn.results.max(1) as f64;
    (OF_SUMS * products.min(longest).sqrt()).max(1.0)
}

/// Values that are off by up to `amplitude` of each: SplitMix64 of the seed and the place.
fn disturbed(values: &[f64], amplitude: f64, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut draw = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        (z >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    };
    values.iter().map(|v| v * (1.0 + amplitude * draw())).collect()
}
