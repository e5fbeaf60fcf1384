//! The layer to RGB: memory-bound, so units along the channels read x once in whole vectors, and everything else is done on their sums.

use cubecl::prelude::*;

/// Run-time sizes.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(crate) struct Rgb {
    /// Pixels of an image, and of a row.
    pub(crate) pixels: u32,
    pub(crate) row: u32,
    /// Blocks of pixels of an image, and of all images.
    pub(crate) blocks: u32,
    pub(crate) groups: u32,
    /// Vectors of input channels, and the units of a group that share them.
    pub(crate) vectors: u32,
    pub(crate) lanes: u32,
    /// The image that is doubled: its size, and the filter's taps (0 without one), pads and gain.
    pub(crate) skip_height: i32,
    pub(crate) skip_width: i32,
    pub(crate) taps_y: i32,
    pub(crate) taps_x: i32,
    pub(crate) pad_y: i32,
    pub(crate) pad_x: i32,
    pub(crate) gain: f32,
}

/// Work of a cube: groups of units share the channels of `pixels` pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct RgbTile {
    pub(crate) pixels: usize,
    /// Output channels.
    pub(crate) channels: usize,
    pub(crate) units: usize,
    /// The filter is the outer product of its taps with themselves.
    pub(crate) separable: bool,
}

/// The doubled image at an output: the taps that meet a sample, two apart.
#[cube]
fn doubled<G: Float>(
    skip: &Array<G>,
    filter: &Array<G>,
    g: &Rgb,
    image: u32,
    pixel: u32,
    channel: u32,
    #[comptime] b: RgbTile,
) -> f32 {
    // `at + tap` must be even and at least 0, to be read at half of it.
    let at_y = (pixel / g.row) as i32 - g.pad_y;
    let at_x = (pixel % g.row) as i32 - g.pad_x;
    let mut sum = 0.0f32;
    let mut ky = at_y & 1;
    while ky < g.taps_y {
        let iy = (at_y + ky) >> 1;
        if iy >= 0 && iy < g.skip_height {
            let mut kx = at_x & 1;
            while kx < g.taps_x {
                let ix = (at_x + kx) >> 1;
                if ix >= 0 && ix < g.skip_width {
                    let from = ((image as i32 * g.skip_height + iy) * g.skip_width + ix) as u32;
                    // A true convolution turns the filter.
                    let k = if comptime!(b.separable) {
                        f32::cast_from(filter[(g.taps_y - 1 - ky) as usize])
                            * f32::cast_from(filter[(g.taps_x - 1 - kx) as usize])
                    } else {
                        f32::cast_from(filter[(g.taps_y * g.taps_x - 1 - (ky * g.taps_x + kx)) as usize])
                    };
                    sum += k * f32::cast_from(skip[(from * comptime!(b.channels as u32) + channel) as usize]);
                }
                kx += 2;
            }
        }
        ky += 2;
    }
    sum * g.gain
}

#[cube(launch_unchecked)]
pub(crate) fn to_rgb<F: Float, G: Float, N: Size>(
    x: &Array<Vector<F, N>>,     // [N, H, W, I]
    weight: &Array<F>,           // [I, O]
    style: &Array<Vector<F, N>>, // [N, I]
    bias: &Array<G>,             // [O]
    skip: &Array<G>,             // [N, H/2, W/2, O], if there is one
    filter: &Array<G>,           // [fh, fw] or [taps], if there is one
    y: &mut Array<G>,            // [N, H, W, O]
    g: &Rgb,
    #[comptime] b: RgbTile,
    #[define(F, G)] _dtypes: [StorageType; 2],
) {
    let width = N::value();
    let channels = comptime!(b.channels);
    // Sums of a unit: its pixels by the output channels.
    let slots = comptime!(b.pixels * b.channels);
    let mut shared = SharedMemory::<f32>::new(comptime!(b.units * b.pixels * b.channels));
    let lanes = g.lanes as usize;
    let groups = comptime!(b.units as u32) / g.lanes;
    let unit = UNIT_POS as usize;
    let first_group = CUBE_POS as u32 * groups;

    let group = first_group + (unit / lanes) as u32;
    if group < g.groups {
        let image = group / g.blocks;
        let first = group % g.blocks * comptime!(b.pixels as u32);
        let mut sums = Array::<f32>::new(slots);
        #[unroll]
        for i in 0..slots {
            sums[i] = 0.0f32;
        }
        let mut v = (unit % lanes) as u32;
        while v < g.vectors {
            let s = Vector::<f32, N>::cast_from(style[(image * g.vectors + v) as usize]);
            let mut w = Array::<Vector<f32, N>>::new(channels);
            #[unroll]
            for o in 0..channels {
                let mut column = Vector::<f32, N>::new(0.0);
                #[unroll]
                for e in 0..width {
                    column[e] = f32::cast_from(weight[(v as usize * width + e) * channels + o]);
                }
                w[o] = column * s;
            }
            #[unroll]
            for p in 0..b.pixels {
                let pixel = first + p as u32;
                if pixel < g.pixels {
                    let value = Vector::<f32, N>::cast_from(x[((image * g.pixels + pixel) * g.vectors + v) as usize]);
                    #[unroll]
                    for o in 0..channels {
                        let product = value * w[o];
                        #[unroll]
                        for e in 0..width {
                            sums[comptime!(p * channels + o)] += product[e];
                        }
                    }
                }
            }
            v += g.lanes;
        }
        #[unroll]
        for i in 0..slots {
            shared[i * b.units + unit] = sums[i];
        }
    }
    sync_cube();

    // A unit an output: neighbours write neighbours.
    let mut output = unit;
    while output < groups as usize * slots {
        let group = first_group + (output / slots) as u32;
        let slot = output % slots;
        let channel = (slot % channels) as u32;
        let pixel = group % g.blocks * comptime!(b.pixels as u32) + (slot / channels) as u32;
        if group < g.groups && pixel < g.pixels {
            let image = group / g.blocks;
            let from = slot * b.units + output / slots * lanes;
            let mut sum = f32::cast_from(bias[channel as usize]);
            for lane in 0..lanes {
                sum += shared[from + lane];
            }
            if g.taps_y > 0 {
                sum += doubled::<G>(skip, filter, g, image, pixel, channel, b);
            }
            y[((image * g.pixels + pixel) * channels as u32 + channel) as usize] = G::cast_from(sum);
        }
        output += b.units;
    }
}
