//! Device memory of tensors.

use std::ops::Range;

use cubecl::{
    bytes::Bytes,
    prelude::{ArrayArg, Runtime},
    server::Handle,
};
use half::{bf16, f16};

use super::{CubeClient, client, faults, with_client};
use crate::{DType, Device, Result, TensorError, counters};

/// Buffers are padded to a multiple of these bytes, so that a kernel over vectors of up to 16 bytes may read and write the
/// whole last vector of a buffer whose length is no multiple of the width.
const PADDING: usize = 16;

/// A buffer as a kernel sees it.
#[derive(Debug, Clone)]
pub struct CubeArg {
    /// Device memory.
    pub handle: Handle,
    /// Number of elements.
    pub len: usize,
    /// Element type.
    pub dtype: DType,
}

impl CubeArg {
    /// The buffer as a launch argument of `len` elements.
    pub fn array<R: Runtime>(&self) -> ArrayArg<R> {
        // SAFETY: the handle holds `len` elements.
        unsafe { ArrayArg::from_raw_parts(self.handle.clone(), self.len) }
    }

    /// The buffer with its padding: `len` rounded up to a multiple of `width` elements, for kernels over vectors.
    ///
    /// What lies beyond `len` has arbitrary values. `width` elements are at most 16 bytes.
    pub fn padded<R: Runtime>(&self, width: usize) -> ArrayArg<R> {
        // SAFETY: buffers are padded to 16 bytes.
        unsafe { ArrayArg::from_raw_parts(self.handle.clone(), self.len.next_multiple_of(width)) }
    }
}

/// Device memory of a tensor.
#[derive(Debug)]
pub struct CubeBuffer {
    arg: CubeArg,
}

impl CubeBuffer {
    /// Memory for `len` elements with arbitrary contents.
    ///
    /// Errors: [`TensorError::OutOfMemory`] beyond what the device can bind at once. Memory that is merely used up is found
    /// later, at the next download or [`CubeClient::synchronize`]: allocation is asynchronous.
    pub fn empty(op: &'static str, client: &CubeClient, device: Device, len: usize, dtype: DType) -> Result<Self> {
        let bytes = allocation(op, client, device, len, dtype)?;
        let handle = with_client!(client, |c| c.empty(bytes));
        Ok(Self { arg: CubeArg { handle, len, dtype } })
    }

    /// Copies f32 values to the device, converting to `dtype`.
    pub fn upload(op: &'static str, device: Device, data: &[f32], dtype: DType) -> Result<Self> {
        let client = client(device)?;
        client.check_dtype(op, dtype).map_err(|e| e.on(device))?;
        let bytes = allocation(op, &client, device, data.len(), dtype)?;
        let mut padded = Vec::with_capacity(bytes);
        match dtype {
            DType::F32 => padded.extend_from_slice(bytemuck::cast_slice(data)),
            DType::F16 => padded.extend(data.iter().flat_map(|&v| f16::from_f32(v).to_ne_bytes())),
            DType::BF16 => padded.extend(data.iter().flat_map(|&v| bf16::from_f32(v).to_ne_bytes())),
            DType::F64 => return Err(TensorError::UnsupportedDType { op, dtype, device }),
        }
        padded.resize(bytes, 0);
        let padded = Bytes::from_bytes_vec(padded);
        let handle: Handle = with_client!(&client, |c| c.create(padded));
        Ok(Self { arg: CubeArg { handle, len: data.len(), dtype } })
    }

    /// Copies the elements to the host as f32, waiting for the device.
    ///
    /// Errors of launches and allocations since the last wait appear here.
    pub fn download(&self, device: Device) -> Result<Vec<f32>> {
        self.download_part(device, 0..self.arg.len)
    }

    /// [`CubeBuffer::download`] of a range of the elements, which begins where the device may bind from.
    pub fn download_part(&self, device: Device, range: Range<usize>) -> Result<Vec<f32>> {
        let CubeArg { handle, len, dtype } = self.part(range);
        if len == 0 {
            return Ok(Vec::new());
        }
        let bytes: Bytes = with_client!(&client(device)?, |c| faults::read("download", device, c, handle)?);
        let Some(bytes) = bytes.get(..len * dtype.size()) else {
            let detail = format!("{} bytes were read where {} were asked for", bytes.len(), len * dtype.size());
            return Err(TensorError::Backend { op: "download", device, detail });
        };
        Ok(match dtype {
            DType::F16 => bytes.chunks_exact(2).map(|b| f16::from_ne_bytes([b[0], b[1]]).to_f32()).collect(),
            DType::BF16 => bytes.chunks_exact(2).map(|b| bf16::from_ne_bytes([b[0], b[1]]).to_f32()).collect(),
            // f64 buffers are never made.
            DType::F32 | DType::F64 => bytemuck::pod_collect_to_vec(bytes),
        })
    }

    /// The buffer as a kernel argument.
    pub fn arg(&self) -> CubeArg {
        self.arg.clone()
    }

    /// A range of its elements as a kernel argument, padded like a buffer. It begins where the device may bind from.
    pub fn part(&self, range: Range<usize>) -> CubeArg {
        let CubeArg { handle, len, dtype } = self.arg();
        if range == (0..len) {
            return CubeArg { handle, len, dtype };
        }
        // Nothing can be bound as well from the beginning, and nothing of no bytes can be bound.
        let range = if range.is_empty() { 0..0 } else { range };
        let end = (range.end * dtype.size()).max(1).next_multiple_of(PADDING) as u64;
        let behind = handle.size_in_used() - end;
        let handle = handle.offset_start((range.start * dtype.size()) as u64).offset_end(behind);
        CubeArg { handle, len: range.len(), dtype }
    }
}

/// Padded bytes of `len` elements, counted, if the device can bind that much.
fn allocation(op: &'static str, client: &CubeClient, device: Device, len: usize, dtype: DType) -> Result<usize> {
    let limit = client.max_allocation();
    let bytes = len.checked_mul(dtype.size()).and_then(|b| b.max(1).checked_next_multiple_of(PADDING));
    match bytes {
        Some(bytes) if bytes as u64 <= limit => {
            counters::allocated(bytes);
            faults::requested(bytes);
            Ok(bytes)
        }
        _ => Err(TensorError::OutOfMemory { op, device, bytes: len.saturating_mul(dtype.size()) }),
    }
}
