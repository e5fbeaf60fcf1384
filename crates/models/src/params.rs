//! Named parameters, how a network declares them, and how checkpoints lay them out.

use std::collections::BTreeMap;

use swinstyle_tensor::{DType, Device, Tensor, no_grad, rng::Philox};

use crate::{ModelError, Result};

/// How a parameter's stored form (PyTorch's) relates to its form in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// The same.
    Plain,
    /// Stored `[O, I, kh, kw]`, in memory `[kh, kw, I, O]`.
    Oihw,
    /// Stored `[1, O, I, kh, kw]` (modulated convolutions of the common port), in memory `[kh, kw, I, O]`.
    ModulatedOihw,
    /// Stored `[N, C, H, W]`, in memory `[N, H, W, C]`.
    Nchw,
    /// A linear weight `[O, C·P]` that reads a flattened map of P pixels: stored channel-major, in memory pixel-major.
    LinearFromNchw {
        /// C.
        channels: usize,
    },
}

/// Distribution of a fresh parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// One value.
    Constant(f64),
    /// Normal with mean 0.
    Normal {
        /// Standard deviation.
        std: f64,
    },
    /// Uniform in ±bound.
    Uniform {
        /// Half width.
        bound: f64,
    },
}

/// One parameter or buffer that a network expects.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// Name, as in the reference's checkpoints.
    pub name: String,
    /// Shape in memory.
    pub shape: Vec<usize>,
    /// How checkpoints store it.
    pub layout: Layout,
    /// Fresh values.
    pub init: Init,
    /// Whether it is trained; noise buffers are not.
    pub trainable: bool,
    /// Whether the first axis counts networks of equal shape that run as one, whose parameters elsewhere are tensors of their own.
    pub stacked: bool,
}

impl Spec {
    /// A trained parameter stored as it is.
    pub fn new(name: impl Into<String>, shape: &[usize], init: Init) -> Self {
        let (layout, trainable, stacked) = (Layout::Plain, true, false);
        Self { name: name.into(), shape: shape.to_vec(), layout, init, trainable, stacked }
    }

    /// With another stored layout.
    pub fn stored(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// As a buffer that is saved but not trained.
    pub fn buffer(mut self) -> Self {
        self.trainable = false;
        self
    }

    /// As one of networks that are stacked along the first axis.
    pub fn stacked(mut self) -> Self {
        self.stacked = true;
        self
    }

    /// The axes in memory that are all but the first in a checkpoint of PyTorch, `dim=1..`: of a linear or convolutional weight what one
    /// output reads, of a modulated one and of an image everything (their first axis there has one element), of a vector none.
    pub fn inner_axes(&self) -> Vec<usize> {
        let rank = self.shape.len();
        match self.layout {
            Layout::Oihw => (0..rank.saturating_sub(1)).collect(),
            Layout::ModulatedOihw | Layout::Nchw => (0..rank).collect(),
            Layout::Plain | Layout::LinearFromNchw { .. } => (1 + usize::from(self.stacked)..rank).collect(),
        }
    }

    /// Shape in a checkpoint file.
    pub fn stored_shape(&self) -> Vec<usize> {
        match (self.layout, &self.shape[..]) {
            (Layout::Oihw, &[kh, kw, i, o]) => vec![o, i, kh, kw],
            (Layout::ModulatedOihw, &[kh, kw, i, o]) => vec![1, o, i, kh, kw],
            (Layout::Nchw, &[n, h, w, c]) => vec![n, c, h, w],
            _ => self.shape.clone(),
        }
    }
}

/// Parameters by name.
#[derive(Debug, Clone, Default)]
pub struct Params {
    map: BTreeMap<String, Tensor>,
}

impl Params {
    /// Fresh parameters on a device; each name draws from its own random stream, so adding a layer leaves the others' values alone.
    pub fn init(specs: &[Spec], seed: u64, device: Device) -> Result<Self> {
        let mut map = BTreeMap::new();
        for s in specs {
            let len: usize = s.shape.iter().product();
            let mut rng = Philox::new(seed, fnv1a64(FNV_OFFSET, s.name.bytes()));
            let values: Vec<f32> = match s.init {
                Init::Constant(v) => vec![v as f32; len],
                Init::Normal { std } => rng.normal_vec(len).into_iter().map(|v| v * std as f32).collect(),
                Init::Uniform { bound } => (0..len).map(|_| (2.0 * rng.uniform() - 1.0) * bound as f32).collect(),
            };
            map.insert(s.name.clone(), Tensor::from_vec(values, &s.shape, device)?);
        }
        Ok(Self { map })
    }

