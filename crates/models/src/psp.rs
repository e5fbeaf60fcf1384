//! pSp's convolutional backbone [ref] (arXiv 2008.00951; IR-SE units of ArcFace, arXiv 1801.07698): what SwinStyleformer is compared with.
//!
//! An input layer, then stages of improved residual units with squeeze and excitation:
//! `x ↦ shortcut(x) + SE(BN(conv3×3(PReLU(conv3×3(BN(x))))))`; the first unit of a stage halves the map (in the first stage: divides it
//! by the patch). Names as in pSp's checkpoints: `input_layer.{0,1,2}`, `body.{i}.res_layer.*`, `body.{i}.shortcut_layer.*`.
//!
//! Batch norm uses the batch's statistics in training and hands them to the trainer, which keeps the running ones.

use swinstyle_modulated_conv2d::conv2d;
use swinstyle_tensor::Tensor;

use crate::{
    Init, Layout, Params, Result, Spec,
    swin::{SwinConfig, SwinOutput},
};

/// ε of every batch norm, as in PyTorch.
const EPSILON: f64 = 1e-5;
/// Channels over the width of the squeeze, as in pSp.
const SQUEEZE: usize = 16;

/// Batch statistics of one pass in training: the name of a running statistic and the batch's value.
pub type Statistics = Vec<(String, Tensor)>;

/// The backbone; of the configuration it reads patch, dims, depths and in_channels.
#[derive(Debug, Clone, PartialEq)]
pub struct IrSe {
    config: SwinConfig,
}

/// One residual unit.
#[derive(Debug, Clone)]
pub(crate) struct Unit {
    /// Where its parameters are.
    pub(crate) at: String,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) squeezed: usize,
    pub(crate) stride: usize,
    /// Last of its stage.
    pub(crate) last: bool,
}

impl Unit {
    pub(crate) fn specs(&self) -> Vec<Spec> {
        let at = |key: &str| format!("{}.{key}", self.at);
        let (inputs, outputs) = (self.inputs, self.outputs);
        let mut specs = Vec::new();
        if inputs != outputs {
            specs.extend(conv_specs(&at("shortcut_layer.0"), 1, inputs, outputs));
            specs.extend(norm_specs(&at("shortcut_layer.1"), outputs));
        }
        specs.extend(norm_specs(&at("res_layer.0"), inputs));
        specs.extend(conv_specs(&at("res_layer.1"), 3, inputs, outputs));
        specs.push(slope_spec(&at("res_layer.2"), outputs));
        specs.extend(conv_specs(&at("res_layer.3"), 3, outputs, outputs));
        specs.extend(norm_specs(&at("res_layer.4"), outputs));
        specs.extend(conv_specs(&at("res_layer.5.fc1"), 1, outputs, self.squeezed));
        specs.extend(conv_specs(&at("res_layer.5.fc2"), 1, self.squeezed, outputs));
        specs
    }
}

/// The input layer's parameters.
pub(crate) fn stem_specs(inputs: usize, outputs: usize) -> Vec<Spec> {
    let mut specs = conv_specs("input_layer.0", 3, inputs, outputs);
    specs.extend(norm_specs("input_layer.1", outputs));
    specs.push(slope_spec("input_layer.2", outputs));
    specs
}

/// The input layer: convolution, batch norm, PReLU.
pub(crate) fn stem(p: &Params, images: &Tensor, statistics: Option<&mut Statistics>) -> Result<Tensor> {
    let weight = p.get("input_layer.0.weight")?;
    let x = conv2d(&images.to_dtype(weight.dtype())?, weight, 1, 1)?;
    let x = batch_norm(p, "input_layer.1", &x, statistics)?;
    prelu(&x, p.get("input_layer.2.weight")?)
}

impl IrSe {
    /// A backbone of the sizes in `config`.
    pub fn new(config: SwinConfig) -> Self {
        Self { config }
    }

    fn units(&self) -> Vec<Unit> {
        let c = &self.config;
        let mut units = Vec::new();
        let mut inputs = c.dims[0];
        for (stage, (&outputs, &depth)) in c.dims.iter().zip(&c.depths).enumerate() {
            for block in 0..depth {
                let stride = match (block, stage) {
                    (0, 0) => c.patch,
                    (0, _) => 2,
                    _ => 1,
                };
                let at = format!("body.{}", units.len());
                let squeezed = (outputs / SQUEEZE).max(1);
                units.push(Unit { at, inputs, outputs, squeezed, stride, last: block + 1 == depth });
                inputs = outputs;
            }
        }
        units
    }

    /// Parameters and running statistics.
    pub fn specs(&self) -> Vec<Spec> {
        let c = &self.config;
        let mut specs = stem_specs(c.in_channels, c.dims[0]);
        specs.extend(self.units().iter().flat_map(Unit::specs));
        specs
    }

