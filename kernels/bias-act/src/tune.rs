//! The compile-time choices of both kernels.

use serde::{Deserialize, Serialize};
use swinstyle_kit::{
    Limits, glue,
    tuning::{Key, Tunable},
};

use crate::Problem;

/// A variant of the elementwise kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Blueprint {
    /// Elements of one load: 1, 2 or 4, a divisor of C if there is a bias.
    pub vector_width: usize,
    /// Units of a cube.
    pub units: u32,
}

impl swinstyle_kit::Blueprint for Blueprint {
    type Problem = Problem;

    fn default_for(problem: &Problem) -> Self {
        // Without a bias rows do not matter, and buffers are padded to whole vectors.
        let vector_width = if problem.bias { glue::vector_width(&[problem.channels()]) } else { 4 };
        Self { vector_width, units: 256 }
    }

    fn space(problem: &Problem, limits: &Limits) -> Vec<Self> {
        let widest = Self::default_for(problem).vector_width;
        let widths = [1, 2, 4].into_iter().filter(|&w| w <= widest);
        let units = [64, 128, 256, 512].into_iter().filter(|&u| u <= limits.units_per_cube);
        widths.flat_map(|vector_width| units.clone().map(move |units| Self { vector_width, units })).collect()
    }
}

impl Tunable for Blueprint {
    /// The function is the class; rows and channels are the sizes.
    fn key(problem: &Problem) -> Key {
        let channels = problem.channels().max(1);
        let rows = problem.shape.iter().product::<usize>() / channels;
        let class = format!("{:?}{}", problem.activation, if problem.bias { " with bias" } else { "" });
        Key::new(class, &[rows, channels])
    }
}
