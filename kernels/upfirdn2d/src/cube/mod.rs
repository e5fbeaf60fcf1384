//! The CubeCL kernels: a gather for images and the form for separable filters, and the two stages of the filter gradient.
//!
//! Arithmetic is in f32 whatever the storage.

pub(crate) mod slide;

use cubecl::prelude::*;

/// Run-time geometry of both kernels; vectors of channels count as one.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(crate) struct Geometry {
    pub(crate) height: i32,
    pub(crate) width: i32,
    pub(crate) channels: u32,
    pub(crate) out_height: u32,
    pub(crate) out_width: u32,
    pub(crate) taps_y: i32,
    pub(crate) taps_x: i32,
    pub(crate) up_y: i32,
    pub(crate) up_x: i32,
    pub(crate) down_y: i32,
    pub(crate) down_x: i32,
    pub(crate) pad_y: i32,
    pub(crate) pad_x: i32,
    pub(crate) flip: u32,
    pub(crate) gain: f32,
}

/// ⌈at / up⌉ without dividing a negative number, whose rounding differs between targets.
#[cube]
fn ceil_div(at: i32, up: i32) -> i32 {
    if at > 0 { (at + up - 1) / up } else { -((-at) / up) }
}

/// One unit computes one vector of channels of one output pixel: neighbours read neighbouring channels, so loads coalesce,
/// and the rows that pixels share come from the cache.
#[cube(launch_unchecked)]
pub(crate) fn gather<F: Float, N: Size>(
    x: &Array<Vector<F, N>>,     // [N, H, W, C]
    filter: &Array<F>,           // [fh, fw], or [fh] if separable
    row: &Array<F>,              // [fw] if separable
    y: &mut Array<Vector<F, N>>, // [N, OH, OW, C]
    g: &Geometry,
    #[comptime] separable: bool,
    #[define(F)] _dtype: StorageType,
) {
    let index = ABSOLUTE_POS;
    if index >= y.len() {
        terminate!();
    }
    let position = index as u32;
    let c = position % g.channels;
    let pixel = position / g.channels;
    let ox = pixel % g.out_width;
    let line = pixel / g.out_width;
    let oy = line % g.out_height;
    let image = line / g.out_height;

    let at_y = oy as i32 * g.down_y - g.pad_y;
    let at_x = ox as i32 * g.down_x - g.pad_x;
    let first_y = ceil_div(at_y, g.up_y);
    let first_x = ceil_div(at_x, g.up_x);
    let last_tap = g.taps_y * g.taps_x - 1;

    let mut sum = Vector::<f32, N>::new(0.0);
    let mut iy = first_y;
    let mut ky = first_y * g.up_y - at_y;
    while ky < g.taps_y {
        if iy >= 0 && iy < g.height {
            let source = (image * g.height as u32 + iy as u32) * g.width as u32;
            let mut ix = first_x;
            let mut kx = first_x * g.up_x - at_x;
            while kx < g.taps_x {
                if ix >= 0 && ix < g.width {
                    let k = if separable {
                        let tap_y = select(g.flip == 1, ky, g.taps_y - 1 - ky);
                        let tap_x = select(g.flip == 1, kx, g.taps_x - 1 - kx);
                        f32::cast_from(filter[tap_y as usize]) * f32::cast_from(row[tap_x as usize])
                    } else {
                        let tap = ky * g.taps_x + kx;
                        f32::cast_from(filter[select(g.flip == 1, tap, last_tap - tap) as usize])
                    };
                    sum += Vector::cast_from(x[((source + ix as u32) * g.channels + c) as usize]) * Vector::new(k);
                }
                ix += 1;
                kx += g.up_x;
            }
        }
        iy += 1;
        ky += g.up_y;
    }
    y[index] = Vector::cast_from(sum * Vector::new(g.gain));
}

/// First stage of the filter gradient: a cube sums one tap over one block of `span` gradient elements.
///
/// Every unit walks its elements in order and the tree below has a fixed shape: the bits depend on nothing but the data.
#[cube(launch_unchecked)]
pub(crate) fn filter_gradient_blocks<F: Float>(
    x: &Array<F>,             // [N, H, W, C]
    gradient: &Array<F>,      // [N, OH, OW, C]
    partial: &mut Array<f32>, // [blocks, fh·fw]
    g: &Geometry,
    span: u32,
    #[comptime] units: usize,
    #[define(F)] _dtype: StorageType,
) {
    let cube = CUBE_POS as u32;
    let taps = (g.taps_y * g.taps_x) as u32;
    if cube as usize >= partial.len() {
        terminate!();
    }
    let tap = cube % taps;
    let start = cube / taps * span;
    let end = u32::min(start + span, gradient.len() as u32);
    let ky = tap as i32 / g.taps_x;
    let kx = tap as i32 % g.taps_x;

    let mut sum = 0.0_f32;
    let mut e = start + UNIT_POS;
    while e < end {
        let c = e % g.channels;
        let pixel = e / g.channels;
        let ox = pixel % g.out_width;
        let row = pixel / g.out_width;
        // Position of the tap in the zero-inserted frame; only multiples of `up` hold samples.
        let py = (row % g.out_height) as i32 * g.down_y + ky - g.pad_y;
        let px = ox as i32 * g.down_x + kx - g.pad_x;
        if py >= 0 && px >= 0 && py % g.up_y == 0 && px % g.up_x == 0 {
            let iy = py / g.up_y;
            let ix = px / g.up_x;
            if iy < g.height && ix < g.width {
                let source = (row / g.out_height * g.height as u32 + iy as u32) * g.width as u32 + ix as u32;
                sum += f32::cast_from(x[(source * g.channels + c) as usize]) * f32::cast_from(gradient[e as usize]);
            }
        }
        e += units as u32;
    }

    let mut shared = SharedMemory::<f32>::new(units);
    let unit = UNIT_POS as usize;
    shared[unit] = sum;
    let mut width = comptime![units / 2];
    #[unroll]
    for _ in 0..comptime![units.ilog2()] {
        sync_cube();
        if unit < width {
            let other = shared[unit + width];
            shared[unit] += other;
        }
        comptime! { width /= 2; }
    }
    if unit == 0 {
        partial[cube as usize] = shared[0];
    }
}

/// Second stage: one unit adds the blocks of one tap in order and turns the kernel back into the filter.
#[cube(launch_unchecked)]
pub(crate) fn filter_gradient_sum<F: Float>(
    partial: &Array<f32>,    // [blocks, fh·fw]
    gradient: &mut Array<F>, // [fh, fw]
    blocks: u32,
    flip: u32,
    gain: f32,
    #[define(F)] _dtype: StorageType,
) {
    let tap = ABSOLUTE_POS;
    let taps = gradient.len();
    if tap >= taps {
        terminate!();
    }
    let mut sum = 0.0_f32;
    for b in 0..blocks {
        sum += partial[b as usize * taps + tap];
    }
    gradient[select(flip == 1, tap, taps - 1 - tap)] = F::cast_from(sum * gain);
}
