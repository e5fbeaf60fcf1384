//! Counter-based random numbers (Philox4x32-10): the same bits on every device for the same seed.

use crate::{Buffer, DType, Device, HostBuffer, Result, Tensor, counters, kernel::checked_len, simd};

/// A position in a random sequence that is named by a seed and a stream; 20 bytes, so a training run can store it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Philox {
    /// Seed: the key.
    pub seed: u64,
    /// Which of 2⁶⁴ independent sequences of the seed.
    pub stream: u64,
    /// Blocks of four 32-bit words already taken.
    pub position: u64,
}

/// Four random words: Philox4x32 with ten rounds (Salmon et al., SC'11).
#[inline(always)]
pub fn philox4x32(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let (mut c, mut k) = (counter, key);
    for _ in 0..10 {
        let p0 = u64::from(c[0]) * 0xD251_1F53;
        let p1 = u64::from(c[2]) * 0xCD9E_8D57;
        c = [(p1 >> 32) as u32 ^ c[1] ^ k[0], p1 as u32, (p0 >> 32) as u32 ^ c[3] ^ k[1], p0 as u32];
        k = [k[0].wrapping_add(0x9E37_79B9), k[1].wrapping_add(0xBB67_AE85)];
    }
    c
}

impl Philox {
    /// The start of a sequence.
    ///
    /// ```
    /// # use swinstyle_tensor::{Device::Cpu, rng::Philox};
    /// let mut a = Philox::new(7, 0);
    /// let (x, y) = (a.normal(&[4], Cpu)?, Philox::new(7, 0).normal(&[4], Cpu)?);
    /// assert_eq!(x.to_vec()?, y.to_vec()?, "the same seed and stream give the same numbers");
    /// # Ok::<(), swinstyle_tensor::TensorError>(())
    /// ```
    pub fn new(seed: u64, stream: u64) -> Self {
        Self { seed, stream, position: 0 }
    }

    fn block(&self, i: u64) -> [u32; 4] {
        let n = self.position + i;
        let counter = [n as u32, (n >> 32) as u32, self.stream as u32, (self.stream >> 32) as u32];
        philox4x32(counter, [self.seed as u32, (self.seed >> 32) as u32])
    }

    /// The next 32 random bits (a whole block is used up).
    pub fn next_u32(&mut self) -> u32 {
        let word = self.block(0)[0];
        self.position += 1;
        word
    }

    /// A uniform number in [0, 1).
    pub fn uniform(&mut self) -> f32 {
        (self.next_u32() >> 8) as f32 / (1 << 24) as f32
    }

    /// A uniform integer below `n` (0 if `n` is 0).
    pub fn below(&mut self, n: usize) -> usize {
        ((u64::from(self.next_u32()) * n as u64) >> 32) as usize
    }

    /// Standard normal numbers by the Box–Muller transform, made on the host so that no device rounds them otherwise.
    pub fn normal_vec(&mut self, len: usize) -> Vec<f32> {
        let mut out = vec![0.0_f32; len];
        self.fill_normal(&mut out);
        out
    }

    fn fill_normal(&mut self, out: &mut [f32]) {
        let blocks = out.len().div_ceil(4);
        let this = *self;
        for (i, piece) in out.chunks_mut(4).enumerate() {
            let w = this.block(i as u64);
            let mut four = [0.0_f32; 4];
            for (pair, uv) in four.chunks_exact_mut(2).zip(w.chunks_exact(2)) {
                // u in (0, 1], so that its logarithm is finite.
                let u = ((uv[0] >> 8) + 1) as f32 / (1 << 24) as f32;
                let angle = (uv[1] >> 8) as f32 * (std::f32::consts::TAU / (1 << 24) as f32);
                let r = (-2.0 * simd::math::ln_f32(u)).sqrt();
                let (s, c) = angle.sin_cos();
                pair[0] = r * c;
                pair[1] = r * s;
            }
            piece.copy_from_slice(&four[..piece.len()]);
        }
        self.position += blocks as u64;
    }

    /// A tensor of standard normal numbers, f32. PyTorch: `torch.randn`.
    pub fn normal(&mut self, shape: &[usize], device: Device) -> Result<Tensor> {
        let len = checked_len("normal", shape)?;
        if device != Device::Cpu {
            return Tensor::from_vec(self.normal_vec(len), shape, device);
        }
        // Into memory of the pool: a training step draws the same shapes again and again.
        let mut buffer = HostBuffer::uninit("normal", len)?;
        self.fill_normal(&mut buffer);
        counters::uploaded(size_of_val(&buffer[..]));
        Ok(Tensor::from_buffer(Buffer::F32(buffer), shape.to_vec(), device, DType::F32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_matches_the_published_test_vectors() {
        // kat_vectors of Random123: philox4x32 10.
        assert_eq!(philox4x32([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox4x32([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
    }

    #[test]
    fn normals_have_the_moments_and_the_position_continues() {
        let mut a = Philox::new(7, 1);
        let v = a.normal_vec(200_000);
        let n = v.len() as f64;
        let mean = v.iter().map(|&x| x as f64).sum::<f64>() / n;
        let var = v.iter().map(|&x| (x as f64 - mean).powi(2)).sum::<f64>() / n;
        assert!(mean.abs() < 0.01 && (var - 1.0).abs() < 0.01, "{mean} {var}");
        let mut b = Philox::new(7, 1);
        let mut parts = b.normal_vec(100_000);
        parts.extend(b.normal_vec(100_000));
        assert_eq!(v, parts);
        assert_ne!(Philox::new(7, 2).normal_vec(8), v[..8]);
    }
}
