//! The separable form: each unit slides down a strip of the image, and keeps the filtered rows that the next outputs read in registers.
//!
//! A unit owns one vector of channels of a few neighbouring output columns. It reads the input columns under them row by row, filters each
//! row once, and makes each output from the last filtered rows. The units of a cube are a line of channels of neighbouring strips: they read
//! whole cache lines of the same rows at about the same time, so the columns that two strips share come from the first-level cache; shared
//! memory would move the same bytes and cost barriers. Everything that the factors and the number of taps decide is known at compile time.

use cubecl::prelude::*;

use crate::pattern::Pattern;

/// Run-time geometry; vectors of channels count as one.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(crate) struct Strips {
    pub(crate) images: u32,
    pub(crate) height: i32,
    pub(crate) width: i32,
    pub(crate) channels: u32,
    /// Of these as many are of neighbouring units; they divide the channels.
    pub(crate) line: u32,
    pub(crate) out_height: i32,
    pub(crate) out_width: i32,
    /// Strips side by side.
    pub(crate) across: u32,
    /// Strips one below the other.
    pub(crate) down: u32,
    /// Periods of the rows' pattern in a strip.
    pub(crate) periods: i32,
    /// Input and output of the first strip, which may begin outside.
    pub(crate) first_y: i32,
    pub(crate) first_x: i32,
    pub(crate) shift_y: i32,
    pub(crate) shift_x: i32,
    /// Where the patterns' taps are in the filters.
    pub(crate) tap_y: i32,
    pub(crate) tap_x: i32,
    pub(crate) tap_step_y: i32,
    pub(crate) tap_step_x: i32,
    pub(crate) gain: f32,
}

/// Where a strip begins: its input and its output pixel, and the places of both in their tensors. A pixel outside has a place that wraps
/// around, and comes back where the strip enters the image.
#[derive(CubeType, Clone, Copy)]
struct Strip {
    iy: i32,
    ix: i32,
    oy: i32,
    ox: i32,
    input: u32,
    output: u32,
}

/// What is compile-time about the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    /// Output columns of a strip, whole periods of the pattern.
    pub(crate) columns: usize,
    pub(crate) y: Pattern,
    pub(crate) x: Pattern,
}

impl Shape {
    /// Input columns of a strip.
    pub(crate) fn span(&self) -> usize {
        self.x.end(self.columns - 1)
    }
}

#[cube(launch_unchecked)]
pub(crate) fn slide<F: Float, N: Size>(
    x: &Array<Vector<F, N>>,     // [N, H, W, C]
    column: &Array<F>,           // [fh]
    row: &Array<F>,              // [fw]
    y: &mut Array<Vector<F, N>>, // [N, OH, OW, C]
    g: &Strips,
    #[comptime] s: Shape,
    #[define(F)] _dtype: StorageType,
) {
    let unit = ABSOLUTE_POS as u32;
    let strip = unit / g.line;
    let left = (strip % g.across) as i32;
    let strip = strip / g.across;
    let lines = g.channels / g.line;
    let c = (strip % lines) * g.line + unit % g.line;
    let strip = strip / lines;
    let top = (strip % g.down) as i32;
    let image = strip / g.down;
    if image >= g.images {
        terminate!();
    }

    let mut taps_y = Array::<f32>::new(comptime!(s.y.taps));
    #[unroll]
    for t in 0..comptime!(s.y.taps) {
        taps_y[t] = g.gain * f32::cast_from(column[(g.tap_y + t as i32 * g.tap_step_y) as usize]);
    }
    let mut taps_x = Array::<f32>::new(comptime!(s.x.taps));
    #[unroll]
    for t in 0..comptime!(s.x.taps) {
        taps_x[t] = f32::cast_from(row[(g.tap_x + t as i32 * g.tap_step_x) as usize]);
    }

    let iy = g.first_y + top * g.periods * comptime!(s.y.advance() as i32);
    let ix = g.first_x + left * comptime!((s.columns / s.x.up * s.x.down) as i32);
    let oy = top * g.periods * comptime!(s.y.period() as i32) - g.shift_y;
    let ox = left * comptime!(s.columns as i32) - g.shift_x;
    let begin = Strip {
        iy,
        ix,
        oy,
        ox,
        input: ((image * g.height as u32 + iy as u32) * g.width as u32 + ix as u32) * g.channels + c,
        output: ((image * g.out_height as u32 + oy as u32) * g.out_width as u32 + ox as u32) * g.channels + c,
    };
    // The last strip may reach beyond the image; it need not go there.
    let left_over = (g.out_height - oy + comptime!(s.y.period() as i32 - 1)) / comptime!(s.y.period() as i32);
    let periods = i32::min(g.periods, left_over);
    let rows = periods * comptime!(s.y.advance() as i32) + comptime!(s.y.known() as i32);
    let whole = iy >= 0
        && iy + rows <= g.height
        && ix >= 0
        && ix + comptime!(s.span() as i32) <= g.width
        && oy >= 0
        && oy + periods * comptime!(s.y.period() as i32) <= g.out_height
        && ox >= 0
        && ox + comptime!(s.columns as i32) <= g.out_width;
    // Most strips of a large image lie inside of it and of the output: their code has no tests.
    if whole {
        walk::<F, N>(x, &taps_y, &taps_x, y, g, &begin, periods, s, false);
    } else {
        walk::<F, N>(x, &taps_y, &taps_x, y, g, &begin, periods, s, true);
    }
}

