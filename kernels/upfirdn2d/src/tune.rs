//! The compile-time choices of the image kernel.

use swinstyle_kit::{Limits, glue};

use crate::Problem;

/// A variant of the gather kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Blueprint {
    /// Channels of one load, which divide C: 1, 2 or 4.
    pub vector_width: usize,
    /// Units of a cube.
    pub units: u32,
}

impl swinstyle_kit::Blueprint for Blueprint {
    type Problem = Problem;

    fn default_for(problem: &Problem) -> Self {
        Self { vector_width: glue::vector_width(&[problem.channels]), units: 256 }
    }

    fn space(problem: &Problem, limits: &Limits) -> Vec<Self> {
        let widest = glue::vector_width(&[problem.channels]);
        let widths = [1, 2, 4].into_iter().filter(|&w| w <= widest);
        let units = [64, 128, 256, 512].into_iter().filter(|&u| u <= limits.units_per_cube);
        widths.flat_map(|vector_width| units.clone().map(move |units| Self { vector_width, units })).collect()
    }
}
