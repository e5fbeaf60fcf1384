//! Elementwise operations of one operand.

use cubecl::prelude::{ComputeClient, Runtime};

use super::for_blocks;
use crate::{
    Result, Scalar, Tensor,
    cube::{self, CubeArg},
    kernel::{Kernel, launch},
};

/// A function applied to every element.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum UnaryOp {
    /// `scale·x + shift`.
    Affine {
        /// Factor.
        scale: f64,
        /// Offset.
        shift: f64,
    },
    /// eˣ.
    Exp,
    /// ln x.
    Ln,
    /// √x.
    Sqrt,
    /// 1/√x.
    Rsqrt,
    /// x².
    Square,
    /// 1/x.
    Recip,
    /// tanh x.
    Tanh,
    /// 1/(1 + e⁻ˣ).
    Sigmoid,
    /// ln(1 + eˣ), without overflow.
    Softplus,
    /// |x|.
    Abs,
    /// −1, 0 or 1.
    Sign,
    /// min(max(x, low), high).
    Clamp {
        /// Lower bound.
        low: f64,
        /// Upper bound.
        high: f64,
    },
    /// 1 where low ≤ x ≤ high, else 0.
    Inside {
        /// Lower bound.
        low: f64,
        /// Upper bound.
        high: f64,
    },
}

/// `y = f(x)` in blocks over the threads. A macro, since a function's argument that is no one-liner would not be inlined.
macro_rules! map {
    ($x:ident, $y:ident, |$v:ident| $f:expr) => {
        for_blocks(
            $y,
            #[inline(always)]
            |start, block| {
                for (o, &$v) in block.iter_mut().zip(&$x[start..]) {
                    *o = $f;
                }
            },
        )
    };
}

/// [`UnaryOp`] over `shape`.
#[derive(Debug, Clone, PartialEq)]
pub struct Unary {
    /// The function.
    pub op: UnaryOp,
    /// Shape of input and output.
    pub shape: Vec<usize>,
}

impl Kernel for Unary {
    fn name(&self) -> &'static str {
        match self.op {
            UnaryOp::Affine { .. } => "affine",
            UnaryOp::Exp => "exp",
            UnaryOp::Ln => "ln",
            UnaryOp::Sqrt => "sqrt",
            UnaryOp::Rsqrt => "rsqrt",
            UnaryOp::Square => "square",
            UnaryOp::Recip => "recip",
            UnaryOp::Tanh => "tanh",
            UnaryOp::Sigmoid => "sigmoid",
            UnaryOp::Softplus => "softplus",
            UnaryOp::Abs => "abs",
            UnaryOp::Sign => "sign",
            UnaryOp::Clamp { .. } => "clamp",
            UnaryOp::Inside { .. } => "inside",
        }
    }

    fn output_shapes(&self) -> Vec<Vec<usize>> {
        vec![self.shape.clone()]
    }

    fn host<T: Scalar>(&self, inputs: &[&[T]], outputs: &mut [&mut [T]]) -> Result<()> {
        let (x, y) = (inputs[0], &mut *outputs[0]);
        let c = T::from_f64;
        match self.op {
            UnaryOp::Affine { scale, shift } => {
                let (scale, shift) = (c(scale), c(shift));
                map!(x, y, |v| v.mul_add(scale, shift))
            }
            UnaryOp::Exp => map!(x, y, |v| v.exp()),
            UnaryOp::Ln => map!(x, y, |v| v.ln()),
            UnaryOp::Sqrt => map!(x, y, |v| v.sqrt()),
            UnaryOp::Rsqrt => map!(x, y, |v| T::ONE / v.sqrt()),
            UnaryOp::Square => map!(x, y, |v| v * v),
            UnaryOp::Recip => map!(x, y, |v| T::ONE / v),
            UnaryOp::Tanh => map!(x, y, |v| v.tanh()),
            UnaryOp::Sigmoid => map!(x, y, |v| T::ONE / (T::ONE + (-v).exp())),
            UnaryOp::Softplus => map!(x, y, |v| {
                let e = (-v.abs()).exp();
                // ln(1 + e) loses small e; e − e²/2 keeps it.
                let log1p = if e < c(1e-4) { e - e * e * c(0.5) } else { (T::ONE + e).ln() };
                v.maximum(T::ZERO) + log1p
            }),
            UnaryOp::Abs => map!(x, y, |v| v.abs()),
            UnaryOp::Sign => map!(x, y, |v| {
                let positive = if v > T::ZERO { T::ONE } else { T::ZERO };
                if v < T::ZERO { -T::ONE } else { positive }
            }),
            UnaryOp::Clamp { low, high } => {
                let (low, high) = (c(low), c(high));
                map!(x, y, |v| {
                    let v = if v < low { low } else { v };
                    if v > high { high } else { v }
                })
            }
            UnaryOp::Inside { low, high } => {
                let (low, high) = (c(low), c(high));
                map!(x, y, |v| if v >= low && v <= high { T::ONE } else { T::ZERO })
            }
        }
        Ok(())
    }

    fn cube<R: Runtime>(&self, client: &ComputeClient<R>, inputs: &[CubeArg], outputs: &[CubeArg]) -> Result<()> {
        cube::elementwise::unary(client, self, &inputs[0], &outputs[0])
    }

    fn flops(&self) -> u64 {
        self.shape.iter().product::<usize>() as u64
    }
}

/// One value everywhere.
#[derive(Debug, Clone, PartialEq)]
pub struct Fill {
    /// The value.
    pub value: f64,
    /// Shape of the output.
    pub shape: Vec<usize>,
}

