//! One launch: which of its candidates are right, and how long each takes.

use std::panic::{AssertUnwindSafe, catch_unwind};

use swinstyle_kit::tuning::{Dropped, Lost, Point, forcing};
use swinstyle_tensor::{
    DType, Result, Tensor,
    probe::{Clock, Visit, timed},
};
use toml::Value;

use super::race::{Duel, race};
use crate::output::panic_text;

/// Seconds of a timing at the least: what is shorter is launched several times.
const LEAST_SECONDS: f64 = 2e-3;
/// Launches of a timing at most.
const MOST_LAUNCHES: usize = 200;

/// What was measured.
pub(super) struct Measured {
    /// What won, or the default where nothing did.
    pub(super) winner: Lost,
    /// The duel that it won; or that the best candidate lost; nothing where no candidate seemed faster.
    pub(super) duel: Option<Duel>,
    /// The candidate of the duel.
    pub(super) challenger: Option<Value>,
    pub(super) default_us: f64,
    pub(super) lost: Vec<Lost>,
    pub(super) dropped: Vec<Dropped>,
}

/// Tunes a launch: the default, and up to `most` other candidates in so many rounds.
///
/// Errors: a default that does not run.
pub(super) fn tune(visit: &Visit, point: &Point, most: usize, rounds: usize) -> Result<(Measured, Clock)> {
    let exact = values(&(visit.twin)()?)?;
    let standard = error(&values(&forcing(point, &point.default, || (visit.run)())?)?, &exact);
    let others: Vec<&Value> = point.candidates.iter().filter(|c| **c != point.default).collect();
    let mut alive = vec![point.default.clone()];
    let mut dropped = Vec::new();
    for candidate in spread(&others, most) {
        match sound(visit, point, candidate, &exact, &standard) {
            Ok(()) => alive.push(candidate.clone()),
            Err(reason) => dropped.push(Dropped { reason, blueprint: candidate.clone() }),
        }
    }
    let mut clock = Clock::Wall;
    let mut before = vec![None; alive.len()];
    let race = race(alive.len(), rounds, |candidate| {
        // The first timing of a candidate tells how often to launch in the others.
        let (seconds, by) = forcing(point, &alive[candidate], || one(visit, before[candidate]))?;
        (clock, before[candidate]) = (by, Some(seconds));
        Ok(seconds)
    })?;
    let challenger = race.duel.as_ref().map(|duel| alive[duel.candidate].clone());
    let winner = race.duel.as_ref().filter(|duel| duel.wins()).map_or(0, |duel| duel.candidate);
    let timed = |(blueprint, s): (Value, &Vec<f64>)| Lost {
        median_us: rounded(s[s.len() / 2]),
        spread_us: rounded(s[s.len() - 1] - s[0]),
        blueprint,
    };
    let mut all: Vec<Lost> = alive.into_iter().zip(&race.times).map(timed).collect();
    let default_us = all[0].median_us;
    let winner = all.remove(winner);
    all.sort_by(|a, b| a.median_us.total_cmp(&b.median_us));
    Ok((Measured { winner, duel: race.duel, challenger, default_us, lost: all, dropped }, clock))
}

/// µs to a hundredth.
fn rounded(seconds: f64) -> f64 {
    (seconds * 1e8).round() / 100.0
}

/// Up to `most` of some candidates, evenly spread.
fn spread<'a>(all: &[&'a Value], most: usize) -> Vec<&'a Value> {
    let count = most.min(all.len());
    (0..count).map(|i| all[(2 * i + 1) * all.len() / (2 * count)]).collect()
}

/// Seconds of one launch, the mean over as many as make the clock's resolution small.
fn one(visit: &Visit, before: Option<f64>) -> Result<(f64, Clock)> {
    let launches = before.map_or(1, |s| (LEAST_SECONDS / s.max(1e-9)).ceil() as usize).clamp(1, MOST_LAUNCHES);
    let work = || (0..launches).try_for_each(|_| (visit.run)().map(drop));
    let (seconds, clock) = timed(visit.device, &work)?;
    Ok((seconds / launches as f64, clock))
}

fn values(outputs: &[Tensor]) -> Result<Vec<Vec<f64>>> {
    outputs.iter().map(Tensor::to_vec_f64).collect()
}

