//! StyleGAN2's modulated convolution and styled layer, from the primitive, the resampling filter and a few small tensors.

use swinstyle_tensor::{Result, Tensor, TensorError, launch};
use swinstyle_upfirdn2d::{Upfirdn2d, filter_taps, upfirdn2d};

use crate::{
    ConvGeometry, Fused, LeakyRelu, UpForm, check, epilogue::noise_bias_act, extents, fused_conv2d, launch::TapEnergy,
    scaled_conv2d,
};

const OP: &str = "modulated_conv2d";

/// Parameters of [`modulated_conv2d`].
#[derive(Debug, Clone, Copy)]
pub struct ModulatedConv<'a> {
    /// 2 doubles the resolution: transposed convolution, then FIR with gain 4.
    pub up: usize,
    /// 2 halves the resolution: FIR, then strided convolution.
    pub down: usize,
    /// Whether each output channel is normalised to unit expected variance.
    pub demodulate: bool,
    /// ε under the root of the demodulation.
    pub eps: f64,
    /// Factor on the weight, `1/√(I·kh·kw)` for an equalised learning rate.
    pub weight_gain: f64,
    /// Resampling filter `[fh, fw]`, or `[taps]` for its outer product with itself, needed with up or down.
    pub fir: Option<&'a Tensor>,
}

impl ModulatedConv<'_> {
    fn validate(&self) -> Result<()> {
        let bad = |why: &str| Err(TensorError::shape(OP, format!("up {}, down {}: {why}", self.up, self.down)));
        match (self.up, self.down, self.fir) {
            (1, 1, _) | (2, 1, Some(_)) | (1, 2, Some(_)) => Ok(()),
            (2, 1, None) | (1, 2, None) => bad("resampling needs the filter"),
            _ => bad("one of them may be 2, the other is 1"),
        }
    }
}

/// StyleGAN2's modulated convolution (arXiv 1912.04958, §2.2): `y = d ⊙ conv(x ⊙ s, g·W)`, `d = 1/√(Σ (g·W·s)² + ε)`.
///
/// x `[N, H, W, I]`, weight `[kh, kw, I, O]` unscaled, style `[N, I]` → `[N, OH, OW, O]` of the same, double or half size. No weight per
/// sample exists: the style scales the input and the demodulation the sum. Differentiable in x, weight and style, to any order.
///
/// Errors: shapes that do not fit each other, up and down other than 1 and 2 or both 2, resampling without a filter.
pub fn modulated_conv2d(
    x: &Tensor,      // [N, H, W, I]
    weight: &Tensor, // [kh, kw, I, O]
    style: &Tensor,  // [N, I]
    params: &ModulatedConv,
) -> Result<Tensor> {
    modulated(x, weight, style, params, None)
}

/// The styled layer: [`modulated_conv2d`], then `act(· + strength·noise + bias)`.
///
/// noise `[N or 1, OH, OW, 1]` with strength `[1]`, bias `[O]`. Without upsampling all of it is one pass over the output.
/// Errors: those of [`modulated_conv2d`] and [`noise_bias_act`].
pub fn styled_conv2d(
    x: &Tensor,      // [N, H, W, I]
    weight: &Tensor, // [kh, kw, I, O]
    style: &Tensor,  // [N, I]
    params: &ModulatedConv,
    noise: Option<(&Tensor, &Tensor)>, // [N or 1, OH, OW, 1], [1]
    bias: Option<&Tensor>,             // [O]
    activation: Option<LeakyRelu>,
) -> Result<Tensor> {
    modulated(x, weight, style, params, Some(Fused { noise, bias, activation, ..Fused::default() }))
}

fn modulated(
    x: &Tensor,
    weight: &Tensor,
    style: &Tensor,
    params: &ModulatedConv,
    epilogue: Option<Fused>,
) -> Result<Tensor> {
    params.validate()?;
    let (kernel, input) = extents(OP, x, weight)?;
    check(OP, "style", Some(style), &[x.shape()[0], x.shape()[3]])?;
    let pre = style.scale(params.weight_gain)?;
    let post = params.demodulate.then(|| demodulation(weight, style, params)).transpose()?;
    let (pre, post) = (Some(&pre), post.as_ref());
    let fused = Fused { pre, post, ..epilogue.unwrap_or_default() };
    let point = kernel == [1, 1];
    match (params.up, params.down, params.fir) {
        (2, _, Some(fir)) if !point && UpForm::best_for(x, weight) == UpForm::Polyphase => {
            polyphase(x, weight, fir, &fused)
        }
        (2, _, Some(fir)) => {
            let [y, x_pad] = up_pads(fir, kernel)?;
            let gain = 4.0;
            let z = if point {
                // One tap meets no inserted zero: convolve at the low resolution and let the filter insert them.
                let geometry = ConvGeometry::convolution(kernel, input, 1, 0)?;
                let z = scaled_conv2d(x, weight, pre, post, &geometry)?;
                let pad = [y[0], y[1] - 1, x_pad[0], x_pad[1] - 1];
                upfirdn2d(&z, fir, &Upfirdn2d { up: [2, 2], pad, gain, ..Upfirdn2d::default() })?
            } else {
                let geometry = ConvGeometry::transposed(kernel, input, 2)?;
                let z = scaled_conv2d(x, weight, pre, post, &geometry)?;
                let pad = [y[0], y[1], x_pad[0], x_pad[1]];
                upfirdn2d(&z, fir, &Upfirdn2d { pad, gain, ..Upfirdn2d::default() })?
            };
            match epilogue {
                None => Ok(z),
                Some(e) => noise_bias_act(&z, e.noise, e.bias, e.activation.unwrap_or(LeakyRelu::LINEAR)),
            }
        }
        (_, 2, Some(fir)) => {
            let [y, x_pad] = down_pads(fir, kernel)?;
            let pad = [y[0], y[1], x_pad[0], x_pad[1]];
            // One tap reads only what the filter keeps.
            let (fir_down, stride) = if point { (2, 1) } else { (1, 2) };
            let z = upfirdn2d(x, fir, &Upfirdn2d { down: [fir_down; 2], pad, ..Upfirdn2d::default() })?;
            let input = [z.shape()[1], z.shape()[2]];
            fused_conv2d(&z, weight, &fused, &ConvGeometry::convolution(kernel, input, stride, 0)?)
        }
        _ => fused_conv2d(x, weight, &fused, &ConvGeometry::same(kernel, input)),
    }
}

