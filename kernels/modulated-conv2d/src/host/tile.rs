//! The register tile: C output pixels of a row by one or two vectors of output channels, summed over taps and channels.
//!
//! This is an outer-product microkernel over indirect rows (M. Dukhan, "The Indirect Convolution Algorithm", 2019): the tile's pixels are
//! neighbours in a packed row, so one pointer and constant displacements reach them all, and a list of rows and columns
//! names the taps. Rows outside the image are left out of the list.

use pulp::{Simd, WithSimd};

use super::{activation::Activation, pack::Output, vector::Real};

/// Largest C: with two vectors its accumulators, one vector of broadcasts and two of weights fill 32 registers.
pub(crate) const MAX_PIXELS: usize = 14;

/// A tap's row or column: its place in the packed image, in elements, and its share of the tap's index in the packed weights.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) image: usize,
    pub(crate) weight: usize,
}

/// One row of output pixels for one block of output channels.
pub(crate) struct Row<'a, T> {
    /// Packed image.
    pub(crate) image: &'a [T],
    /// Elements from a channel block of the image to the next.
    pub(crate) image_block: usize,
    /// Panel of the weights.
    pub(crate) panel: &'a [T],
    /// Elements from a channel block of the panel to the next.
    pub(crate) panel_block: usize,
    /// Elements from a tap of the panel to the next.
    pub(crate) panel_tap: usize,
    /// Rows of taps that lie inside the image.
    pub(crate) rows: &'a [Place],
    /// Columns of taps.
    pub(crate) columns: &'a [Place],
    /// Channel blocks to sum over.
    pub(crate) blocks: std::ops::Range<usize>,
    /// Index of the last block of all and its channels, which may be fewer.
    pub(crate) tail: (usize, usize),
    /// Output pixels.
    pub(crate) count: usize,
    /// Sums of the channel blocks before `blocks`, and after them the sums so far: `[tile][C][width]`.
    pub(crate) sums: Option<&'a mut [T]>,
    /// Whether there are sums of earlier blocks to start from.
    pub(crate) resume: bool,
    /// Where the finished pixels go; `None` while blocks are missing.
    pub(crate) store: Option<Store<'a, T>>,
}

/// The tile store with its epilogue.
pub(crate) struct Store<'a, T> {
    /// From the first element of the first pixel on.
    pub(crate) y: Output<T>,
    /// Elements from a pixel to the next.
    pub(crate) step: usize,
    /// Output channels, at most the width.
    pub(crate) channels: usize,
    /// Factor per channel, padded to the width.
    pub(crate) post: Option<&'a [T]>,
    /// Noise of the first pixel on, with its step and the strength.
    pub(crate) noise: Option<(&'a [T], usize, T)>,
    /// Bias per channel, padded to the width.
    pub(crate) bias: Option<&'a [T]>,
    pub(crate) activation: Option<Activation<T>>,
}

/// [`Row`] compiled for C pixels, V vectors of channels and blocks of P channels.
struct Tiles<'a, 'b, T, const C: usize, const V: usize, const P: usize>(&'b mut Row<'a, T>);

impl<T: Real, const C: usize, const V: usize, const P: usize> WithSimd for Tiles<'_, '_, T, C, V, P> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // Tiles that this instruction set has no registers for are never asked for; this compiles them to nothing.
        if C * V + V + 1 > S::REGISTER_COUNT.max(10) {
            return;
        }
        let row = self.0;
        let width = V * T::lanes::<S>();
        for tile in 0..row.count.div_ceil(C) {
            // SAFETY: `run` has checked that every place of the lists, for every tile, channel block and channel, lies inside image and panel.
            let mut sums = [[T::splat(simd, T::ZERO); V]; C];
            if row.resume
                && let Some(saved) = &row.sums
            {
                let saved = &saved[tile * C * width..][..C * width];
                for m in 0..C {
                    for v in 0..V {
                        // SAFETY: the slice has C·width elements.
                        sums[m][v] = unsafe { T::load::<S>(saved.as_ptr().add(m * width + v * T::lanes::<S>())) };
                    }
                }
            }
            for block in row.blocks.clone() {
                let channels = if block == row.tail.0 { row.tail.1 } else { P };
                for r in row.rows {
                    for c in row.columns {
                        let at = block * row.image_block + r.image + c.image + tile * C * P;
                        let weight = block * row.panel_block + (r.weight + c.weight) * row.panel_tap;
                        // SAFETY: `run` has checked the largest of these sums against the lengths.
                        unsafe {
                            let (image, panel) = (row.image.as_ptr().add(at), row.panel.as_ptr().add(weight));
                            for i in 0..channels {
                                let mut w = [T::splat(simd, T::ZERO); V];
                                for v in 0..V {
                                    w[v] = T::load::<S>(panel.add(i * width + v * T::lanes::<S>()));
                                }
                                for m in 0..C {
                                    let x = T::splat(simd, *image.add(i + m * P));
                                    for v in 0..V {
                                        sums[m][v] = T::fused(simd, x, w[v], sums[m][v]);
                                    }
                                }
                            }
                        }
                    }
                }
            }
            // The sums leave the registers in one unrolled run of stores. Were the epilogue's loop to index them, they would live in
            // memory all along.
            let mut finished = std::mem::MaybeUninit::<[[T::Vector<S>; V]; C]>::uninit();
            let to = match (&row.store, &mut row.sums) {
                (None, Some(saved)) => saved[tile * C * width..][..C * width].as_mut_ptr(),
                _ => finished.as_mut_ptr().cast::<T>(),
            };
            for m in 0..C {
                for v in 0..V {
                    // SAFETY: both have C·width elements.
                    unsafe { T::store::<S>(to.add(m * width + v * T::lanes::<S>()), sums[m][v]) };
                }
            }
            if let Some(store) = &row.store {
                for m in 0..C.min(row.count - tile * C) {
                    // SAFETY: the pixel's sums were just stored, and `run`'s caller owns the row's `count` pixels.
                    unsafe { finish::<S, T, V>(simd, store, tile * C + m, to.add(m * width)) }
                }
            }
        }
    }
}

