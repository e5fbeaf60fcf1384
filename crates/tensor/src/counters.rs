//! Exact counts of what ran: launches, bytes allocated, bytes moved, FLOPs; memory that was fetched anew, waits and copies between host
//! and device; and, in a traced region, when each kernel ran.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::Instant,
};

use crate::{Device, Result, cube};

/// Work counted over a region of the calling thread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Kernel launches (host kernels count too).
    pub launches: u64,
    /// Bytes of tensors allocated.
    pub allocated: u64,
    /// Bytes that kernels read and wrote at least once: their inputs and outputs.
    pub moved: u64,
    /// Floating-point operations, a multiply-add as two.
    pub flops: u64,
    /// Allocations of 16 KiB and more, of all threads, that the pool of host memory could not serve from what was freed before.
    pub fresh: u64,
    /// Their bytes; in [`region_on`] also those by which the memory that a CubeCL device has reserved grew.
    pub fresh_bytes: u64,
    /// Waits for a device ([`Device::synchronize`]) that carried nothing home. On the cpu they are free, and counted alike.
    pub waits: u64,
    /// Copies from tensors to the host, each of which waits for the device.
    pub downloads: u64,
    /// Bytes of those copies, in the tensors' type.
    pub downloaded: u64,
    /// Copies from the host to tensors, and to buffers that only a kernel sees.
    pub uploads: u64,
    /// Bytes of those copies.
    pub uploaded: u64,
}

impl Counts {
    const ZERO: Self = Self {
        launches: 0,
        allocated: 0,
        moved: 0,
        flops: 0,
        fresh: 0,
        fresh_bytes: 0,
        waits: 0,
        downloads: 0,
        downloaded: 0,
        uploads: 0,
        uploaded: 0,
    };

    /// What was counted since an earlier reading of the same counters.
    fn since(self, before: Self) -> Self {
        Self {
            launches: self.launches - before.launches,
            allocated: self.allocated - before.allocated,
            moved: self.moved - before.moved,
            flops: self.flops - before.flops,
            fresh: self.fresh - before.fresh,
            fresh_bytes: self.fresh_bytes - before.fresh_bytes,
            waits: self.waits - before.waits,
            downloads: self.downloads - before.downloads,
            downloaded: self.downloaded - before.downloaded,
            uploads: self.uploads - before.uploads,
            uploaded: self.uploaded - before.uploaded,
        }
    }
}

/// Allocations that the pool could not serve, and their bytes. Kernels take working memory on any thread, so these are the process's.
static FRESH: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];

thread_local! {
    static TOTAL: Cell<Counts> = const { Cell::new(Counts::ZERO) };
    static BY_KERNEL: RefCell<Option<BTreeMap<&'static str, Counts>>> = const { RefCell::new(None) };
}

fn add(count: impl FnOnce(&mut Counts)) {
    let mut total = TOTAL.get();
    count(&mut total);
    TOTAL.set(total);
}

pub(crate) fn allocated(bytes: usize) {
    add(|t| t.allocated += bytes as u64);
}

pub(crate) fn fresh(bytes: usize) {
    FRESH[0].fetch_add(1, Ordering::Relaxed);
    FRESH[1].fetch_add(bytes as u64, Ordering::Relaxed);
}

pub(crate) fn waited() {
    add(|t| t.waits += 1);
}

pub(crate) fn downloaded(bytes: usize) {
    add(|t| {
        t.downloads += 1;
        t.downloaded += bytes as u64;
    });
}

pub(crate) fn uploaded(bytes: usize) {
    add(|t| {
        t.uploads += 1;
        t.uploaded += bytes as u64;
    });
}

pub(crate) fn launched(kernel: &'static str, moved: u64, flops: u64) {
    add(|t| {
        t.launches += 1;
        t.moved += moved;
        t.flops += flops;
    });
    BY_KERNEL.with_borrow_mut(|map| {
        if let Some(map) = map {
            let c = map.entry(kernel).or_default();
            c.launches += 1;
            c.moved += moved;
            c.flops += flops;
        }
    });
}

/// One kernel of a traced region.
#[derive(Debug, Clone, PartialEq)]
pub struct Launch {
    /// Its name.
    pub kernel: &'static str,
    /// Seconds from the beginning of the region.
    pub start: f64,
    /// Seconds that it took. On a GPU the device is waited for, so this holds the way there and back.
    pub seconds: f64,
    /// Bytes that it read and wrote at least.
    pub moved: u64,
    /// Floating-point operations.
    pub flops: u64,
    /// Shapes of its outputs.
    pub outputs: Vec<Vec<usize>>,
}

/// The beginning of a traced region and what ran in it.
type Trace = (Instant, Vec<Launch>);

thread_local! {
    static TRACE: RefCell<Option<Trace>> = const { RefCell::new(None) };
}

/// Runs `f` and returns every kernel that this thread launched in it, each waited for before the next.
pub fn trace<R>(f: impl FnOnce() -> R) -> (R, Vec<Launch>) {
    let outer = TRACE.replace(Some((Instant::now(), Vec::new())));
    let result = f();
    let launches = TRACE.replace(outer).map(|(_, launches)| launches).unwrap_or_default();
    (result, launches)
}

/// Whether this thread is in a traced region, and the time.
pub(crate) fn traced() -> Option<Instant> {
    TRACE.with_borrow(|trace| trace.is_some().then(Instant::now))
}

