//! A fixture in memory: tensors in PyTorch's layouts, parameters, and the error that plain f32 makes.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;
use swinstyle_models::{Init, Layout, Params, Spec};
use swinstyle_tensor::{DType, Device, Tensor, no_grad};
use swinstyle_weights::{
    Archive, Array,
    layout::{nchw_to_nhwc, oihw_to_hwio},
};

use super::kinks::Names;

/// One file that `make_golden.py` wrote.
#[derive(Debug)]
pub(super) struct Fixture {
    /// Name of the case.
    pub(super) case: String,
    /// What is computed: the first part of the name.
    pub(super) kind: String,
    /// The case's parameters.
    pub(super) params: Value,
    /// `[largest error, largest magnitude]` of plain f32 by result.
    pub(super) f32_err: BTreeMap<String, [f64; 2]>,
    /// Every tensor of the file.
    pub(super) archive: Archive,
    /// Where to compute.
    pub(super) device: Device,
    /// The type to compute in: f32, or f64 on the cpu.
    pub(super) dtype: DType,
    /// Where the values of what was read in f64 lie.
    pub(super) names: Names,
}

impl Fixture {
    pub(super) fn read(path: &Path, device: Device) -> Result<Self> {
        let archive = Archive::read(path)?;
        let text = |key: &str| archive.metadata.get(key);
        let foreign = || anyhow!("{}: not a fixture: its metadata holds no case, kind and params", path.display());
        let (case, kind) = (text("case").ok_or_else(foreign)?, text("kind").ok_or_else(foreign)?);
        let params = text("params").ok_or_else(foreign)?;
        let json = |key: &str| format!("{}: the metadata's {key} do not parse", path.display());
        let params = serde_json::from_str(params).with_context(|| json("params"))?;
        let f32_err: BTreeMap<String, [f64; 2]> = match text("f32_err") {
            Some(errors) => serde_json::from_str(errors).with_context(|| json("f32_err"))?,
            None => BTreeMap::new(),
        };
        if let Some((name, [error, _])) = f32_err.iter().find(|(_, [error, _])| !(error.is_finite() && *error >= 0.0)) {
            bail!("{}: the metadata's f32_err of {name} is {error}, which is no error", path.display());
        }
        let (case, kind) = (case.clone(), kind.clone());
        Ok(Self { case, kind, params, f32_err, device, dtype: DType::F32, names: Names::default(), archive })
    }

    /// Computes elsewhere from now on, or in another type.
    pub(super) fn compute_on(&mut self, device: Device, dtype: DType) {
        (self.device, self.dtype) = (device, dtype);
    }

    /// Whether the file holds a tensor.
    pub(super) fn has(&self, name: &str) -> bool {
        self.archive.arrays.contains_key(name)
    }

