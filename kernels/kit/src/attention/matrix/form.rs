//! The blueprints of kernels in two forms: of units, on any device, and on matrix units.

use std::{fmt::Debug, hash::Hash};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    Blueprint, Limits, Problem,
    tuning::{Key, Tunable},
};

/// A variant of a kernel, in one of its forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Form<U, M> {
    /// Each unit goes through the tokens of its query: any type on any device.
    Units(U),
    /// Planes multiply fragments on matrix units: half types, and heads in whole vectors of eight channels.
    Matrix(M),
}

/// What decides which tiles fit an attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Channels of a head.
    pub head_dim: usize,
    /// Queries of a set.
    pub queries: usize,
    /// Tokens of a set.
    pub tokens: usize,
}

/// A problem that has a [`Shape`].
pub trait Shaped: Problem {
    /// Its shape.
    fn shape(&self) -> Shape;
}

/// The choices of a form on matrix units.
pub trait Tile: Copy + Eq + Hash + Debug {
    /// The one to launch where nothing was tuned. Nothing where the device has no matrix units for the type, or heads are no whole
    /// vectors or too large.
    fn fitting(shape: Shape, limits: &Limits) -> Option<Self>;
    /// Every one that a device with these limits can hold.
    fn space(shape: Shape, limits: &Limits) -> Vec<Self>;
}

impl<U: Blueprint, M: Tile> Blueprint for Form<U, M>
where
    U::Problem: Shaped,
{
    type Problem = U::Problem;

    fn default_for(problem: &Self::Problem) -> Self {
        Self::Units(U::default_for(problem))
    }

    fn best_for(problem: &Self::Problem, limits: &Limits) -> Self {
        M::fitting(problem.shape(), limits).map_or_else(|| Self::default_for(problem), Self::Matrix)
    }

    fn space(problem: &Self::Problem, limits: &Limits) -> Vec<Self> {
        let units = U::space(problem, limits).into_iter().map(Self::Units);
        units.chain(M::space(problem.shape(), limits).into_iter().map(Self::Matrix)).collect()
    }
}

impl<U: Tunable, M: Tile + Serialize + DeserializeOwned> Tunable for Form<U, M>
where
    U::Problem: Shaped,
{
    fn key(problem: &Self::Problem) -> Key {
        U::key(problem)
    }
}
