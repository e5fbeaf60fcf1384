//! Editing in W+: directions and where they come from, style mixing, interpolation.
//!
//! | method | what it needs | source |
//! |---|---|---|
//! | [`sefa`] | the generator's weights alone | SeFa: Y. Shen, B. Zhou, arXiv 2007.06600, by the paper's formula or as the published code has it |
//! | [`ganspace`] | samples of w | E. Härkönen et al., arXiv 2004.02546 |
//! | [`Boundary::svm`] | codes with a yes or no each | InterFaceGAN: Y. Shen et al., arXiv 1907.10786 |
//! | [`Boundary::fisher`] | the same | Fisher's discriminant with a ridge in the place of the support vector machine [ours] |

mod boundary;
mod code;
mod direction;
mod file;
mod unsupervised;

#[cfg(test)]
mod file_tests;
#[cfg(test)]
mod tests;

pub use boundary::Boundary;
pub use code::{read_code, write_code};
pub use direction::Direction;
pub use unsupervised::{ganspace, sefa};

use std::ops::Range;

use swinstyle_tensor::Tensor;

use crate::{ModelError, Result};

/// Style mixing: the styles `layers` of `fine`, all others of `coarse`.
///
/// Both `[N, n_styles, D]`. Errors: other shapes, layers that the codes do not have.
pub fn mix(coarse: &Tensor, fine: &Tensor, layers: &Range<usize>) -> Result<Tensor> {
    let styles = check_layers(coarse, layers)?;
    if coarse.shape() != fine.shape() {
        let detail = format!("codes {:?} and {:?} cannot be mixed", coarse.shape(), fine.shape());
        return Err(ModelError::config("style mixing", detail));
    }
    let parts = [
        coarse.slice(1, 0, layers.start)?,
        fine.slice(1, layers.start, layers.len())?,
        coarse.slice(1, layers.end, styles - layers.end)?,
    ];
    Ok(Tensor::concat(&[&parts[0], &parts[1], &parts[2]], 1)?)
}

/// The code `(1 − t)·a + t·b`.
pub fn interpolate(a: &Tensor, b: &Tensor, t: f64) -> Result<Tensor> {
    Ok(a.scale(1.0 - t)?.add(&b.scale(t)?)?)
}

/// The number of styles of codes `[N, n_styles, D]`. Errors: layers beyond them, or none.
fn check_layers(w_plus: &Tensor, layers: &Range<usize>) -> Result<usize> {
    match *w_plus.shape() {
        [_, styles, _] if layers.start < layers.end && layers.end <= styles => Ok(styles),
        [_, styles, _] => {
            let detail = format!("{}-{} of a code of the styles 0-{}", layers.start, layers.end.max(1) - 1, styles - 1);
            Err(ModelError::config("layers", detail))
        }
        _ => Err(ModelError::config("code", format!("{:?}: [N, n_styles, D] expected", w_plus.shape()))),
    }
}
