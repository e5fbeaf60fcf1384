//! The compile-time choices of the kernels that work on rows.

use serde::{Deserialize, Serialize};
use swinstyle_kit::{
    Limits, glue,
    tuning::{Key, Tunable},
};

use crate::Problem;

/// A variant of the row kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Blueprint {
    /// Elements of one load, which divide C: 1, 2 or 4.
    pub vector_width: usize,
    /// Units that share a row: a power of two.
    pub units: u32,
    /// Rows of one cube.
    pub rows: u32,
}

impl Blueprint {
    /// Elements of shared memory: two sums a unit.
    pub fn shared_memory(&self) -> usize {
        2 * (self.units * self.rows) as usize * size_of::<f32>()
    }
}

impl swinstyle_kit::Blueprint for Blueprint {
    type Problem = Problem;

    /// Units enough to read a row at once, as far as 256 reach; short rows share a cube.
    fn default_for(problem: &Problem) -> Self {
        let vector_width = glue::vector_width(&[problem.channels()]);
        let units = (problem.channels() / vector_width).next_power_of_two().clamp(8, 256) as u32;
        Self { vector_width, units, rows: 256 / units }
    }

    fn space(problem: &Problem, limits: &Limits) -> Vec<Self> {
        let vector_width = Self::default_for(problem).vector_width;
        let mut space = Vec::new();
        for units in [8, 16, 32, 64, 128, 256, 512] {
            for rows in [1, 2, 4, 8, 16, 32] {
                let candidate = Self { vector_width, units, rows };
                let fits = units * rows <= limits.units_per_cube && candidate.shared_memory() <= limits.shared_memory;
                if fits && units * rows >= 64 {
                    space.push(candidate);
                }
            }
        }
        space
    }
}

impl Tunable for Blueprint {
    /// Rows and channels.
    fn key(problem: &Problem) -> Key {
        Key::new("rows", &[problem.rows(), problem.channels()])
    }
}
