//! From torch's layouts, which files keep, to the kernels', and back.
//!
//! | tensor | in files | in memory |
//! |---|---|---|
//! | convolution weight | `[O, I, kh, kw]` | `[kh, kw, I, O]` |
//! | modulated convolution weight | `[1, O, I, kh, kw]` | `[kh, kw, I, O]` |
//! | constant, noise, image bias | `[N, C, H, W]` | `[N, H, W, C]` |
//! | linear weight | `[O, I]` | `[O, I]` |
//!
//! Each function copies. All of them fail only by the rank: [`WeightsError::Shape`].

use crate::{Array, WeightsError};

/// A convolution's weight, plain or modulated, to `[kh, kw, I, O]`; `weight.permute(2, 3, 1, 0)` in torch.
///
/// # Errors
/// [`WeightsError::Shape`] unless the shape is `[O, I, kh, kw]` or `[1, O, I, kh, kw]`.
pub fn oihw_to_hwio(weight: &Array, // [O, I, kh, kw] or [1, O, I, kh, kw]
) -> Result<Array, WeightsError> {
    const NAME: &str = "oihw_to_hwio";
    match weight.shape.as_slice() {
        [_, _, _, _] => permute(NAME, weight, [2, 3, 1, 0]),
        [1, rest @ ..] if rest.len() == 4 => {
            let shape = rest.to_vec();
            permute_as(NAME, weight, &shape, [2, 3, 1, 0])
        }
        _ => wrong_rank(NAME, weight, "[O, I, kh, kw] or [1, O, I, kh, kw]"),
    }
}

/// The inverse of [`oihw_to_hwio`] for a plain convolution: `[O, I, kh, kw]`.
///
/// # Errors
/// [`WeightsError::Shape`] unless `weight` has four axes.
pub fn hwio_to_oihw(weight: &Array, // [kh, kw, I, O]
) -> Result<Array, WeightsError> {
    permute("hwio_to_oihw", weight, [3, 2, 0, 1])
}

/// The inverse of [`oihw_to_hwio`] for a modulated convolution: `[1, O, I, kh, kw]`.
///
/// # Errors
/// [`WeightsError::Shape`] unless `weight` has four axes.
pub fn hwio_to_modulated_oihw(weight: &Array, // [kh, kw, I, O]
) -> Result<Array, WeightsError> {
    let mut modulated = permute("hwio_to_modulated_oihw", weight, [3, 2, 0, 1])?;
    modulated.shape.insert(0, 1);
    Ok(modulated)
}

/// Channels last: constants, noises and biases of images; `x.permute(0, 2, 3, 1)` in torch.
///
/// # Errors
/// [`WeightsError::Shape`] unless `x` has four axes.
pub fn nchw_to_nhwc(x: &Array, // [N, C, H, W]
) -> Result<Array, WeightsError> {
    permute("nchw_to_nhwc", x, [0, 2, 3, 1])
}

/// The inverse of [`nchw_to_nhwc`].
///
/// # Errors
/// [`WeightsError::Shape`] unless `x` has four axes.
pub fn nhwc_to_nchw(x: &Array, // [N, H, W, C]
) -> Result<Array, WeightsError> {
    permute("nhwc_to_nchw", x, [0, 3, 1, 2])
}

fn permute(name: &'static str, x: &Array, axes: [usize; 4]) -> Result<Array, WeightsError> {
    match x.shape.len() {
        4 => permute_as(name, x, &x.shape, axes),
        _ => wrong_rank(name, x, "four axes"),
    }
}

/// Axis `i` of the result is axis `axes[i]` of `x` seen in `shape`, which has four axes.
fn permute_as(name: &'static str, x: &Array, shape: &[usize], axes: [usize; 4]) -> Result<Array, WeightsError> {
    if !x.is_consistent() {
        return wrong_rank(name, x, "as many values as the shape says");
    }
    let extent = axes.map(|axis| shape[axis]);
    if x.data.is_empty() {
        // A file may say `[0, 1, 1 << 60, 1]`, which no loop should walk.
        return Ok(Array { shape: extent.to_vec(), ..x.clone() });
    }
    let strides = [shape[1] * shape[2] * shape[3], shape[2] * shape[3], shape[3], 1];
    let stride = axes.map(|axis| strides[axis]);
    let mut data = Vec::with_capacity(x.data.len());
    for a in 0..extent[0] {
        for b in 0..extent[1] {
            for c in 0..extent[2] {
                let row = a * stride[0] + b * stride[1] + c * stride[2];
                data.extend((0..extent[3]).map(|d| x.data[row + d * stride[3]]));
            }
        }
    }
    Ok(Array { shape: extent.to_vec(), data, dtype: x.dtype })
}