/// Of each output the largest error and the largest magnitude.
fn error(actual: &[Vec<f64>], exact: &[Vec<f64>]) -> Vec<(f64, f64)> {
    let one = |(a, e): (&Vec<f64>, &Vec<f64>)| {
        let worst =
            a.iter().zip(e).map(|(a, e)| (a - e).abs()).fold(0.0, |w: f64, d| if d.is_nan() { d } else { w.max(d) });
        (worst, e.iter().fold(0.0, |m: f64, v| m.max(v.abs())))
    };
    actual.iter().zip(exact).map(one).collect()
}

/// What a result may always be off, of its largest magnitude: of a half type about two units in the last place.
fn allowed(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 1e-3,
        DType::BF16 => 8e-3,
        DType::F32 | DType::F64 => 1e-5,
    }
}

/// Runs a candidate and compares it with the twin: as near as four times the default's error, or what the type [allows](allowed).
fn sound(
    visit: &Visit,
    point: &Point,
    candidate: &Value,
    exact: &[Vec<f64>],
    standard: &[(f64, f64)],
) -> std::result::Result<(), String> {
    let run = || -> Result<Vec<Vec<f64>>> {
        let outputs = values(&forcing(point, candidate, || (visit.run)())?)?;
        visit.device.synchronize()?;
        Ok(outputs)
    };
    let outputs = match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(outputs)) => outputs,
        Ok(Err(error)) => return Err(error.to_string().chars().take(300).collect()),
        Err(panic) => return Err(panic_text(panic.as_ref()).chars().take(300).collect()),
    };
    for (i, ((worst, largest), (usual, _))) in error(&outputs, exact).into_iter().zip(standard).enumerate() {
        let tolerance = (4.0 * usual).max(allowed(visit.dtype) * largest);
        if worst.is_nan() || worst > tolerance {
            return Err(format!("output {i} is off by {worst:.2e} where {tolerance:.2e} is allowed"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use swinstyle_kit::tuning::{Key, Place, Source};
    use swinstyle_tensor::Device;

    use super::*;

    #[test]
    fn candidates_are_spread_over_the_space() {
        let all: Vec<Value> = (0..10).map(Value::Integer).collect();
        let all: Vec<&Value> = all.iter().collect();
        let taken = |most: usize| spread(&all, most).iter().map(|v| v.as_integer().unwrap()).collect::<Vec<_>>();
        assert_eq!(taken(2), [2, 7]);
        assert_eq!(taken(99), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert!(taken(0).is_empty());
    }

    #[test]
    fn a_candidate_that_is_wrong_or_fails_is_dropped_with_its_reason() {
        use std::cell::Cell;
        let tensor = |v: f64| Tensor::full(v, &[2], swinstyle_tensor::DType::F64, Device::Cpu);
        let point = Point {
            kernel: "k",
            place: Place::Host,
            key: Key::new("c", &[1]),
            chosen: Value::Integer(0),
            source: Source::Default,
            default: Value::Integer(0),
            candidates: (0..3).map(Value::Integer).collect(),
        };
        // The first launch is the default's, the second the first candidate's, the third the second's.
        let launches = Cell::new(0);
        let run = || {
            launches.set(launches.get() + 1);
            match launches.get() {
                2 => Ok(vec![tensor(1.5)?]),
                3 => Err(swinstyle_tensor::TensorError::shape("k", "does not compile")),
                _ => Ok(vec![tensor(1.0)?]),
            }
        };
        let twin = || Ok(vec![tensor(1.0)?]);
        let dtype = swinstyle_tensor::DType::F32;
        let visit = Visit { kernel: "k", device: Device::Cpu, dtype, run: &run, twin: &twin };
        let (measured, clock) = tune(&visit, &point, usize::MAX, 3).unwrap();
        assert_eq!((measured.winner.blueprint, clock), (Value::Integer(0), Clock::Wall));
        assert!(measured.lost.is_empty());
        assert!(measured.dropped[0].reason.contains("off by 5.00e-1"), "{}", measured.dropped[0].reason);
        assert!(measured.dropped[1].reason.contains("does not compile"), "{}", measured.dropped[1].reason);
    }
}
