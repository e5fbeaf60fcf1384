//! The weight gradient as matrix products, one a tap: input channels by output channels, summed over positions.
//!
//! Positions are cut into splits, so that small weights give enough cubes too; a second kernel adds the splits in order.

use cubecl::prelude::*;

use super::{Phase, Position, output_pixel};

/// Units of a cube on each of its two axes.
pub(crate) const SIDE: usize = 16;
/// Positions of a step.
pub(crate) const STEP: usize = 16;

#[cube(launch_unchecked)]
pub(crate) fn weight_gradient<F: Float, I: Size, O: Size>(
    x: &Array<Vector<F, I>>,             // [N, H, W, I]
    grad: &Array<Vector<F, O>>,          // [N, OH, OW, O]
    pre: &Array<Vector<F, I>>,           // [N, I], if there is one
    post: &Array<Vector<F, O>>,          // [N, O], if there is one
    partial: &mut Array<Vector<f32, O>>, // [splits, kh·kw, I, O]
    g: &Phase,
    in_vectors: u32,
    out_vectors: u32,
    taps: u32,
    span: u32,
    splits: u32,
    has_pre: u32,
    has_post: u32,
    #[comptime] in_width: usize,
    #[define(F)] _dtype: StorageType,
) {
    let mut x_tile = SharedMemory::<Vector<f32, I>>::new(comptime![STEP * SIDE]);
    let mut g_tile = SharedMemory::<Vector<f32, O>>::new(comptime![STEP * SIDE]);
    let side = SIDE as u32;
    let unit = UNIT_POS;
    let blocks_i = in_vectors.div_ceil(side);
    let blocks_o = out_vectors.div_ceil(side);
    let cube = CUBE_POS as u32;
    let block_o = cube % blocks_o;
    let block_i = cube / blocks_o % blocks_i;
    let phase_tap = cube / (blocks_o * blocks_i) % (g.taps_y * g.taps_x);
    let split = cube / (blocks_o * blocks_i * g.taps_y * g.taps_x);
    if split >= splits {
        terminate!();
    }
    let tap_y = (phase_tap / g.taps_x) as i32;
    let tap_x = (phase_tap % g.taps_x) as i32;
    // What this unit loads: one position of a step, one vector of each side.
    let i = block_i * side + unit % side;
    let o = block_o * side + unit % side;

    let mut sums = Array::<Vector<f32, O>>::new(in_width);
    #[unroll]
    for k in 0..in_width {
        sums[k] = Vector::new(0.0);
    }
    let start = split * span;
    let end = u32::min(start + span, g.positions);
    let steps = (end - u32::min(start, end)).div_ceil(STEP as u32);
    for step in 0..steps {
        let index = start + step * STEP as u32 + unit / side;
        let p = Position::of(index, g);
        let iy = p.row as i32 * g.stride + g.offset_y + tap_y;
        let ix = p.column as i32 * g.stride + g.offset_x + tap_x;
        let mut xv = Vector::<f32, I>::new(0.0);
        let mut gv = Vector::<f32, O>::new(0.0);
        if index < end && iy >= 0 && iy < g.height && ix >= 0 && ix < g.width {
            if i < in_vectors {
                let pixel = (p.image * g.height as u32 + iy as u32) * g.width as u32 + ix as u32;
                xv = Vector::cast_from(x[(pixel * in_vectors + i) as usize]);
                if has_pre > 0 {
                    xv *= Vector::<f32, I>::cast_from(pre[(p.image * in_vectors + i) as usize]);
                }
            }
            if o < out_vectors {
                gv = Vector::cast_from(grad[(output_pixel(&p, g) * out_vectors + o) as usize]);
                if has_post > 0 {
                    gv *= Vector::<f32, O>::cast_from(post[(p.image * out_vectors + o) as usize]);
                }
            }
        }
        x_tile[unit as usize] = xv;
        g_tile[unit as usize] = gv;
        sync_cube();
        let ui = (unit / side) as usize;
        let uo = (unit % side) as usize;
        #[unroll]
        for s in 0..STEP {
            let xv = x_tile[s * SIDE + ui];
            let gv = g_tile[s * SIDE + uo];
            #[unroll]
            for k in 0..in_width {
                sums[k] += gv * Vector::new(xv[k]);
            }
        }
        sync_cube();
    }

    let i = block_i * side + unit / side;
    if i < in_vectors && o < out_vectors {
        let row = g.weight_y + tap_y * g.weight_step;
        let tap = row * g.kernel_width + g.weight_x + tap_x * g.weight_step;
        #[unroll]
        for k in 0..in_width {
            let channel = i * in_width as u32 + k as u32;
            let row = (split * taps + tap as u32) * in_vectors * in_width as u32 + channel;
            partial[(row * out_vectors + o) as usize] = sums[k];
        }
    }
}
