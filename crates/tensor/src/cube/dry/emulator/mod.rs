//! The emulated CUDA device: runs the CUDA C++ of a launch on the host, each thread of a cube as a fiber.
//!
//! It is slow and no measure of speed. It proves what a GPU would compute, barriers, half types and matrix fragments included,
//! where there is no GPU: `cuda.hpp` says what CUDA's words mean, `grid.hpp` runs the threads, and the system's C++ compiler makes
//! a library of both and of the kernel.

mod compile;
mod pages;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, hash_map::Entry},
    ffi::c_void,
    sync::Arc,
};

use cubecl::{
    MemoryUsage,
    bytes::Bytes,
    ir::MemoryDeviceProperties,
    server::{Binding, CopyDescriptor, KernelArguments, ServerError},
};
use cubecl_runtime::{
    logging::ServerLogger,
    memory_management::{ManagedMemoryHandle, MemoryManagement, MemoryManagementOptions},
};

use super::Program;
use compile::Library;
pub(super) use pages::{Address, Pages};

pub(in crate::cube) use compile::compiler;

/// Memory and compiled kernels of one emulated device.
#[derive(Debug)]
pub(super) struct Emulator {
    memory: MemoryManagement<Pages>,
    /// By the address of the program, which is kept beside it so that the address stays its own.
    libraries: HashMap<usize, (Arc<Program>, Library)>,
}

impl Emulator {
    pub(super) fn new(properties: &MemoryDeviceProperties) -> Self {
        let options = MemoryManagementOptions::new("emulated CUDA");
        let logger = Arc::new(ServerLogger::default());
        let memory =
            MemoryManagement::from_configuration(Pages::default(), properties, Default::default(), logger, options);
        Self { memory, libraries: HashMap::new() }
    }

    /// Gives a handle its memory.
    pub(super) fn allocate(&mut self, handle: ManagedMemoryHandle, bytes: u64) -> Result<(), String> {
        let reserved = self.memory.reserve(bytes).map_err(|e| e.to_string())?;
        self.memory.bind(reserved, handle, 0).map_err(|e| e.to_string())
    }

    /// What is reserved, and how much of it is in use.
    pub(super) fn memory_usage(&self) -> MemoryUsage {
        self.memory.memory_usage()
    }

    fn address(&mut self, of: Binding) -> Result<*mut u8, ServerError> {
        Ok(self.memory.get_resource(of.memory, of.offset_start, of.offset_end)?.0)
    }

    /// Copies what was asked for.
    pub(super) fn read(&mut self, what: Vec<CopyDescriptor>) -> Result<Vec<Bytes>, ServerError> {
        let one = |d: CopyDescriptor| {
            let bytes = d.handle.size_in_used() as usize;
            let from = self.address(d.handle)?;
            // SAFETY: the memory that the handle stands for holds its bytes.
            Ok(Bytes::from_bytes_vec(unsafe { std::slice::from_raw_parts(from, bytes) }.to_vec()))
        };
        what.into_iter().map(one).collect()
    }

    /// Copies into buffers.
    pub(super) fn write(&mut self, what: Vec<(CopyDescriptor, Bytes)>) -> Result<(), ServerError> {
        for (d, bytes) in what {
            let to = self.address(d.handle)?;
            // SAFETY: a write is as long as its buffer, and what is copied is no buffer of the device.
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
        }
        Ok(())
    }

    /// Runs a launch, compiling its program if it is new. Errors: a program that does not compile, a barrier that some threads miss.
    pub(super) fn launch(
        &mut self,
        program: &Arc<Program>,
        grid: [u32; 3],
        arguments: KernelArguments,
    ) -> Result<(), String> {
        let at = Arc::as_ptr(program).addr();
        if let Entry::Vacant(place) = self.libraries.entry(at) {
            place.insert((program.clone(), Library::of(program)?));
        }
        let mut pointers: Vec<*mut c_void> = Vec::new();
        for buffer in arguments.buffers {
            pointers.push(self.address(buffer).map_err(|e| e.to_string())?.cast());
        }
        // As the CUDA backend does it: the part of the lengths that the kernel's structure does not hold, then the structure.
        let info = &arguments.info;
        let dynamic = info.data.get(info.dynamic_metadata_offset..).unwrap_or_default();
        if !dynamic.is_empty() {
            pointers.push(dynamic.as_ptr().cast_mut().cast());
        }
        pointers.push(info.data.as_ptr().cast_mut().cast());
        match self.libraries.get(&at).map(|(_, library)| library.run(&mut pointers, grid, program)) {
            Some(0) => Ok(()),
            _ => Err(format!(
                "{} ({}): threads wait at a barrier that others never reach",
                program.kernel, program.variant
            )),
        }
    }
}
