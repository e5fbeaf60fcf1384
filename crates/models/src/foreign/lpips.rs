//! LPIPS (arXiv 1801.03924) with the AlexNet or VGG16 trunk [ref].

use std::path::Path;

use swinstyle_modulated_conv2d::{LeakyRelu, conv2d_bias_act};
use swinstyle_tensor::{Device, Tensor};

use super::files::{Files, tensor};
use crate::{Result, layers::unit_length};

/// What LPIPS subtracts from an image in [−1, 1], and then divides by: ImageNet's statistics in that range.
const SHIFT: [f32; 3] = [-0.030, -0.088, -0.188];
const SCALE: [f32; 3] = [0.458, 0.448, 0.450];
/// Under the root of a pixel's length: the published 10⁻¹⁰ beside the root, where its slope stays finite.
const EPSILON: f64 = 1e-20;
/// ReLU as the epilogue of a convolution.
const RELU: LeakyRelu = LeakyRelu { slope: 0.0, gain: 1.0, clamp: None };

/// A convolution of a trunk, by torchvision's numbering.
struct Layer {
    /// `features.N`.
    number: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    /// Edge of the maximum pooling (stride 2) before it.
    pool: Option<usize>,
    /// Whether its rectified output is compared.
    tap: bool,
}

const fn layer(number: usize, kernel: usize, pool: Option<usize>, tap: bool) -> Layer {
    Layer { number, kernel, stride: 1, padding: kernel / 2, pool, tap }
}

const ALEXNET: &[Layer] = &[
    Layer { number: 0, kernel: 11, stride: 4, padding: 2, pool: None, tap: true },
    layer(3, 5, Some(3), true),
    layer(6, 3, Some(3), true),
    layer(8, 3, None, true),
    layer(10, 3, None, true),
];

const VGG16: &[Layer] = &[
    layer(0, 3, None, false),
    layer(2, 3, None, true),
    layer(5, 3, Some(2), false),
    layer(7, 3, None, true),
    layer(10, 3, Some(2), false),
    layer(12, 3, None, false),
    layer(14, 3, None, true),
    layer(17, 3, Some(2), false),
    layer(19, 3, None, false),
    layer(21, 3, None, true),
    layer(24, 3, Some(2), false),
    layer(26, 3, None, false),
    layer(28, 3, None, true),
];

/// The learned perceptual distance, frozen.
#[derive(Debug, Clone)]
pub struct Lpips {
    trunk: Trunk,
    /// Weight `[k, k, I, O]` and bias `[O]` of each convolution.
    convolutions: Vec<(Tensor, Tensor)>,
    /// Weights of the channels at each tap: `[C]`.
    heads: Vec<Tensor>,
    /// Input scaling: `(x − shift) / scale`, `[3]` each.
    shift: Tensor,
    scale: Tensor,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trunk {
    AlexNet,
    Vgg16,
}

impl Trunk {
    fn layers(self) -> &'static [Layer] {
        match self {
            Self::AlexNet => ALEXNET,
            Self::Vgg16 => VGG16,
        }
    }
}

