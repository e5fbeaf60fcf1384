//! The operations as kernels: from a problem to its host twin or its CubeCL launch.

pub(crate) mod conv;
pub(crate) mod pointwise;
mod shared;
pub(crate) mod to_rgb;
pub(crate) mod weight_gradient;

use cubecl::prelude::{ComputeClient, Runtime};
use swinstyle_kit::Problem as _;
use swinstyle_tensor::{CubeArg, DType, Kernel, Kinks, Result, Scalar};

use crate::{
    host,
    problem::{Fusion, LeakyRelu, Problem},
};

/// The inputs of a [`Conv`] by name; `None` where the fusion leaves one out.
pub(crate) struct ConvInputs<'a, A: ?Sized> {
    pub(crate) x: &'a A,
    pub(crate) weight: &'a A,
    pub(crate) pre: Option<&'a A>,
    pub(crate) post: Option<&'a A>,
    pub(crate) noise: Option<(&'a A, &'a A)>,
    pub(crate) bias: Option<&'a A>,
}

impl<'a, A: ?Sized> ConvInputs<'a, A> {
    /// Names the inputs in the order in which [`crate::fused_conv2d`] gives them.
    pub(crate) fn new(fusion: &Fusion, inputs: impl IntoIterator<Item = &'a A>) -> Option<Self> {
        let mut rest = inputs.into_iter();
        Some(Self {
            x: rest.next()?,
            weight: rest.next()?,
            pre: if fusion.pre { Some(rest.next()?) } else { None },
            post: if fusion.post { Some(rest.next()?) } else { None },
            noise: if fusion.noise.is_some() { Some((rest.next()?, rest.next()?)) } else { None },
            bias: if fusion.bias { Some(rest.next()?) } else { None },
        })
    }
}

/// x, weight, [pre], [post], [noise, strength], [bias] to y: forward and data gradient.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Conv {
    pub(crate) problem: Problem,
    pub(crate) fusion: Fusion,
}

impl Kernel for Conv {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn output_shapes(&self) -> Vec<Vec<usize>> {
        vec![self.problem.output_shape().to_vec()]
    }

    fn host<T: Scalar>(&self, inputs: &[&[T]], outputs: &mut [&mut [T]]) -> Result<()> {
        host::conv(self, inputs, outputs[0])
    }

    fn cube<R: Runtime>(&self, client: &ComputeClient<R>, inputs: &[CubeArg], outputs: &[CubeArg]) -> Result<()> {
        conv::conv_default(client, self, inputs, &outputs[0])
    }

    fn flops(&self) -> u64 {
        self.problem.flops()
    }

    fn kinks(&self) -> Option<Kinks> {
        self.fusion.activation.and_then(|a| a.kinks())
    }
}

/// x, g, [pre], [post] to `dW[ky, kx, i, o] = Σ (pre ⊙ x)·(post ⊙ g)`; the weight of the problem is not stored transposed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct WeightGradient {
    pub(crate) problem: Problem,
    pub(crate) pre: bool,
    pub(crate) post: bool,
}

impl WeightGradient {
    /// The optional scales of x and of g among the inputs.
    pub(crate) fn scales<'a, A: ?Sized>(&self, inputs: &[&'a A]) -> (Option<&'a A>, Option<&'a A>) {
        let mut rest = inputs.iter().skip(2).copied();
        let pre = if self.pre { rest.next() } else { None };
        let post = if self.post { rest.next() } else { None };
        (pre, post)
    }
}

impl Kernel for WeightGradient {
    fn name(&self) -> &'static str {
        "conv2d_weight_grad"
    }

    fn output_shapes(&self) -> Vec<Vec<usize>> {
        vec![self.problem.weight_shape().to_vec()]
    }

    fn host<T: Scalar>(&self, inputs: &[&[T]], outputs: &mut [&mut [T]]) -> Result<()> {
        host::weight_gradient(self, inputs, outputs[0])
    }

    fn cube<R: Runtime>(&self, client: &ComputeClient<R>, inputs: &[CubeArg], outputs: &[CubeArg]) -> Result<()> {
        weight_gradient::weight_gradient_default(client, self, inputs, &outputs[0])
    }

    fn flops(&self) -> u64 {
        self.problem.flops()
    }
}

/// Extent of an image seen as rows of channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Channels {
    /// N.
    pub(crate) batch: usize,
    /// H·W.
    pub(crate) pixels: usize,
    /// C.
    pub(crate) channels: usize,
}

impl Channels {
    pub(crate) fn of(shape: &[usize]) -> Self {
        let rank = shape.len();
        Self { batch: shape[0], pixels: shape[1..rank - 1].iter().product(), channels: shape[rank - 1] }
    }

    pub(crate) fn len(&self) -> usize {
        self.batch * self.pixels * self.channels
    }
}

/// a, b, [s] to `dot[n, c] = Σ_pixels a·b` and, with `scale`, `a ⊙ s`: both gradients of a scaled operand in one pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChannelDot {
    pub(crate) extent: Channels,
    pub(crate) scale: bool,
}

