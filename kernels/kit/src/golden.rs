//! The golden fixtures of `tests/golden` for the tests of the rooms: inputs, parameters, float64 results, and the error allowed.
//!
//! For tests only: everything here panics on what it cannot read.

use std::{collections::BTreeMap, path::Path};

use safetensors::SafeTensors;
use serde_json::Value;
use swinstyle_tensor::{DType, Device, Tensor};

/// What `‖actual − reference‖ / ‖reference‖` may be in a half type.
fn half_tolerance(dtype: DType) -> Option<f64> {
    match dtype {
        DType::F16 => Some(2e-3),
        DType::BF16 => Some(1e-2),
        DType::F32 | DType::F64 => None,
    }
}

/// One fixture: a safetensors file written by `tests/golden/make_golden.py`.
#[derive(Debug)]
pub struct Fixture {
    /// Its case name, such as `upfirdn2d/up2_f1331`.
    pub name: String,
    /// The case's parameters.
    pub params: Value,
    /// Largest error of plain f32 and largest magnitude, a result.
    f32_err: BTreeMap<String, [f64; 2]>,
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    /// Type in which its tensors are handed out.
    dtype: DType,
}

impl Fixture {
    /// Every fixture of a family, in the order of their names.
    pub fn family(kind: &str) -> Vec<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(kind);
        let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let mut paths: Vec<_> = entries.map(|e| e.expect("a folder entry").path()).collect();
        paths.retain(|p| p.extension().is_some_and(|e| e == "safetensors"));
        paths.sort();
        assert!(!paths.is_empty(), "{} holds no fixture", folder.display());
        paths.iter().map(|p| Self::open(p)).collect()
    }

    /// The fixture of one case.
    pub fn case(name: &str) -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(format!("{name}.safetensors"));
        Self::open(&file)
    }

    /// The fixture in a file.
    pub fn open(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let (_, header) = SafeTensors::read_metadata(&bytes).expect("a safetensors header");
        let meta = header.metadata().clone().expect("metadata");
        let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
        let floats = file.iter().filter(|(_, view)| view.dtype() == safetensors::Dtype::F32);
        let tensors = floats.map(|(name, view)| {
            let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            (name.to_string(), (view.shape().to_vec(), values))
        });
        Self {
            name: meta["case"].clone(),
            params: serde_json::from_str(&meta["params"]).expect("params"),
            f32_err: serde_json::from_str(&meta["f32_err"]).expect("f32_err"),
            tensors: tensors.collect(),
            dtype: DType::F32,
        }
    }

    /// The same fixture with its tensors rounded to a type; results are then held to that type's tolerance.
    pub fn stored_as(self, dtype: DType) -> Self {
        Self { dtype, ..self }
    }

    /// Whether the fixture holds a tensor.
    pub fn has(&self, tensor: &str) -> bool {
        self.tensors.contains_key(tensor)
    }

    /// A tensor in its stored layout, with axes permuted (empty: as they are).
    pub fn tensor(&self, tensor: &str, axes: &[usize], device: Device) -> Tensor {
        let t = self.exact(tensor, axes);
        t.to_dtype(self.dtype).and_then(|t| t.to_device(device)).expect("the device")
    }

    fn exact(&self, tensor: &str, axes: &[usize]) -> Tensor {
        let (shape, values) = self.tensors.get(tensor).unwrap_or_else(|| panic!("{}: no {tensor}", self.name));
        let t = Tensor::from_vec(values.clone(), shape, Device::Cpu).expect("a tensor");
        if axes.is_empty() { t } else { t.permute(axes).expect("a permutation") }
    }

    /// A tensor stored as NCHW, as NHWC.
    pub fn nhwc(&self, tensor: &str, device: Device) -> Tensor {
        self.tensor(tensor, &[0, 2, 3, 1], device)
    }

    /// Asserts `max |actual − reference| ≤ 4·f32_err + 1e-6·max |reference|`, twice that off the cpu; for results in f16 and bf16
    /// `‖actual − reference‖ / ‖reference‖` at most 2e-3 and 1e-2.
    ///
    /// `axes` brings the reference into the layout of `actual` (empty: as it is).
    #[track_caller]
    pub fn assert(&self, tensor: &str, axes: &[usize], actual: &Tensor) {
        let expected = self.exact(tensor, axes);
        assert_eq!(actual.shape(), expected.shape(), "{} {tensor}: shapes", self.name);
        let [f32_err, magnitude] = self.f32_err[tensor];
        let devices = if actual.device() == Device::Cpu { 1.0 } else { 2.0 };
        let tolerance = devices * (4.0 * f32_err + 1e-6 * magnitude);
        let read = |t: &Tensor| t.to_vec_f64().expect("the values");
        let (a, e) = (read(actual), read(&expected));
        if let Some(limit) = half_tolerance(self.dtype) {
            let error = crate::testing::distance(&a, &e);
            assert!(error <= limit, "{} {tensor} in {} on {}: {error:e}", self.name, self.dtype, actual.device());
            return;
        }
        let (worst, at) = crate::testing::worst(&a, &e);
        assert!(
            worst <= tolerance,
            "{} {tensor} on {}: element {at} is {} instead of {} (tolerance {tolerance:e})",
            self.name,
            actual.device(),
            a[at],
            e[at]
        );
    }

    /// [`Fixture::assert`] for a reference stored as NCHW and a result in NHWC.
    #[track_caller]
    pub fn assert_nhwc(&self, tensor: &str, actual: &Tensor) {
        self.assert(tensor, &[0, 2, 3, 1], actual);
    }
}
