//! ArcFace's IR-SE network (arXiv 1801.07698) as pSp uses it for its identity loss [ref].

use std::path::Path;

use swinstyle_bias_act::{Activation, bias_act};
use swinstyle_modulated_conv2d::{conv2d, conv2d_bias_act};
use swinstyle_tensor::{Device, Tensor};
use swinstyle_weights::Array;

use super::files::{Files, tensor};
use crate::{Params, Result};

/// ε of every batch norm.
const EPSILON: f64 = 1e-5;
/// Under the root of an embedding's length.
const LENGTH_EPSILON: f64 = 1e-12;
/// Rows and columns of the face in a picture of 256 pixels [ref pSp].
const CROP: [[usize; 2]; 2] = [[35, 223], [32, 220]];
/// Edge of the picture that [`CROP`] is of.
const CROP_OF: usize = 256;
/// Edge of the network's input, and of its last map.
const INPUT: usize = 112;
const LAST: usize = 7;

/// A residual unit, by what its tensors do not say.
#[derive(Debug, Clone, Copy)]
struct Unit {
    stride: usize,
    /// Whether the shortcut is a convolution; it skips pixels otherwise.
    projected: bool,
}

/// The face recognition network, frozen.
#[derive(Debug, Clone)]
pub struct ArcFace {
    units: Vec<Unit>,
    /// Convolutions with the batch norms that follow them (`.weight`, `.bias`), batch norms of their own (`.scale`, `.shift`) and the rest.
    params: Params,
}

impl ArcFace {
    /// Reads the network from a file with the names of pSp's `Backbone(112, N, "ir_se")`: `input_layer`, `body.K.res_layer`,
    /// `body.K.shortcut_layer`, `output_layer`.
    ///
    /// Depth and widths are the file's (IR-SE50 has 24 units); the first unit and those that widen halve the image. Batch norms are
    /// taken with their running statistics. Errors name the file and the tensor: what is missing or has another shape.
    pub fn load(path: impl AsRef<Path>, device: Device) -> Result<Self> {
        let files = Files::read("identity", &[path])?;
        let mut reader = Reader { files, params: Params::default(), device };
        let mut width = reader.conv_norm("input", "input_layer.0", "input_layer.1", [0, 3, 3])?;
        reader.vector("input.prelu", "input_layer.2.weight", width)?;
        let mut units = Vec::new();
        while units.is_empty() || reader.files.find(&format!("body.{}.res_layer.0.weight", units.len())).is_some() {
            let k = units.len();
            let body = format!("body.{k}.res_layer");
            let name = |part: &str| format!("{k}.{part}");
            reader.norm(&name("norm"), &format!("{body}.0"), width)?;
            let inner = reader.conv(&name("a"), &format!("{body}.1.weight"), [0, width, 3])?;
            reader.vector(&name("prelu"), &format!("{body}.2.weight"), inner)?;
            let out = reader.conv_norm(&name("b"), &format!("{body}.3"), &format!("{body}.4"), [0, inner, 3])?;
            let squeezed = reader.conv(&name("squeeze"), &format!("{body}.5.fc1.weight"), [0, out, 1])?;
            reader.conv(&name("excite"), &format!("{body}.5.fc2.weight"), [out, squeezed, 1])?;
            let shortcut = format!("body.{k}.shortcut_layer");
            let projected = out != width;
            if projected {
                reader.conv_norm(
                    &name("shortcut"),
                    &format!("{shortcut}.0"),
                    &format!("{shortcut}.1"),
                    [out, width, 1],
                )?;
            }
            units.push(Unit { stride: if k == 0 || projected { 2 } else { 1 }, projected });
            width = out;
        }
        let halvings = units.iter().filter(|u| u.stride == 2).count();
        if INPUT >> halvings != LAST {
            let detail = format!("{halvings} of the {} units halve the image, four expected", units.len());
            return Err(reader.files.error(detail));
        }
        reader.norm("output", "output_layer.0", width)?;
        let weight = reader.files.shaped("output_layer.3.weight", &[0, width * LAST * LAST])?;
        let embedding = weight.shape[0];
        // Columns come channel by channel; the map in memory is pixel by pixel.
        let weight = Array::new(vec![embedding, width, LAST, LAST], weight.data.clone())?;
        let weight = swinstyle_weights::layout::nchw_to_nhwc(&weight)?;
        let weight = tensor(weight, device)?.reshape(&[embedding, LAST * LAST * width])?;
        reader.params.insert("linear.weight", weight);
        reader.vector("linear.bias", "output_layer.3.bias", embedding)?;
        reader.norm("embedding", "output_layer.4", embedding)?;
        Ok(Self { units, params: reader.params })
    }

