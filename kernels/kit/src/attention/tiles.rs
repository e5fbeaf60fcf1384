//! The small dense products and column-wise softmax that one head of one window needs, as vectorised loops.
//!
//! A window's products are a few thousand multiply-adds: a call of a general GEMM would spend longer packing than computing.
//! Everything here is meant to be called from an operation that [`pulp::Arch::dispatch`] runs, into which it is inlined.

use std::ops::Range;

use pulp::Simd;
use swinstyle_tensor::{DType, Scalar};

/// Elements to which rows of tiles are padded: a whole number of registers of every instruction set.
pub const LANES: usize = 16;

/// Most rows of a register block: with one register of sums each they cover the latency of two fused multiply-adds a cycle.
const ROWS: usize = 8;

/// `n` rounded up to whole lanes: the row length of a tile.
pub fn padded(n: usize) -> usize {
    n.next_multiple_of(LANES)
}

/// Scratch memory that starts on a cache line, so that no vector load straddles two.
pub struct Tile<T: Scalar> {
    lanes: Vec<Lanes<T>>,
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Lanes<T>([T; LANES]);

impl<T: Scalar> Tile<T> {
    /// Zeros: `rows` rows of [`padded`]`(columns)`.
    pub fn new(rows: usize, columns: usize) -> Self {
        Self { lanes: vec![Lanes([T::ZERO; LANES]); rows * padded(columns) / LANES] }
    }
}

impl<T: Scalar> std::ops::Deref for Tile<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: `Lanes` is LANES elements without padding (its size is a multiple of its alignment for f32 and f64).
        unsafe { std::slice::from_raw_parts(self.lanes.as_ptr().cast(), self.lanes.len() * LANES) }
    }
}

impl<T: Scalar> std::ops::DerefMut for Tile<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and the borrow is unique.
        unsafe { std::slice::from_raw_parts_mut(self.lanes.as_mut_ptr().cast(), self.lanes.len() * LANES) }
    }
}

/// The left factor of a [`product`]: element (r, c) is `data[r · row + c · column]`.
#[derive(Clone, Copy)]
pub struct Left<'a, T> {
    /// The elements.
    pub data: &'a [T],
    /// Distance of neighbours in a column.
    pub row: usize,
    /// Distance of neighbours in a row.
    pub column: usize,
}

/// What a [`product`] is added to.
#[derive(Clone, Copy)]
pub enum Start<'a, T> {
    /// Nothing.
    Zero,
    /// A tile of the output's layout.
    Tile(&'a [T]),
    /// The output's own contents.
    Output,
}

/// `out[r][l] = start[r][l] + Σ_c a(r, c) · b[c][l]` for r < `m`, c < `k`, l < `n`.
///
/// `b`, `start` and `out` are rows of `n`, a multiple of [`LANES`].
#[inline(always)]
pub fn product<S: Simd, T: Scalar>(
    simd: S,
    m: usize,
    n: usize,
    k: usize,
    a: Left<T>,
    b: &[T],
    start: Start<T>,
    out: &mut [T],
) {
    if m == 0 || n == 0 {
        return;
    }
    assert!(n.is_multiple_of(LANES) && out.len() >= m * n && b.len() >= k * n);
    assert!(if let Start::Tile(s) = start { s.len() >= m * n } else { true });
    assert!(k == 0 || a.data.len() > (m - 1) * a.row + (k - 1) * a.column);
    let start = match start {
        Start::Zero => std::ptr::null(),
        Start::Tile(s) => s.as_ptr(),
        Start::Output => out.as_ptr(),
    };
    let tile =
        Tiled { n, k, a: a.data.as_ptr(), row: a.row, column: a.column, b: b.as_ptr(), start, out: out.as_mut_ptr() };
    // Blocks of nearly equal height: a last one of a row or two could not hide the latency of its sums.
    let blocks = m.div_ceil(ROWS);
    for i in 0..blocks {
        let rows = i * m / blocks..(i + 1) * m / blocks;
        // SAFETY: rows are below m, and the asserts above bound every access by m, n and k.
        unsafe {
            match rows.len() {
                1 => tile.rows::<S, 1>(simd, rows.start),
                2 => tile.rows::<S, 2>(simd, rows.start),
                3 => tile.rows::<S, 3>(simd, rows.start),
                4 => tile.rows::<S, 4>(simd, rows.start),
                5 => tile.rows::<S, 5>(simd, rows.start),
                6 => tile.rows::<S, 6>(simd, rows.start),
                7 => tile.rows::<S, 7>(simd, rows.start),
                _ => tile.rows::<S, 8>(simd, rows.start),
            }
        }
    }
}