impl Kernel for ChannelDot {
    fn name(&self) -> &'static str {
        "channel_dot"
    }

    /// A sum over pixels is f32 for half types; the image has its operand's type.
    fn output_dtype(&self, output: usize, inputs: DType) -> DType {
        if output == 0 { inputs.wide() } else { inputs }
    }

    fn output_shapes(&self) -> Vec<Vec<usize>> {
        let Channels { batch, pixels, channels } = self.extent;
        let mut shapes = vec![vec![batch, channels]];
        if self.scale {
            shapes.push(vec![batch, pixels, channels]);
        }
        shapes
    }

    fn host<T: Scalar>(&self, inputs: &[&[T]], outputs: &mut [&mut [T]]) -> Result<()> {
        host::channel_dot(self, inputs, outputs);
        Ok(())
    }

    fn cube<R: Runtime>(&self, client: &ComputeClient<R>, inputs: &[CubeArg], outputs: &[CubeArg]) -> Result<()> {
        pointwise::channel_dot(client, self, inputs, outputs)
    }

    fn flops(&self) -> u64 {
        (2 * self.extent.len()) as u64
    }
}

/// x, [noise, strength], [bias] to `act(x + strength·noise + bias)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Epilogue {
    pub(crate) extent: Channels,
    pub(crate) noise: Option<usize>,
    pub(crate) bias: bool,
    pub(crate) activation: LeakyRelu,
}

impl Kernel for Epilogue {
    fn name(&self) -> &'static str {
        "noise_bias_act"
    }

    fn output_shapes(&self) -> Vec<Vec<usize>> {
        let Channels { batch, pixels, channels } = self.extent;
        vec![vec![batch, pixels, channels]]
    }

    fn host<T: Scalar>(&self, inputs: &[&[T]], outputs: &mut [&mut [T]]) -> Result<()> {
        host::epilogue(self, inputs, outputs[0]);
        Ok(())
    }

    fn cube<R: Runtime>(&self, client: &ComputeClient<R>, inputs: &[CubeArg], outputs: &[CubeArg]) -> Result<()> {
        pointwise::epilogue(client, self, inputs, &outputs[0])
    }

    fn flops(&self) -> u64 {
        (4 * self.extent.len()) as u64
    }

    fn kinks(&self) -> Option<Kinks> {
        self.activation.kinks()
    }
}

/// g, y, [noise] to `dz = g ⊙ act'` (read from y's sign and size) and, with `sums`, `[N, C]` sums over the pixels:
/// `Σ dz`, `Σ_{not clamped} g·y` and, with noise, `Σ dz·noise`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct EpilogueGradient {
    pub(crate) extent: Channels,
    pub(crate) activation: LeakyRelu,
    pub(crate) sums: bool,
    pub(crate) noise: Option<usize>,
}

impl Kernel for EpilogueGradient {
    fn name(&self) -> &'static str {
        "noise_bias_act_grad"
    }

    /// The sums are f32 for half types: differences of them are taken.
    fn output_dtype(&self, output: usize, inputs: DType) -> DType {
        if output == 0 { inputs } else { inputs.wide() }
    }

    fn output_shapes(&self) -> Vec<Vec<usize>> {
        let Channels { batch, pixels, channels } = self.extent;
        let mut shapes = vec![vec![batch, pixels, channels]];
        if self.sums {
            shapes.extend([vec![batch, channels], vec![batch, channels]]);
            shapes.extend(self.noise.map(|_| vec![batch, channels]));
        }
        shapes
    }

    fn host<T: Scalar>(&self, inputs: &[&[T]], outputs: &mut [&mut [T]]) -> Result<()> {
        host::epilogue_gradient(self, inputs, outputs);
        Ok(())
    }

    fn cube<R: Runtime>(&self, client: &ComputeClient<R>, inputs: &[CubeArg], outputs: &[CubeArg]) -> Result<()> {
        pointwise::epilogue_gradient(client, self, inputs, outputs)
    }

    fn flops(&self) -> u64 {
        (8 * self.extent.len()) as u64
    }
}

/// Weight `[kh, kw, I, O]` to its energy `[I, O]`: `Σ_{ky, kx} W²`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TapEnergy {
    pub(crate) taps: usize,
    pub(crate) matrix: [usize; 2],
}

impl Kernel for TapEnergy {
    fn name(&self) -> &'static str {
        "tap_energy"
    }

    fn output_dtype(&self, _output: usize, inputs: DType) -> DType {
        inputs.wide()
    }

    fn output_shapes(&self) -> Vec<Vec<usize>> {
        vec![self.matrix.to_vec()]
    }

    fn host<T: Scalar>(&self, inputs: &[&[T]], outputs: &mut [&mut [T]]) -> Result<()> {
        host::tap_energy(self, inputs[0], outputs[0]);
        Ok(())
    }

    fn cube<R: Runtime>(&self, client: &ComputeClient<R>, inputs: &[CubeArg], outputs: &[CubeArg]) -> Result<()> {
        pointwise::tap_energy(client, self, inputs, &outputs[0])
    }

    fn flops(&self) -> u64 {
        (2 * self.taps * self.matrix[0] * self.matrix[1]) as u64
    }
}
