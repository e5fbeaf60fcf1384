//! The weight gradient on matrix units: input by output channels, summed over positions, a tap and a split of the positions a cube.

use cubecl::prelude::*;
use swinstyle_tensor::cube::fragments::{EDGE, MatrixTile, PLANE, WIDTH, multiply, patches, spread, zeros};

use super::{
    super::{Phase, Position, output_pixel},
    scaled,
};

#[cube(launch_unchecked)]
pub(crate) fn weight_gradient_matrix<F: Float, N: Size>(
    x: &Array<Vector<F, N>>,             // [N, H, W, I]
    grad: &Array<Vector<F, N>>,          // [N, OH, OW, O]
    pre: &Array<Vector<F, N>>,           // [N, I], if there is one
    post: &Array<Vector<F, N>>,          // [N, O], if there is one
    partial: &mut Array<Vector<f32, N>>, // [splits, kh·kw, I, O]
    g: &Phase,
    in_vectors: u32,
    out_vectors: u32,
    taps: u32,
    span: u32,
    splits: u32,
    has_pre: u32,
    has_post: u32,
    #[comptime] b: MatrixTile,
    #[define(F)] _dtype: StorageType,
) {
    let units = comptime!(b.units());
    let (left, right) = comptime!((b.left(true), b.right(false)));
    // Vectors of a row of either tile, without its padding; a row is a position.
    let high = comptime!(left.line);
    let wide = comptime!(right.line);
    let x_buffer = comptime!(left.vectors());
    let g_buffer = comptime!(right.vectors());
    let mut x_tile = SharedMemory::<Vector<F, N>>::new(comptime!(2 * x_buffer));
    let mut g_tile = SharedMemory::<Vector<F, N>>::new(comptime!(2 * g_buffer));
    let mut patches = patches::<N>(b);

    let unit = UNIT_POS as usize;
    let cube = CUBE_POS as u32;
    let blocks_i = in_vectors.div_ceil(high as u32);
    let blocks_o = out_vectors.div_ceil(wide as u32);
    let first_o = cube % blocks_o * wide as u32;
    let first_i = cube / blocks_o % blocks_i * high as u32;
    let phase_tap = cube / (blocks_o * blocks_i) % (g.taps_y * g.taps_x);
    let split = cube / (blocks_o * blocks_i * g.taps_y * g.taps_x);
    if split >= splits {
        terminate!();
    }
    let tap_y = (phase_tap / g.taps_x) as i32;
    let tap_x = (phase_tap % g.taps_x) as i32;

    let x_loads = comptime!(b.depth * b.tile_rows() / WIDTH / b.units());
    let g_loads = comptime!(b.depth * b.tile_columns() / WIDTH / b.units());
    // What is on its way to the tiles, and its factors.
    let mut xs = Array::<Vector<F, N>>::new(x_loads);
    let mut x_scales = Array::<Vector<F, N>>::new(x_loads);
    let mut gs = Array::<Vector<F, N>>::new(g_loads);
    let mut g_scales = Array::<Vector<F, N>>::new(g_loads);

    let plane = unit / PLANE;
    let lane = unit % PLANE;
    let plane_row = plane / comptime!(b.planes_across) * comptime!(b.rows * EDGE);
    let plane_column = plane % comptime!(b.planes_across) * comptime!(b.columns * EDGE);
    let mut sums = zeros(b);

    let start = split * span;
    let end = u32::min(start + span, g.positions);
    let steps = (end - u32::min(start, end)).div_ceil(comptime!(b.depth as u32));
    // Step 0 only fills the tiles; step s multiplies what step s − 1 brought.
    for s in 0..steps + 1 {
        let fetches = s < steps;
        if fetches {
            let first = start + s * comptime!(b.depth as u32);
            #[unroll]
            for l in 0..x_loads {
                let at = unit + l * units;
                let index = first + (at / high) as u32;
                let i = first_i + (at % high) as u32;
                let p = Position::of(index, g);
                let iy = p.row as i32 * g.stride + g.offset_y + tap_y;
                let ix = p.column as i32 * g.stride + g.offset_x + tap_x;
                let mut v = Vector::<F, N>::cast_from(Vector::<f32, N>::new(0.0));
                let mut scale = v;
                if index < end && iy >= 0 && iy < g.height && ix >= 0 && ix < g.width && i < in_vectors {
                    let pixel = (p.image * g.height as u32 + iy as u32) * g.width as u32 + ix as u32;
                    v = x[(pixel * in_vectors + i) as usize];
                    if has_pre > 0 {
                        scale = pre[(p.image * in_vectors + i) as usize];
                    }
                }
                xs[l] = v;
                x_scales[l] = scale;
            }
            #[unroll]
            for l in 0..g_loads {
                let at = unit + l * units;
                let index = first + (at / wide) as u32;
                let o = first_o + (at % wide) as u32;
                let mut v = Vector::<F, N>::cast_from(Vector::<f32, N>::new(0.0));
                let mut scale = v;
                if index < end && o < out_vectors {
                    let p = Position::of(index, g);
                    v = grad[(output_pixel(&p, g) * out_vectors + o) as usize];
                    if has_post > 0 {
                        scale = post[(p.image * out_vectors + o) as usize];
                    }
                }
                gs[l] = v;
                g_scales[l] = scale;
            }
        }
        if s > 0 {
            let buffer = ((s - 1) % 2) as usize;
            multiply::<F, N>(
                &x_tile,
                &g_tile,
                buffer * x_buffer + plane_row / WIDTH,
                buffer * g_buffer + plane_column / WIDTH,
                &mut sums,
                b,
                left,
                right,
            );
        }
        if fetches {
            let buffer = (s % 2) as usize;
            #[unroll]
            for l in 0..x_loads {
                let at = unit + l * units;
                let to = buffer * x_buffer + at / high * comptime!(left.pitch()) + at % high;
                x_tile[to] = scaled::<F, N>(xs[l], x_scales[l], has_pre);
            }
            #[unroll]
            for l in 0..g_loads {
                let at = unit + l * units;
                let to = buffer * g_buffer + at / wide * comptime!(right.pitch()) + at % wide;
                g_tile[to] = scaled::<F, N>(gs[l], g_scales[l], has_post);
            }
        }
        sync_cube();
    }

    let row = g.weight_y + tap_y * g.weight_step;
    let tap = (row * g.kernel_width + g.weight_x + tap_x * g.weight_step) as u32;
    let in_channels = in_vectors * WIDTH as u32;
    #[unroll]
    for r in 0..b.rows {
        let i = first_i * WIDTH as u32 + (plane_row + comptime!(r * EDGE) + lane / 2) as u32;
        #[unroll]
        for c in 0..b.columns {
            let sum = spread::<N>(sums.index(comptime!(r * b.columns + c)), &mut patches, plane, lane, b);
            let o = first_o + ((plane_column + comptime!(c * EDGE)) / WIDTH + lane % 2) as u32;
            if i < in_channels && o < out_vectors {
                partial[(((split * taps + tap) * in_channels + i) * out_vectors + o) as usize] = sum;
            }
        }
    }
}