/// A [`product`] as pointers; `start` is null for zero.
#[derive(Clone, Copy)]
struct Tiled<T> {
    n: usize,
    k: usize,
    a: *const T,
    row: usize,
    column: usize,
    b: *const T,
    start: *const T,
    out: *mut T,
}

impl<T: Scalar> Tiled<T> {
    /// R rows of the result.
    ///
    /// # Safety
    /// `first + R ≤ m`, and the memory is what [`product`] asserts.
    #[inline(always)]
    unsafe fn rows<S: Simd, const R: usize>(self, simd: S, first: usize) {
        let Self { n, k, a, row, column, b, start, out } = self;
        // SAFETY: the caller's contract; the casts are identities.
        unsafe {
            match T::DTYPE {
                DType::F32 => {
                    Tiled { n, k, a: a.cast(), row, column, b: b.cast(), start: start.cast(), out: out.cast() }
                        .rows_f32::<S, R>(simd, first)
                }
                _ => Tiled { n, k, a: a.cast(), row, column, b: b.cast(), start: start.cast(), out: out.cast() }
                    .rows_f64::<S, R>(simd, first),
            }
        }
    }
}

macro_rules! rows {
    ($t:ty, $name:ident, $vector:ident, $lanes:ident, $splat:ident, $fused:ident) => {
        impl Tiled<$t> {
            /// [`Tiled::rows`], one register of columns at a time.
            ///
            /// Vectors are explicit here: left to itself the compiler gathers the left factor's column instead of broadcasting it.
            #[inline(always)]
            unsafe fn $name<S: Simd, const R: usize>(self, simd: S, first: usize) {
                let mut l = 0;
                while l < self.n {
                    let mut sums = [simd.$splat(0.0); R];
                    // SAFETY: the caller's contract; `n` is a whole number of registers.
                    unsafe {
                        if !self.start.is_null() {
                            for (i, sum) in sums.iter_mut().enumerate() {
                                *sum = self.start.add((first + i) * self.n + l).cast::<S::$vector>().read_unaligned();
                            }
                        }
                        let mut left = self.a.add(first * self.row);
                        let mut right = self.b.add(l);
                        for _ in 0..self.k {
                            let v = right.cast::<S::$vector>().read_unaligned();
                            for (i, sum) in sums.iter_mut().enumerate() {
                                *sum = simd.$fused(simd.$splat(*left.add(i * self.row)), v, *sum);
                            }
                            // After the last column the pointers may pass the end, where nothing is read.
                            left = left.wrapping_add(self.column);
                            right = right.wrapping_add(self.n);
                        }
                        for (i, sum) in sums.into_iter().enumerate() {
                            self.out.add((first + i) * self.n + l).cast::<S::$vector>().write_unaligned(sum);
                        }
                    }
                    l += S::$lanes;
                }
            }
        }
    };
}

rows!(f32, rows_f32, f32s, F32_LANES, splat_f32s, mul_add_e_f32s);
rows!(f64, rows_f64, f64s, F64_LANES, splat_f64s, mul_add_e_f64s);

/// Writes `values · scale` as column `column` of a tile with rows of `n`.
#[inline(always)]
pub fn write_column<T: Scalar>(tile: &mut [T], n: usize, column: usize, values: &[T], scale: T) {
    for (row, &v) in tile.chunks_exact_mut(n).zip(values) {
        row[column] = v * scale;
    }
}

