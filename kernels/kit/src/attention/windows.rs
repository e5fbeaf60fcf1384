//! A map cut into windows: cyclic shift, padding and region mask as index arithmetic.

/// The logit added between tokens that the cyclic shift brought together from different sides of the map.
pub const MASK: f64 = -100.0;

/// Windows over a `[batch, height, width]` map, padded right and bottom to whole windows and shifted cyclically.
///
/// Window `s` of `batch · rows · columns` (row-major) holds `window[0] · window[1]` cells (row-major); the cell at (a, b) of the
/// shifted frame is the padded map's token ((a + shift) mod padded height, (b + shift) mod padded width).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Windows {
    /// Images.
    pub batch: usize,
    /// Rows of the map.
    pub height: usize,
    /// Columns of the map.
    pub width: usize,
    /// Rows and columns of a window.
    pub window: [usize; 2],
    /// Cyclic shift in rows and columns; 0 on an axis that one window covers.
    pub shift: [usize; 2],
}

impl Windows {
    /// Windows with the shift set to 0 on each axis that one window covers, as Swin does.
    pub fn new([batch, height, width]: [usize; 3], window: [usize; 2], shift: [usize; 2]) -> Self {
        let keep = |axis: usize, extent: usize| if extent <= window[axis] { 0 } else { shift[axis] };
        Self { batch, height, width, window, shift: [keep(0, height), keep(1, width)] }
    }

    /// Rows and columns of windows of one image.
    pub fn grid(&self) -> [usize; 2] {
        [self.height.div_ceil(self.window[0].max(1)), self.width.div_ceil(self.window[1].max(1))]
    }

    /// Windows of all images.
    pub fn count(&self) -> usize {
        let [rows, columns] = self.grid();
        self.batch * rows * columns
    }

    /// Cells of a window.
    pub fn cells(&self) -> usize {
        self.window[0] * self.window[1]
    }

    /// Tokens of all images.
    pub fn tokens(&self) -> usize {
        self.batch * self.height * self.width
    }

    /// Whether some windows hold padding.
    pub fn is_padded(&self) -> bool {
        !self.height.is_multiple_of(self.window[0].max(1)) || !self.width.is_multiple_of(self.window[1].max(1))
    }

    /// Entries of a relative-position table for one head: (2·rows − 1)·(2·columns − 1).
    pub fn table_len(&self) -> usize {
        let [rows, columns] = self.window.map(|w| w.saturating_mul(2).saturating_sub(1));
        // Saturating: it is asked before a window's size is judged.
        rows.saturating_mul(columns)
    }

    /// The table's entry for a query cell and a key cell.
    pub fn table_index(&self, query: usize, key: usize) -> usize {
        let [rows, columns] = self.window;
        let y = query / columns + rows - 1 - key / columns;
        let x = query % columns + columns - 1 - key % columns;
        y * (2 * columns - 1) + x
    }

    /// The map's token at a cell of a window, or `None` for padding.
    pub fn token(&self, set: usize, cell: usize) -> Option<usize> {
        let [rows, columns] = self.grid();
        let (image, at) = (set / (rows * columns), set % (rows * columns));
        let axis = |index: usize, cell: usize, count: usize, axis: usize| {
            let padded = count * self.window[axis];
            let p = index * self.window[axis] + cell + self.shift[axis];
            if p >= padded { p - padded } else { p }
        };
        let y = axis(at / columns, cell / self.window[1], rows, 0);
        let x = axis(at % columns, cell % self.window[1], columns, 1);
        (y < self.height && x < self.width).then(|| (image * self.height + y) * self.width + x)
    }

    /// Writes the tokens of a window, with `usize::MAX` for padding.
    pub fn write_tokens(&self, set: usize, tokens: &mut [usize]) {
        for (cell, token) in tokens.iter_mut().enumerate() {
            *token = self.token(set, cell).unwrap_or(usize::MAX);
        }
    }

    /// The region of a cell, in a window that the shift filled from both sides of an axis; tokens of unequal regions are masked.
    ///
    /// Only the last row and the last column of windows hold more than region 0.
    pub fn region(&self, set: usize, cell: usize) -> u32 {
        let [rows, columns] = self.grid();
        let at = set % (rows * columns);
        let wrapped = |index: usize, count: usize, cell: usize, axis: usize| {
            u32::from(index + 1 == count && cell + self.shift[axis] >= self.window[axis])
        };
        2 * wrapped(at / columns, rows, cell / self.window[1], 0)
            + wrapped(at % columns, columns, cell % self.window[1], 1)
    }

    /// Whether a window holds cells of more than one region.
    pub fn is_masked(&self, set: usize) -> bool {
        let [rows, columns] = self.grid();
        let at = set % (rows * columns);
        (self.shift[0] > 0 && at / columns + 1 == rows) || (self.shift[1] > 0 && at % columns + 1 == columns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_hold_every_token_once_and_the_rest_is_padding() {
        for (shape, window, shift) in
            [([2, 10, 7], [4, 4], [2, 2]), ([1, 7, 9], [3, 5], [1, 0]), ([1, 2, 2], [7, 7], [3, 3])]
        {
            let w = Windows::new(shape, window, shift);
            let mut seen = vec![0; w.tokens()];
            for set in 0..w.count() {
                (0..w.cells()).filter_map(|c| w.token(set, c)).for_each(|t| seen[t] += 1);
            }
            assert!(seen.iter().all(|&n| n == 1), "{shape:?}");
            assert_eq!(w.is_padded(), w.count() * w.cells() != w.tokens());
        }
    }

    #[test]
    fn a_covered_axis_is_not_shifted() {
        assert_eq!(Windows::new([1, 7, 14], [7, 7], [3, 3]).shift, [0, 3]);
        assert_eq!(Windows::new([1, 8, 14], [7, 7], [3, 3]).shift, [3, 3]);
    }

    #[test]
    fn regions_are_swins_slices_of_the_shifted_frame() {
        let w = Windows::new([1, 10, 7], [4, 4], [2, 1]);
        let ([rows, columns], slice) = (w.grid(), |p, n, w, s| {
            if p < n - w {
                0
            } else if p < n - s {
                1
            } else {
                2
            }
        });
        for set in 0..w.count() {
            let label = |c: usize| {
                let (y, x) = (set / columns * 4 + c / 4, set % columns * 4 + c % 4);
                (slice(y, rows * 4, 4, 2), slice(x, columns * 4, 4, 1))
            };
            let mixed = (0..16).any(|c| label(c) != label(0));
            assert_eq!(w.is_masked(set), mixed);
            for (a, b) in (0..16).flat_map(|a| (0..16).map(move |b| (a, b))) {
                assert_eq!(w.region(set, a) == w.region(set, b), label(a) == label(b), "window {set}, cells {a} {b}");
            }
        }
    }
}
