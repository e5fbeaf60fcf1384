//! The numbers of commands' options: what they may be, in one place.

use std::{collections::HashSet, fmt, ops::RangeInclusive};

use crate::text::count;

/// Truncation ψ: the mean image at 0, the generator's own variety at 1, mirrored below 0.
const TRUNCATION: RangeInclusive<f64> = -5.0..=5.0;
/// Steps along a direction; those of others are often long, with small numbers, or short, with large ones.
const STRENGTH: RangeInclusive<f64> = -10_000.0..=10_000.0;
/// Highest learning rate of a code; Adam moves each number by about so much a step.
const LEARNING_RATE: RangeInclusive<f64> = 1e-8..=10.0;
/// Weight of the noise maps' regularisation; 0 leaves the maps as they are.
const NOISE_WEIGHT: RangeInclusive<f64> = 0.0..=1e9;
/// Ridge of a boundary.
const RIDGE: RangeInclusive<f64> = 0.0..=1e9;
/// Factor by which an image is made smaller.
const FACTOR: RangeInclusive<f64> = 1.0..=32.0;
/// Seeds of one list at most.
const SEEDS: u64 = 1 << 20;

pub(super) fn truncation(text: &str) -> Result<f64, String> {
    within(text, &TRUNCATION)
}

pub(super) fn learning_rate(text: &str) -> Result<f64, String> {
    within(text, &LEARNING_RATE)
}

pub(super) fn noise_weight(text: &str) -> Result<f64, String> {
    within(text, &NOISE_WEIGHT)
}

pub(super) fn ridge(text: &str) -> Result<f64, String> {
    within(text, &RIDGE)
}

pub(super) fn factor(text: &str) -> Result<f64, String> {
    within(text, &FACTOR)
}

/// A number in a range. NaN is in none.
fn within(text: &str, range: &RangeInclusive<f64>) -> Result<f64, String> {
    let number: f64 = text.trim().parse().map_err(|_| format!("`{text}` is not a number"))?;
    if range.contains(&number) {
        // Without the sign of −0, which a name would show.
        return Ok(number + 0.0);
    }
    Err(format!("from {} to {}", range.start(), range.end()))
}

/// A list with every entry once, in the order of the first time.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Listed<T> {
    pub(crate) all: Vec<T>,
    /// Entries that were there before.
    pub(crate) repeated: usize,
}

impl<T: Clone> Listed<T> {
    fn new<K: Eq + std::hash::Hash>(given: impl IntoIterator<Item = T>, key: impl Fn(&T) -> K) -> Self {
        let (mut seen, mut listed) = (HashSet::new(), Self { all: Vec::new(), repeated: 0 });
        for entry in given {
            match seen.insert(key(&entry)) {
                true => listed.all.push(entry),
                false => listed.repeated += 1,
            }
        }
        listed
    }

    /// A remark on what was given more than once, if anything was.
    pub(super) fn remark(&self, option: &str) -> Option<String> {
        let times = count(self.repeated, "time");
        (self.repeated > 0).then(|| format!("{option}: {times} the same again, made once"))
    }
}

impl fmt::Display for Listed<f64> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.all.iter().map(f64::to_string).collect::<Vec<_>>().join(", "))
    }
}

/// Strengths such as `-3,0,3`.
pub(super) fn strengths(text: &str) -> Result<Listed<f64>, String> {
    let all = text.split(',').map(|part| within(part, &STRENGTH)).collect::<Result<Vec<f64>, String>>()?;
    Ok(Listed::new(all, |strength| strength.to_bits()))
}

/// Numbers and ranges such as `0-15` or `1,4,9-12`.
pub(crate) fn seeds(text: &str) -> Result<Listed<u64>, String> {
    let mut all = Vec::new();
    for part in text.split(',') {
        let bad = || format!("`{part}` is neither a seed nor a range of seeds such as 0-15");
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let from: u64 = from.trim().parse().map_err(|_| bad())?;
        let to: u64 = to.trim().parse().map_err(|_| bad())?;
        if to < from {
            return Err(format!("`{part}`: a range goes from the smaller number to the larger"));
        }
        if to - from >= SEEDS - all.len() as u64 {
            return Err(format!("`{part}`: more than {SEEDS} images at once"));
        }
        all.extend(from..=to);
    }
    Ok(Listed::new(all, |seed| *seed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_and_what_is_out_of_range_is_refused_with_the_range() {
        assert_eq!((truncation("-0.7"), truncation("1e0"), truncation("-0")), (Ok(-0.7), Ok(1.0), Ok(0.0)));
        for bad in ["nan", "inf", "-inf", "1e38", "5.1"] {
            assert_eq!(truncation(bad), Err("from -5 to 5".into()), "{bad}");
        }
        assert!(truncation("much").unwrap_err().contains("`much` is not a number"));
        assert!(
            learning_rate("0").is_err()
                && noise_weight("-1").is_err()
                && ridge("nan").is_err()
                && factor("0.5").is_err()
        );
    }

    #[test]
    fn seeds_are_numbers_and_ranges_each_once() {
        assert_eq!(seeds("1,4,9-11").unwrap(), Listed { all: vec![1, 4, 9, 10, 11], repeated: 0 });
        assert_eq!(seeds("1,1,2,0-2").unwrap(), Listed { all: vec![1, 2, 0], repeated: 3 });
        for (bad, said) in [
            ("", "neither"),
            ("a", "neither"),
            ("3-1", "smaller"),
            ("1-", "neither"),
            ("-1", "neither"),
            ("0-99999999999", "1048576"),
            ("0-700000,0-700000", "1048576"),
        ] {
            assert!(seeds(bad).unwrap_err().contains(said), "{bad}");
        }
    }

    #[test]
    fn strengths_are_each_once_and_within_their_range() {
        let listed = strengths("-2,0,-0,1.0,1").unwrap();
        assert_eq!((listed.all.as_slice(), listed.to_string().as_str()), ([-2.0, 0.0, 1.0].as_slice(), "-2, 0, 1"));
        assert!(listed.remark("--strength").unwrap().contains("2 times"));
        for bad in ["nan", "1e30", "1,,2", "inf"] {
            assert!(strengths(bad).is_err(), "{bad}");
        }
    }
}
