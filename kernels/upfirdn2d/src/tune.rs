//! The compile-time choices of the image kernels.

use serde::{Deserialize, Serialize};
use swinstyle_kit::{
    Limits, glue,
    tuning::{Key, Tunable},
};

use crate::{
    Problem,
    cube::slide::Shape,
    pattern::{Origin, Pattern},
};

/// A variant of the image kernel, in one of two forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Blueprint {
    /// Each unit gathers one output: any filter and factors.
    Gather(GatherTile),
    /// Each unit slides down a strip and filters by rows and columns: separable filters of few taps.
    Slide(SlideTile),
}

/// Work of a cube that gathers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GatherTile {
    /// Channels of one load, which divide C: 1, 2 or 4.
    pub vector_width: usize,
    /// Units of a cube.
    pub units: u32,
}

/// Work of a cube that slides, in vectors as wide as a load; it needs no shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SlideTile {
    /// Units of a cube.
    pub units: u32,
    /// Output columns of a strip, a multiple of the x axis' `up`: more share more of the inputs, and take more registers. Eight channels of
    /// half types may leave room for fewer.
    pub columns: usize,
    /// Output rows of a strip: more share more of the filtered rows, and leave fewer units. Rounded to whole periods of the pattern.
    pub rows: usize,
}

/// Bytes of the widest load: four channels of f32, eight of a half type.
const LOAD_BYTES: usize = 16;
/// Numbers that a unit holds in registers at most, of the 255 that it has.
const MOST_HELD: usize = 96;
/// Multiply-adds of vectors in the code of a period at most, so that it stays in the instruction cache.
const MOST_UNROLLED: usize = 512;
/// Units that fill a large GPU: as long as there are as many, longer strips are better.
const FULL: usize = 1 << 17;

/// A [`SlideTile`] for a problem and a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) shape: Shape,
    /// Of y and x.
    pub(crate) origins: [Origin; 2],
    pub(crate) vector_width: usize,
    /// Periods of rows in a strip.
    pub(crate) periods: usize,
    /// Strips one below the other, and side by side.
    pub(crate) strips: [usize; 2],
}

impl SlideTile {
    /// The plan for elements of a size on a device with vectors of at most `widest`; nothing where the tile is not legal.
    pub(crate) fn plan(&self, p: &Problem, element_size: usize, widest: usize) -> Option<Plan> {
        if !p.separable {
            return None;
        }
        let [ay, ax] = p.axes;
        let ((y, origin_y), (x, origin_x)) = (Pattern::of(&ay, p.flip)?, Pattern::of(&ax, p.flip)?);
        let fits = |&(vector_width, columns): &(usize, usize)| {
            let shape = Shape { columns, y, x };
            p.channels.is_multiple_of(vector_width)
                && vector_width * element_size <= LOAD_BYTES
                && vector_width * (shape.span() + columns * y.reads()) <= MOST_HELD
        };
        // Whole loads are worth more than shared columns.
        let widths = [8, 4, 2, 1].into_iter().filter(|&w| w <= widest);
        let columns = || [self.columns, x.up].into_iter().filter(|&c| c > 0 && c.is_multiple_of(x.up));
        let (vector_width, columns) = widths.flat_map(|w| columns().map(move |c| (w, c))).find(fits)?;
        let unrolled = y.advance() * columns * x.reads() + y.period() * columns * y.reads();
        let periods = (self.rows / y.period()).max(1);
        let strips = [
            (ay.outputs() + origin_y.shift).div_ceil(periods * y.period()),
            (ax.outputs() + origin_x.shift).div_ceil(columns),
        ];
        (unrolled <= MOST_UNROLLED).then_some(Plan {
            shape: Shape { columns, y, x },
            origins: [origin_y, origin_x],
            vector_width,
            periods,
            strips,
        })
    }

    /// Units of all cubes in f32; nothing where the tile is not legal as it is.
    fn count(&self, p: &Problem) -> Option<usize> {
        let plan = self.plan(p, 4, 4).filter(|plan| plan.shape.columns == self.columns)?;
        Some(p.batch * plan.strips.iter().product::<usize>() * (p.channels / plan.vector_width))
    }

    /// Two columns, or one where inputs are skipped and neighbours share few, and the longest strips with which a large GPU is full.
    fn fitting(p: &Problem) -> Option<Self> {
        let Pattern { up, down, .. } = Pattern::of(&p.axes[1], p.flip)?.0;
        let tile = |columns: usize, rows: usize| Self { units: 128, columns, rows };
        let wide = if down > 1 { 1 } else { 2_usize };
        let columns = [wide.next_multiple_of(up), up].into_iter().find(|&c| tile(c, 1).count(p).is_some())?;
        let full = |rows: &usize| tile(columns, *rows).count(p).is_some_and(|units| units >= FULL);
        Some(tile(columns, [64, 32, 16, 8].into_iter().find(full).unwrap_or(4)))
    }
}

impl GatherTile {
    fn fitting(p: &Problem) -> Self {
        Self { vector_width: glue::vector_width(&[p.channels]), units: 256 }
    }
}

impl swinstyle_kit::Blueprint for Blueprint {
    type Problem = Problem;

    fn default_for(problem: &Problem) -> Self {
        match SlideTile::fitting(problem) {
            Some(tile) => Self::Slide(tile),
            None => Self::Gather(GatherTile::fitting(problem)),
        }
    }

    fn space(problem: &Problem, limits: &Limits) -> Vec<Self> {
        let widest = glue::vector_width(&[problem.channels]);
        let legal = |&units: &u32| units <= limits.units_per_cube;
        let mut space = Vec::new();
        for vector_width in [1, 2, 4].into_iter().filter(|&w| w <= widest) {
            for units in [64, 128, 256, 512].into_iter().filter(legal) {
                space.push(Self::Gather(GatherTile { vector_width, units }));
            }
        }
        let up = Pattern::of(&problem.axes[1], problem.flip).map_or(1, |(x, _)| x.up);
        for columns in [up, 2 * up, 4 * up] {
            for rows in [8, 16, 32, 64] {
                for units in [64, 128, 256].into_iter().filter(legal) {
                    let tile = SlideTile { units, columns, rows };
                    if tile.count(problem).is_some() {
                        space.push(Self::Slide(tile));
                    }
                }
            }
        }
        space
    }
}

impl Tunable for Blueprint {
    fn key(problem: &Problem) -> Key {
        key(problem)
    }
}

/// The resampling and the filter's form are the class; output pixels and channels are the sizes.
fn key(p: &Problem) -> Key {
    let [y, x] = p.axes;
    // Where the factors of an axis have a common divisor, its pads decide how many taps can meet samples, and with it what is legal.
    let met = |axis| Pattern::of(axis, p.flip).map_or(0, |(pattern, _)| pattern.taps);
    let form = if p.separable { format!(" separable {}x{}", met(&y), met(&x)) } else { String::new() };
    let class = format!("up {}x{} down {}x{} taps {}x{}{form}", y.up, x.up, y.down, x.down, y.taps, x.taps);
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