/// Applies the epilogue to a pixel and stores it.
///
/// # Safety
/// `sums` must hold V vectors, and the pixel's `channels` elements must be writable.
#[inline(always)]
pub(crate) unsafe fn finish<S: Simd, T: Real, const V: usize>(simd: S, store: &Store<T>, pixel: usize, sums: *mut T) {
    let lanes = T::lanes::<S>();
    let y = store.y.0.wrapping_add(pixel * store.step);
    let whole = store.channels == V * lanes;
    let noise = store.noise.map(|(noise, step, strength)| T::splat(simd, noise[pixel * step] * strength));
    for at in (0..V).map(|v| v * lanes) {
        // SAFETY: factors and biases are padded to the width; sums and output are the caller's promise.
        unsafe {
            let mut z = T::load::<S>(sums.add(at));
            if let Some(post) = store.post {
                z = T::times(simd, z, T::load::<S>(post.as_ptr().add(at)));
            }
            if let Some(noise) = noise {
                z = T::plus(simd, z, noise);
            }
            if let Some(bias) = store.bias {
                z = T::plus(simd, z, T::load::<S>(bias.as_ptr().add(at)));
            }
            if let Some(activation) = &store.activation {
                z = activation.vector(simd, z);
            }
            T::store::<S>(if whole { y.add(at) } else { sums.add(at) }, z);
        }
    }
    if !whole {
        // SAFETY: the same.
        unsafe { std::ptr::copy_nonoverlapping(sums, y, store.channels) };
    }
}

/// Computes a row with tiles of `pixels` pixels and `vectors` vectors, for channel blocks of `block`.
///
/// # Safety
/// The store's row must be writable for `count` pixels and belong to this call alone.
pub(crate) unsafe fn run<S: Simd, T: Real>(simd: S, shape: TileShape, row: &mut Row<T>) {
    let width = shape.vectors * T::lanes::<S>();
    let tiles = row.count.div_ceil(shape.pixels);
    let most = |places: &[Place], f: fn(&Place) -> usize| places.iter().map(f).max();
    let reach = |f: fn(&Place) -> usize| Some(most(row.rows, f)? + most(row.columns, f)?);
    if let (Some(image), Some(weight), false) = (reach(|p| p.image), reach(|p| p.weight), row.blocks.is_empty()) {
        let last = row.blocks.end - 1;
        assert!(last * row.image_block + image + tiles * shape.pixels * shape.block <= row.image.len());
        assert!(last * row.panel_block + weight * row.panel_tap + shape.block * width <= row.panel.len());
        assert!(row.tail.1 <= shape.block);
    }
    if let Some(sums) = &row.sums {
        assert!(sums.len() >= tiles * shape.pixels * width);
    }
    if let Some(store) = &row.store {
        assert!(store.channels <= width);
        assert!(store.post.is_none_or(|p| p.len() >= width) && store.bias.is_none_or(|b| b.len() >= width));
    }
    macro_rules! tiles {
        ($($c:literal)*) => {
            match (shape.pixels, shape.vectors, shape.block) {
                $(
                    ($c, 1, 4) => simd.vectorize(Tiles::<T, $c, 1, 4>(row)),
                    ($c, 2, 4) => simd.vectorize(Tiles::<T, $c, 2, 4>(row)),
                    ($c, 1, _) => simd.vectorize(Tiles::<T, $c, 1, 16>(row)),
                    ($c, _, _) => simd.vectorize(Tiles::<T, $c, 2, 16>(row)),
                )*
                _ => unreachable!("TileShape::new chooses from these"),
            }
        };
    }
    tiles!(1 2 4 6 8 11 13 14)
}

/// Which of the compiled tiles computes a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TileShape {
    /// C.
    pub(crate) pixels: usize,
    /// Vectors of output channels: 1 or 2.
    pub(crate) vectors: usize,
    /// P: 4 or 16.
    pub(crate) block: usize,
}

impl TileShape {
    /// The tile for rows of `count` pixels: the one that wastes least on the last tile, larger ones first.
    pub(crate) fn new<S: Simd>(count: usize, vectors: usize, block: usize) -> Self {
        let fits = |c: &usize| c * vectors + vectors < S::REGISTER_COUNT.max(10);
        // Two vectors of weights are loaded a step whatever the pixels: about what a pixel and a half cost.
        let cost = |c: &usize| count.div_ceil(*c) * (2 * c + 3);
        let pixels = [MAX_PIXELS, 13, 11, 8, 6, 4, 2, 1].into_iter().filter(fits).min_by_key(cost).unwrap_or(1);
        Self { pixels, vectors, block }
    }
}