/// Doubles the size by one convolution: `W ∗ (4·fir)` has `kh + fh − 1` taps a side, which with stride 2 fall into four phases, each a
/// convolution of the input by the taps that it meets. Nothing lies between it and the epilogue.
pub(crate) fn polyphase(
    x: &Tensor,      // [N, H, W, I]
    weight: &Tensor, // [kh, kw, I, O]
    fir: &Tensor,    // [fh, fw] or [taps]
    fused: &Fused,
) -> Result<Tensor> {
    let (kernel, input) = extents(OP, x, weight)?;
    let (taps, pads) = (fir_taps(fir)?, up_pads(fir, kernel)?);
    let &[kh, kw, i, o] = weight.shape() else { return Err(TensorError::shape(OP, "a weight of another rank")) };
    // The weight as an image whose pixels are its taps.
    let [before_y, before_x] = taps.map(|t| t - 1);
    let pad = [before_y, before_y, before_x, before_x];
    let params = Upfirdn2d { pad, gain: 4.0, ..Upfirdn2d::default() };
    let taps_of_both = upfirdn2d(&weight.reshape(&[1, kh, kw, i * o])?, fir, &params)?;
    let size = [taps_of_both.shape()[1], taps_of_both.shape()[2]];
    let both = taps_of_both.reshape(&[size[0], size[1], i, o])?;
    // The filter's pads crop what the whole transposed convolution would give.
    let whole = ConvGeometry::transposed(size, input, 2)?;
    let pad = [0, 1].map(|a| whole.pad[a] - (taps[a] - 1 - pads[a][0]));
    fused_conv2d(x, &both, fused, &ConvGeometry { pad, output: input.map(|n| 2 * n), ..whole })
}

/// `d[n, o] = 1/√(Σ_{ky, kx, i} (W·s)² + ε)`: the tap energies `[I, O]` once for the batch, then a small product.
///
/// For half types all of it is f32 but the result: squares and ε leave the range of f16.
fn demodulation(weight: &Tensor, style: &Tensor, params: &ModulatedConv) -> Result<Tensor> {
    let scale = style.to_dtype(style.dtype().wide())?.scale(params.weight_gain)?;
    let factor = scale.square()?.matmul(&tap_energy(weight)?)?.add_scalar(params.eps)?.rsqrt()?;
    factor.to_dtype(style.dtype())
}

/// `E[i, o] = Σ_{ky, kx} W²`, f32 for half types.
fn tap_energy(weight: &Tensor) -> Result<Tensor> {
    let &[kh, kw, i, o] = weight.shape() else {
        return Err(TensorError::shape(OP, format!("weight {:?} must be [kh, kw, I, O]", weight.shape())));
    };
    let kernel = TapEnergy { taps: kh * kw, matrix: [i, o] };
    let energy = launch(&kernel, &[weight])?.remove(0);
    Ok(energy.taped("tap_energy", &[weight], |b| {
        let weight = b.inputs[0].to_dtype(b.grad.dtype())?;
        Ok(vec![Some(weight.mul(&b.grad.scale(2.0)?)?.to_dtype(b.inputs[0].dtype())?)])
    }))
}

/// FIR pads before and after on y and x with which `(transposed convolution) ∘ FIR` doubles the size exactly.
fn up_pads(fir: &Tensor, kernel: [usize; 2]) -> Result<[[isize; 2]; 2]> {
    let taps = fir_taps(fir)?;
    Ok([0, 1].map(|i| {
        let p = (taps[i] - 2) - (kernel[i] as isize - 1);
        [(p + 1).div_euclid(2) + 1, p.div_euclid(2) + 1]
    }))
}

/// FIR pads before and after on y and x with which `FIR ∘ (strided convolution)` halves the size exactly.
fn down_pads(fir: &Tensor, kernel: [usize; 2]) -> Result<[[isize; 2]; 2]> {
    let taps = fir_taps(fir)?;
    Ok([0, 1].map(|i| {
        let p = (taps[i] - 2) + (kernel[i] as isize - 1);
        [(p + 1).div_euclid(2), p.div_euclid(2)]
    }))
}

fn fir_taps(fir: &Tensor) -> Result<[isize; 2]> {
    Ok(filter_taps(fir)?.map(|taps| taps as isize))
}
