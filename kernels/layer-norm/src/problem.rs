//! The shape of a layer normalisation as plain data.

use swinstyle_tensor::{Result, TensorError};

/// Normalisation of `rows` rows of `channels` elements.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// Shape of input and output; the last axis is normalised.
    pub shape: Vec<usize>,
    /// ε under the root.
    pub epsilon: f64,
}

impl Problem {
    /// That of an input; errors as [`validate`](swinstyle_kit::Problem::validate) has them.
    pub(crate) fn new(shape: &[usize], epsilon: f64) -> Result<Self> {
        let problem = Self { shape: shape.to_vec(), epsilon };
        swinstyle_kit::Problem::validate(&problem)?;
        Ok(problem)
    }

    /// C, the length of the last axis.
    pub fn channels(&self) -> usize {
        self.shape.last().copied().unwrap_or(0)
    }

    /// Product of the other axes.
    pub fn rows(&self) -> usize {
        self.shape.iter().rev().skip(1).product()
    }
}

impl swinstyle_kit::Problem for Problem {
    /// Errors: no axes, an empty last axis, an ε that is negative or not finite.
    fn validate(&self) -> Result<()> {
        let refuse = |detail: String| Err(TensorError::shape("layer_norm", detail));
        if self.channels() == 0 {
            return refuse(format!("x {:?} must be [.., C] with C at least 1", self.shape));
        }
        if !(self.epsilon >= 0.0 && self.epsilon.is_finite()) {
            return refuse(format!("epsilon {} must be finite and not negative", self.epsilon));
        }
        Ok(())
    }

    /// Mean 1, deviation and its square 3, result 4 an element; the gradients take about twice that.
    fn flops(&self) -> u64 {
        8 * (self.rows() * self.channels()) as u64
    }

    /// x and y, weight and bias, mean and 1/σ.
    fn min_bytes(&self, element_size: usize) -> u64 {
        ((2 * self.rows() * self.channels() + 2 * self.channels() + 2 * self.rows()) * element_size) as u64
    }
}
