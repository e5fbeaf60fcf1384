//! Runs of windows whose gradients are summed in order.

/// How sets of tokens are cut into runs, each with partial sums of its own: the cut depends on shapes alone, so results do
/// not depend on the number of threads or cubes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Chunks {
    /// Sets of a run; the last may hold fewer.
    pub length: usize,
    /// Number of runs.
    pub count: usize,
    /// Sets in all.
    pub sets: usize,
}

impl Chunks {
    /// At most 64 runs, fewer where partial sums of `elements` a run would pass 2²² elements.
    pub fn new(sets: usize, elements: usize) -> Self {
        let most = ((1 << 22) / elements.max(1)).clamp(1, 64);
        let length = sets.div_ceil(most).max(1);
        Self { length, count: sets.div_ceil(length), sets }
    }

    /// The sets of a run.
    pub fn range(&self, chunk: usize) -> std::ops::Range<usize> {
        chunk * self.length..((chunk + 1) * self.length).min(self.sets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_cover_every_set_once() {
        for (sets, elements) in [(0, 10), (1, 10), (64, 10), (65, 10), (1000, 1 << 20), (7, usize::MAX)] {
            let c = Chunks::new(sets, elements);
            let covered: Vec<usize> = (0..c.count).flat_map(|i| c.range(i)).collect();
            assert_eq!(covered, (0..sets).collect::<Vec<_>>());
        }
    }
}
