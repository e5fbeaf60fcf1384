//! The residual discriminator.

use serde::{Deserialize, Serialize};
use swinstyle_bias_act::{Activation, bias_act};
use swinstyle_modulated_conv2d::{LeakyRelu, conv2d_bias_act};
use swinstyle_tensor::{Tensor, TensorError};
use swinstyle_upfirdn2d::{Upfirdn2d, separable_filter, upfirdn2d};

use super::{
    Channels, FIR, Features, GAIN, SLOPE,
    config::{check_size, resolutions},
};
use crate::{
    Init, Layout, Params, Result, Spec, defaults,
    layers::minibatch_stddev,
    ranges::{self, check},
};

/// Sizes of a discriminator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiscriminatorConfig {
    /// Pixels of an edge of the image.
    pub size: usize,
    /// Channels by resolution, 4 px first.
    pub channels: Channels,
    /// Images whose standard deviation is taken together at the end.
    pub stddev_group: usize,
    /// Outputs an image: one logit, or the length of an embedding.
    #[serde(default = "defaults::one", skip_serializing_if = "defaults::is_one")]
    pub outputs: usize,
}

/// A StyleGAN2 discriminator.
#[derive(Debug, Clone, PartialEq)]
pub struct Discriminator {
    /// Its sizes.
    pub config: DiscriminatorConfig,
}

impl Discriminator {
    /// A discriminator of these sizes. Errors: sizes that make no network.
    pub fn new(config: DiscriminatorConfig) -> Result<Self> {
        check_size("discriminator", config.size, &config.channels)?;
        check("discriminator", "stddev_group", config.stddev_group, &ranges::STDDEV_GROUP)?;
        check("discriminator", "outputs", config.outputs, &ranges::OUTPUTS)?;
        Ok(Self { config })
    }

    /// Parameters.
    pub fn specs(&self) -> Vec<Spec> {
        let c = &self.config.channels;
        let conv = |name: String, k: usize, i: usize, o: usize| {
            Spec::new(name, &[k, k, i, o], Init::Normal { std: 1.0 }).stored(Layout::Oihw)
        };
        let zeros = |name: String, n: usize| Spec::new(name, &[n], Init::Constant(0.0));
        let mut channels = c.at(self.config.size);
        let mut specs = vec![conv("convs.0.0.weight".into(), 1, 3, channels), zeros("convs.0.1.bias".into(), channels)];
        for (i, r) in self.block_resolutions().enumerate() {
            let (n, o) = (format!("convs.{}", i + 1), c.at(r / 2));
            specs.push(conv(format!("{n}.conv1.0.weight"), 3, channels, channels));
            specs.push(zeros(format!("{n}.conv1.1.bias"), channels));
            specs.push(conv(format!("{n}.conv2.1.weight"), 3, channels, o));
            specs.push(zeros(format!("{n}.conv2.2.bias"), o));
            specs.push(conv(format!("{n}.skip.1.weight"), 1, channels, o));
            channels = o;
        }
        let c4 = c.at(4);
        let normal = Init::Normal { std: 1.0 };
        specs.push(conv("final_conv.0.weight".into(), 3, c4 + 1, c4));
        specs.push(zeros("final_conv.1.bias".into(), c4));
        let flat = Spec::new("final_linear.0.weight", &[c4, 16 * c4], normal);
        specs.push(flat.stored(Layout::LinearFromNchw { channels: c4 }));
        specs.push(zeros("final_linear.0.bias".into(), c4));
        specs.push(Spec::new("final_linear.1.weight", &[self.config.outputs, c4], normal));
        specs.push(zeros("final_linear.1.bias".into(), self.config.outputs));
        specs
    }

    fn block_resolutions(&self) -> impl Iterator<Item = usize> {
        let all: Vec<usize> = resolutions(self.config.size).skip(1).collect();
        all.into_iter().rev()
    }

