//! Forward and data gradient as an implicit matrix product: pixels by output channels, summed over taps and input channels.
//!
//! A cube owns a tile of pixels by output channels. Step by step a slab of input channels of one tap goes to shared memory
//! for the tile's pixels (gathered, styled and zero-padded on the way) and for its output channels, and each unit adds
//! an outer product of its pixels by one vector of outputs in registers.

use cubecl::prelude::*;

use super::{
    Part, Phase, Position,
    around::{Around, finish},
    output_pixel,
};
use crate::tune::UnitTile;

#[cube(launch_unchecked)]
pub(crate) fn conv<F: Float, Y: Float, I: Size, O: Size>(
    x: &Array<Vector<F, I>>,      // [N, H, W, I]
    weight: &Array<Vector<F, O>>, // [kh, kw, I, O]
    pre: &Array<Vector<F, I>>,    // [N, I], if a.pre
    post: &Array<Vector<F, O>>,   // [N, O], if there is one
    noise: &Array<F>,             // [N or 1, OH, OW], scaled by its strength, if there is one
    bias: &Array<Vector<F, O>>,   // [O], if there is one
    y: &mut Array<Vector<Y, O>>,  // [parts, N, OH, OW, O]
    g: &Phase,
    a: &Around,
    in_vectors: u32,
    out_vectors: u32,
    share: u32, // slabs of input channels in a part
    #[comptime] b: UnitTile,
    #[define(F, Y)] _dtypes: [StorageType; 2],
) {
    let units_n = comptime![b.channel_units];
    let units_m = comptime![b.units() / b.channel_units];
    let pixels = comptime![b.pixels];
    let depth = comptime![b.depth];
    let in_width = comptime![b.in_width];
    // A vector of padding a row of the image tile keeps the pixels of a plane in different banks.
    let pitch = comptime![depth + 1];
    let mut x_tile = SharedMemory::<Vector<f32, I>>::new(comptime![b.tile_pixels() * pitch]);
    let mut w_tile = SharedMemory::<Vector<f32, O>>::new(comptime![depth * in_width * units_n]);

    let unit = UNIT_POS as usize;
    let blocks_n = out_vectors.div_ceil(units_n as u32);
    let blocks = g.positions.div_ceil(comptime![b.tile_pixels() as u32]) * blocks_n;
    let part = Part::of(CUBE_POS as u32, blocks, in_vectors.div_ceil(depth as u32), share, g);
    if !part.exists {
        terminate!();
    }
    let first_position = part.cube / blocks_n * comptime![b.tile_pixels() as u32];
    let first_vector = part.cube % blocks_n * units_n as u32;

    // The input positions of the vectors that this unit loads in every step, at tap 0; far outside where there is none.
    let loads = comptime![(b.tile_pixels() * b.depth).div_ceil(b.units())];
    let mut images = Array::<u32>::new(loads);
    let mut rows = Array::<i32>::new(loads);
    let mut columns = Array::<i32>::new(loads);
    #[unroll]
    for l in 0..loads {
        let pixel = (unit + l * comptime![b.units()]) / depth;
        let index = first_position + pixel as u32;
        let p = Position::of(index, g);
        images[l] = p.image;
        rows[l] = select(index < g.positions, p.row as i32 * g.stride + g.offset_y, -(1 << 30));
        columns[l] = p.column as i32 * g.stride + g.offset_x;
    }

    let un = unit % units_n;
    let um = unit / units_n;
    let mut sums = Array::<Vector<f32, O>>::new(pixels);
    #[unroll]
    for m in 0..pixels {
        sums[m] = Vector::new(0.0);
    }

    let in_channels = in_vectors * in_width as u32;
    for tap_y in 0..g.taps_y {
        for tap_x in 0..g.taps_x {
            let tap_row = g.weight_y + tap_y as i32 * g.weight_step;
            let tap = tap_row * g.kernel_width + g.weight_x + tap_x as i32 * g.weight_step;
            for slab in part.first_slab..part.first_slab + part.slabs {
                #[unroll]
                for l in 0..loads {
                    let at = unit + l * comptime![b.units()];
                    let c = slab * depth as u32 + (at % depth) as u32;
                    let iy = rows[l] + tap_y as i32;
                    let ix = columns[l] + tap_x as i32;
                    let mut v = Vector::<f32, I>::new(0.0);
                    if iy >= 0 && iy < g.height && ix >= 0 && ix < g.width && c < in_vectors {
                        let pixel = (images[l] * g.height as u32 + iy as u32) * g.width as u32 + ix as u32;
                        v = Vector::cast_from(x[(pixel * in_vectors + c) as usize]);
                        if a.pre > 0 {
                            v *= Vector::<f32, I>::cast_from(pre[(images[l] * in_vectors + c) as usize]);
                        }
                    }
                    x_tile[at / depth * pitch + at % depth] = v;
                }
                let weights = comptime![depth * in_width * units_n];
                #[unroll]
                for l in 0..comptime![weights.div_ceil(b.units())] {
                    let at = unit + l * comptime![b.units()];
                    if at < weights {
                        let c = slab * comptime![(depth * in_width) as u32] + (at / units_n) as u32;
                        let n = first_vector + (at % units_n) as u32;
                        let mut v = Vector::<f32, O>::new(0.0);
                        if c < in_channels && n < out_vectors {
                            v = Vector::cast_from(weight[((tap as u32 * in_channels + c) * out_vectors + n) as usize]);
                        }
                        w_tile[at] = v;
                    }
                }
                sync_cube();
                #[unroll]
                for k in 0..depth {
                    let mut xs = Array::<Vector<f32, I>>::new(pixels);
                    #[unroll]
                    for m in 0..pixels {
                        xs[m] = x_tile[(um + m * units_m) * pitch + k];
                    }
                    #[unroll]
                    for i in 0..in_width {
                        let w = w_tile[(k * in_width + i) * units_n + un];
                        #[unroll]
                        for m in 0..pixels {
                            let v = xs[m];
                            sums[m] += w * Vector::new(v[i]);
                        }
                    }
                }
                sync_cube();
            }
        }
    }

    let n = first_vector + un as u32;
    #[unroll]
    for m in 0..pixels {
        let index = first_position + (um + m * units_m) as u32;
        if index < g.positions && n < out_vectors {
            let p = Position::of(index, g);
            let pixel = output_pixel(&p, g);
            let v = finish::<F, O>(sums[m], p.image, pixel, n, out_vectors, post, noise, bias, a);
            y[((part.first_pixel + pixel) * out_vectors + n) as usize] = Vector::cast_from(v);
        }
    }
}
