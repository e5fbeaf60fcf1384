//! One named tensor of a file: its shape, its values as f32, and how the file stored them.

use half::{bf16, f16};

use crate::WeightsError;

/// Element type in a file. In memory every value is an f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // The names say it all.
pub enum Dtype {
    F64,
    F32,
    F16,
    Bf16,
    I64,
    I32,
    I16,
    I8,
    U64,
    U32,
    U16,
    U8,
    Bool,
}

/// Element type that the floating-point tensors of a written file get; integer tensors keep their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum FloatDtype {
    F32,
    F16,
    Bf16,
}

impl Dtype {
    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            Dtype::F64 | Dtype::I64 | Dtype::U64 => 8,
            Dtype::F32 | Dtype::I32 | Dtype::U32 => 4,
            Dtype::F16 | Dtype::Bf16 | Dtype::I16 | Dtype::U16 => 2,
            Dtype::I8 | Dtype::U8 | Dtype::Bool => 1,
        }
    }

    /// Whether elements are floating-point numbers.
    pub const fn is_float(self) -> bool {
        matches!(self, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::Bf16)
    }

    /// The name that safetensors gives the type.
    pub const fn name(self) -> &'static str {
        match self {
            Dtype::F64 => "F64",
            Dtype::F32 => "F32",
            Dtype::F16 => "F16",
            Dtype::Bf16 => "BF16",
            Dtype::I64 => "I64",
            Dtype::I32 => "I32",
            Dtype::I16 => "I16",
            Dtype::I8 => "I8",
            Dtype::U64 => "U64",
            Dtype::U32 => "U32",
            Dtype::U16 => "U16",
            Dtype::U8 => "U8",
            Dtype::Bool => "BOOL",
        }
    }

    /// Little-endian elements to f32. Bytes past the last whole element are ignored.
    pub(crate) fn decode(self, bytes: &[u8]) -> Vec<f32> {
        fn each<const N: usize>(bytes: &[u8], to_f32: impl Fn([u8; N]) -> f32) -> Vec<f32> {
            let (elements, _) = bytes.as_chunks::<N>();
            elements.iter().map(|&element| to_f32(element)).collect()
        }
        match self {
            Dtype::F64 => each(bytes, |b| f64::from_le_bytes(b) as f32),
            Dtype::F32 => each(bytes, f32::from_le_bytes),
            Dtype::F16 => each(bytes, |b| f16::from_le_bytes(b).to_f32()),
            Dtype::Bf16 => each(bytes, |b| bf16::from_le_bytes(b).to_f32()),
            Dtype::I64 => each(bytes, |b| i64::from_le_bytes(b) as f32),
            Dtype::I32 => each(bytes, |b| i32::from_le_bytes(b) as f32),
            Dtype::I16 => each(bytes, |b| f32::from(i16::from_le_bytes(b))),
            Dtype::I8 => each(bytes, |b| f32::from(i8::from_le_bytes(b))),
            Dtype::U64 => each(bytes, |b| u64::from_le_bytes(b) as f32),
            Dtype::U32 => each(bytes, |b| u32::from_le_bytes(b) as f32),
            Dtype::U16 => each(bytes, |b| f32::from(u16::from_le_bytes(b))),
            Dtype::U8 => each(bytes, |[b]| f32::from(b)),
            Dtype::Bool => each(bytes, |[b]| f32::from(u8::from(b != 0))),
        }
    }

    /// Whether `value` survives being stored: a finite number stays finite, and a number stored
    /// as an integer is one, in range.
    pub(crate) fn can_store(self, value: f32) -> bool {
        // The bounds are powers of two, hence exact in f32; the upper one is exclusive.
        let integer_in = |low: f32, high: f32| value.fract() == 0.0 && (low..high).contains(&value);
        match self {
            Dtype::F64 | Dtype::F32 => true,
            Dtype::F16 => !value.is_finite() || f16::from_f32(value).is_finite(),
            Dtype::Bf16 => !value.is_finite() || bf16::from_f32(value).is_finite(),
            Dtype::I64 => integer_in(-(2f32.powi(63)), 2f32.powi(63)),
            Dtype::I32 => integer_in(-(2f32.powi(31)), 2f32.powi(31)),
            Dtype::I16 => integer_in(-(2f32.powi(15)), 2f32.powi(15)),
            Dtype::I8 => integer_in(-128.0, 128.0),
            Dtype::U64 => integer_in(0.0, 2f32.powi(64)),
            Dtype::U32 => integer_in(0.0, 2f32.powi(32)),
            Dtype::U16 => integer_in(0.0, 65536.0),
            Dtype::U8 => integer_in(0.0, 256.0),
            Dtype::Bool => value == 0.0 || value == 1.0,
        }
    }

    /// Append `values` as little-endian elements; [`can_store`](Self::can_store) holds for each.
    pub(crate) fn encode(self, values: &[f32], out: &mut Vec<u8>) {
        fn each<const N: usize>(values: &[f32], out: &mut Vec<u8>, to_bytes: impl Fn(f32) -> [u8; N]) {
            out.extend(values.iter().flat_map(|&value| to_bytes(value)));
        }
        match self {
            Dtype::F64 => each(values, out, |v| f64::from(v).to_le_bytes()),
            Dtype::F32 => each(values, out, f32::to_le_bytes),
            Dtype::F16 => each(values, out, |v| f16::from_f32(v).to_le_bytes()),
            Dtype::Bf16 => each(values, out, |v| bf16::from_f32(v).to_le_bytes()),
            Dtype::I64 => each(values, out, |v| (v as i64).to_le_bytes()),
            Dtype::I32 => each(values, out, |v| (v as i32).to_le_bytes()),
            Dtype::I16 => each(values, out, |v| (v as i16).to_le_bytes()),
            Dtype::I8 => each(values, out, |v| (v as i8).to_le_bytes()),
            Dtype::U64 => each(values, out, |v| (v as u64).to_le_bytes()),
            Dtype::U32 => each(values, out, |v| (v as u32).to_le_bytes()),
            Dtype::U16 => each(values, out, |v| (v as u16).to_le_bytes()),
            Dtype::U8 | Dtype::Bool => each(values, out, |v| [v as u8]),
        }
    }
}