    /// Logits of images: positive for real.
    ///
    /// `images` `[N, H, W, 3]`; returns `[N, outputs]`. The maps after each block (`d{r}`) are put into `features` where given.
    /// It computes in the type of the parameters; logits are f32 where that is a half type.
    pub fn forward(&self, p: &Params, images: &Tensor, features: Option<&mut Features>) -> Result<Tensor> {
        let x = self.blocks(p, images, features)?;
        let n = x.shape()[0];
        let x = minibatch_stddev(&x, self.config.stddev_group, super::EPSILON)?;
        let x = conv(p, "final_conv.0", Some("final_conv.1"), &x, 1, 1)?;
        let flat = x.reshape(&[n, x.len() / n.max(1)])?;
        let x = linear(p, "final_linear.0.weight", &flat, None)?;
        let lrelu = Activation::LeakyRelu { slope: SLOPE };
        let x = bias_act(&x, Some(p.get("final_linear.0.bias")?), lrelu, GAIN, None)?;
        let logits = linear(p, "final_linear.1.weight", &x, Some(p.get("final_linear.1.bias")?))?;
        Ok(logits.to_dtype(logits.dtype().wide())?)
    }

    /// The maps after each block (`d{r}`), each of an image alone: nothing of them hangs on the batch, which may have any size.
    ///
    /// `images` `[N, H, W, 3]`.
    pub fn features(&self, p: &Params, images: &Tensor) -> Result<Features> {
        let mut features = Features::new();
        self.blocks(p, images, Some(&mut features))?;
        Ok(features)
    }

    /// The residual blocks: the map of 4×4 `[N, 4, 4, C]`, before the minibatch's deviation.
    fn blocks(&self, p: &Params, images: &Tensor, mut features: Option<&mut Features>) -> Result<Tensor> {
        let size = self.config.size;
        if !matches!(*images.shape(), [_, h, w, 3] if (h, w) == (size, size)) {
            let detail = format!("images {:?}: [N, {size}, {size}, 3] expected", images.shape());
            return Err(TensorError::shape("discriminator", detail).into());
        }
        let images = &images.to_dtype(p.get("convs.0.0.weight")?.dtype())?;
        let filter = separable_filter(&FIR, images.dtype(), images.device())?;
        let fir = |x: &Tensor, pad: isize, down: usize| {
            let spec = Upfirdn2d { down: [down, down], pad: [pad; 4], ..Upfirdn2d::default() };
            upfirdn2d(x, &filter, &spec)
        };
        let mut x = conv(p, "convs.0.0", Some("convs.0.1"), images, 1, 0)?;
        for (i, r) in self.block_resolutions().enumerate() {
            let name = |part: &str| format!("convs.{}.{part}", i + 1);
            let y = conv(p, &name("conv1.0"), Some(&name("conv1.1")), &x, 1, 1)?;
            let y = conv(p, &name("conv2.1"), Some(&name("conv2.2")), &fir(&y, 2, 1)?, 2, 0)?;
            // A strided 1×1 convolution reads every second pixel: let the filter make only those.
            let skip = conv(p, &name("skip.1"), None, &fir(&x, 1, 2)?, 1, 0)?;
            x = y.add(&skip)?.scale(std::f64::consts::FRAC_1_SQRT_2)?;
            if let Some(f) = features.as_deref_mut() {
                f.insert(format!("d{}", r / 2), x.clone());
            }
        }
        Ok(x)
    }
}

/// A convolution with the equalised learning rate; with a bias it is followed by leaky ReLU(0.2)·√2.
fn conv(p: &Params, name: &str, bias: Option<&str>, x: &Tensor, stride: usize, padding: usize) -> Result<Tensor> {
    let weight = p.get(&format!("{name}.weight"))?;
    let gain = 1.0 / (weight.shape()[..3].iter().product::<usize>() as f64).sqrt();
    let bias = bias.map(|b| p.get(&format!("{b}.bias"))).transpose()?;
    let activation = bias.map(|_| LeakyRelu::STYLEGAN2);
    Ok(conv2d_bias_act(x, &weight.scale(gain)?, bias, activation, stride, padding)?)
}

fn linear(p: &Params, weight: &str, x: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let w = p.get(weight)?;
    Ok(x.linear(&w.scale(1.0 / (w.shape()[1] as f64).sqrt())?, bias)?)
}