    /// Mean over the batch of `1 − cos(e(x), e(y))`, e the embedding of the face.
    ///
    /// x and y `[N, H, W, 3]` in [−1, 1], the face where pSp's alignment puts it; returns a scalar, differentiable in x; y is taken
    /// as constant. Errors: pictures too small for the crop to hold a pixel.
    pub fn distance(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        let (of_x, of_y) = (self.embed(x)?, self.embed(&y.detach())?);
        let n = of_x.shape()[0].max(1);
        Ok(of_x.mul(&of_y)?.sum_all()?.affine(-1.0 / n as f64, 1.0)?)
    }

    /// Embeddings of unit length: the face is cropped (rows 35–223 and columns 32–220 of 256, in proportion for other sizes), pooled to
    /// 112×112 and embedded.
    ///
    /// `[N, H, W, 3]` → `[N, E]`.
    pub fn embed(&self, images: &Tensor) -> Result<Tensor> {
        let p = Reading { params: &self.params, like: images };
        let mut x = images.clone();
        for (axis, ends) in CROP.into_iter().enumerate() {
            let size = images.shape().get(axis + 1).copied().unwrap_or(0);
            let [from, to] = ends.map(|e| (e * size + CROP_OF / 2) / CROP_OF);
            x = x.slice(axis + 1, from, to.saturating_sub(from))?;
        }
        x = x.pool_area(INPUT, INPUT)?;
        x = conv2d_bias_act(&x, &p.get("input.weight")?, Some(&p.get("input.bias")?), None, 1, 1)?;
        x = prelu(&x, &p.get("input.prelu")?)?;
        for (k, unit) in self.units.iter().enumerate() {
            x = self.unit(&p, k, *unit, &x)?;
        }
        let n = x.shape()[0];
        let x = p.norm("output", &x)?.reshape(&[n, self.params.get("linear.weight")?.shape()[1]])?;
        let x = x.linear(&p.get("linear.weight")?, Some(&p.get("linear.bias")?))?;
        let x = p.norm("embedding", &x)?;
        Ok(x.mul(&x.square()?.sum(&[1])?.add_scalar(LENGTH_EPSILON)?.rsqrt()?)?)
    }

    /// Norm, convolution, PReLU, strided convolution, squeeze and excitation, beside the shortcut.
    fn unit(&self, p: &Reading, k: usize, unit: Unit, x: &Tensor) -> Result<Tensor> {
        let get = |part: &str| p.get(&format!("{k}.{part}"));
        let y = conv2d(&p.norm(&format!("{k}.norm"), x)?, &get("a.weight")?, 1, 1)?;
        let y = prelu(&y, &get("prelu")?)?;
        let y = conv2d_bias_act(&y, &get("b.weight")?, Some(&get("b.bias")?), None, unit.stride, 1)?;
        let pooled = y.mean(&[1, 2])?;
        let squeezed = conv2d(&pooled, &get("squeeze.weight")?, 1, 0)?;
        let squeezed = bias_act(&squeezed, None, Activation::Relu, 1.0, None)?;
        let gate = conv2d(&squeezed, &get("excite.weight")?, 1, 0)?.sigmoid()?;
        let shortcut = match unit.projected {
            true => conv2d_bias_act(x, &get("shortcut.weight")?, Some(&get("shortcut.bias")?), None, unit.stride, 0)?,
            false => x.max_pool2d(1, unit.stride)?,
        };
        Ok(y.mul(&gate)?.add(&shortcut)?)
    }
}

