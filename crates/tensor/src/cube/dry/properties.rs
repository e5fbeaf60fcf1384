//! What the CUDA backend would find out about a chip.

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

use super::Chip;

impl Chip {
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
