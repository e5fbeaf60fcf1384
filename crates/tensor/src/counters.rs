//! Exact counts of what ran: launches, bytes allocated, bytes moved, FLOPs.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
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
