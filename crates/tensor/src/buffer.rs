//! Memory of tensors: pooled host buffers and device buffers.

use std::{
    collections::HashMap,
    mem::size_of,
    ops::{Deref, DerefMut},
    sync::{LazyLock, Mutex},
};

use crate::{Device, Result, Scalar, TensorError, counters, cube::CubeBuffer};

/// Host memory that returns to a pool when dropped.
///
/// Training allocates the same sizes every step; fresh pages from the kernel would cost a fault and a
/// zeroing each time, which on memory-bound operations is as long as the operation itself.
#[derive(Debug)]
pub struct HostBuffer<T: Scalar> {
    data: Vec<T>,
    /// Whether it is the pool's. What a caller brought is not: the pool would grow by every image that is read.
    pooled: bool,
}

/// Freed allocations by element type and capacity, with the bytes that they hold.
#[derive(Default)]
struct Pool {
    free: HashMap<(std::any::TypeId, usize), Vec<Box<dyn std::any::Any + Send>>>,
    bytes: usize,
}

static POOL: LazyLock<Mutex<Pool>> = LazyLock::new(Mutex::default);

/// Freed memory that the pool keeps in any case. Beyond it, it keeps as much as tensors once had at the same time: a training step frees
/// nearly that at its end, and wants it back in the next.
const POOL_LIMIT: usize = 1 << 30;
/// Below this many bytes the allocator is as fast as the pool.
const POOL_MIN: usize = 16 << 10;

/// Capacities are rounded up to an eighth of their power of two, so that nearby sizes share buffers.
fn rounded(len: usize) -> usize {
    let step = (len.next_power_of_two() / 16).max(64);
    len.div_ceil(step) * step
}

impl<T: Scalar> HostBuffer<T> {
    /// A buffer of `len` elements whose contents are arbitrary (but initialised) values.
    pub fn uninit(op: &'static str, len: usize) -> Result<Self> {
        let capacity = rounded(len);
        let oom = || TensorError::OutOfMemory { op, device: Device::Cpu, bytes: len.saturating_mul(size_of::<T>()) };
        if capacity.checked_mul(size_of::<T>()).is_none_or(|b| b > isize::MAX as usize) {
            return Err(oom());
        }
        let bytes = capacity * size_of::<T>();
        counters::allocated(bytes);
        if bytes >= POOL_MIN
            && let Ok(mut pool) = POOL.lock()
            && let Some(found) = pool.free.get_mut(&(std::any::TypeId::of::<T>(), capacity)).and_then(Vec::pop)
        {
            pool.bytes -= bytes;
            drop(pool);
            if let Ok(data) = found.downcast::<Vec<T>>() {
                let mut data = *data;
                data.truncate(len);
                data.resize(len, T::ZERO);
                return Ok(Self::counted(data, true));
            }
        }
        if bytes >= POOL_MIN {
            counters::fresh(bytes);
        }
        let mut data: Vec<T> = Vec::new();
        data.try_reserve_exact(capacity).map_err(|_| oom())?;
        data.resize(len, T::ZERO);
        // An allocator may give more than was asked for; that would be found again under no size.
        let pooled = bytes >= POOL_MIN && data.capacity() == capacity;
        Ok(Self::counted(data, pooled))
    }

    /// A buffer of zeros.
    pub fn zeroed(op: &'static str, len: usize) -> Result<Self> {
        let mut buffer = Self::uninit(op, len)?;
        buffer.data.fill(T::ZERO);
        Ok(buffer)
    }

    /// Takes over a vector.
    pub fn from_vec(data: Vec<T>) -> Self {
        Self::counted(data, false)
    }

    fn counted(data: Vec<T>, pooled: bool) -> Self {
        counters::host_memory((data.capacity() * size_of::<T>()) as i64);
        Self { data, pooled }
    }
}

impl<T: Scalar> Drop for HostBuffer<T> {
    fn drop(&mut self) {
        let capacity = self.data.capacity();
        let bytes = capacity * size_of::<T>();
        counters::host_memory(-(bytes as i64));
        if !self.pooled {
            return;
        }
        if let Ok(mut pool) = POOL.lock()
            && pool.bytes + bytes <= POOL_LIMIT.max(counters::most_host_bytes())
        {
            pool.bytes += bytes;
            let data = std::mem::take(&mut self.data);
            pool.free.entry((std::any::TypeId::of::<T>(), capacity)).or_default().push(Box::new(data));
        }
    }
}

impl<T: Scalar> Deref for HostBuffer<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.data
    }
}

impl<T: Scalar> DerefMut for HostBuffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.data
    }
}

/// Storage of a tensor on whichever device it lives.
#[derive(Debug)]
pub enum Buffer {
    /// f32 on the cpu, and the half types there: f32 numbers that were rounded.
    F32(HostBuffer<f32>),
    /// f64 on the cpu.
    F64(HostBuffer<f64>),
    /// Any type on a CubeCL device.
    Cube(CubeBuffer),
}

impl Buffer {
    /// Number of elements.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::F32(b) => b.len(),
            Self::F64(b) => b.len(),
            Self::Cube(b) => b.arg().len,
        }
    }
}