    /// Names of the file's tensors that begin with `prefix`, without it.
    pub(super) fn under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.archive.arrays.keys().filter_map(move |name| name.strip_prefix(prefix))
    }

    /// The shape of a tensor in the file.
    pub(super) fn shape(&self, name: &str) -> Result<&[usize]> {
        Ok(&self.array(name)?.shape)
    }

    fn array(&self, name: &str) -> Result<&Array> {
        self.archive.arrays.get(name).ok_or_else(|| anyhow!("the file holds no `{name}`"))
    }

    /// A tensor of the file on the device, in the layout that the kernels use.
    pub(super) fn tensor(&self, name: &str, layout: Layout) -> Result<Tensor> {
        let stored = self.array(name)?;
        let array = match layout {
            Layout::Plain => stored.clone(),
            Layout::Nchw => nchw_to_nhwc(stored).with_context(|| name.to_string())?,
            Layout::Oihw | Layout::ModulatedOihw => oihw_to_hwio(stored).with_context(|| name.to_string())?,
            Layout::LinearFromNchw { .. } => {
                bail!("`{name}`: parameters of a network are read by their specifications")
            }
        };
        let tensor = Tensor::from_vec(array.data, &array.shape, self.device)?.to_dtype(self.dtype)?;
        self.remember(name, &tensor);
        Ok(tensor)
    }

    /// Keeps the place of values in memory, by which launches that read them are known.
    fn remember(&self, name: &str, tensor: &Tensor) {
        if let Ok(values) = tensor.host::<f64>() {
            self.names.borrow_mut().insert(values.as_ptr().addr(), name.to_string());
        }
    }

    /// The parameters `in.p.*` of a network.
    ///
    /// Errors: missing, surplus or misshaped tensors (all are listed), values that are not finite.
    pub(super) fn parameters(&self, specs: &[Spec]) -> Result<Params> {
        let params =
            Params::from_archive(&self.archive, "in.p.", specs, self.device)?.to_dtype(self.dtype, |_| false)?;
        params.iter().for_each(|(name, value)| self.remember(name, value));
        Ok(params)
    }

    fn param(&self, key: &str) -> Option<&Value> {
        self.params.get(key).filter(|v| !v.is_null())
    }

    fn parse<T: serde::de::DeserializeOwned>(key: &str, value: &Value) -> Result<T> {
        serde_json::from_value(value.clone()).map_err(|e| anyhow!("the parameter `{key}` is {value}: {e}"))
    }

    /// A parameter of the case. Errors: absent, or of another type.
    pub(super) fn get<T: serde::de::DeserializeOwned>(&self, key: &str) -> Result<T> {
        Self::parse(key, self.param(key).ok_or_else(|| anyhow!("the parameter `{key}` is missing"))?)
    }

    /// A parameter that may be absent or null. Errors: of another type.
    pub(super) fn find<T: serde::de::DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        self.param(key).map(|v| Self::parse(key, v)).transpose()
    }
}

/// A result in the layout of the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Numbers {
    /// Extents.
    pub(super) shape: Vec<usize>,
    /// The numbers, of f32 or of f64.
    pub(super) data: Vec<f64>,
}

impl From<Array> for Numbers {
    fn from(array: Array) -> Self {
        Self { shape: array.shape, data: array.data.into_iter().map(f64::from).collect() }
    }
}

/// What was computed, by the names and in the layouts of the file.
#[derive(Debug, Default)]
pub(super) struct Results(pub(super) BTreeMap<String, Numbers>);

impl Results {
    /// Adds a result.
    pub(super) fn put(&mut self, name: String, value: &Tensor, layout: Layout) -> Result<()> {
        let value = value.detach();
        let exact = value.dtype() == DType::F64;
        // Archives hold f32: a number of f64 goes through them in two parts, of which the second has what the first rounds off.
        let high = if exact { no_grad(|| value.to_dtype(DType::F32))? } else { value.clone() };
        let mut result = Numbers::from(stored(&name, &high, layout)?);
        if exact {
            let low = no_grad(|| value.sub(&high.to_dtype(DType::F64)?)?.to_dtype(DType::F32))?;
            let low = stored(&name, &low, layout)?.data;
            // What f32 cannot hold stays infinite.
            let parts = result.data.iter_mut().zip(low).filter(|(high, _)| high.is_finite());
            parts.for_each(|(high, low)| *high += f64::from(low));
        }
        self.0.insert(name, result);
        Ok(())
    }
}

/// A tensor as the file lays it out.
fn stored(name: &str, value: &Tensor, layout: Layout) -> Result<Array> {
    // The archive's own conversion, which knows every layout, needs a specification; names and shapes are ours.
    let spec = Spec::new(name, value.shape(), Init::Constant(0.0)).stored(layout);
    let mut params = Params::default();
    params.insert(name, value.detach());
    let mut archive = Archive::new();
    params.to_archive("", &[spec], &mut archive)?;
    archive.arrays.remove(name).ok_or_else(|| anyhow!("`{name}` was not stored"))
}
