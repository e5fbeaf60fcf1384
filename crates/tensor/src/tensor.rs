//! The tensor: an immutable, contiguous, row-major array on a device, optionally recorded on the tape.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    Buffer, DType, Device, HostBuffer, Result, Scalar, TensorError,
    autograd::Node,
    counters,
    cube::{self, CubeArg, CubeBuffer},
    kernel::checked_len,
};

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// An n-dimensional array; cloning shares it.
///
/// Activations are NHWC, tokens `[B, H, W, C]`, convolution weights `[kh, kw, I, O]`, linear weights `[O, I]`.
#[derive(Clone)]
pub struct Tensor(Arc<Inner>);

struct Inner {
    id: u64,
    buffer: Arc<Buffer>,
    /// Its first element there: tensors of a pack share one buffer.
    start: usize,
    shape: Vec<usize>,
    dtype: DType,
    device: Device,
    /// Whether gradients can be asked with respect to this tensor or to something it was computed from.
    tracked: bool,
    node: Option<Node>,
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({:?}, {}, {})", self.shape(), self.dtype(), self.device())
    }
}

impl Tensor {
    pub(crate) fn from_buffer(buffer: Buffer, shape: Vec<usize>, device: Device, dtype: DType) -> Self {
        Self::build(Arc::new(buffer), 0, shape, device, dtype, false, None)
    }

    fn build(
        buffer: Arc<Buffer>,
        start: usize,
        shape: Vec<usize>,
        device: Device,
        dtype: DType,
        tracked: bool,
        node: Option<Node>,
    ) -> Self {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Self(Arc::new(Inner { id, buffer, start, shape, dtype, device, tracked, node }))
    }

    /// The elements from `start` of this tensor on under a shape that they hold, without history and without a copy.
    pub(crate) fn part(&self, start: usize, shape: Vec<usize>) -> Self {
        let i = &self.0;
        Self::build(i.buffer.clone(), i.start + start, shape, i.device, i.dtype, false, None)
    }

    /// All of the buffer, as one dimension, without history.
    pub(crate) fn whole_buffer(&self) -> Self {
        let i = &self.0;
        Self::build(i.buffer.clone(), 0, vec![i.buffer.len()], i.device, i.dtype, false, None)
    }

    /// Its first element in its buffer.
    pub(crate) fn start(&self) -> usize {
        self.0.start
    }

    /// Elements of its buffer, other tensors' included.
    pub(crate) fn buffer_len(&self) -> usize {
        self.0.buffer.len()
    }

    /// Whether another tensor lies in the same buffer.
    pub(crate) fn shares_buffer(&self, other: &Tensor) -> bool {
        Arc::ptr_eq(&self.0.buffer, &other.0.buffer)
    }

    /// What tells its buffer from others while it lives.
    pub(crate) fn buffer_address(&self) -> usize {
        Arc::as_ptr(&self.0.buffer).addr()
    }

    /// Where its elements are in its buffer.
    fn range(&self) -> std::ops::Range<usize> {
        self.0.start..self.0.start + self.len()
    }

    /// A tensor from values in row-major order, f32 or f64 by `T`. PyTorch: `torch.tensor`.
    ///
    /// On GPUs only f32 values are accepted. Errors: a length that is not the product of the shape, an absent device.
    ///
    /// ```
    /// # use swinstyle_tensor::{Device::Cpu, Tensor};
    /// let x = Tensor::from_vec(vec![1.0_f32, 2.0, 3.0, 4.0], &[2, 2], Cpu)?;
    /// assert_eq!((x.shape(), x.len()), (&[2, 2][..], 4));
    /// assert!(Tensor::from_vec(vec![1.0_f32], &[2], Cpu).is_err());
    /// # Ok::<(), swinstyle_tensor::TensorError>(())
    /// ```
    pub fn from_vec<T: Scalar>(data: Vec<T>, shape: &[usize], device: Device) -> Result<Self> {
        counters::uploaded(data.len() * T::DTYPE.size());
        Self::from_host(data, shape, device)
    }

