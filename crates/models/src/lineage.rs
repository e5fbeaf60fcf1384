//! Which generator some weights are, and which ones they were made from.

use serde::{Deserialize, Serialize};

use crate::{Params, Result};

/// Names that are kept of a lineage, the nearest first.
const GENERATIONS: usize = 32;
/// Characters of a name at most.
const LONGEST_NAME: usize = 200;

/// Names of a generator's weights: their own, then those of the generators that they were made from, the nearest first.
///
/// A name is the fingerprint ([`Params::fingerprint`]) of the weights as they were made. It stays the same when they are rounded to another
/// type, so it is written into the file and not taken anew. Where an ancestor's weights are gone, its name may be words. A lineage without
/// names is that of a file that does not say whose it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct Lineage(Vec<String>);

/// How two generators stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kinship {
    /// One of them is not named.
    Unknown,
    /// The same weights, in whatever type.
    Same,
    /// One was made from the other, or both from a third.
    Relative,
    /// Nothing in common.
    Other,
}

impl Lineage {
    /// Of weights that were made from no others.
    pub fn of(weights: &Params) -> Result<Self> {
        Ok(Self(vec![weights.fingerprint()?]))
    }

    /// Of weights that were made from those of `ancestors`.
    pub fn made_from(weights: &Params, ancestors: &Self) -> Result<Self> {
        Ok(Self::new(weights.fingerprint()?, &ancestors.0))
    }

    /// Of the weights called `own`, made from those of the names after it; an empty name says nothing.
    pub fn new(own: impl Into<String>, ancestors: &[String]) -> Self {
        let mut names: Vec<String> = Vec::new();
        for name in std::iter::once(own.into()).chain(ancestors.iter().cloned()) {
            if !name.is_empty() && !names.contains(&name) && names.len() < GENERATIONS {
                names.push(name);
            }
        }
        Self(names)
    }

    /// The weights' own name; empty where it is not known.
    pub fn own(&self) -> &str {
        self.0.first().map_or("", String::as_str)
    }

    /// The names of what they were made from.
    pub fn ancestors(&self) -> &[String] {
        self.0.get(1..).unwrap_or_default()
    }

    /// Whether there is no name.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How weights of that lineage stand to these.
    pub fn kinship(&self, other: &Self) -> Kinship {
        if self.is_empty() || other.is_empty() {
            Kinship::Unknown
        } else if self.own() == other.own() {
            Kinship::Same
        } else if self.0.iter().any(|name| other.0.contains(name)) {
            Kinship::Relative
        } else {
            Kinship::Other
        }
    }
}

impl TryFrom<Vec<String>> for Lineage {
    type Error = String;

    fn try_from(names: Vec<String>) -> std::result::Result<Self, String> {
        let bad = |n: &String| n.is_empty() || n.chars().count() > LONGEST_NAME || n.chars().any(char::is_control);
        if names.len() > GENERATIONS || names.iter().any(bad) {
            return Err(format!("a lineage is up to {GENERATIONS} names of 1 to {LONGEST_NAME} characters"));
        }
        Ok(Self(names))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lineage(names: &[&str]) -> Lineage {
        Lineage::try_from(names.iter().map(|n| n.to_string()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn kin_share_a_name_and_the_same_weights_share_their_own() {
        let (parent, child) = (lineage(&["a"]), lineage(&["b", "a"]));
        let (sibling, stranger) = (lineage(&["c", "a"]), lineage(&["d"]));
        assert_eq!(child.kinship(&lineage(&["b"])), Kinship::Same);
        for other in [&parent, &sibling] {
            assert_eq!((child.kinship(other), other.kinship(&child)), (Kinship::Relative, Kinship::Relative));
        }
        assert_eq!(child.kinship(&stranger), Kinship::Other);
        assert_eq!(child.kinship(&Lineage::default()), Kinship::Unknown);
    }

    #[test]
    fn a_lineage_names_each_ancestor_once_and_the_nearest_first() {
        let made = Lineage::new("c", &["b".into(), "a".into(), "b".into()]);
        assert_eq!((made.own(), made.ancestors()), ("c", &["b".to_string(), "a".to_string()][..]));
        assert!(Lineage::new("", &[]).is_empty());
        let many: Vec<String> = (0..100).map(|i| i.to_string()).collect();
        assert_eq!(Lineage::new("own", &many).ancestors().len(), GENERATIONS - 1);
        for bad in [vec![String::new()], vec!["\n".into()], vec!["x".repeat(201)], many] {
            assert!(Lineage::try_from(bad).is_err());
        }
    }
}