impl Lpips {
    /// Reads trunk and linear heads from one or several files.
    ///
    /// The trunk has torchvision's names (`features.N.weight`, `features.N.bias`); it is AlexNet where the first kernel is
    /// 11×11 and VGG16 where it is 3×3. The heads are `linK.model.1.weight` or `linK.weight`, `[1, C, 1, 1]`, K = 0..4, as
    /// published with LPIPS. The widths are the file's.
    ///
    /// Errors name the file and the tensor: what is missing or has another shape. Without heads there is no LPIPS.
    pub fn load(paths: &[impl AsRef<Path>], device: Device) -> Result<Self> {
        let files = Files::read("lpips", paths)?;
        let first = &files.get("features.0.weight")?.shape;
        let trunk = match first[..] {
            [_, _, 11, 11] => Trunk::AlexNet,
            [_, _, 3, 3] => Trunk::Vgg16,
            _ => {
                let detail = "is neither AlexNet's ([C, 3, 11, 11]) nor VGG16's ([C, 3, 3, 3])";
                return Err(files.error(format_args!("`features.0.weight` of shape {first:?} {detail}")));
            }
        };
        let (mut convolutions, mut heads, mut inputs) = (Vec::new(), Vec::new(), 3);
        for l in trunk.layers() {
            let weight = files.conv(&format!("features.{}.weight", l.number), [0, inputs, l.kernel])?;
            inputs = weight.shape[3];
            let bias = files.vector(&format!("features.{}.bias", l.number), inputs)?.to_vec();
            convolutions.push((tensor(weight, device)?, Tensor::from_vec(bias, &[inputs], device)?));
            if l.tap {
                let name = format!("lin{}", heads.len());
                let published = format!("{name}.model.1.weight");
                let name = match files.find(&published) {
                    Some(_) => published,
                    None => format!("{name}.weight"),
                };
                if files.find(&name).is_none() {
                    let detail = "the linear heads make LPIPS of a trunk; name their file beside the trunk's";
                    return Err(files.error(format_args!("there is no `lin{}.model.1.weight`: {detail}", heads.len())));
                }
                let head = files.shaped(&name, &[1, inputs, 1, 1])?.data.clone();
                heads.push(Tensor::from_vec(head, &[inputs], device)?);
            }
        }
        let [shift, scale] = [SHIFT, SCALE].map(|v| Tensor::from_slice(&v, &[3], device));
        Ok(Self { trunk, convolutions, heads, shift: shift?, scale: scale? })
    }

    /// `Σ_l mean over pixels of Σ_c w_c (f̂_l(x) − f̂_l(y))²`, f̂ the rectified features of unit length over channels; mean over
    /// the batch.
    ///
    /// x and y `[N, H, W, 3]` in [−1, 1]; returns a scalar, differentiable in x; y is taken as constant. PyTorch:
    /// `lpips.LPIPS(net="alex" or "vgg")(x, y).mean()`. Errors: images that a pooling outruns (AlexNet wants 31 pixels, VGG16 16).
    pub fn distance(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        let (of_x, of_y) = (self.features(x)?, self.features(&y.detach())?);
        let mut total: Option<Tensor> = None;
        for ((fx, fy), head) in of_x.iter().zip(&of_y).zip(&self.heads) {
            let pixels = fx.len() / head.len().max(1);
            let head = head.to_dtype(fx.dtype())?;
            let term = fx.sub(fy)?.square()?.mul(&head)?.sum_all()?.scale(1.0 / pixels.max(1) as f64)?;
            total = Some(match total {
                Some(t) => t.add(&term)?,
                None => term,
            });
        }
        // Both trunks have taps.
        total.ok_or_else(|| crate::ModelError::config("lpips", "the trunk has no taps"))
    }

    /// The features of the taps, `[N, H, W, C]` each, of unit length over channels.
    fn features(&self, x: &Tensor) -> Result<Vec<Tensor>> {
        let as_x = |t: &Tensor| t.to_dtype(x.dtype());
        let mut x = x.sub(&as_x(&self.shift)?)?.div(&as_x(&self.scale)?)?;
        let mut taps = Vec::new();
        for (l, (weight, bias)) in self.trunk.layers().iter().zip(&self.convolutions) {
            if let Some(size) = l.pool {
                x = x.max_pool2d(size, 2)?;
            }
            let (weight, bias) = (weight.to_dtype(x.dtype())?, bias.to_dtype(x.dtype())?);
            x = conv2d_bias_act(&x, &weight, Some(&bias), Some(RELU), l.stride, l.padding)?;
            if l.tap {
                taps.push(unit_length(&x, 3, EPSILON)?);
            }
        }
        Ok(taps)
    }
}
