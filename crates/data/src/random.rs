//! Counter-based random numbers: a value is a hash of (seed, purpose, position), so nothing has to be replayed to resume.

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014): a bijection of 64 bits that avalanches.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// One 64-bit key from several words; the order of the words matters.
pub(crate) fn key(words: &[u64]) -> u64 {
    words.iter().fold(GOLDEN, |hash, &word| mix(hash.wrapping_add(GOLDEN) ^ mix(word.wrapping_add(GOLDEN))))
}

/// SplitMix64 started at a key: the n-th value is `mix(key + n * GOLDEN)`.
pub(crate) struct Stream {
    state: u64,
}

impl Stream {
    pub(crate) fn new(key: u64) -> Self {
        Self { state: key }
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN);
        mix(self.state)
    }

    /// Uniform in `0..n`; the bias of the multiplication is below n / 2^64.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next_u64()) * n as u128) >> 64) as usize
    }

    /// Uniform in `[0, 1)` with 53 bits.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// A pseudo-random permutation of `0..len` that is evaluated one element at a time.
///
/// A Feistel network permutes the next power of four; values outside `0..len` are sent through it again
/// (cycle walking), which keeps it a bijection of `0..len`. No table is stored, so any position of any epoch costs the same.
pub(crate) struct Permutation {
    len: u64,
    half_bits: u32,
    key: u64,
}

impl Permutation {
    const ROUNDS: u64 = 6;

    /// `len` is at least 1.
    pub(crate) fn new(len: u64, key: u64) -> Self {
        let bits = u64::BITS - (len - 1).leading_zeros();
        Self { len, half_bits: bits.div_ceil(2).max(1), key }
    }

    pub(crate) fn at(&self, position: u64) -> u64 {
        debug_assert!(position < self.len);
        let mut value = position;
        loop {
            value = self.encrypt(value);
            if value < self.len {
                return value;
            }
        }
    }

    fn encrypt(&self, value: u64) -> u64 {
        let mask = (1u64 << self.half_bits) - 1;
        let (mut left, mut right) = (value >> self.half_bits, value & mask);
        for round in 0..Self::ROUNDS {
            let scrambled = key(&[self.key, round, right]) & mask;
            (left, right) = (right, left ^ scrambled);
        }
        (left << self.half_bits) | right
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permutation_visits_every_position_once() {
        for len in [1, 2, 3, 4, 5, 16, 17, 1000, 4097] {
            let permutation = Permutation::new(len, 7);
            let mut seen: Vec<u64> = (0..len).map(|i| permutation.at(i)).collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..len).collect::<Vec<_>>(), "len {len}");
        }
    }

    #[test]
    fn a_permutation_is_neither_the_identity_nor_the_same_for_another_key() {
        let order = |key| (0..100).map(|i| Permutation::new(100, key).at(i)).collect::<Vec<_>>();
        assert_ne!(order(1), (0..100).collect::<Vec<_>>());
        assert_ne!(order(1), order(2));
    }

    #[test]
    fn the_stream_is_splitmix64() {
        // The first values of the published reference generator for state 1234567.
        let mut stream = Stream::new(1_234_567);
        assert_eq!(stream.next_u64(), 6_457_827_717_110_365_317);
        assert_eq!(stream.next_u64(), 3_203_168_211_198_807_973);
        assert_eq!(stream.next_u64(), 9_817_491_932_198_370_423);
    }

    #[test]
    fn draws_below_n_are_uniform() {
        let mut stream = Stream::new(3);
        let mut counts = [0u32; 7];
        for _ in 0..70_000 {
            counts[stream.below(7)] += 1;
        }
        // Six standard deviations of a binomial(70000, 1/7) are about 556.
        assert!(counts.iter().all(|&count| count.abs_diff(10_000) < 556), "{counts:?}");
    }
}
