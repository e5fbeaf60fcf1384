//! Memory of the emulated device, in the host's.

use std::collections::HashMap;

use cubecl::server::IoError;
use cubecl_runtime::storage::{ComputeStorage, StorageHandle, StorageId, StorageUtilization};

/// Bytes to which everything is aligned, as on CUDA.
const ALIGNMENT: usize = 512;

/// Pages by what CubeCL calls them.
#[derive(Debug, Default)]
pub struct Pages(HashMap<StorageId, Vec<Line>>);

/// What an allocation is made of.
#[derive(Debug, Clone, Copy)]
#[repr(align(512))]
struct Line {
    #[expect(dead_code, reason = "kernels read and write it through pointers")]
    bytes: [u8; ALIGNMENT],
}

/// A place in a page, valid as long as the page.
#[derive(Debug, Clone, Copy)]
pub struct Address(pub(super) *mut u8);

// SAFETY: an address is a number; whoever reads or writes there answers for it.
unsafe impl Send for Address {}

impl ComputeStorage for Pages {
    type Resource = Address;

    fn alignment(&self) -> usize {
        ALIGNMENT
    }

    fn get(&mut self, handle: &StorageHandle) -> Address {
        let page = self.0.get_mut(&handle.id).map_or(std::ptr::null_mut(), |p| p.as_mut_ptr().cast::<u8>());
        Address(page.wrapping_add(handle.offset() as usize))
    }

    fn alloc(&mut self, size: u64) -> Result<StorageHandle, IoError> {
        let id = StorageId::new();
        // Not zeros but NaN: what is read before it is written must show. One line more than asked for, as vectors may end in it.
        let lines = (size as usize).div_ceil(ALIGNMENT) + 1;
        self.0.insert(id, vec![Line { bytes: [0xff; ALIGNMENT] }; lines]);
        Ok(StorageHandle { id, utilization: StorageUtilization { offset: 0, size } })
    }

    fn dealloc(&mut self, id: StorageId) {
        self.0.remove(&id);
    }

    fn flush(&mut self) {}
}