    /// [`Tensor::from_vec`], not counted.
    pub(crate) fn from_host<T: Scalar>(data: Vec<T>, shape: &[usize], device: Device) -> Result<Self> {
        let len = checked_len("from_vec", shape)?;
        if data.len() != len {
            return Err(TensorError::shape("from_vec", format!("{} values for shape {shape:?}", data.len())));
        }
        let buffer = match (device, T::DTYPE) {
            // The casts are identities: each arm has matched the type.
            (Device::Cpu, DType::F32) => Buffer::F32(HostBuffer::from_vec(bytemuck::cast_vec(data))),
            (Device::Cpu, DType::F64) => Buffer::F64(HostBuffer::from_vec(bytemuck::cast_vec(data))),
            (_, DType::F32) => {
                Buffer::Cube(CubeBuffer::upload("from_vec", device, bytemuck::cast_slice(&data), DType::F32)?)
            }
            (_, dtype) => return Err(TensorError::UnsupportedDType { op: "from_vec", dtype, device }),
        };
        Ok(Self::from_buffer(buffer, shape.to_vec(), device, T::DTYPE))
    }

    /// [`Tensor::from_vec`] from a slice.
    pub fn from_slice<T: Scalar>(data: &[T], shape: &[usize], device: Device) -> Result<Self> {
        Self::from_vec(data.to_vec(), shape, device)
    }

    /// A tensor of one value everywhere. PyTorch: `torch.full`.
    ///
    /// ```
    /// # use swinstyle_tensor::{DType, Device::Cpu, Tensor};
    /// let x = Tensor::full(0.5, &[3], DType::F32, Cpu)?;
    /// assert_eq!(x.to_vec()?, [0.5; 3]);
    /// # Ok::<(), swinstyle_tensor::TensorError>(())
    /// ```
    pub fn full(value: f64, shape: &[usize], dtype: DType, device: Device) -> Result<Self> {
        let mut out = crate::kernel::launch_on(&crate::ops::Fill { value, shape: shape.to_vec() }, &[], device, dtype)?;
        Ok(out.remove(0))
    }

    /// Zeros with the shape, type and device of `self`.
    pub fn zeros_like(&self) -> Result<Self> {
        Self::full(0.0, self.shape(), self.dtype(), self.device())
    }

    /// The shape.
    pub fn shape(&self) -> &[usize] {
        &self.0.shape
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.0.shape.iter().product()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.0.dtype
    }

    /// Device.
    pub fn device(&self) -> Device {
        self.0.device
    }

    /// Identity of this tensor on the tape.
    pub(crate) fn id(&self) -> u64 {
        self.0.id
    }

    pub(crate) fn node(&self) -> Option<&Node> {
        self.0.node.as_ref()
    }

    /// Whether gradients flow to or through this tensor.
    pub fn is_tracked(&self) -> bool {
        self.0.tracked
    }

    /// A new leaf that shares the values and with respect to which gradients can be asked. PyTorch: `detach().requires_grad_()`.
    pub fn as_leaf(&self) -> Self {
        let i = &self.0;
        Self::build(i.buffer.clone(), i.start, i.shape.clone(), i.device, i.dtype, true, None)
    }

    /// The same values without history. PyTorch: `detach`.
    ///
    /// ```
    /// # use swinstyle_tensor::{Device::Cpu, Tensor};
    /// let x = Tensor::from_slice(&[1.0_f32, 2.0, 3.0, 4.0], &[2, 2], Cpu)?;
    /// let x = x.as_leaf();
    /// assert!(x.is_tracked() && !x.detach().is_tracked());
    /// # Ok::<(), swinstyle_tensor::TensorError>(())
    /// ```
    pub fn detach(&self) -> Self {
        let i = &self.0;
        if !i.tracked {
            return self.clone();
        }
        Self::build(i.buffer.clone(), i.start, i.shape.clone(), i.device, i.dtype, false, None)
    }

    pub(crate) fn with_node(self, node: Node) -> Self {
        let i = &self.0;
        Self::build(i.buffer.clone(), i.start, i.shape.clone(), i.device, i.dtype, true, Some(node))
    }