    /// The maps after each stage; `statistics` is given in training.
    pub fn forward(
        &self,
        p: &Params,
        images: &Tensor, // [N, H, W, C] in [−1, 1]
        mut statistics: Option<&mut Statistics>,
    ) -> Result<SwinOutput> {
        let embed = stem(p, images, statistics.as_deref_mut())?;
        let mut x = embed.clone();
        let (mut blocks, mut stages) = (Vec::new(), Vec::new());
        for u in self.units() {
            x = unit(p, &u, &x, statistics.as_deref_mut())?;
            blocks.push(x.clone());
            if u.last {
                stages.push(x.clone());
            }
        }
        let (n, c) = (x.shape()[0], x.shape()[3]);
        let pooled = x.mean(&[1, 2])?.reshape(&[n, c])?;
        Ok(SwinOutput { embed, blocks, stages, norm: x, pooled, logits: None })
    }
}

/// The unit's function.
pub(crate) fn unit(p: &Params, u: &Unit, x: &Tensor, mut statistics: Option<&mut Statistics>) -> Result<Tensor> {
    let at = |key: &str| format!("{}.{key}", u.at);
    let weight = |key: &str| p.get(&format!("{}.{key}.weight", u.at));
    let shortcut = match u.inputs == u.outputs {
        // Every stride-th pixel.
        true if u.stride > 1 => x.max_pool2d(1, u.stride)?,
        true => x.clone(),
        false => {
            let y = conv2d(x, weight("shortcut_layer.0")?, u.stride, 0)?;
            batch_norm(p, &at("shortcut_layer.1"), &y, statistics.as_deref_mut())?
        }
    };
    let y = batch_norm(p, &at("res_layer.0"), x, statistics.as_deref_mut())?;
    let y = prelu(&conv2d(&y, weight("res_layer.1")?, 1, 1)?, weight("res_layer.2")?)?;
    let y = conv2d(&y, weight("res_layer.3")?, u.stride, 1)?;
    let y = batch_norm(p, &at("res_layer.4"), &y, statistics)?;
    // Squeeze and excitation: a gate a channel from the mean of the map.
    let gate = conv2d(&y.mean(&[1, 2])?, weight("res_layer.5.fc1")?, 1, 0)?;
    let gate = relu(&gate)?;
    let gate = conv2d(&gate, weight("res_layer.5.fc2")?, 1, 0)?.sigmoid()?;
    Ok(y.mul(&gate)?.add(&shortcut)?)
}

fn conv_specs(at: &str, kernel: usize, inputs: usize, outputs: usize) -> Vec<Spec> {
    // Kaiming's normal for rectifiers.
    let std = (2.0 / (kernel * kernel * inputs) as f64).sqrt();
    vec![
        Spec::new(format!("{at}.weight"), &[kernel, kernel, inputs, outputs], Init::Normal { std })
            .stored(Layout::Oihw),
    ]
}

pub(crate) fn norm_specs(at: &str, channels: usize) -> Vec<Spec> {
    let spec = |key: &str, value| Spec::new(format!("{at}.{key}"), &[channels], Init::Constant(value));
    vec![spec("weight", 1.0), spec("bias", 0.0), spec("running_mean", 0.0).buffer(), spec("running_var", 1.0).buffer()]
}

fn slope_spec(at: &str, channels: usize) -> Spec {
    Spec::new(format!("{at}.weight"), &[channels], Init::Constant(0.25))
}

/// `(x − μ)/√(σ² + ε) · γ + β` over the channels. With `statistics` μ and σ² are the batch's and are put there (σ² with Bessel's
/// correction); without, the running ones. PyTorch: `nn.BatchNorm2d`.
pub(crate) fn batch_norm(p: &Params, at: &str, x: &Tensor, statistics: Option<&mut Statistics>) -> Result<Tensor> {
    let get = |key: &str| p.get(&format!("{at}.{key}"));
    let (gamma, beta) = (get("weight")?, get("bias")?);
    let Some(statistics) = statistics else {
        // One multiplication and one addition a value.
        let scale = gamma.mul(&get("running_var")?.add_scalar(EPSILON)?.rsqrt()?)?;
        let shift = beta.sub(&get("running_mean")?.mul(&scale)?)?;
        return Ok(x.mul(&scale)?.add(&shift)?);
    };
    let c = gamma.shape()[0];
    let count = (x.len() / c) as f64;
    let mean = x.mean(&[0, 1, 2])?;
    let centred = x.sub(&mean)?;
    let variance = centred.square()?.mean(&[0, 1, 2])?;
    let unbiased = variance.detach().scale(count / (count - 1.0).max(1.0))?;
    statistics.push((format!("{at}.running_mean"), mean.detach().reshape(&[c])?));
    statistics.push((format!("{at}.running_var"), unbiased.reshape(&[c])?));
    let scale = variance.add_scalar(EPSILON)?.rsqrt()?.mul(gamma)?;
    Ok(centred.mul(&scale)?.add(beta)?)
}

