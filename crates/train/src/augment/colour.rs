//! Transformations of colour: one affine map of RGB an image.

use nalgebra::{Matrix3, Rotation3, Unit, Vector3};
use swinstyle_tensor::{Result, Tensor};

use super::{Chance, Group};

/// Deviations of brightness (in units of [−1, 1]), and of the logarithms to base 2 of contrast and saturation.
const BRIGHTNESS: f64 = 0.2;
const CONTRAST: f64 = 0.5;
const SATURATION: f64 = 1.0;

/// `rgb ↦ matrix·rgb + offset`, the top three rows of the paper's homogeneous matrix.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Colour {
    pub(super) matrix: Matrix3<f64>,
    pub(super) offset: Vector3<f64>,
}

impl Colour {
    pub(super) const IDENTITY: Self =
        Self { matrix: Matrix3::new(1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0), offset: Vector3::new(0.0, 0.0, 0.0) };

    /// This map and then a linear one.
    fn then(self, matrix: Matrix3<f64>) -> Self {
        Self { matrix: matrix * self.matrix, offset: matrix * self.offset }
    }
}

/// The luma axis: the unit vector of grey.
fn luma() -> Vector3<f64> {
    Vector3::from_element(1.0 / 3.0_f64.sqrt())
}

/// Householder reflection: lightness is turned around, hue stays.
pub(super) fn luma_flip() -> Matrix3<f64> {
    Matrix3::identity() - luma() * luma().transpose() * 2.0
}

/// Rotation about the luma axis.
pub(super) fn hue(angle: f64) -> Matrix3<f64> {
    *Rotation3::from_axis_angle(&Unit::new_unchecked(luma()), angle).matrix()
}

/// Scales what lies off the luma axis.
pub(super) fn saturation(factor: f64) -> Matrix3<f64> {
    let grey = luma() * luma().transpose();
    grey + (Matrix3::identity() - grey) * factor
}

/// The colour map of an image.
pub(super) fn draw(groups: &[Group], chance: &mut Chance) -> Colour {
    let mut map = Colour::IDENTITY;
    if !groups.contains(&Group::Colour) {
        return map;
    }
    let (chosen, shift) = (chance.chosen(), chance.normal(BRIGHTNESS));
    if chosen {
        map.offset.add_scalar_mut(shift);
    }
    let (chosen, factor) = (chance.chosen(), chance.log_normal(CONTRAST));
    if chosen {
        map = map.then(Matrix3::from_diagonal_element(factor));
    }
    let (chosen, flipped) = (chance.chosen(), chance.below(2) == 1);
    if chosen && flipped {
        map = map.then(luma_flip());
    }
    let (chosen, angle) = (chance.chosen(), chance.uniform(std::f64::consts::PI));
    if chosen {
        map = map.then(hue(angle));
    }
    let (chosen, factor) = (chance.chosen(), chance.log_normal(SATURATION));
    if chosen {
        map = map.then(saturation(factor));
    }
    map
}

/// The colour maps of a batch.
pub(super) struct Colours<'a>(pub(super) &'a [Colour]);

impl Colours<'_> {
    /// Images `[N, H, W, 3]` under their maps; without any, the images themselves.
    pub(super) fn apply(&self, images: &Tensor) -> Result<Tensor> {
        if self.0.iter().all(|c| *c == Colour::IDENTITY) {
            return Ok(images.clone());
        }
        let (shape, n) = (images.shape(), self.0.len());
        let tensor = |values: Vec<f64>, rows: usize| -> Result<Tensor> {
            let values = values.into_iter().map(|v| v as f32).collect();
            Tensor::from_vec(values, &[n, rows, 3], images.device())?.to_dtype(images.dtype())
        };
        // Column-major, which is the transpose that a product from the right wants.
        let matrices = tensor(self.0.iter().flat_map(|c| c.matrix.iter().copied()).collect(), 3)?;
        let offsets = tensor(self.0.iter().flat_map(|c| c.offset.iter().copied()).collect(), 1)?;
        let pixels = images.reshape(&[n, shape[1] * shape[2], 3])?;
        pixels.matmul(&matrices)?.add(&offsets)?.reshape(shape)
    }
}
