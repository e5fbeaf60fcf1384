//! The arrays of an archive that belong to one network, held against what that network expects.

use std::collections::BTreeMap;

use crate::{Array, Misshaped, NameMismatch, NonFinite, WeightsError};

/// Arrays under a common beginning of their names, without it.
#[derive(Debug, Clone)]
pub struct Part<'a> {
    origin: &'a str,
    arrays: BTreeMap<&'a str, &'a Array>,
}

impl<'a> Part<'a> {
    pub(crate) fn new(origin: &'a str, arrays: impl Iterator<Item = (&'a str, &'a Array)>) -> Self {
        Self { origin, arrays: arrays.collect() }
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &'a str> {
        self.arrays.keys().copied()
    }

    /// The array called `name`.
    ///
    /// # Errors
    /// [`WeightsError::Names`] when there is none.
    pub fn get(&self, name: &str) -> Result<&'a Array, WeightsError> {
        self.arrays.get(name).copied().ok_or_else(|| self.mismatch(vec![name.to_string()], Vec::new(), Vec::new()))
    }

    /// Take out the arrays for whose names `wanted` holds.
    pub fn take(&mut self, wanted: impl Fn(&str) -> bool) -> Vec<(&'a str, &'a Array)> {
        let taken: Vec<_> = self.arrays.iter().filter(|(name, _)| wanted(name)).map(|(&n, &a)| (n, a)).collect();
        self.arrays.retain(|name, _| !wanted(name));
        taken
    }

    /// Hold names and shapes against a network's.
    ///
    /// # Errors
    /// [`WeightsError::Names`] with all that are missing, surplus or misshaped.
    pub fn match_names<N, S>(&self, expected: &[(N, S)]) -> Result<(), WeightsError>
    where
        N: AsRef<str>,
        S: AsRef<[usize]>,
    {
        let expected: BTreeMap<&str, &[usize]> =
            expected.iter().map(|(name, shape)| (name.as_ref(), shape.as_ref())).collect();
        let (mut missing, mut misshaped) = (Vec::new(), Vec::new());
        for (&name, &shape) in &expected {
            match self.arrays.get(name) {
                None => missing.push(name.to_string()),
                Some(array) if array.shape != shape => misshaped.push(Misshaped {
                    name: name.to_string(),
                    found: array.shape.clone(),
                    expected: shape.to_vec(),
                }),
                Some(_) => {}
            }
        }
        let surplus: Vec<String> =
            self.names().filter(|name| !expected.contains_key(name)).map(str::to_string).collect();
        if missing.is_empty() && surplus.is_empty() && misshaped.is_empty() {
            return Ok(());
        }
        Err(self.mismatch(missing, surplus, misshaped))
    }

    fn mismatch(&self, missing: Vec<String>, surplus: Vec<String>, misshaped: Vec<Misshaped>) -> WeightsError {
        WeightsError::Names(Box::new(NameMismatch { origin: self.origin.to_string(), missing, surplus, misshaped }))
    }

    /// Refuse NaN and infinity.
    ///
    /// # Errors
    /// [`WeightsError::NotFinite`] with every tensor that has such values.
    pub fn check_finite(&self) -> Result<(), WeightsError> {
        let tensors: Vec<NonFinite> = self
            .arrays
            .iter()
            .filter_map(|(name, array)| {
                let count = array.data.iter().filter(|v| !v.is_finite()).count();
                (count > 0).then(|| NonFinite { name: name.to_string(), count, of: array.data.len() })
            })
            .collect();
        if tensors.is_empty() {
            return Ok(());
        }
        Err(WeightsError::NotFinite { origin: self.origin.to_string(), tensors })
    }
}