/// Goes down a strip; `tests` whether each input and output exists.
#[cube]
fn walk<F: Float, N: Size>(
    x: &Array<Vector<F, N>>,
    taps_y: &Array<f32>,
    taps_x: &Array<f32>,
    y: &mut Array<Vector<F, N>>,
    g: &Strips,
    begin: &Strip,
    periods: i32,
    #[comptime] s: Shape,
    #[comptime] tests: bool,
) {
    let (input_row, output_row) = (g.width as u32 * g.channels, g.out_width as u32 * g.channels);
    // Filtered rows `[reads, columns]`: row r of a period is in place r mod reads, period after period.
    let mut ring = Array::<Vector<f32, N>>::new(comptime!(s.y.reads() * s.columns));
    #[unroll]
    for r in 0..comptime!(s.y.known()) {
        let at = begin.input + r as u32 * input_row;
        filter_row::<F, N>(x, taps_x, &mut ring, g, begin.iy + r as i32, begin.ix, at, r, s, tests);
    }
    let mut iy = begin.iy;
    let mut oy = begin.oy;
    let mut input = begin.input;
    let mut output = begin.output;
    for _ in 0..periods {
        #[unroll]
        for q in 0..comptime!(s.y.period()) {
            #[unroll]
            for r in comptime!(s.y.fresh(q))..comptime!(s.y.end(q)) {
                let at = input + r as u32 * input_row;
                filter_row::<F, N>(x, taps_x, &mut ring, g, iy + r as i32, begin.ix, at, r, s, tests);
            }
            #[unroll]
            for j in 0..comptime!(s.columns) {
                let mut sum = Vector::<f32, N>::new(0.0);
                #[unroll]
                for k in 0..comptime!(s.y.end(q) - s.y.first(q)) {
                    let place = comptime!((s.y.first(q) + k) % s.y.reads() * s.columns + j);
                    sum += ring[place] * Vector::new(taps_y[comptime!(s.y.tap(q) + k * s.y.up)]);
                }
                let at = output + q as u32 * output_row + j as u32 * g.channels;
                if tests {
                    let (row, column) = (oy + q as i32, begin.ox + j as i32);
                    if row >= 0 && row < g.out_height && column >= 0 && column < g.out_width {
                        y[at as usize] = Vector::cast_from(sum);
                    }
                } else {
                    y[at as usize] = Vector::cast_from(sum);
                }
            }
        }
        iy += comptime!(s.y.advance() as i32);
        oy += comptime!(s.y.period() as i32);
        input += comptime!(s.y.advance() as u32) * input_row;
        output += comptime!(s.y.period() as u32) * output_row;
    }
}

/// Filters input row `iy`, whose first column `ix` is at `at`, along x into its place of the ring.
#[cube]
fn filter_row<F: Float, N: Size>(
    x: &Array<Vector<F, N>>,
    taps: &Array<f32>,
    ring: &mut Array<Vector<f32, N>>,
    g: &Strips,
    iy: i32,
    ix: i32,
    at: u32,
    #[comptime] row: usize,
    #[comptime] s: Shape,
    #[comptime] tests: bool,
) {
    let mut line = Array::<Vector<f32, N>>::new(comptime!(s.span()));
    #[unroll]
    for i in 0..comptime!(s.span()) {
        let place = at + i as u32 * g.channels;
        if tests {
            let mut v = Vector::<f32, N>::new(0.0);
            let column = ix + i as i32;
            if iy >= 0 && iy < g.height && column >= 0 && column < g.width {
                v = Vector::cast_from(x[place as usize]);
            }
            line[i] = v;
        } else {
            line[i] = Vector::cast_from(x[place as usize]);
        }
    }
    #[unroll]
    for j in 0..comptime!(s.columns) {
        let mut sum = Vector::<f32, N>::new(0.0);
        #[unroll]
        for k in 0..comptime!(s.x.end(j) - s.x.first(j)) {
            sum += line[comptime!(s.x.first(j) + k)] * Vector::new(taps[comptime!(s.x.tap(j) + k * s.x.up)]);
        }
        ring[comptime!(row % s.y.reads() * s.columns + j)] = sum;
    }
}