impl std::fmt::Display for Dtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl From<FloatDtype> for Dtype {
    fn from(dtype: FloatDtype) -> Self {
        match dtype {
            FloatDtype::F32 => Dtype::F32,
            FloatDtype::F16 => Dtype::F16,
            FloatDtype::Bf16 => Dtype::Bf16,
        }
    }
}

/// A tensor as plain data: row-major values, the last axis fastest.
///
/// Values are f32 whatever the file held. f16, bf16 and integers up to 2²⁴ are exact; f64 and wider
/// integers (step counters beside the weights) round to the nearest f32.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Extents, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// As many values as the extents multiply to.
    pub data: Vec<f32>,
    /// How the file stored the values. [`Archive::write`](crate::Archive::write) keeps integer types.
    pub dtype: Dtype,
}

impl Array {
    /// An f32 array.
    ///
    /// # Errors
    /// [`WeightsError::Shape`] when `data` has not as many values as `shape` says.
    pub fn new(shape: Vec<usize>, data: Vec<f32>) -> Result<Self, WeightsError> {
        let array = Self { shape, data, dtype: Dtype::F32 };
        match array.is_consistent() {
            true => Ok(array),
            false => Err(WeightsError::Shape {
                operation: "Array::new",
                reason: format!("the shape {:?} does not hold {} values", array.shape, array.data.len()),
            }),
        }
    }

    /// Whether `shape` multiplies to the number of values.
    pub(crate) fn is_consistent(&self) -> bool {
        let elements = self.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        elements == Some(self.data.len())
    }
}
