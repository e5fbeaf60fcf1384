//! ArcFace's IR-SE network (arXiv 1801.07698) as pSp uses it for its identity loss [ref].

use std::path::Path;

use swinstyle_tensor::{DType, Device, Tensor};
use swinstyle_weights::Archive;

use crate::{
    Init, Layout, ModelError, Params, Result, Spec,
    layers::unit_length,
    psp::{Unit, batch_norm, norm_specs, stem, stem_specs, unit},
};

/// Under the root of an embedding's length.
const LENGTH_EPSILON: f64 = 1e-12;
/// Rows and columns of the face in a picture of 256 pixels [ref pSp].
const CROP: [[usize; 2]; 2] = [[35, 223], [32, 220]];
/// Edge of the picture that [`CROP`] is of.
const CROP_OF: usize = 256;
/// Edge of the network's input, and of its last map.
const INPUT: usize = 112;
const LAST: usize = 7;

/// The face recognition network, frozen.
#[derive(Debug, Clone)]
pub struct ArcFace {
    units: Vec<Unit>,
    params: Params,
}

impl ArcFace {
    /// Reads the network from a file with the names of pSp's `Backbone(112, N, "ir_se")`: `input_layer`, `body.K.res_layer`,
    /// `body.K.shortcut_layer`, `output_layer`.
    ///
    /// Depth and widths are the file's (IR-SE50 has 24 units); the first unit and those that widen halve the image. Batch norms are
    /// taken with their running statistics. Errors name the file and the tensors: what is missing or has another shape.
    pub fn load(path: impl AsRef<Path>, device: Device) -> Result<Self> {
        let mut archive = Archive::read(path)?;
        let outputs = |name: &str| -> Result<usize> { Ok(archive.get(name)?.shape.first().copied().unwrap_or(0)) };
        let stem = outputs("input_layer.0.weight")?;
        let mut specs = stem_specs(3, stem);
        let (mut units, mut inputs) = (Vec::new(), stem);
        while units.is_empty() || archive.arrays.contains_key(&format!("body.{}.res_layer.3.weight", units.len())) {
            let at = format!("body.{}", units.len());
            let widened = outputs(&format!("{at}.res_layer.3.weight"))?;
            let squeezed = outputs(&format!("{at}.res_layer.5.fc1.weight"))?;
            let stride = if units.is_empty() || widened != inputs { 2 } else { 1 };
            let unit = Unit { at, inputs, outputs: widened, squeezed, stride, last: false };
            specs.extend(unit.specs());
            units.push(unit);
            inputs = widened;
        }
        let halvings = units.iter().filter(|u| u.stride == 2).count();
        if INPUT >> halvings != LAST {
            let detail = format!("{halvings} of the {} units halve the image, four expected", units.len());
            return Err(ModelError::config("identity", format!("{}: {detail}", archive.origin())));
        }
        let embedding = outputs("output_layer.3.weight")?;
        let plain = |name: &str, shape: &[usize]| Spec::new(name, shape, Init::Constant(0.0));
        specs.extend(norm_specs("output_layer.0", inputs));
        let linear = plain("output_layer.3.weight", &[embedding, inputs * LAST * LAST]);
        specs.push(linear.stored(Layout::LinearFromNchw { channels: inputs }));
        specs.push(plain("output_layer.3.bias", &[embedding]));
        specs.extend(norm_specs("output_layer.4", embedding));
        // Counters of batches and the like are no part of the network.
        archive.arrays.retain(|name, _| specs.iter().any(|s| s.name == *name));
        let params = Params::from_archive(&archive, "", &specs, device)?;
        Ok(Self { units, params })
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
        let p = &self.params_in(images.dtype())?;
        let mut x = images.clone();
        for (axis, ends) in CROP.into_iter().enumerate() {
            let size = images.shape().get(axis + 1).copied().unwrap_or(0);
            let [from, to] = ends.map(|e| (e * size + CROP_OF / 2) / CROP_OF);
            x = x.slice(axis + 1, from, to.saturating_sub(from))?;
        }
        x = stem(p, &x.pool_area(INPUT, INPUT)?, None)?;
        for u in &self.units {
            x = unit(p, u, &x, None)?;
        }
        let weight = p.get("output_layer.3.weight")?;
        let x = batch_norm(p, "output_layer.0", &x, None)?.reshape(&[x.shape()[0], weight.shape()[1]])?;
        let x = x.linear(weight, Some(p.get("output_layer.3.bias")?))?;
        let x = batch_norm(p, "output_layer.4", &x, None)?;
        Ok(unit_length(&x, 1, LENGTH_EPSILON)?)
    }

    /// The parameters in the arithmetic of the images.
    fn params_in(&self, dtype: DType) -> Result<Params> {
        self.params.iter().map(|(name, value)| Ok((name.clone(), value.to_dtype(dtype)?))).collect()
    }
}
