//! Exact counts of what ran: launches, bytes allocated, bytes moved, FLOPs; and, in a traced region, when each kernel ran.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    sync::atomic::{AtomicI64, Ordering},
    time::Instant,
};

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
}

thread_local! {
    static TOTAL: Cell<Counts> = const { Cell::new(Counts { launches: 0, allocated: 0, moved: 0, flops: 0 }) };
    static BY_KERNEL: RefCell<Option<BTreeMap<&'static str, Counts>>> = const { RefCell::new(None) };
}

pub(crate) fn allocated(bytes: usize) {
    let mut t = TOTAL.get();
    t.allocated += bytes as u64;
    TOTAL.set(t);
}

pub(crate) fn launched(kernel: &'static str, moved: u64, flops: u64) {
    let mut t = TOTAL.get();
    t.launches += 1;
    t.moved += moved;
    t.flops += flops;
    TOTAL.set(t);
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

/// Bytes of tensors that live in host memory now, and the most there were since [`reset_peak`].
static HOST: [AtomicI64; 2] = [AtomicI64::new(0), AtomicI64::new(0)];

/// Counts host memory that a tensor takes (or, negative, gives back).
pub(crate) fn host_memory(bytes: i64) {
    let now = HOST[0].fetch_add(bytes, Ordering::Relaxed) + bytes;
    if bytes > 0 {
        HOST[1].fetch_max(now, Ordering::Relaxed);
    }
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

/// Runs `f` and returns what this thread launched and allocated in it.
pub fn region<R>(f: impl FnOnce() -> R) -> (R, Counts) {
    let before = TOTAL.get();
    let result = f();
    let after = TOTAL.get();
    let counts = Counts {
        launches: after.launches - before.launches,
        allocated: after.allocated - before.allocated,
        moved: after.moved - before.moved,
        flops: after.flops - before.flops,
    };
    (result, counts)
}

/// Runs `f` and returns its counts by kernel name.
pub fn by_kernel<R>(f: impl FnOnce() -> R) -> (R, BTreeMap<&'static str, Counts>) {
    let outer = BY_KERNEL.replace(Some(BTreeMap::new()));
    let result = f();
    let map = BY_KERNEL.replace(outer).unwrap_or_default();
    (result, map)
}