    /// The same buffer under another shape of equal length, without history.
    pub(crate) fn with_shape(&self, shape: Vec<usize>) -> Self {
        let i = &self.0;
        Self::build(i.buffer.clone(), i.start, shape, i.device, i.dtype, false, None)
    }

    /// The elements, for a tensor on the cpu whose type is `T`.
    pub fn host<T: Scalar>(&self) -> Result<&[T]> {
        let wrong = || TensorError::UnsupportedDType { op: "host", dtype: self.dtype(), device: self.device() };
        match &*self.0.buffer {
            Buffer::F32(b) if T::DTYPE == DType::F32 => Ok(bytemuck::cast_slice(&b[self.range()])),
            Buffer::F64(b) if T::DTYPE == DType::F64 => Ok(bytemuck::cast_slice(&b[self.range()])),
            _ => Err(wrong()),
        }
    }

    pub(crate) fn cube_arg(&self) -> Result<CubeArg> {
        match &*self.0.buffer {
            Buffer::Cube(b) => Ok(b.part(self.range())),
            _ => Err(TensorError::UnsupportedDType { op: "cube_arg", dtype: self.dtype(), device: self.device() }),
        }
    }

    /// Copies the elements to the host as f32, waiting for the device. PyTorch: `.float().cpu()`.
    pub fn to_vec(&self) -> Result<Vec<f32>> {
        counters::downloaded(self.len() * self.dtype().size());
        self.values()
    }

    /// Copies the elements to the host as f64.
    pub fn to_vec_f64(&self) -> Result<Vec<f64>> {
        counters::downloaded(self.len() * self.dtype().size());
        self.values_f64()
    }

    /// [`Tensor::to_vec`], not counted.
    pub(crate) fn values(&self) -> Result<Vec<f32>> {
        match &*self.0.buffer {
            Buffer::F32(b) => Ok(b[self.range()].to_vec()),
            Buffer::F64(b) => Ok(b[self.range()].iter().map(|&v| v as f32).collect()),
            Buffer::Cube(b) => b.download_part(self.device(), self.range()),
        }
    }

    /// [`Tensor::to_vec_f64`], not counted.
    pub(crate) fn values_f64(&self) -> Result<Vec<f64>> {
        match &*self.0.buffer {
            Buffer::F64(b) => Ok(b[self.range()].to_vec()),
            _ => Ok(self.values()?.into_iter().map(f64::from).collect()),
        }
    }

    /// The value of a tensor of one element. PyTorch: `item`.
    pub fn item(&self) -> Result<f64> {
        match self.len() {
            1 => Ok(self.to_vec_f64()?[0]),
            _ => Err(TensorError::shape("item", format!("shape {:?} has not exactly one element", self.shape()))),
        }
    }

    /// The same values on another device, without history.
    ///
    /// ```
    /// # use swinstyle_tensor::{Device::Cpu, Tensor};
    /// let x = Tensor::from_slice(&[1.0_f32, 2.0, 3.0, 4.0], &[2, 2], Cpu)?;
    /// assert_eq!(x.to_device(Cpu)?.to_vec()?, x.to_vec()?);
    /// # Ok::<(), swinstyle_tensor::TensorError>(())
    /// ```
    pub fn to_device(&self, device: Device) -> Result<Self> {
        if device == self.device() {
            return Ok(self.detach());
        }
        if let (Device::Cpu, DType::F64) = (self.device(), self.dtype()) {
            return Err(TensorError::UnsupportedDType { op: "to_device", dtype: DType::F64, device });
        }
        let (values, dtype) = (self.to_vec()?, self.dtype());
        counters::uploaded(values.len() * dtype.size());
        let buffer = match device {
            Device::Cpu => Buffer::F32(HostBuffer::from_vec(values)),
            _ => Buffer::Cube(CubeBuffer::upload("to_device", device, &values, dtype)?),
        };
        Ok(Self::from_buffer(buffer, self.shape().to_vec(), device, dtype))
    }
}

/// Whether a client for the device exists, for callers that choose between devices.
pub fn available(device: Device) -> bool {
    device == Device::Cpu || cube::client(device).is_ok()
}