impl Kernel for Fill {
    fn name(&self) -> &'static str {
        "fill"
    }

    fn output_shapes(&self) -> Vec<Vec<usize>> {
        vec![self.shape.clone()]
    }

    fn host<T: Scalar>(&self, _inputs: &[&[T]], outputs: &mut [&mut [T]]) -> Result<()> {
        let value = T::from_f64(self.value);
        for_blocks(outputs[0], |_, block| block.fill(value));
        Ok(())
    }

    fn cube<R: Runtime>(&self, client: &ComputeClient<R>, _inputs: &[CubeArg], outputs: &[CubeArg]) -> Result<()> {
        cube::elementwise::fill(client, self.value, &outputs[0])
    }
}

impl Tensor {
    fn unary(&self, op: UnaryOp) -> Result<Tensor> {
        let kernel = Unary { op, shape: self.shape().to_vec() };
        Ok(launch(&kernel, &[self])?.remove(0))
    }

    fn unary_taped(
        &self,
        op: UnaryOp,
        rule: impl Fn(&Tensor, &Tensor, &Tensor) -> Result<Tensor> + Send + Sync + 'static,
    ) -> Result<Tensor> {
        let y = self.unary(op)?;
        // rule(gradient, input, output)
        Ok(y.taped("elementwise", &[self], move |b| Ok(vec![Some(rule(b.grad, &b.inputs[0], b.output)?)])))
    }

    /// `scale·x + shift`. PyTorch: `x * scale + shift`.
    ///
    /// ```
    /// # use swinstyle_tensor::{Device::Cpu, Tensor};
    /// let x = Tensor::from_slice(&[1.0_f32, 2.0], &[2], Cpu)?;
    /// assert_eq!(x.affine(2.0, -1.0)?.to_vec()?, [1.0, 3.0]);
    /// # Ok::<(), swinstyle_tensor::TensorError>(())
    /// ```
    pub fn affine(&self, scale: f64, shift: f64) -> Result<Tensor> {
        self.unary_taped(UnaryOp::Affine { scale, shift }, move |g, _, _| g.affine(scale, 0.0))
    }

    /// `x · factor`.
    pub fn scale(&self, factor: f64) -> Result<Tensor> {
        self.affine(factor, 0.0)
    }

    /// `x + constant`.
    pub fn add_scalar(&self, constant: f64) -> Result<Tensor> {
        self.affine(1.0, constant)
    }

    /// −x.
    pub fn neg(&self) -> Result<Tensor> {
        self.affine(-1.0, 0.0)
    }

    /// eˣ.
    pub fn exp(&self) -> Result<Tensor> {
        self.unary_taped(UnaryOp::Exp, |g, _, y| g.mul(y))
    }

    /// ln x.
    pub fn ln(&self) -> Result<Tensor> {
        self.unary_taped(UnaryOp::Ln, |g, x, _| g.div(x))
    }

    /// √x; its gradient is infinite at 0.
    pub fn sqrt(&self) -> Result<Tensor> {
        self.unary_taped(UnaryOp::Sqrt, |g, _, y| g.div(&y.scale(2.0)?))
    }

    /// 1/√x. PyTorch: `torch.rsqrt`.
    pub fn rsqrt(&self) -> Result<Tensor> {
        self.unary_taped(UnaryOp::Rsqrt, |g, _, y| g.mul(&y.square()?.mul(y)?.scale(-0.5)?))
    }

    /// x².
    pub fn square(&self) -> Result<Tensor> {
        self.unary_taped(UnaryOp::Square, |g, x, _| g.mul(&x.scale(2.0)?))
    }

    /// 1/x.
    pub fn recip(&self) -> Result<Tensor> {
        self.unary_taped(UnaryOp::Recip, |g, _, y| g.mul(&y.square()?.neg()?))
    }

    /// tanh x.
    pub fn tanh(&self) -> Result<Tensor> {
        self.unary_taped(UnaryOp::Tanh, |g, _, y| g.mul(&y.square()?.affine(-1.0, 1.0)?))
    }

    /// 1/(1 + e⁻ˣ). PyTorch: `torch.sigmoid`.
    pub fn sigmoid(&self) -> Result<Tensor> {
        self.unary_taped(UnaryOp::Sigmoid, |g, _, y| g.mul(&y.sub(&y.square()?)?))
    }

    /// ln(1 + eˣ). PyTorch: `F.softplus`.
    pub fn softplus(&self) -> Result<Tensor> {
        self.unary_taped(UnaryOp::Softplus, |g, x, _| g.mul(&x.sigmoid()?))
    }

    /// |x|, with gradient 0 at 0.
    pub fn abs(&self) -> Result<Tensor> {
        self.unary_taped(UnaryOp::Abs, |g, x, _| g.mul(&x.detach().unary(UnaryOp::Sign)?))
    }

    /// min(max(x, low), high); the gradient passes where low ≤ x ≤ high. PyTorch: `torch.clamp`.
    ///
    /// ```
    /// # use swinstyle_tensor::{Device::Cpu, Tensor};
    /// let x = Tensor::from_slice(&[-3.0_f32, 0.5, 9.0], &[3], Cpu)?;
    /// assert_eq!(x.clamp(-1.0, 1.0)?.to_vec()?, [-1.0, 0.5, 1.0]);
    /// # Ok::<(), swinstyle_tensor::TensorError>(())
    /// ```
    pub fn clamp(&self, low: f64, high: f64) -> Result<Tensor> {
        self.unary_taped(UnaryOp::Clamp { low, high }, move |g, x, _| {
            g.mul(&x.detach().unary(UnaryOp::Inside { low, high })?)
        })
    }
}