/// `max(x, 0) + a · min(x, 0)`, a per channel. PyTorch: `nn.PReLU`.
fn prelu(x: &Tensor, slope: &Tensor) -> Result<Tensor> {
    let positive = relu(x)?;
    Ok(positive.add(&x.sub(&positive)?.mul(slope)?)?)
}

fn relu(x: &Tensor) -> Result<Tensor> {
    Ok(x.maximum(&Tensor::full(0.0, &[1], x.dtype(), x.device())?)?)
}

#[cfg(test)]
mod tests {
    use swinstyle_kit::testing::{first_order_error, uniform};
    use swinstyle_tensor::{DType, Device};

    use super::*;
    use crate::styleformer::StyleformerConfig;

    fn small() -> IrSe {
        let mut c = StyleformerConfig::preset("avatar64-cpu").unwrap().backbone;
        (c.dims, c.depths) = (vec![4, 6, 6], vec![1, 1, 2]);
        IrSe::new(c)
    }

    #[test]
    fn stages_have_the_maps_of_a_swin_of_the_same_sizes() {
        let net = small();
        let p = Params::init(&net.specs(), 1, Device::Cpu).unwrap();
        let x = uniform("x", &[2, 16, 16, 3], DType::F32, Device::Cpu).unwrap();
        let mut statistics = Statistics::new();
        let y = net.forward(&p, &x, Some(&mut statistics)).unwrap();
        let shapes: Vec<&[usize]> = y.stages.iter().map(Tensor::shape).collect();
        assert_eq!(shapes, [&[2, 8, 8, 4][..], &[2, 4, 4, 6], &[2, 2, 2, 6]]);
        let buffers: Vec<String> = net.specs().into_iter().filter(|s| !s.trainable).map(|s| s.name).collect();
        let mut given: Vec<String> = statistics.iter().map(|(n, _)| n.clone()).collect();
        let mut expected = buffers;
        given.sort();
        expected.sort();
        assert_eq!(given, expected);
    }

    #[test]
    fn with_the_batchs_own_statistics_inference_gives_what_training_gives() {
        let net = small();
        let mut p = Params::init(&net.specs(), 1, Device::Cpu).unwrap();
        let x = uniform("x", &[2, 16, 16, 3], DType::F32, Device::Cpu).unwrap();
        let mut statistics = Statistics::new();
        let trained = net.forward(&p, &x, Some(&mut statistics)).unwrap().pooled.to_vec().unwrap();
        for (name, value) in statistics {
            // Training normalises with the biased variance.
            let site = name.trim_end_matches(".running_var");
            let count = match site {
                s if s.starts_with("input") => 2.0 * 256.0,
                s if s.contains("body.0") && s.contains("layer.0") => 2.0 * 256.0,
                s if s.contains("body.0") || s.contains("body.1.res_layer.0") => 2.0 * 64.0,
                s if s.contains("body.1") || s.contains("body.2.res_layer.0") => 2.0 * 16.0,
                _ => 2.0 * 4.0,
            };
            let value = if name.ends_with("running_var") { value.scale((count - 1.0) / count).unwrap() } else { value };
            p.insert(name, value);
        }
        let inferred = net.forward(&p, &x, None).unwrap().pooled.to_vec().unwrap();
        for (a, b) in trained.iter().zip(&inferred) {
            assert!((a - b).abs() < 1e-4, "{a} {b}");
        }
    }

    #[test]
    fn prelu_and_batch_norm_have_the_gradients_of_finite_differences() {
        let x = uniform("x", &[2, 2, 2, 3], DType::F64, Device::Cpu).unwrap();
        let f = |xs: &[Tensor]| {
            let one = |v: f64| Tensor::full(v, &[3], DType::F64, Device::Cpu).unwrap();
            let p: Params =
                [("n.weight".to_string(), one(1.3)), ("n.bias".to_string(), one(0.2))].into_iter().collect();
            let y = batch_norm(&p, "n", &xs[0], Some(&mut Statistics::new())).map_err(|e| match e {
                crate::ModelError::Tensor(e) => e,
                e => panic!("{e}"),
            })?;
            Ok(prelu(&y, &one(0.3)).unwrap())
        };
        let error = first_order_error(&f, &[x]).unwrap();
        assert!(error < 1e-6, "{error:e}");
    }

    #[test]
    fn every_second_pixel_is_the_even_ones() {
        let x = Tensor::from_vec((0..16).map(|v| v as f32).collect(), &[1, 4, 4, 1], Device::Cpu).unwrap();
        assert_eq!(x.max_pool2d(1, 2).unwrap().to_vec().unwrap(), [0.0, 2.0, 8.0, 10.0]);
    }
}