fn wrong_rank(name: &'static str, x: &Array, wanted: &str) -> Result<Array, WeightsError> {
    Err(WeightsError::Shape {
        operation: name,
        reason: format!("{wanted} expected, the array is {:?} with {} values", x.shape, x.data.len()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(shape: &[usize]) -> Array {
        let n = shape.iter().product();
        Array::new(shape.to_vec(), (0..n).map(|i| i as f32).collect()).unwrap()
    }

    #[test]
    fn hwio_holds_each_value_of_oihw_at_the_permuted_index() {
        let [o, i, kh, kw] = [2, 3, 4, 5];
        let torch = counted(&[o, i, kh, kw]);
        let ours = oihw_to_hwio(&torch).unwrap();
        assert_eq!(ours.shape, [kh, kw, i, o]);
        for (at, &value) in torch.data.iter().enumerate() {
            let (x, y, c, k) = (at % kw, at / kw % kh, at / (kw * kh) % i, at / (kw * kh * i));
            assert_eq!(ours.data[((y * kw + x) * i + c) * o + k], value);
        }
    }

    #[test]
    fn a_modulated_weight_loses_its_leading_axis_and_gets_it_back() {
        let plain = counted(&[2, 3, 3, 3]);
        let modulated = counted(&[1, 2, 3, 3, 3]);
        let ours = oihw_to_hwio(&modulated).unwrap();
        assert_eq!(ours, oihw_to_hwio(&plain).unwrap());
        assert_eq!(hwio_to_modulated_oihw(&ours).unwrap(), modulated);
        assert_eq!(hwio_to_oihw(&ours).unwrap(), plain);
    }

    #[test]
    fn nhwc_holds_each_value_of_nchw_and_comes_back() {
        let [n, c, h, w] = [2, 3, 4, 5];
        let torch = counted(&[n, c, h, w]);
        let ours = nchw_to_nhwc(&torch).unwrap();
        assert_eq!(ours.shape, [n, h, w, c]);
        for (at, &value) in torch.data.iter().enumerate() {
            let (x, y, k, b) = (at % w, at / w % h, at / (w * h) % c, at / (w * h * c));
            assert_eq!(ours.data[((b * h + y) * w + x) * c + k], value);
        }
        assert_eq!(nhwc_to_nchw(&ours).unwrap(), torch);
        let bias = counted(&[1, 3, 1, 1]);
        assert_eq!(nchw_to_nhwc(&bias).unwrap().shape, [1, 1, 1, 3]);
    }

    #[test]
    fn an_empty_array_with_a_huge_axis_is_permuted_at_once() {
        let empty = Array::new(vec![0, 1, 1 << 60, 1], vec![]).unwrap();
        assert_eq!(oihw_to_hwio(&empty).unwrap().shape, [1 << 60, 1, 1, 0]);
    }

    #[test]
    fn a_wrong_rank_is_an_error_with_the_shape() {
        let linear = counted(&[2, 3]);
        for refused in [
            oihw_to_hwio(&linear),
            oihw_to_hwio(&counted(&[2, 2, 3, 3, 3])),
            hwio_to_oihw(&linear),
            hwio_to_modulated_oihw(&linear),
            nchw_to_nhwc(&linear),
            nhwc_to_nchw(&linear),
        ] {
            let line = refused.unwrap_err().to_string();
            assert!(line.contains("[2, "), "{line}");
        }
        let mut torn = counted(&[2, 3, 1, 1]);
        torn.data.pop();
        assert!(oihw_to_hwio(&torn).is_err());
    }
}
