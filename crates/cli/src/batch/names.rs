//! Names of results: a stem each, numbered where it is taken.

use std::collections::{HashMap, HashSet};

/// Bytes of a stem at most: with what a command appends it must fit into the 255 that file systems allow.
const LONGEST: usize = 120;

/// The stems that are taken.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// In lower case: some file systems take `A.png` and `a.png` for one file.
    taken: HashSet<String>,
    /// The number to try next for a stem.
    next: HashMap<String, usize>,
}

impl Names {
    /// The stem itself, or with `-2`, `-3` … where it is taken; shortened where it is too long for a file's name.
    pub(crate) fn claim(&mut self, stem: &str) -> String {
        let stem = shortened(stem);
        let next = self.next.entry(stem.to_lowercase()).or_insert(1);
        loop {
            let name = if *next == 1 { stem.to_string() } else { format!("{stem}-{next}") };
            *next += 1;
            if self.taken.insert(name.to_lowercase()) {
                return name;
            }
        }
    }
}

fn shortened(stem: &str) -> &str {
    let end = (0..=stem.len().min(LONGEST)).rev().find(|&i| stem.is_char_boundary(i));
    &stem[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claimed(stems: &[&str]) -> Vec<String> {
        let mut names = Names::default();
        stems.iter().map(|stem| names.claim(stem)).collect()
    }

    #[test]
    fn equal_names_are_numbered_also_where_the_number_is_taken() {
        assert_eq!(claimed(&["x", "x", "x-2", "x"]), ["x", "x-2", "x-2-2", "x-3"]);
        assert_eq!(claimed(&["x-2", "x", "x", "x"]), ["x-2", "x", "x-3", "x-4"]);
    }

    #[test]
    fn names_that_differ_in_case_alone_are_equal() {
        assert_eq!(
            claimed(&["Face", "face", "FACE-2", "ÄRGER", "ärger"]),
            ["Face", "face-2", "FACE-2-2", "ÄRGER", "ärger-2"]
        );
    }

    #[test]
    fn long_names_are_cut_between_characters_and_stay_apart() {
        let long = "ü".repeat(125);
        let names = claimed(&[&format!("{long}a"), &format!("{long}b")]);
        assert_eq!((names[0].len(), names[1].as_str()), (120, format!("{}-2", names[0]).as_str()));
    }
}
