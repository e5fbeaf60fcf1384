//! The synthesis network W+ → image.

use std::collections::BTreeMap;

use swinstyle_modulated_conv2d::{LeakyRelu, ModulatedConv, styled_conv2d, to_rgb};
use swinstyle_tensor::{DType, Device, Tensor, TensorError, rng::Philox};
use swinstyle_upfirdn2d::separable_filter;

use super::{EPSILON, FIR, Generator, config::resolutions};
use crate::{Init, Layout, Params, Result, Spec};

/// Where the per-pixel noise of the styled layers comes from.
#[derive(Debug)]
pub enum Noise<'a> {
    /// The buffers `noises.noise_N`, the same for every image.
    Fixed,
    /// Fresh normal noise for every image.
    Random(&'a mut Philox),
    /// None.
    Zero,
}

/// Feature maps by name: `x{r}` after the second convolution of resolution r, `rgb{r}` the skip image there.
pub type Features = BTreeMap<String, Tensor>;

impl Generator {
    pub(super) fn synthesis_specs(&self) -> Vec<Spec> {
        let (c, d) = (&self.config.channels, self.config.style_dim);
        let c4 = c.at(4);
        let mut specs = vec![Spec::new("input.input", &[1, 4, 4, c4], Init::Normal { std: 1.0 }).stored(Layout::Nchw)];
        let conv = |name: &str, i: usize, o: usize, k: usize| {
            [
                Spec::new(format!("{name}.conv.weight"), &[k, k, i, o], Init::Normal { std: 1.0 })
                    .stored(Layout::ModulatedOihw),
                Spec::new(format!("{name}.conv.modulation.weight"), &[i, d], Init::Normal { std: 1.0 }),
                Spec::new(format!("{name}.conv.modulation.bias"), &[i], Init::Constant(1.0)),
            ]
        };
        let styled = |specs: &mut Vec<Spec>, name: &str, i: usize, o: usize| {
            specs.extend(conv(name, i, o, 3));
            specs.push(Spec::new(format!("{name}.noise.weight"), &[1], Init::Constant(0.0)));
            specs.push(Spec::new(format!("{name}.activate.bias"), &[o], Init::Constant(0.0)));
        };
        let rgb = |specs: &mut Vec<Spec>, name: &str, i: usize| {
            specs.extend(conv(name, i, 3, 1));
            specs.push(Spec::new(format!("{name}.bias"), &[1, 1, 1, 3], Init::Constant(0.0)).stored(Layout::Nchw));
        };
        styled(&mut specs, "conv1", c4, c4);
        rgb(&mut specs, "to_rgb1", c4);
        let mut before = c4;
        for (k, r) in resolutions(self.config.size).skip(1).enumerate() {
            styled(&mut specs, &format!("convs.{}", 2 * k), before, c.at(r));
            styled(&mut specs, &format!("convs.{}", 2 * k + 1), c.at(r), c.at(r));
            rgb(&mut specs, &format!("to_rgbs.{k}"), c.at(r));
            before = c.at(r);
        }
        for i in 0..self.noise_layers() {
            let s = noise_size(i);
            let init = Init::Normal { std: 1.0 };
            specs.push(Spec::new(format!("noises.noise_{i}"), &[1, s, s, 1], init).stored(Layout::Nchw).buffer());
        }
        specs
    }

    fn noise_layers(&self) -> usize {
        2 * self.config.size.ilog2() as usize - 3
    }

