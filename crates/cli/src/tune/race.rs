//! Which of some candidates is faster than the default, beyond the noise of the clock.
//!
//! Rounds that go through all candidates find those that seem faster. The best of many is lucky as well as good, so it must win again: in pairs
//! of timings, one of the default and one of the candidate, whose order alternates. Without a difference either is ahead in a pair
//! with probability ½ at most, whatever the distribution of the noise; 13 or more of 15 pairs then go to the candidate once in 271 cases. Two
//! candidates may try, so a winner is one with 99 % confidence.

use swinstyle_tensor::Result;

/// How much faster than the default a candidate must be to count as faster.
const MARGIN: f64 = 0.02;
/// Pairs of timings.
pub(super) const PAIRS: usize = 15;
/// Pairs that must go to the candidate.
const WON: usize = 13;
/// Candidates that are raced against the default.
const CHALLENGERS: usize = 2;

/// How a candidate did against the default.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Duel {
    /// Its number.
    pub(super) candidate: usize,
    /// Pairs in which it was faster by the margin.
    pub(super) faster: usize,
    /// Median of the default's time over its own.
    pub(super) gain: f64,
}

impl Duel {
    fn of(candidate: usize, pairs: &[[f64; 2]]) -> Self {
        let mut gains: Vec<f64> = pairs.iter().map(|[default, own]| default / own).collect();
        gains.sort_by(f64::total_cmp);
        let faster = pairs.iter().filter(|[default, own]| *own < default * (1.0 - MARGIN)).count();
        Self { candidate, faster, gain: gains[gains.len() / 2] }
    }

    /// Whether it is beyond the noise.
    pub(super) fn wins(&self) -> bool {
        self.faster >= WON
    }
}

/// What a race showed.
#[derive(Debug)]
pub(super) struct Race {
    /// Seconds of each candidate in the rounds, sorted.
    pub(super) times: Vec<Vec<f64>>,
    /// The duel that a candidate won, or else that of the one which seemed best, if any did.
    pub(super) duel: Option<Duel>,
}

/// Races candidates against the first, which is the default; `time` gives the seconds of one timing of a candidate.
pub(super) fn race(candidates: usize, rounds: usize, mut time: impl FnMut(usize) -> Result<f64>) -> Result<Race> {
    let mut times = vec![Vec::with_capacity(rounds); candidates];
    for round in 0..=rounds {
        for (candidate, times) in times.iter_mut().enumerate() {
            let seconds = time(candidate)?;
            // The first round warms up.
            if round > 0 {
                times.push(seconds);
            }
        }
    }
    times.iter_mut().for_each(|seconds| seconds.sort_by(f64::total_cmp));
    let median = |i: usize| times[i][times[i].len() / 2];
    let mut ahead: Vec<usize> = (1..candidates).filter(|&i| median(i) < median(0) * (1.0 - MARGIN)).collect();
    ahead.sort_by(|&a, &b| median(a).total_cmp(&median(b)));
    let mut best: Option<Duel> = None;
    for &candidate in ahead.iter().take(CHALLENGERS) {
        let mut pairs = [[0.0; 2]; PAIRS];
        for (i, pair) in pairs.iter_mut().enumerate() {
            for k in [i % 2, 1 - i % 2] {
                pair[k] = time([0, candidate][k])?;
            }
        }
        let duel = Duel::of(candidate, &pairs);
        if duel.wins() {
            return Ok(Race { times, duel: Some(duel) });
        }
        best.get_or_insert(duel);
    }
    Ok(Race { times, duel: best })
}

#[cfg(test)]
mod tests {
    use swinstyle_tensor::rng::Philox;

    use super::*;

    /// Races won of 400 with a clock whose numbers spread log-normally around `seconds`.
    fn won(seconds: &[f64], spread: f64) -> Vec<usize> {
        let mut won = vec![0; seconds.len()];
        for trial in 0..400 {
            let mut noise = Philox::new(trial, 0).normal_vec(4096).into_iter();
            let race = race(seconds.len(), 7, |i| {
                Ok(seconds[i] * (spread * f64::from(noise.next().expect("enough numbers"))).exp())
            });
            if let Some(duel) = race.unwrap().duel.filter(Duel::wins) {
                won[duel.candidate] += 1;
            }
        }
        won
    }

    #[test]
    fn noise_alone_has_no_winner_however_small_or_large() {
        for spread in [0.001, 0.05, 0.5, 2.0] {
            let won: usize = won(&[1.0; 24], spread).iter().sum();
            // One in a hundred would be 4, with a standard deviation of 2.
            assert!(won <= 10, "{won} of 400 at a spread of {spread}");
        }
    }

    #[test]
    fn a_candidate_that_is_clearly_faster_wins() {
        let won = won(&[1.3, 1.3, 1.0, 1.4], 0.05);
        assert!(won[2] >= 396 && won[1] == 0 && won[3] == 0, "{won:?}");
    }

    #[test]
    fn a_small_gain_under_a_huge_spread_has_no_winner() {
        let won: usize = won(&[1.0, 0.97], 1.0).iter().sum();
        assert!(won <= 10, "{won} of 400");
    }

    #[test]
    fn what_no_round_shows_to_be_faster_is_not_raced() {
        let mut timings = 0;
        let race = race(3, 5, |i| {
            timings += 1;
            Ok([1.0, 1.0, 1.5][i])
        });
        assert_eq!((race.unwrap().duel, timings), (None, 3 * 6));
    }
}