/// max(x, 0) + slope·min(x, 0) with a slope a channel. PyTorch: `F.prelu`.
fn prelu(x: &Tensor, slope: &Tensor) -> Result<Tensor> {
    let positive = bias_act(x, None, Activation::Relu, 1.0, None)?;
    Ok(positive.add(&x.sub(&positive)?.mul(slope)?)?)
}

/// The parameters in the arithmetic of the images.
struct Reading<'a> {
    params: &'a Params,
    like: &'a Tensor,
}

impl Reading<'_> {
    fn get(&self, name: &str) -> Result<Tensor> {
        Ok(self.params.get(name)?.to_dtype(self.like.dtype())?)
    }

    /// A batch norm with its running statistics: `scale·x + shift` a channel.
    fn norm(&self, name: &str, x: &Tensor) -> Result<Tensor> {
        Ok(x.mul(&self.get(&format!("{name}.scale"))?)?.add(&self.get(&format!("{name}.shift"))?)?)
    }
}

/// Brings a file's tensors into the form in which they are used.
struct Reader {
    files: Files,
    params: Params,
    device: Device,
}

impl Reader {
    fn vector(&mut self, name: &str, stored: &str, len: usize) -> Result<()> {
        let values = self.files.vector(stored, len)?;
        self.params.insert(name, Tensor::from_slice(values, &[len], self.device)?);
        Ok(())
    }

    /// A convolution without bias; returns its outputs.
    fn conv(&mut self, name: &str, stored: &str, extents: [usize; 3]) -> Result<usize> {
        let weight = self.files.conv(stored, extents)?;
        let outputs = weight.shape[3];
        self.params.insert(format!("{name}.weight"), tensor(weight, self.device)?);
        Ok(outputs)
    }

    /// A convolution without bias and the batch norm after it, as one convolution with bias; returns its outputs.
    fn conv_norm(&mut self, name: &str, conv: &str, norm: &str, extents: [usize; 3]) -> Result<usize> {
        let mut weight = self.files.conv(&format!("{conv}.weight"), extents)?;
        let outputs = weight.shape[3];
        let (scale, shift) = self.statistics(norm, outputs)?;
        for row in weight.data.chunks_exact_mut(outputs) {
            row.iter_mut().zip(&scale).for_each(|(w, s)| *w = (f64::from(*w) * s) as f32);
        }
        self.params.insert(format!("{name}.weight"), tensor(weight, self.device)?);
        self.insert(format!("{name}.bias"), &shift)?;
        Ok(outputs)
    }

    /// A batch norm of its own.
    fn norm(&mut self, name: &str, stored: &str, channels: usize) -> Result<()> {
        let (scale, shift) = self.statistics(stored, channels)?;
        self.insert(format!("{name}.scale"), &scale)?;
        self.insert(format!("{name}.shift"), &shift)
    }

    fn insert(&mut self, name: String, values: &[f64]) -> Result<()> {
        let values: Vec<f32> = values.iter().map(|v| *v as f32).collect();
        self.params.insert(name, Tensor::from_slice(&values, &[values.len()], self.device)?);
        Ok(())
    }

    /// A batch norm as factor and offset: `γ/√(σ² + ε)` and `β − μ·factor`.
    fn statistics(&self, norm: &str, channels: usize) -> Result<(Vec<f64>, Vec<f64>)> {
        let get = |part: &str| self.files.vector(&format!("{norm}.{part}"), channels);
        let (gamma, beta, mean, variance) = (get("weight")?, get("bias")?, get("running_mean")?, get("running_var")?);
        let wide = |v: &f32| f64::from(*v);
        let scale: Vec<f64> =
            gamma.iter().zip(variance).map(|(g, v)| wide(g) / (wide(v).max(0.0) + EPSILON).sqrt()).collect();
        let shift = beta.iter().zip(mean).zip(&scale).map(|((b, m), s)| wide(b) - wide(m) * s).collect();
        Ok((scale, shift))
    }
}