/// Adds a kernel that has run since `started` to the trace.
pub(crate) fn record(started: Instant, kernel: &'static str, moved: u64, flops: u64, outputs: Vec<Vec<usize>>) {
    TRACE.with_borrow_mut(|trace| {
        if let Some((beginning, launches)) = trace {
            let (start, seconds) = ((started - *beginning).as_secs_f64(), started.elapsed().as_secs_f64());
            launches.push(Launch { kernel, start, seconds, moved, flops, outputs });
        }
    });
}

/// Bytes of tensors that live in host memory now, the most there were since [`reset_peak`], and the most there ever were.
static HOST: [AtomicI64; 3] = [AtomicI64::new(0), AtomicI64::new(0), AtomicI64::new(0)];

/// Counts host memory that a tensor takes (or, negative, gives back).
pub(crate) fn host_memory(bytes: i64) {
    let now = HOST[0].fetch_add(bytes, Ordering::Relaxed) + bytes;
    if bytes > 0 {
        HOST[1].fetch_max(now, Ordering::Relaxed);
        HOST[2].fetch_max(now, Ordering::Relaxed);
    }
}

/// The most bytes that tensors ever had in host memory at once.
pub(crate) fn most_host_bytes() -> usize {
    usize::try_from(HOST[2].load(Ordering::Relaxed)).unwrap_or(0)
}

/// Bytes of host memory in tensors of all threads: now, and at most since [`reset_peak`].
pub fn host_bytes() -> (u64, u64) {
    let read = |i: usize| HOST[i].load(Ordering::Relaxed).max(0) as u64;
    (read(0), read(1))
}

/// Forgets the peak of [`host_bytes`].
pub fn reset_peak() {
    HOST[1].store(HOST[0].load(Ordering::Relaxed), Ordering::Relaxed);
}

/// The counters now.
fn now() -> Counts {
    let read = |i: usize| FRESH[i].load(Ordering::Relaxed);
    Counts { fresh: read(0), fresh_bytes: read(1), ..TOTAL.get() }
}

/// Runs `f` and returns what this thread launched, allocated and copied in it, and what the pool of host memory could not serve.
pub fn region<R>(f: impl FnOnce() -> R) -> (R, Counts) {
    let before = now();
    let result = f();
    (result, now().since(before))
}

/// [`region`], whose fresh bytes include those by which the memory that `device` has reserved grew.
///
/// What is queued on the device is handed to it before and after; nothing is waited for. Memory that is given back and fetched again
/// within the region is not seen. Errors: an absent device, failures of work before.
pub fn region_on<R>(device: Device, f: impl FnOnce() -> R) -> Result<(R, Counts)> {
    let before = reserved_bytes(device)?;
    let (result, mut counts) = region(f);
    counts.fresh_bytes += reserved_bytes(device)?.saturating_sub(before);
    Ok((result, counts))
}

/// Bytes that the allocator of a CubeCL device has reserved, in tensors or free; 0 for the cpu, whose memory is [`host_bytes`].
pub fn reserved_bytes(device: Device) -> Result<u64> {
    match device {
        Device::Cpu => Ok(0),
        _ => cube::client(device)?.reserved_bytes(device),
    }
}

/// Runs `f` and returns its counts by kernel name.
pub fn by_kernel<R>(f: impl FnOnce() -> R) -> (R, BTreeMap<&'static str, Counts>) {
    let outer = BY_KERNEL.replace(Some(BTreeMap::new()));
    let result = f();
    let map = BY_KERNEL.replace(outer).unwrap_or_default();
    (result, map)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Tensor};

    #[test]
    fn copies_and_waits_are_counted_with_their_bytes_and_measuring_is_not() {
        let work = || {
            let x = Tensor::from_vec(vec![1.0_f32; 6], &[2, 3], Device::Cpu).unwrap();
            let sum = x.sum_all().unwrap();
            assert_eq!(sum.item().unwrap(), 6.0);
            x.to_dtype(DType::F64).unwrap().to_dtype(DType::F32).unwrap();
            Device::Cpu.synchronize().unwrap();
        };
        let ((), c) = region(work);
        assert_eq!((c.uploads, c.uploaded, c.downloads, c.downloaded, c.waits), (1, 24, 1, 4, 1));
        // Tracing waits after each kernel: those waits are the trace's own.
        let (((), _), traced) = region(|| trace(work));
        assert_eq!((traced.waits, traced.downloads), (1, 1));
    }

    #[test]
    fn memory_that_was_freed_before_is_not_fresh() {
        // A size that nothing else here has: the pool is shared with the tests beside this one.
        let big = || Tensor::full(1.0, &[1_234_567], DType::F64, Device::Cpu).unwrap();
        let (first, counts) = region(big);
        assert!(counts.fresh >= 1 && counts.fresh_bytes >= 8 * 1_234_567, "{counts:?}");
        drop(first);
        let before = now();
        drop(big());
        let mine = now().since(before);
        assert!(mine.fresh_bytes < 8 * 1_234_567, "{mine:?}");
    }

    #[test]
    fn growth_of_a_devices_reserved_memory_is_fresh() {
        let device = Device::Wgpu(0);
        // Larger than every page that the allocator may have left over from the tests beside this one.
        let big = || Tensor::full(1.0, &[12_345_678], DType::F32, device).unwrap();
        let (kept, counts) = region_on(device, big).unwrap();
        assert!(counts.fresh_bytes >= 4 * 12_345_678, "{counts:?}");
        drop(kept);
        assert!(reserved_bytes(device).unwrap() >= 4 * 12_345_678);
        assert_eq!(reserved_bytes(Device::Cpu), Ok(0));
    }
}