    /// The parameter of that name.
    pub fn get(&self, name: &str) -> Result<&Tensor> {
        self.map.get(name).ok_or_else(|| ModelError::MissingParameter(name.to_string()))
    }

    /// The parameter of that name, if there is one.
    pub fn find(&self, name: &str) -> Option<&Tensor> {
        self.map.get(name)
    }

    /// Adds or replaces a parameter.
    pub fn insert(&mut self, name: impl Into<String>, value: Tensor) {
        self.map.insert(name.into(), value);
    }

    /// The parameters of those names side by side, as [`Tensor::pack`] lays them out.
    pub fn pack(&self, names: &[&String]) -> Result<Tensor> {
        let all = names.iter().map(|name| self.get(name)).collect::<Result<Vec<_>>>()?;
        Ok(Tensor::pack(&all)?)
    }

    /// Puts the tensors of such a pack under their names, in their shapes.
    pub fn insert_pack(&mut self, names: &[&String], pack: &Tensor, shapes: &[&[usize]]) -> Result<()> {
        for (name, value) in names.iter().zip(pack.unpack(shapes)?) {
            self.insert(*name, value);
        }
        Ok(())
    }

    /// All of them, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Tensor)> {
        self.map.iter()
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Number of values in all tensors.
    pub fn count(&self) -> usize {
        self.map.values().map(Tensor::len).sum()
    }

    /// Those whose name starts with `prefix`, under the rest of their names.
    pub fn under(&self, prefix: &str) -> Self {
        let map = self.map.iter().filter_map(|(k, v)| Some((k.strip_prefix(prefix)?.to_string(), v.clone())));
        Self { map: map.collect() }
    }

    /// A copy in which every tensor for which `trainable` holds is a fresh leaf of the tape.
    pub fn leaves(&self, trainable: impl Fn(&str) -> bool) -> Self {
        let leaf = |(k, v): (&String, &Tensor)| (k.clone(), if trainable(k) { v.as_leaf() } else { v.detach() });
        Self { map: self.map.iter().map(leaf).collect() }
    }

    /// FNV-1a over names and values: what belongs to these weights (codes, directions, an encoder) can tell them from others.
    pub fn fingerprint(&self) -> Result<String> {
        let mut hash = FNV_OFFSET;
        for (name, value) in self.iter() {
            hash = fnv1a64(hash, name.bytes().chain(value.to_vec()?.into_iter().flat_map(f32::to_le_bytes)));
        }
        Ok(format!("{hash:016x}"))
    }

    /// A copy on another device.
    pub fn to_device(&self, device: Device) -> Result<Self> {
        let map = self.map.iter().map(|(k, v)| Ok((k.clone(), v.to_device(device)?)));
        Ok(Self { map: map.collect::<Result<_>>()? })
    }

    /// A copy in another type, without those for which `keep` holds; on the tape, so that gradients reach the originals in theirs.
    pub fn to_dtype(&self, dtype: DType, keep: impl Fn(&str) -> bool) -> Result<Self> {
        let convert =
            |(k, v): (&String, &Tensor)| Ok((k.clone(), if keep(k) { v.clone() } else { v.to_dtype(dtype)? }));
        Ok(Self { map: self.map.iter().map(convert).collect::<Result<_>>()? })
    }

    /// `self ← decay·self + (1 − decay)·other` on every tensor, without history: the exponential moving average of weights.
    ///
    /// What lies packed in `other`, as an optimiser leaves it, is averaged in one launch, and everything else in one for many tensors.
    pub fn ema_update(&mut self, other: &Params, decay: f64) -> Result<()> {
        let names: Vec<String> = self.map.keys().cloned().collect();
        let new = names.iter().map(|name| Ok(other.get(name)?.detach())).collect::<Result<Vec<_>>>()?;
        for group in Tensor::packs(&new.iter().collect::<Vec<_>>()) {
            let shapes: Vec<&[usize]> = group.iter().map(|&i| new[i].shape()).collect();
            let names: Vec<&String> = group.iter().map(|&i| &names[i]).collect();
            let average = self.pack(&names)?.average(&no_grad(|| other.pack(&names))?, decay)?;
            self.insert_pack(&names, &average, &shapes)?;
        }
        Ok(())
    }
}

impl FromIterator<(String, Tensor)> for Params {
    fn from_iter<I: IntoIterator<Item = (String, Tensor)>>(items: I) -> Self {
        Self { map: items.into_iter().collect() }
    }
}

const FNV_OFFSET: u64 = 0xCBF2_9CE4_8422_2325;

fn fnv1a64(hash: u64, bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(hash, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01B3))
}
