//! The server of the dry device: compiles on launch and holds no memory, or, where CUDA is emulated, runs what it compiled.

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
    storage::ManagedResource,
    timestamp_profiler::TimestampProfiler,
    validation::{validate_cube_dim, validate_units},
};

use super::{
    Chip, Launch, Program,
    emulator::{Address, Emulator, Pages},
    name, record,
    runtime::DryDevice,
};
use crate::{Device, cube::faults};

/// A kernel as CubeCL hands it to a server.
type Task = Box<dyn CubeTask<CudaCompiler>>;

/// Compiles what is launched for one chip.
#[derive(Debug)]
pub struct DryServer {
    chip: Chip,
    /// Present where launches run.
    emulator: Option<Emulator>,
    options: CompilationOptions,
    programs: HashMap<KernelId, Arc<Program>>,
    timestamps: TimestampProfiler,
    utilities: Arc<ServerUtilities<Self>>,
}

impl DryServer {
    /// Keeps a failure for the next wait.
    fn report(&self, outcome: Result<(), String>) {
        if let Err(error) = outcome {
            faults::record(Device::Emulated(self.chip), error.starts_with("out of memory"), error);
        }
    }

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
        let DryDevice { chip, emulated } = DryDevice::from_id(id);
        let (properties, options) = chip.properties();
        let emulator = emulated.then(|| Emulator::new(&properties.memory));
        let policy = PitchedMemoryLayoutPolicy::new(properties.memory.alignment as usize);
        let utilities = Arc::new(ServerUtilities::new(properties, Arc::new(ServerLogger::default()), (), policy));
        Self { chip, emulator, options, programs: HashMap::new(), timestamps: TimestampProfiler::default(), utilities }
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
    type Storage = Pages;

    fn initialize_memory(&mut self, memory: ManagedMemoryHandle, size: u64, _stream: StreamId) {
        let made = self.emulator.as_mut().map_or(Ok(()), |e| e.allocate(memory, size));
        self.report(made.map_err(|e| format!("out of memory: {e}")));
    }

    fn logger(&self) -> Arc<ServerLogger> {
        self.utilities.logger.clone()
    }

    fn utilities(&self) -> Arc<ServerUtilities<Self>> {
        self.utilities.clone()
    }

    fn read(&mut self, what: Vec<CopyDescriptor>, _stream: StreamId) -> DynFut<Result<Vec<Bytes>, ServerError>> {
        let zeros = |d: CopyDescriptor| Bytes::from_bytes_vec(vec![0; d.shape.iter().product::<usize>() * d.elem_size]);
        let all = match &mut self.emulator {
            Some(emulator) => emulator.read(what),
            None => Ok(what.into_iter().map(zeros).collect()),
        };
        Box::pin(async move { all })
    }

    fn write(&mut self, what: Vec<(CopyDescriptor, Bytes)>, _stream: StreamId) {
        let written = self.emulator.as_mut().map_or(Ok(()), |e| e.write(what));
        self.report(written.map_err(|e| e.to_string()));
    }

    fn sync(&mut self, _stream: StreamId) -> DynFut<Result<(), ServerError>> {
        Box::pin(async { Ok(()) })
    }

    fn get_resource(&mut self, _of: Binding, _stream: StreamId) -> Result<ManagedResource<Address>, ServerError> {
        Err(IoError::UnsupportedIoOperation { backtrace: BackTrace::capture() }.into())
    }

    unsafe fn launch(
        &mut self,
        kernel: Task,
        count: CubeCount,
        arguments: KernelArguments,
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
        let Some(emulator) = &mut self.emulator else { return record(self.chip, Launch { program, grid }) };
        let ran = emulator.launch(&program, grid, arguments);
        self.report(ran);
    }

    fn flush(&mut self, _stream: StreamId) -> Result<(), ServerError> {
        Ok(())
    }

    fn memory_usage(&mut self, _stream: StreamId) -> Result<MemoryUsage, ServerError> {
        let nothing = MemoryUsage { number_allocs: 0, bytes_in_use: 0, bytes_padding: 0, bytes_reserved: 0 };
        Ok(self.emulator.as_ref().map_or(nothing, Emulator::memory_usage))
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
