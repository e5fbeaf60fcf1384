//! The chips that a dry device can stand for, as data, and what the CUDA backend would find out about them.

use std::{fmt, str::FromStr};

use cubecl::{
    features::{AtomicUsage, Plane, Tma, TypeUsage},
    ir::{
        BarrierLevel, DeviceProperties, ElemType, FloatKind, HardwareProperties, MemoryDeviceProperties, OpaqueType,
        SemanticType, StorageType, Type, VectorSize,
    },
    profile::TimingMethod,
};
use cubecl_cpp::{
    DialectWmmaCompiler,
    cuda::{CudaDialect, arch::CudaArchitecture, mma::CudaWmmaCompiler},
    register_supported_types,
    shared::{CompilationOptions, register_mma_features, register_scaled_mma_features, register_wmma_features},
};

/// An NVIDIA chip of the data centre, parsed from and printed as its architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Chip {
    /// A100 with 80 GB.
    Sm80,
    /// H100 SXM.
    Sm90,
    /// B200.
    Sm100,
}

/// What the CUDA programming guide's table of compute capabilities says, and the data sheets.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Compute capability times ten.
    pub version: u32,
    /// Multiprocessors.
    pub multiprocessors: u32,
    /// Bytes of device memory.
    pub memory: u64,
    /// Bytes of shared memory that one cube may ask for.
    pub shared_per_cube: usize,
    /// Bytes of shared memory of a multiprocessor.
    pub shared_per_multiprocessor: usize,
    /// Registers of a multiprocessor.
    pub registers: u32,
    /// Resident warps of a multiprocessor at most.
    pub warps: u32,
    /// Resident cubes of a multiprocessor at most.
    pub cubes: u32,
}

impl Chip {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Sm80, Self::Sm90, Self::Sm100];

    /// Its numbers.
    pub fn limits(self) -> Limits {
        let (version, multiprocessors, gib, shared_kib) = match self {
            Self::Sm80 => (80, 108, 80, 164),
            Self::Sm90 => (90, 132, 80, 228),
            Self::Sm100 => (100, 148, 180, 228),
        };
        Limits {
            version,
            multiprocessors,
            memory: gib << 30,
            // One KiB of each cube is the system's own.
            shared_per_cube: (shared_kib - 1) << 10,
            shared_per_multiprocessor: shared_kib << 10,
            registers: 65_536,
            warps: 64,
            cubes: 32,
        }
    }

    /// The architecture that kernels are compiled for, as NVRTC is told by the CUDA backend: with the features of this
    /// architecture alone, where it has such.
    pub fn target(self) -> String {
        let suffix = if self.limits().version >= 90 { "a" } else { "" };
        format!("{self}{suffix}")
    }

    /// What the CUDA backend of this version registers for such a chip, in the order of its `runtime.rs`.
    pub(super) fn properties(self) -> (DeviceProperties, CompilationOptions) {
        type Wmma = CudaWmmaCompiler;
        let limits = self.limits();
        let arch = CudaArchitecture { version: limits.version };
        let hardware = HardwareProperties {
            load_width: 128,
            plane_size_min: 32,
            plane_size_max: 32,
            max_bindings: 1024,
            max_shared_memory_size: limits.shared_per_cube,
            max_cube_count: (i32::MAX as u32, 65_535, 65_535),
            max_units_per_cube: 1024,
            max_cube_dim: (1024, 1024, 64),
            num_streaming_multiprocessors: Some(limits.multiprocessors),
            num_tensor_cores: Some(4),
            min_tensor_cores_dim: Some(8),
            num_cpu_cores: None,
            max_vector_size: VectorSize::MAX,
        };
        let memory = MemoryDeviceProperties { max_page_size: limits.memory / 4, alignment: 512 };
        let mut p = DeviceProperties::new(Default::default(), memory, hardware, TimingMethod::System);
        register_supported_types(&mut p);
        let float = |kind: FloatKind| StorageType::Scalar(ElemType::Float(kind));
        let atomic = |kind: FloatKind| Type::new(StorageType::Atomic(ElemType::Float(kind)));
        p.register_type_usage(ElemType::Float(FloatKind::TF32), TypeUsage::Conversion);
        for kind in [atomic(FloatKind::F64), atomic(FloatKind::F16), atomic(FloatKind::F16).with_vector_size(2)] {
            p.register_atomic_type_usage(kind, AtomicUsage::Add | AtomicUsage::LoadStore);
        }
        p.register_semantic_type(SemanticType::Pipeline);
        for level in [BarrierLevel::Unit, BarrierLevel::Cube] {
            p.register_type_usage(OpaqueType::Barrier(level), TypeUsage::Buffer);
        }
        p.features.plane |= Plane::Sync | Plane::Ops | Plane::NonUniformControlFlow;
        p.features.matmul.ldmatrix.extend([float(FloatKind::F16), float(FloatKind::BF16)]);
        p.features.copy_async = true;
        p.features.memory_reinterpret = true;
        p.features.alignment = true;
        let mut options = CompilationOptions { warp_size: 32, ..Default::default() };
        options.supports_features.fast_math = true;
        options.supports_features.grid_constants = true;
        options.supports_features.fast_tanh = true;
        if limits.version >= 90 {
            for kind in [FloatKind::E4M3, FloatKind::E5M2] {
                p.register_type_usage(ElemType::Float(kind), TypeUsage::Conversion | TypeUsage::Buffer);
            }
            p.features.tma.insert(Tma::Base);
            p.register_semantic_type(SemanticType::TensorMap);
            p.features.cube_cluster = true;
            p.features.matmul.stmatrix.extend([float(FloatKind::F16), float(FloatKind::BF16)]);
            for width in [2, 4] {
                let vector = atomic(FloatKind::F32).with_vector_size(width);
                p.register_atomic_type_usage(vector, AtomicUsage::LoadStore | AtomicUsage::Add);
            }
            options.supports_features.clusters = true;
            options.supports_features.elect_sync = true;
        }
        if limits.version >= 100 {
            p.features.tma |= Tma::Im2colWide | Tma::SwizzleAtomicity;
        }
        register_wmma_features(Wmma::supported_wmma_combinations(&arch), &mut p);
        register_mma_features(
            <Wmma as DialectWmmaCompiler<CudaDialect<Wmma>>>::supported_mma_combinations(&arch),
            &mut p,
        );
        register_scaled_mma_features(Wmma::supported_scaled_mma_combinations(&arch), &mut p);
        (p, options)
    }
}

impl fmt::Display for Chip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sm_{}", self.limits().version)
    }
}

impl FromStr for Chip {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(|c| c.to_string()).join(", ");
        Self::ALL.into_iter().find(|c| c.to_string() == s).ok_or_else(|| format!("the architectures are {}", known()))
    }
}