/// Logarithm below which probabilities, 10⁻³⁰ then, count as 0. Beside a sum of at least 1 they vanish anyway, but masked ones (e⁻¹⁰⁰) would
/// be denormal numbers: making one takes a processor some hundred cycles, and so does every multiply-add with one.
const VANISHING: f64 = -69.0;

/// eˣ for x of at most about 0, and 0 where it is vanishing.
#[inline(always)]
fn exp<T: Scalar>(x: T) -> T {
    let least = T::from_f64(VANISHING);
    // NaN is not below, and stays.
    let vanishes = x < least;
    let x = if vanishes { least } else { x };
    let e = match T::DTYPE {
        // SAFETY: both casts are identities, for T is f32.
        DType::F32 => unsafe {
            let e = exp_in_range(std::mem::transmute_copy::<T, f32>(&x));
            std::mem::transmute_copy::<f32, T>(&e)
        },
        _ => x.exp(),
    };
    if vanishes { T::ZERO } else { e }
}

/// eˣ for −80 < x < 80, within two units in the last place: x = k·ln 2 + r, a polynomial in r, and k added to the exponent. Without what makes
/// room for infinities and denormal numbers, half of the general function.
#[inline(always)]
fn exp_in_range(x: f32) -> f32 {
    // ln 2 in two parts, of which k times the first is exact.
    const LN2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    // Adding 1.5·2²³ rounds to an integer, and leaves it in the low bits.
    const MAGIC: f32 = 12_582_912.0;
    let shifted = x.mul_add(std::f32::consts::LOG2_E, MAGIC);
    let k = shifted - MAGIC;
    let r = k.mul_add(-LN2[1], k.mul_add(-LN2[0], x));
    let mut p = 1.987_569_1e-4_f32;
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1] {
        p = p.mul_add(r, c);
    }
    let y = (p * r).mul_add(r, r) + 1.0;
    y * f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23))
}

/// Replaces logits by `exp(logit − max)` down each of the `n` columns and writes the columns' maxima and sums.
#[inline(always)]
pub fn softmax_columns<T: Scalar>(tile: &mut [T], n: usize, max: &mut [T], sum: &mut [T]) {
    for l in (0..n).step_by(LANES) {
        let mut m = [T::from_f64(f64::NEG_INFINITY); LANES];
        for row in tile.chunks_exact(n) {
            let row = &row[l..l + LANES];
            for (m, &s) in m.iter_mut().zip(row) {
                *m = m.maximum(s);
            }
        }
        let mut z = [T::ZERO; LANES];
        for row in tile.chunks_exact_mut(n) {
            let row = &mut row[l..l + LANES];
            for i in 0..LANES {
                let e = exp(row[i] - m[i]);
                row[i] = e;
                z[i] += e;
            }
        }
        max[l..l + LANES].copy_from_slice(&m);
        sum[l..l + LANES].copy_from_slice(&z);
    }
}

/// From logits and d loss / d probabilities, both with keys down and queries across, to probabilities (in `logits`) and d loss / d logits (in `dp`).
///
/// `p = exp(logit − max − ln_sum)`, `ds = p · (dp − Σ_j p_j dp_j)`. The log-sum-exp comes in two parts because rounding the sum of
/// a large maximum would scale all probabilities; Σ p·dp is taken from these very products, so that a single key's gradient is exactly zero.
#[inline(always)]
pub fn softmax_gradient<T: Scalar>(logits: &mut [T], dp: &mut [T], n: usize, max: &[T], ln_sum: &[T]) {
    for l in (0..n).step_by(LANES) {
        let (max, ln_sum) = (&max[l..l + LANES], &ln_sum[l..l + LANES]);
        let mut delta = [T::ZERO; LANES];
        for (s, g) in logits.chunks_exact_mut(n).zip(dp.chunks_exact(n)) {
            let (s, g) = (&mut s[l..l + LANES], &g[l..l + LANES]);
            for i in 0..LANES {
                s[i] = exp(s[i] - max[i] - ln_sum[i]);
                delta[i] = s[i].mul_add(g[i], delta[i]);
            }
        }
        for (p, g) in logits.chunks_exact(n).zip(dp.chunks_exact_mut(n)) {
            let (p, g) = (&p[l..l + LANES], &mut g[l..l + LANES]);
            for i in 0..LANES {
                g[i] = p[i] * (g[i] - delta[i]);
            }
        }
    }
}

