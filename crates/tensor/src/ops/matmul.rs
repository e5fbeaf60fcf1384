//! Batched matrix products and linear layers.

mod host;

use cubecl::prelude::{ComputeClient, Runtime};

use crate::{
    Result, Scalar, Tensor, TensorError,
    cube::{self, CubeArg},
    kernel::{Kernel, launch},
};

/// `C[i] = op(A[i]) · op(B[i]) (+ bias)`, i over a batch; an operand without a batch axis is shared.
///
/// Inputs: A, B and, with `bias`, a vector `[n]` that is added to every row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Matmul {
    /// Number of products.
    pub batch: usize,
    /// Rows of the result.
    pub m: usize,
    /// Columns of the result.
    pub n: usize,
    /// Summed length.
    pub k: usize,
    /// A is stored `[k, m]`.
    pub transpose_a: bool,
    /// B is stored `[n, k]`.
    pub transpose_b: bool,
    /// A has a batch axis.
    pub batched_a: bool,
    /// B has a batch axis.
    pub batched_b: bool,
    /// A third input is added to every row.
    pub bias: bool,
}

impl Kernel for Matmul {
    fn name(&self) -> &'static str {
        "matmul"
    }

    fn output_shapes(&self) -> Vec<Vec<usize>> {
        vec![vec![self.batch, self.m, self.n]]
    }

    fn host<T: Scalar>(&self, inputs: &[&[T]], outputs: &mut [&mut [T]]) -> Result<()> {
        host::multiply(self, inputs, outputs[0]);
        Ok(())
    }

    fn cube<R: Runtime>(&self, client: &ComputeClient<R>, inputs: &[CubeArg], outputs: &[CubeArg]) -> Result<()> {
        cube::matmul::matmul(client, self, inputs, &outputs[0])
    }

    fn flops(&self) -> u64 {
        2 * (self.batch * self.m * self.n * self.k) as u64
    }
}

impl Tensor {
    /// A · B over the last two axes. PyTorch: `torch.matmul`.
    ///
    /// ```
    /// # use swinstyle_tensor::{Device::Cpu, Tensor};
    /// let x = Tensor::from_slice(&[1.0_f32, 2.0, 3.0, 4.0], &[2, 2], Cpu)?;
    /// assert_eq!(x.matmul(&x)?.to_vec()?, [7.0, 10.0, 15.0, 22.0]);
    /// # Ok::<(), swinstyle_tensor::TensorError>(())
    /// ```
    pub fn matmul(&self, other: &Tensor) -> Result<Tensor> {
        self.matmul_with(other, false, false)
    }

    /// op(A) · op(B) over the last two axes, `op` transposing where asked, without a copy.
    ///
    /// Leading axes must be equal, or absent on one side, which is then shared.
    pub fn matmul_with(&self, other: &Tensor, transpose_a: bool, transpose_b: bool) -> Result<Tensor> {
        let (sa, sb) = (self.shape(), other.shape());
        let bad = || {
            let t = |t: bool| if t { "ᵀ" } else { "" };
            let detail = format!("{sa:?}{} · {sb:?}{}", t(transpose_a), t(transpose_b));
            TensorError::shape("matmul", detail)
        };
        if sa.len() < 2 || sb.len() < 2 {
            return Err(bad());
        }
        let (lead_a, lead_b) = (&sa[..sa.len() - 2], &sb[..sb.len() - 2]);
        if !(lead_a == lead_b || lead_a.is_empty() || lead_b.is_empty()) {
            return Err(bad());
        }
        let pair = |s: &[usize], t: bool| {
            let (r, c) = (s[s.len() - 2], s[s.len() - 1]);
            if t { (c, r) } else { (r, c) }
        };
        let ((m, k), (k2, n)) = (pair(sa, transpose_a), pair(sb, transpose_b));
        if k != k2 {
            return Err(bad());
        }
        let lead = if lead_a.is_empty() { lead_b } else { lead_a };
        let mut kernel = Matmul {
            batch: lead.iter().product(),
            m,
            n,
            k,
            transpose_a,
            transpose_b,
            batched_a: !lead_a.is_empty(),
            batched_b: !lead_b.is_empty(),
            bias: false,
        };
        if kernel.batched_a && !kernel.batched_b && !transpose_a {
            // A shared right side makes one tall product.
            kernel.m *= kernel.batch;
            kernel.batch = 1;
            kernel.batched_a = false;
        }
        let shape = [lead, &[m, n]].concat();
        let y = launch(&kernel, &[self, other])?.remove(0).with_shape(shape);
        Ok(y.taped("matmul", &[self, other], move |b| {
            let (a, c, g) = (&b.inputs[0], &b.inputs[1], b.grad);
            let da = match (b.needs[0], transpose_a) {
                (false, _) => None,
                (true, false) => Some(g.matmul_with(c, false, !transpose_b)?),
                (true, true) => Some(c.matmul_with(g, transpose_b, true)?),
            };
            let db = match (b.needs[1], transpose_b) {
                (false, _) => None,
                (true, false) => Some(left_gradient(a, g, !transpose_a, false, c)?),
                (true, true) => Some(left_gradient(g, a, true, transpose_a, c)?),
            };
            let da = da.map(|d| d.sum_to(a.shape())).transpose()?;
            Ok(vec![da, db])
        }))
    }