    /// The image of W+ codes.
    ///
    /// `w_plus` `[N, n_styles, D]`; returns `[N, H, W, 3]`. `conv1` reads style 0 and `to_rgb1` style 1; level k
    /// reads styles 2k+1 and 2k+2, and its `to_rgb` style 2k+3. Feature maps are put into `features` where given.
    ///
    /// It computes in the type of the parameters. The image is summed, and returned, in f32 where that is a half type.
    pub fn synthesis(
        &self,
        p: &Params,
        w_plus: &Tensor,
        noise: &mut Noise,
        mut features: Option<&mut Features>,
    ) -> Result<Tensor> {
        let (styles, d) = (self.config.n_styles(), self.config.style_dim);
        let n = match *w_plus.shape() {
            [n, l, e] if l == styles && e == d => n,
            _ => {
                let detail = format!("W+ codes {:?}: [N, {styles}, {d}] expected", w_plus.shape());
                return Err(TensorError::shape("synthesis", detail).into());
            }
        };
        // The equalised learning rate of all affine maps at once: their weights have unit variance.
        let w_plus = w_plus.to_dtype(p.get("input.input")?.dtype())?.scale(1.0 / (d as f64).sqrt())?;
        let style = |i: usize| -> Result<Tensor> { Ok(w_plus.slice(1, i, 1)?.reshape(&[n, d])?) };
        let filter = separable_filter(&FIR, w_plus.dtype(), w_plus.device())?;
        let wide_filter = match w_plus.dtype().wide() {
            wide if wide == w_plus.dtype() => filter.clone(),
            wide => separable_filter(&FIR, wide, w_plus.device())?,
        };
        let mut noise_of = |i: usize| noise.layer(p, i, n, w_plus.dtype(), w_plus.device());
        let mut keep = |name: String, t: &Tensor| {
            if let Some(f) = features.as_deref_mut() {
                f.insert(name, t.clone());
            }
        };

        let c4 = self.config.channels.at(4);
        let input = p.get("input.input")?.broadcast_to(&[n, 4, 4, c4])?;
        let layer = Layer { p, filter: &filter, wide_filter: &wide_filter };
        let mut x = layer.styled("conv1", &input, &style(0)?, noise_of(0)?, 1)?;
        let mut image = layer.to_rgb("to_rgb1", &x, &style(1)?, None)?;
        keep("x4".into(), &x);
        keep("rgb4".into(), &image);
        for (k, r) in resolutions(self.config.size).skip(1).enumerate() {
            x = layer.styled(&format!("convs.{}", 2 * k), &x, &style(2 * k + 1)?, noise_of(2 * k + 1)?, 2)?;
            x = layer.styled(&format!("convs.{}", 2 * k + 1), &x, &style(2 * k + 2)?, noise_of(2 * k + 2)?, 1)?;
            image = layer.to_rgb(&format!("to_rgbs.{k}"), &x, &style(2 * k + 3)?, Some(&image))?;
            keep(format!("x{r}"), &x);
            keep(format!("rgb{r}"), &image);
        }
        Ok(image)
    }
}

impl Noise<'_> {
    fn layer(&mut self, p: &Params, i: usize, n: usize, dtype: DType, device: Device) -> Result<Option<Tensor>> {
        let s = noise_size(i);
        Ok(match self {
            Self::Fixed => Some(p.get(&format!("noises.noise_{i}"))?.clone()),
            Self::Random(rng) => Some(rng.normal(&[n, s, s, 1], device)?.to_dtype(dtype)?),
            Self::Zero => None,
        })
    }
}

/// Edge of the i-th noise map: 4, 8, 8, 16, 16, …
fn noise_size(i: usize) -> usize {
    1 << ((i + 5) / 2)
}

/// What the layers of one pass share.
struct Layer<'a> {
    p: &'a Params,
    filter: &'a Tensor,
    /// The filter in the type of the image.
    wide_filter: &'a Tensor,
}

impl Layer<'_> {
    /// The affine map A of the paper's Figure 2: w/√D `[N, D]` to the scales of the input channels `[N, I]`.
    fn style(&self, name: &str, w: &Tensor) -> Result<Tensor> {
        let weight = self.p.get(&format!("{name}.conv.modulation.weight"))?;
        let bias = self.p.get(&format!("{name}.conv.modulation.bias"))?;
        Ok(w.linear(weight, Some(bias))?)
    }

    /// Parameters of a convolution without resampling and demodulation. The equalised learning rate stores weights with unit
    /// variance and scales them by 1/√fan_in when they are used.
    fn conv(&self, weight: &Tensor) -> ModulatedConv<'_> {
        let fan_in: usize = weight.shape()[..3].iter().product();
        let weight_gain = 1.0 / (fan_in as f64).sqrt();
        ModulatedConv { up: 1, down: 1, demodulate: false, eps: EPSILON, weight_gain, fir: Some(self.filter) }
    }

    fn styled(&self, name: &str, x: &Tensor, w: &Tensor, noise: Option<Tensor>, up: usize) -> Result<Tensor> {
        let weight = self.p.get(&format!("{name}.conv.weight"))?;
        let strength = self.p.get(&format!("{name}.noise.weight"))?;
        let bias = self.p.get(&format!("{name}.activate.bias"))?;
        let conv = ModulatedConv { up, demodulate: true, ..self.conv(weight) };
        let noise = noise.as_ref().map(|n| (n, strength));
        let style = self.style(name, w)?;
        Ok(styled_conv2d(x, weight, &style, &conv, noise, Some(bias), Some(LeakyRelu::STYLEGAN2))?)
    }

    fn to_rgb(&self, name: &str, x: &Tensor, w: &Tensor, skip: Option<&Tensor>) -> Result<Tensor> {
        let weight = self.p.get(&format!("{name}.conv.weight"))?;
        let bias = self.p.get(&format!("{name}.bias"))?;
        let (style, gain) = (self.style(name, w)?, self.conv(weight).weight_gain);
        let skip = skip.map(|s| (s, self.wide_filter));
        // Stored `[1, 1, 1, 3]`.
        let bias = bias.to_dtype(bias.dtype().wide())?.reshape(&[bias.len()])?;
        Ok(to_rgb(x, weight, &style, gain, &bias, skip)?)
    }
}
