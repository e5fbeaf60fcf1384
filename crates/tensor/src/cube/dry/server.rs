//! The server of the dry device: compiles on launch, holds no memory.

use std::{collections::HashMap, sync::Arc};

use cubecl::{
    CubeCount, CubeTask, ExecutionMode, MemoryUsage,
    backtrace::BackTrace,
    bytes::Bytes,
    device::{Device as _, DeviceId, DeviceService, ServerUtilitiesHandle},
    future::DynFut,
    prelude::KernelId,
    profile::ProfileDuration,
    server::{
        Binding, ComputeServer, CopyDescriptor, IoError, KernelArguments, ProfileError, ProfilingToken,
        ServerCommunication, ServerError, ServerUtilities,
    },
    stream_id::StreamId,
};
use cubecl_cpp::shared::CompilationOptions;
use cubecl_cuda::CudaCompiler;
use cubecl_runtime::{
    allocator::PitchedMemoryLayoutPolicy,
    logging::ServerLogger,
    memory_management::{ManagedMemoryHandle, MemoryAllocationMode},
    storage::{ComputeStorage, ManagedResource, StorageHandle, StorageId, StorageUtilization},
    timestamp_profiler::TimestampProfiler,
    validation::{validate_cube_dim, validate_units},
};

use super::{Chip, Launch, Program, name, record, runtime::DryDevice};
use crate::cube::faults;

/// A kernel as CubeCL hands it to a server.
type Task = Box<dyn CubeTask<CudaCompiler>>;

/// Compiles what is launched for one chip.
#[derive(Debug)]
pub struct DryServer {
    chip: Chip,
    options: CompilationOptions,
    programs: HashMap<KernelId, Arc<Program>>,
    timestamps: TimestampProfiler,
    utilities: Arc<ServerUtilities<Self>>,
}

impl DryServer {
    fn compile(&self, id: &KernelId, kernel: &Task, mode: ExecutionMode) -> Program {
        let cube = id.cube_dim;
        let mut program = Program {
            kernel: String::new(),
            variant: String::new(),
            cube_dim: [cube.x, cube.y, cube.z],
            shared_bytes: 0,
            entry: String::new(),
            source: Err(String::new()),
        };
        program.kernel = name::path(kernel.name());
        program.variant = name::variant(&id.stable_format());
        let properties = &self.utilities.properties;
        // A kernel's expansion panics on what it does not support.
        program.source = faults::guarded(|| {
            validate_cube_dim(properties, id)?;
            validate_units(properties, id)?;
            let address = kernel.address_type();
            let compiled = kernel.compile(&mut Default::default(), &self.options, mode, address);
            Ok(compiled.map_err(cubecl::server::LaunchError::from)?)
        })
        .and_then(|compiled| {
            program.entry = compiled.entrypoint_name;
            program.shared_bytes = compiled.repr.map_or(0, |r| r.shared_memory_size());
            let most = properties.hardware.max_shared_memory_size;
            match program.shared_bytes > most {
                true => Err(format!("{} bytes of shared memory where a cube has {most}", program.shared_bytes)),
                false => Ok(compiled.source),
            }
        });
        program
    }
}

impl DeviceService for DryServer {
    fn init(id: DeviceId) -> Self {
        let DryDevice(chip) = DryDevice::from_id(id);
        let (properties, options) = chip.properties();
        let policy = PitchedMemoryLayoutPolicy::new(properties.memory.alignment as usize);
        let utilities = Arc::new(ServerUtilities::new(properties, Arc::new(ServerLogger::default()), (), policy));
        Self { chip, options, programs: HashMap::new(), timestamps: TimestampProfiler::default(), utilities }
    }

    fn utilities(&self) -> ServerUtilitiesHandle {
        self.utilities.clone()
    }
}

impl ServerCommunication for DryServer {
    const SERVER_COMM_ENABLED: bool = false;
}

impl ComputeServer for DryServer {
    type Kernel = Task;
    type Info = ();
    type MemoryLayoutPolicy = PitchedMemoryLayoutPolicy;
    type Storage = Nothing;

    fn initialize_memory(&mut self, _memory: ManagedMemoryHandle, _size: u64, _stream: StreamId) {}

    fn logger(&self) -> Arc<ServerLogger> {
        self.utilities.logger.clone()
    }

    fn utilities(&self) -> Arc<ServerUtilities<Self>> {
        self.utilities.clone()
    }

    fn read(&mut self, what: Vec<CopyDescriptor>, _stream: StreamId) -> DynFut<Result<Vec<Bytes>, ServerError>> {
        let zeros = |d: CopyDescriptor| Bytes::from_bytes_vec(vec![0; d.shape.iter().product::<usize>() * d.elem_size]);
        let all = what.into_iter().map(zeros).collect();
        Box::pin(async move { Ok(all) })
    }

    fn write(&mut self, _what: Vec<(CopyDescriptor, Bytes)>, _stream: StreamId) {}

    fn sync(&mut self, _stream: StreamId) -> DynFut<Result<(), ServerError>> {
        Box::pin(async { Ok(()) })
    }

    fn get_resource(&mut self, _of: Binding, _stream: StreamId) -> Result<ManagedResource<()>, ServerError> {
        Err(IoError::UnsupportedIoOperation { backtrace: BackTrace::capture() }.into())
    }

    unsafe fn launch(
        &mut self,
        kernel: Task,
        count: CubeCount,
        _arguments: KernelArguments,
        mode: ExecutionMode,
        _stream: StreamId,
    ) {
        let mut id = kernel.id();
        id.mode(mode);
        let program = match self.programs.get(&id) {
            Some(known) => known.clone(),
            None => {
                let program = Arc::new(self.compile(&id, &kernel, mode));
                self.programs.insert(id, program.clone());
                program
            }
        };
        let grid = match count {
            CubeCount::Static(x, y, z) => [x, y, z],
            // The count would be computed on the device.
            CubeCount::Dynamic(_) => [0; 3],
        };
        record(self.chip, Launch { program, grid });
    }

    fn flush(&mut self, _stream: StreamId) -> Result<(), ServerError> {
        Ok(())
    }

    fn memory_usage(&mut self, _stream: StreamId) -> Result<MemoryUsage, ServerError> {
        Ok(MemoryUsage { number_allocs: 0, bytes_in_use: 0, bytes_padding: 0, bytes_reserved: 0 })
    }

    fn memory_cleanup(&mut self, _stream: StreamId) {}

    fn start_profile(&mut self, _stream: StreamId) -> Result<ProfilingToken, ServerError> {
        Ok(self.timestamps.start())
    }

    fn end_profile(&mut self, _stream: StreamId, token: ProfilingToken) -> Result<ProfileDuration, ProfileError> {
        self.timestamps.stop(token)
    }

    fn allocation_mode(&mut self, _mode: MemoryAllocationMode, _stream: StreamId) {}
}

/// Memory that is never there: nothing reads or writes it.
#[derive(Debug)]
pub struct Nothing;

impl ComputeStorage for Nothing {
    type Resource = ();

    fn alignment(&self) -> usize {
        512
    }

    fn get(&mut self, _handle: &StorageHandle) {}

    fn alloc(&mut self, size: u64) -> Result<StorageHandle, IoError> {
        Ok(StorageHandle { id: StorageId::new(), utilization: StorageUtilization { offset: 0, size } })
    }

    fn dealloc(&mut self, _id: StorageId) {}

    fn flush(&mut self) {}
}
