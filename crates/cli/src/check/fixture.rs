//! A fixture in memory: tensors in PyTorch's layouts, parameters, and the error that plain f32 makes.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;
use swinstyle_models::{Init, Layout, Params, Spec};
use swinstyle_tensor::{Device, Tensor};
use swinstyle_weights::{
    Archive, Array,
    layout::{nchw_to_nhwc, oihw_to_hwio},
};

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
        let f32_err = match text("f32_err") {
            Some(errors) => serde_json::from_str(errors).with_context(|| json("f32_err"))?,
            None => BTreeMap::new(),
        };
        Ok(Self { case: case.clone(), kind: kind.clone(), params, f32_err, device, archive })
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
        Ok(Tensor::from_vec(array.data, &array.shape, self.device)?)
    }

    /// The parameters `in.p.*` of a network.
    ///
    /// Errors: missing, surplus or misshaped tensors (all are listed), values that are not finite.
    pub(super) fn parameters(&self, specs: &[Spec]) -> Result<Params> {
        Ok(Params::from_archive(&self.archive, "in.p.", specs, self.device)?)
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

/// What was computed, by the names and in the layouts of the file.
#[derive(Debug, Default)]
pub(super) struct Results(pub(super) BTreeMap<String, Array>);

impl Results {
    /// Adds a result.
    pub(super) fn put(&mut self, name: String, value: &Tensor, layout: Layout) -> Result<()> {
        // The archive's own conversion, which knows every layout, needs a specification; names and shapes are ours.
        let spec = Spec::new(name.clone(), value.shape(), Init::Constant(0.0)).stored(layout);
        let mut params = Params::default();
        params.insert(name, value.detach());
        let mut archive = Archive::new();
        params.to_archive("", &[spec], &mut archive)?;
        self.0.extend(archive.arrays);
        Ok(())
    }
}
