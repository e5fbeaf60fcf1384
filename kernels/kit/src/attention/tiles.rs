//! The small dense products and column-wise softmax that one head of one window needs, as vectorised loops.
//!
//! A window's products are a few thousand multiply-adds: a call of a general GEMM would spend longer packing than computing.
//! Everything here is meant to be called inside [`swinstyle_tensor::simd::dispatch`], into which it is inlined.

use std::ops::Range;

use swinstyle_tensor::Scalar;

/// Elements that are computed together: one AVX-512 register of f32, two of AVX2, four of NEON.
pub const LANES: usize = 16;

/// Rows of a register block: with one vector of accumulators each they cover the latency of a fused multiply-add.
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
pub fn product<T: Scalar>(m: usize, n: usize, k: usize, a: Left<T>, b: &[T], start: Start<T>, out: &mut [T]) {
    if m == 0 || n == 0 {
        return;
    }
    assert!(n % LANES == 0 && out.len() >= m * n && b.len() >= k * n);
    assert!(if let Start::Tile(s) = start { s.len() >= m * n } else { true });
    assert!(k == 0 || a.data.len() > (m - 1) * a.row + (k - 1) * a.column);
    for l in (0..n).step_by(LANES) {
        let mut r = 0;
        while r < m {
            // SAFETY: rows r..r+R are below m and lanes l..l+LANES below n; the asserts above bound every access by that.
            unsafe {
                r += match m - r {
                    ROWS.. => block::<T, ROWS>(r, l, n, k, a, b, start, out),
                    4.. => block::<T, 4>(r, l, n, k, a, b, start, out),
                    2.. => block::<T, 2>(r, l, n, k, a, b, start, out),
                    _ => block::<T, 1>(r, l, n, k, a, b, start, out),
                };
            }
        }
    }
}

/// R rows by LANES columns of a [`product`]; returns R.
///
/// # Safety
/// `r + R ≤ m`, `l + LANES ≤ n`, and the slices hold what [`product`] asserts.
#[inline(always)]
unsafe fn block<T: Scalar, const R: usize>(
    r: usize,
    l: usize,
    n: usize,
    k: usize,
    a: Left<T>,
    b: &[T],
    start: Start<T>,
    out: &mut [T],
) -> usize {
    let mut sums = [[T::ZERO; LANES]; R];
    // SAFETY: the caller's contract.
    unsafe {
        let start = match start {
            Start::Zero => None,
            Start::Tile(s) => Some(s.as_ptr()),
            Start::Output => Some(out.as_ptr()),
        };
        if let Some(start) = start {
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum = start.add((r + i) * n + l).cast::<[T; LANES]>().read_unaligned();
            }
        }
        let mut left = a.data.as_ptr().add(r * a.row);
        let mut right = b.as_ptr().add(l);
        for _ in 0..k {
            let v = right.cast::<[T; LANES]>().read_unaligned();
            for (i, sum) in sums.iter_mut().enumerate() {
                let x = *left.add(i * a.row);
                for (s, v) in sum.iter_mut().zip(v) {
                    *s = x.mul_add(v, *s);
                }
            }
            // Pointers may step past the end after the last column: wrapping arithmetic never reads there.
            left = left.wrapping_add(a.column);
            right = right.wrapping_add(n);
        }
        for (i, sum) in sums.into_iter().enumerate() {
            out.as_mut_ptr().add((r + i) * n + l).cast::<[T; LANES]>().write_unaligned(sum);
        }
    }
    R
}

/// Writes `values · scale` as column `column` of a tile with rows of `n`.
#[inline(always)]
pub fn write_column<T: Scalar>(tile: &mut [T], n: usize, column: usize, values: &[T], scale: T) {
    for (row, &v) in tile.chunks_exact_mut(n).zip(values) {
        row[column] = v * scale;
    }
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
                let e = (row[i] - m[i]).exp();
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
                s[i] = (s[i] - max[i] - ln_sum[i]).exp();
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

    #[test]
    fn products_match_plain_sums_for_every_row_count() {
        for m in 1..=19 {
            let (n, k) = (32, 5);
            let (a, b, start) = (hash_uniform("a", m * k), hash_uniform("b", k * n), hash_uniform("s", m * n));
            for transposed in [false, true] {
                let left =
                    Left { data: &a, row: if transposed { 1 } else { k }, column: if transposed { m } else { 1 } };
                let mut out = vec![0.0_f32; m * n];
                product(m, n, k, left, &b, Start::Tile(&start), &mut out);
                for (r, l) in (0..m).flat_map(|r| (0..n).map(move |l| (r, l))) {
                    let sum: f32 = (0..k).map(|c| a[r * left.row + c * left.column] * b[c * n + l]).sum();
                    assert!((out[r * n + l] - sum - start[r * n + l]).abs() < 1e-5, "m {m} ({r}, {l})");
                }
                let before = out.clone();
                product(m, n, k, left, &b, Start::Output, &mut out);
                let mut alone = vec![0.0_f32; m * n];
                product(m, n, k, left, &b, Start::Zero, &mut alone);
                let sums = before.iter().zip(&alone).map(|(a, b)| a + b);
                assert!(out.iter().zip(sums).all(|(o, s)| (o - s).abs() < 1e-5));
            }
        }
    }

    #[test]
    fn tiles_start_on_a_cache_line() {
        assert_eq!(Tile::<f32>::new(3, 17).as_ptr() as usize % 64, 0);
        assert_eq!(Tile::<f64>::new(3, 17).len(), 3 * 32);
    }
}
