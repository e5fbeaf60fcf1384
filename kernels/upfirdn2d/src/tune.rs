//! The compile-time choices of the image kernel.

use serde::{Deserialize, Serialize};
use swinstyle_kit::{
    Limits, glue,
    tuning::{Key, Tunable},
};

use crate::Problem;

/// A variant of the gather kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
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

impl Tunable for Blueprint {
    fn key(problem: &Problem) -> Key {
        key(problem)
    }
}

/// The resampling is the class; output pixels and channels are the sizes.
fn key(p: &Problem) -> Key {
    let [y, x] = p.axes;
    let class = format!("up {}x{} down {}x{} taps {}x{}", y.up, x.up, y.down, x.down, y.taps, x.taps);
    Key::new(class, &[p.batch * y.outputs() * x.outputs(), p.channels])
}

/// A variant of the host's passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HostBlueprint {
    /// Elements of a line at which it is cut, so that a line and its source rows stay in the inner caches.
    pub line: usize,
    /// Rows of a band at the least: they share their sources in cache.
    pub rows: usize,
}

impl swinstyle_kit::Blueprint for HostBlueprint {
    type Problem = Problem;

    /// 16 KiB of f32 a line, eight rows a band.
    fn default_for(_: &Problem) -> Self {
        Self { line: 4096, rows: 8 }
    }

    fn space(_: &Problem, _: &Limits) -> Vec<Self> {
        [1024, 2048, 4096, 8192].into_iter().flat_map(|line| [8, 16, 32].map(|rows| Self { line, rows })).collect()
    }
}

impl Tunable for HostBlueprint {
    fn key(problem: &Problem) -> Key {
        key(problem)
    }
}
