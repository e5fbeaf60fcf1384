//! The activations and the shape of a fused bias and activation as plain data.

use swinstyle_tensor::{Kinks, Result, TensorError};

/// A function applied after the bias.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    /// z.
    Linear,
    /// z where z > 0, else `slope`·z; `slope` ≥ 0.
    LeakyRelu {
        /// Factor on negative values.
        slope: f64,
    },
    /// max(z, 0).
    Relu,
    /// z·Φ(z), with the exact normal distribution function Φ(z) = ½(1 + erf(z/√2)).
    Gelu,
    /// z·σ(z).
    Silu,
    /// tanh z.
    Tanh,
    /// σ(z) = 1/(1 + e⁻ᶻ).
    Sigmoid,
}

impl Activation {
    /// The activation of StyleGAN2; its gain is √2.
    pub const LEAKY_RELU: Self = Self::LeakyRelu { slope: 0.2 };

    /// Whether the derivative is computed from the input (the others tell it from their output).
    pub fn needs_input(self) -> bool {
        matches!(self, Self::Gelu | Self::Silu)
    }

    /// Whether the second derivative is 0 wherever it exists.
    pub fn is_piecewise_linear(self) -> bool {
        matches!(self, Self::Linear | Self::LeakyRelu { .. } | Self::Relu)
    }

    /// Operations of one element, the transcendental ones counted as one.
    fn flops(self) -> u64 {
        match self {
            Self::Linear => 0,
            Self::LeakyRelu { .. } | Self::Relu | Self::Tanh => 1,
            Self::Sigmoid => 3,
            Self::Silu | Self::Gelu => 4,
        }
    }
}

/// `y = clamp(gain · activation(x + bias))` over rows of `channels` elements.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// Shape of input and output; the last axis is the channels.
    pub shape: Vec<usize>,
    /// Whether there is a bias.
    pub bias: bool,
    /// The function.
    pub activation: Activation,
    /// Factor on its result.
    pub gain: f64,
    /// Bound on the magnitude of what follows.
    pub clamp: Option<f64>,
}

impl Problem {
    /// Length of the last axis.
    pub fn channels(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bound, infinite where there is none.
    pub fn bound(&self) -> f64 {
        self.clamp.unwrap_or(f64::INFINITY)
    }

    /// Where the function bends, if the sides of that are read from the output.
    pub(crate) fn kinks(&self) -> Option<Kinks> {
        let bends = matches!(self.activation, Activation::LeakyRelu { .. } | Activation::Relu) || self.clamp.is_some();
        (bends && !self.activation.needs_input()).then(|| Kinks { bound: self.bound() })
    }
}

impl swinstyle_kit::Problem for Problem {
    /// Errors: a gain that is zero or not finite, a clamp that is not positive, a slope that is negative or not finite, no axes.
    fn validate(&self) -> Result<()> {
        let refuse = |detail: String| Err(TensorError::shape("bias_act", detail));
        if self.shape.is_empty() {
            return refuse("x has no axes; the last one is the channels".to_string());
        }
        if self.gain == 0.0 || !self.gain.is_finite() {
            return refuse(format!("gain {} must be finite and not 0", self.gain));
        }
        if let Some(c) = self.clamp.filter(|c| c.is_nan() || *c <= 0.0) {
            return refuse(format!("clamp {c} must be positive"));
        }
        match self.activation {
            Activation::LeakyRelu { slope } if !(slope >= 0.0 && slope.is_finite()) => refuse(format!(
                "slope {slope} must be finite and not negative: the gradient reads the sign of the output"
            )),
            _ => Ok(()),
        }
    }

    fn flops(&self) -> u64 {
        let extra = u64::from(self.bias) + u64::from(self.gain != 1.0) + 2 * u64::from(self.clamp.is_some());
        self.len() as u64 * (self.activation.flops() + extra)
    }

    /// Input and output once; the gradient moves half as much again.
    fn min_bytes(&self, element_size: usize) -> u64 {
        let bias = if self.bias { self.channels() } else { 0 };
        ((2 * self.len() + bias) * element_size) as u64
    }
}
