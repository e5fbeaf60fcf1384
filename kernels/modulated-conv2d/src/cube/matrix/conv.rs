//! Forward and data gradient on matrix units: pixels by output channels, summed over taps and input channels.
//!
//! The style scales the image tile on its way from registers to shared memory, rounded to the type once more; everything after the
//! sum happens in f32 on the fragments, which pass through a small patch of shared memory a plane so that a unit holds whole vectors.

use cubecl::prelude::*;
use swinstyle_tensor::cube::fragments::{EDGE, MatrixTile, PLANE, WIDTH, multiply, patches, spread, zeros};

use super::{
    super::{
        Part, Phase, Position,
        around::{Around, finish},
        output_pixel,
    },
    scaled,
};

#[cube(launch_unchecked)]
pub(crate) fn conv_matrix<F: Float, Y: Float, N: Size>(
    x: &Array<Vector<F, N>>,      // [N, H, W, I]
    weight: &Array<Vector<F, N>>, // [kh, kw, I, O]
    pre: &Array<Vector<F, N>>,    // [N, I], if a.pre
    post: &Array<Vector<F, N>>,   // [N, O], if there is one
    noise: &Array<F>,             // [N or 1, OH, OW], scaled by its strength, if there is one
    bias: &Array<Vector<F, N>>,   // [O], if there is one
    y: &mut Array<Vector<Y, N>>,  // [parts, N, OH, OW, O]
    g: &Phase,
    a: &Around,
    in_vectors: u32,
    out_vectors: u32,
    share: u32, // slabs of input channels in a part
    #[comptime] b: MatrixTile,
    #[define(F, Y)] _dtypes: [StorageType; 2],
) {
    let units = comptime!(b.units());
    let (left, right) = comptime!((b.left(false), b.right(false)));
    // Vectors of a row of either tile, without its padding.
    let deep = comptime!(left.line);
    let wide = comptime!(right.line);
    let x_buffer = comptime!(left.vectors());
    let w_buffer = comptime!(right.vectors());
    let mut x_tile = SharedMemory::<Vector<F, N>>::new(comptime!(2 * x_buffer));
    let mut w_tile = SharedMemory::<Vector<F, N>>::new(comptime!(2 * w_buffer));
    let mut patches = patches::<N>(b);

    let unit = UNIT_POS as usize;
    let blocks_n = out_vectors.div_ceil(wide as u32);
    let blocks = g.positions.div_ceil(comptime!(b.tile_rows() as u32)) * blocks_n;
    let part = Part::of(CUBE_POS as u32, blocks, in_vectors.div_ceil(deep as u32), share, g);
    if !part.exists {
        terminate!();
    }
    let first_position = part.cube / blocks_n * comptime!(b.tile_rows() as u32);
    let first_vector = part.cube % blocks_n * wide as u32;

    // Input positions of the vectors that this unit loads in every step, at tap 0; far outside where there is none.
    let x_loads = comptime!(b.tile_rows() * b.depth / WIDTH / b.units());
    let w_loads = comptime!(b.depth * b.tile_columns() / WIDTH / b.units());
    let mut images = Array::<u32>::new(x_loads);
    let mut rows = Array::<i32>::new(x_loads);
    let mut columns = Array::<i32>::new(x_loads);
    #[unroll]
    for l in 0..x_loads {
        let index = first_position + ((unit + l * units) / deep) as u32;
        let p = Position::of(index, g);
        images[l] = p.image;
        rows[l] = select(index < g.positions, p.row as i32 * g.stride + g.offset_y, -(1 << 30));
        columns[l] = p.column as i32 * g.stride + g.offset_x;
    }
    // What is on its way to the tiles.
    let mut xs = Array::<Vector<F, N>>::new(x_loads);
    let mut styles = Array::<Vector<F, N>>::new(x_loads);
    let mut ws = Array::<Vector<F, N>>::new(w_loads);

    let plane = unit / PLANE;
    let lane = unit % PLANE;
    let plane_row = plane / comptime!(b.planes_across) * comptime!(b.rows * EDGE);
    let plane_column = plane % comptime!(b.planes_across) * comptime!(b.columns * EDGE);
    let mut sums = zeros(b);

    let in_channels = in_vectors * WIDTH as u32;
    let steps = g.taps_y * g.taps_x * part.slabs;
    // Step 0 only fills the tiles; step s multiplies what step s − 1 brought.
    for s in 0..steps + 1 {
        let fetches = s < steps;
        if fetches {
            let tap = s / part.slabs;
            let slab = part.first_slab + s % part.slabs;
            let tap_y = tap / g.taps_x;
            let tap_x = tap % g.taps_x;
            let tap_row = g.weight_y + tap_y as i32 * g.weight_step;
            let w_row = (tap_row * g.kernel_width + g.weight_x + tap_x as i32 * g.weight_step) as u32 * in_channels;
            #[unroll]
            for l in 0..x_loads {
                let c = slab * deep as u32 + ((unit + l * units) % deep) as u32;
                let iy = rows[l] + tap_y as i32;
                let ix = columns[l] + tap_x as i32;
                let mut v = Vector::<F, N>::cast_from(Vector::<f32, N>::new(0.0));
                let mut style = v;
                if iy >= 0 && iy < g.height && ix >= 0 && ix < g.width && c < in_vectors {
                    let pixel = (images[l] * g.height as u32 + iy as u32) * g.width as u32 + ix as u32;
                    v = x[(pixel * in_vectors + c) as usize];
                    if a.pre > 0 {
                        style = pre[(images[l] * in_vectors + c) as usize];
                    }
                }
                xs[l] = v;
                styles[l] = style;
            }
            #[unroll]
            for l in 0..w_loads {
                let at = unit + l * units;
                let c = slab * comptime!(b.depth as u32) + (at / wide) as u32;
                let n = first_vector + (at % wide) as u32;
                let mut v = Vector::<F, N>::cast_from(Vector::<f32, N>::new(0.0));
                if c < in_channels && n < out_vectors {
                    v = weight[((w_row + c) * out_vectors + n) as usize];
                }
                ws[l] = v;
            }
        }
        if s > 0 {
            let buffer = ((s - 1) % 2) as usize;
            multiply::<F, N>(
                &x_tile,
                &w_tile,
                buffer * x_buffer + plane_row * comptime!(left.pitch()),
                buffer * w_buffer + plane_column / WIDTH,
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
                let to = buffer * x_buffer + at / deep * comptime!(left.pitch()) + at % deep;
                x_tile[to] = scaled::<F, N>(xs[l], styles[l], a.pre);
            }
            #[unroll]
            for l in 0..w_loads {
                let at = unit + l * units;
                w_tile[buffer * w_buffer + at / wide * comptime!(right.pitch()) + at % wide] = ws[l];
            }
        }
        sync_cube();
    }

    #[unroll]
    for r in 0..b.rows {
        let index = first_position + (plane_row + comptime!(r * EDGE) + lane / 2) as u32;
        let p = Position::of(index, g);
        let pixel = output_pixel(&p, g);
        #[unroll]
        for c in 0..b.columns {
            let sum = spread::<N>(sums.index(comptime!(r * b.columns + c)), &mut patches, plane, lane, b);
            let n = first_vector + ((plane_column + comptime!(c * EDGE)) / WIDTH + lane % 2) as u32;
            if index < g.positions && n < out_vectors {
                let v = finish::<F, N>(sum, p.image, pixel, n, out_vectors, post, noise, bias, a);
                y[((part.first_pixel + pixel) * out_vectors + n) as usize] = Vector::cast_from(v);
            }
        }
    }
}