/// Output memory that parallel tasks write at scattered places of their own.
pub struct Scattered<'a, T> {
    data: *mut T,
    len: usize,
    memory: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: the memory is only reached through `range`, whose callers keep their ranges apart.
unsafe impl<T: Send> Sync for Scattered<'_, T> {}

impl<'a, T> Scattered<'a, T> {
    /// Takes the memory for as long as tasks write it.
    pub fn new(memory: &'a mut [T]) -> Self {
        Self { data: memory.as_mut_ptr(), len: memory.len(), memory: std::marker::PhantomData }
    }

    /// A range of the memory.
    ///
    /// # Safety
    /// No other range that is alive at the same time, in any task, overlaps it.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn range(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: inside the memory by the assertion, unaliased by the caller's contract.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(range.start), range.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::hash_uniform;

    /// One product of each start, as an operation that pulp compiles for the processor.
    struct Products<'a>(usize, usize, usize, Left<'a, f32>, &'a [f32], &'a [f32]);

    impl pulp::WithSimd for Products<'_> {
        type Output = [Vec<f32>; 3];

        fn with_simd<S: Simd>(self, simd: S) -> [Vec<f32>; 3] {
            let Self(m, n, k, a, b, start) = self;
            let starts = [Start::Zero, Start::Tile(start), Start::Output];
            starts.map(|s| {
                let mut out = vec![1.0; m * n];
                product(simd, m, n, k, a, b, s, &mut out);
                out
            })
        }
    }

    #[test]
    fn products_match_plain_sums_for_every_row_count() {
        for m in 1..=19 {
            let (n, k) = (32, 5);
            let (a, b, start) = (hash_uniform("a", m * k), hash_uniform("b", k * n), hash_uniform("s", m * n));
            for transposed in [false, true] {
                let left =
                    Left { data: &a, row: if transposed { 1 } else { k }, column: if transposed { m } else { 1 } };
                let [zero, tile, output] = pulp::Arch::new().dispatch(Products(m, n, k, left, &b, &start));
                for (r, l) in (0..m).flat_map(|r| (0..n).map(move |l| (r, l))) {
                    let sum: f32 = (0..k).map(|c| a[r * left.row + c * left.column] * b[c * n + l]).sum();
                    let at = r * n + l;
                    for (got, start) in [(zero[at], 0.0), (tile[at], start[at]), (output[at], 1.0)] {
                        assert!((got - sum - start).abs() < 1e-5, "m {m} ({r}, {l})");
                    }
                }
            }
        }
    }

    #[test]
    fn exponentials_are_right_to_two_units_and_vanish_without_denormals() {
        for i in 0..=200_000 {
            let x = -70.0 + 70.5 * i as f32 / 200_000.0;
            let (e, exact) = (exp(x), f64::from(x).exp());
            match f64::from(x) < VANISHING {
                true => assert_eq!(e, 0.0, "{x}"),
                false => assert!((f64::from(e) / exact - 1.0).abs() < 2.4e-7, "{x}: {e} for {exact}"),
            }
        }
        assert_eq!((exp(0.0_f32), exp(f32::NEG_INFINITY)), (1.0, 0.0));
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn tiles_start_on_a_cache_line() {
        assert_eq!(Tile::<f32>::new(3, 17).as_ptr() as usize % 64, 0);
        assert_eq!(Tile::<f64>::new(3, 17).len(), 3 * 32);
    }
}
