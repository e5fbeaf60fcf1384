//! Which values a key takes.

use toml::Value;

/// What a key takes, and within which bounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Values {
    /// A whole number.
    Whole(u64, u64),
    /// A whole number that is a power of two.
    PowerOfTwo(u64, u64),
    /// A number. The first bound is excluded where the first flag says so, and the second likewise.
    Number(f64, f64, bool, bool),
    /// `true` or `false`.
    Flag,
    /// Text.
    Text,
    /// A file or folder.
    Path,
    /// One of some words.
    Choice(&'static [&'static str]),
    /// A list of whole numbers: their bounds, and those of its length.
    Wholes([u64; 2], [usize; 2]),
    /// A list of attention windows, each a number or `[rows, columns]`.
    Windows,
    /// A file or a list of files.
    Files,
    /// A list of text.
    Texts,
    /// Groups of augmentations.
    Groups,
    /// A list of labels.
    Labels,
    /// The rows of an ablation.
    Rows,
}

/// The most images that a run, or a part of it, can be of.
pub(super) const MOST_IMAGES: u64 = 1_000_000_000_000;
/// TOML's largest integer.
pub(super) const MOST_SEED: u64 = i64::MAX as u64;
/// Any seed.
pub(super) const ANY_SEED: Values = Values::Whole(0, MOST_SEED);
/// A number of images, one at least.
pub(super) const IMAGES: Values = Values::Whole(1, MOST_IMAGES);
/// Images of a batch, channels of a layer, pixels of an edge.
pub(super) const EDGE: Values = Values::Whole(1, 65_536);
/// A number of steps, one at least.
pub(super) const STEPS: Values = Values::Whole(1, 1_000_000_000);
/// Steps between what need not be done at all.
pub(super) const EVERY: Values = Values::Whole(0, 1_000_000_000);
/// Channels times resolution.
pub(super) const CHANNEL_BASE: Values = Values::Whole(1, 1 << 28);
/// Weight of a term of the loss.
pub(super) const WEIGHT: Values = from(0.0, 1e6);

pub(super) const fn whole(from: u64, to: u64) -> Values {
    Values::Whole(from, to)
}

pub(super) const fn wholes(from: u64, to: u64, shortest: usize, longest: usize) -> Values {
    Values::Wholes([from, to], [shortest, longest])
}

pub(super) const fn from(from: f64, to: f64) -> Values {
    Values::Number(from, to, false, false)
}

pub(super) const fn above(from: f64, to: f64) -> Values {
    Values::Number(from, to, true, false)
}

pub(super) const fn share() -> Values {
    from(0.0, 1.0)
}

pub(super) const fn share_below() -> Values {
    Values::Number(0.0, 1.0, false, true)
}

impl Values {
    /// What is taken, in words: `a whole number from 1 to 65,536`.
    pub fn describe(&self) -> String {
        let list = |words: &[&str]| words.iter().map(|w| format!("\"{w}\"")).collect::<Vec<_>>().join(", ");
        match self {
            Self::Whole(from, MOST_SEED) => format!("a whole number from {}", grouped(*from)),
            Self::Whole(from, to) => format!("a whole number from {} to {}", grouped(*from), grouped(*to)),
            Self::PowerOfTwo(from, to) => format!("a power of two from {from} to {}", grouped(*to)),
            Self::Number(from, to, above, below) => {
                let from = if *above { format!("above {from}") } else { format!("from {from}") };
                let to = if *below { format!("to below {}", plain(*to)) } else { format!("to {}", plain(*to)) };
                format!("a number {from} {to}")
            }
            Self::Flag => "true or false".into(),
            Self::Text => "text".into(),
            Self::Path => "a path".into(),
            Self::Choice(words) => format!("one of {}", list(words)),
            Self::Wholes([from, to], [shortest, longest]) => {
                let to = if *to == MOST_SEED { String::new() } else { format!(" to {}", grouped(*to)) };
                format!("a list of {shortest} to {longest} whole numbers from {from}{to}")
            }
            Self::Windows => {
                "a list of 3 to 8 windows, each a whole number from 1 to 256 or [rows, columns] of such".into()
            }
            Self::Files => "a path or a list of paths".into(),
            Self::Texts => "a list of text".into(),
            Self::Groups => "letters of \"bgc\", or a list of \"blit\", \"geometric\" and \"colour\"".into(),
            Self::Labels => "a list of labels".into(),
            Self::Rows => "a list of rows".into(),
        }
    }

    /// Whether a value is taken.
    pub fn take(&self, value: &Value) -> bool {
        match self {
            Self::Whole(from, to) => whole_of(value).is_some_and(|v| (*from..=*to).contains(&v)),
            Self::PowerOfTwo(from, to) => {
                whole_of(value).is_some_and(|v| v.is_power_of_two() && (*from..=*to).contains(&v))
            }
            Self::Number(from, to, above, below) => {
                // A NaN is in no range.
                number_of(value).is_some_and(|v| {
                    let low = if *above { v > *from } else { v >= *from };
                    low && if *below { v < *to } else { v <= *to }
                })
            }
            Self::Flag => value.is_bool(),
            Self::Text => value.is_str(),
            Self::Path => value.as_str().is_some_and(|v| !v.is_empty()),
            Self::Choice(words) => value.as_str().is_some_and(|v| words.contains(&v)),
            Self::Wholes([from, to], [shortest, longest]) => value.as_array().is_some_and(|list| {
                let each = list.iter().all(|v| whole_of(v).is_some_and(|v| (*from..=*to).contains(&v)));
                each && (*shortest..=*longest).contains(&list.len())
            }),
            Self::Windows => {
                let side = |v: &Value| whole_of(v).is_some_and(|v| (1..=256).contains(&v));
                let window = |v: &Value| side(v) || v.as_array().is_some_and(|w| w.len() == 2 && w.iter().all(side));
                value.as_array().is_some_and(|list| (3..=8).contains(&list.len()) && list.iter().all(window))
            }
            Self::Files => value.is_str() || texts(value),
            Self::Texts => texts(value),
            Self::Groups => match value {
                Value::String(letters) => !letters.is_empty() && letters.chars().all(|c| "bgc".contains(c)),
                Value::Array(names) => {
                    let known = |v: &Value| v.as_str().is_some_and(|v| ["blit", "geometric", "colour"].contains(&v));
                    !names.is_empty() && names.iter().all(known)
                }
                _ => false,
            },
            Self::Labels | Self::Rows => value.as_array().is_some_and(|list| list.iter().all(Value::is_table)),
        }
    }
}

fn texts(value: &Value) -> bool {
    value.as_array().is_some_and(|list| list.iter().all(Value::is_str))
}

fn whole_of(value: &Value) -> Option<u64> {
    value.as_integer().and_then(|v| u64::try_from(v).ok())
}

fn number_of(value: &Value) -> Option<f64> {
    value.as_float().or_else(|| value.as_integer().map(|v| v as f64))
}

/// 65,536.
fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().filter_map(|g| std::str::from_utf8(g).ok()).collect();
    groups.join(",")
}

/// 1000000 as 1e6, small ones as they are.
fn plain(value: f64) -> String {
    if value.abs() >= 1e5 { format!("{value:e}") } else { format!("{value}") }
}