    /// `x Wᵀ + b` over the last axis. PyTorch: `F.linear`.
    ///
    /// `x` `[.., I]`, `weight` `[O, I]`, `bias` `[O]`; returns `[.., O]`.
    ///
    /// ```
    /// # use swinstyle_tensor::{Device::Cpu, Tensor};
    /// let x = Tensor::from_slice(&[1.0_f32, 2.0, 3.0, 4.0], &[2, 2], Cpu)?;
    /// let weight = Tensor::from_slice(&[1.0_f32, -1.0], &[1, 2], Cpu)?;
    /// assert_eq!(x.linear(&weight, None)?.to_vec()?, [-1.0, -1.0]);
    /// # Ok::<(), swinstyle_tensor::TensorError>(())
    /// ```
    pub fn linear(&self, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        let s = self.shape();
        let good = weight.shape().len() == 2
            && s.last() == Some(&weight.shape()[1])
            && bias.is_none_or(|b| b.shape() == [weight.shape()[0]]);
        if !good {
            let bias = bias.map(|b| b.shape().to_vec());
            let detail = format!("x {s:?}, weight {:?}, bias {bias:?}", weight.shape());
            return Err(TensorError::shape("linear", detail));
        }
        let (n, k) = (weight.shape()[0], weight.shape()[1]);
        let m = s[..s.len() - 1].iter().product();
        let kernel = Matmul {
            batch: 1,
            m,
            n,
            k,
            transpose_a: false,
            transpose_b: true,
            batched_a: false,
            batched_b: false,
            bias: bias.is_some(),
        };
        let shape = [&s[..s.len() - 1], &[n]].concat();
        let mut inputs = vec![self, weight];
        inputs.extend(bias);
        let y = launch(&kernel, &inputs)?.remove(0).with_shape(shape);
        Ok(y.taped("linear", &inputs, move |b| {
            let x = &b.inputs[0];
            // As a matrix: x may be a single vector, which has no product of its own.
            let rows = b.grad.reshape(&[m, n])?;
            let dx = b.needs[0].then(|| rows.matmul(&b.inputs[1])?.reshape(x.shape())).transpose()?;
            let dw = b.needs[1].then(|| rows.matmul_with(&x.reshape(&[m, k])?, true, false)).transpose()?;
            let mut grads = vec![dx, dw];
            if let Some(&need) = b.needs.get(2) {
                grads.push(need.then(|| b.grad.sum_to(&[n])).transpose()?);
            }
            Ok(grads)
        }))
    }
}

/// `op(x) · op(y)` summed over the batch if `like` has none: as one tall product where the layout allows it.
fn left_gradient(x: &Tensor, y: &Tensor, tx: bool, ty: bool, like: &Tensor) -> Result<Tensor> {
    let both_batched = x.shape().len() > 2 && y.shape().len() > 2;
    if like.shape().len() == 2 && both_batched && tx && !ty {
        let flat = |t: &Tensor| t.reshape(&[t.len() / t.shape()[t.shape().len() - 1], t.shape()[t.shape().len() - 1]]);
        return flat(x)?.matmul_with(&flat(y)?, true, false);
    }
    x.matmul_with(y, tx, ty)?.sum_to(like.shape())
}

#[cfg(test)]
mod tests {
    use crate::{DType, Device, rng::Philox};

    #[test]
    fn a_row_with_a_bias_has_the_same_bits_in_every_part_of_a_product() {
        let of = |stream: u64, shape: &[usize]| Philox::new(3, stream).normal(shape, Device::Cpu).unwrap();
        let (x, w, b) = (of(0, &[1031, 72]), of(1, &[40, 72]), of(2, &[40]));
        let on = |threads: usize, rows: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let y = pool.install(|| x.slice(0, 0, rows).unwrap().linear(&w, Some(&b)).unwrap());
            assert_eq!((y.shape(), y.dtype()), (&[rows, 40][..], DType::F32));
            y.to_vec().unwrap()
        };
        let whole = on(1, 1031);
        for (threads, rows) in [(2, 1031), (3, 1031), (8, 1031), (2, 700), (1, 256), (2, 5)] {
            assert_eq!(on(threads, rows), whole[..rows * 40], "{rows} rows on {threads} threads");
        }
    }
}
