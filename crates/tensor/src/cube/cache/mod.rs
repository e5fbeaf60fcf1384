//! Compiled kernels on disk, from one run of the program to the next.
//!
//! CubeCL keeps SPIR-V (Vulkan) and PTX (CUDA) under a folder if it is told to before the first device opens: without checksums, and behind a
//! lock file that a crash leaves for good. So it never sees the folder that is kept. Each process gets a working folder of its own, filled from the
//! [`store`], whose checksum was checked; at its end what it compiled is added to the store. Two processes share nothing, a damaged store is
//! thrown away unread, and what a killed process leaves is its own working folder, which the next one removes.
//!
//! CubeCL's keys do not hold a kernel's body, so the store must be another one for every build.

mod store;

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, Once, OnceLock, PoisonError},
};

use cubecl_runtime::config::{CubeClRuntimeConfig, RuntimeConfig, cache::CacheConfig};

use store::Working;
pub use store::clear;

/// The folder that [`cache_kernels`] was given.
static FOLDER: OnceLock<PathBuf> = OnceLock::new();
/// What this process works in, from the first device on.
static WORKING: Mutex<Option<Working>> = Mutex::new(None);

/// Keeps compiled kernels in a folder. Call it before any device is opened; nothing is read or written before one is.
pub fn cache_kernels(folder: &Path) {
    // The first caller has already said all there is to say.
    let _ = FOLDER.set(folder.to_path_buf());
}

/// Adds what was compiled to the folder's store and removes the working folder. Call it when the program ends.
pub fn keep_kernels() {
    if let Some(working) = WORKING.lock().unwrap_or_else(PoisonError::into_inner).take() {
        // The kernels of one run are no loss worth an error.
        let _ = working.save();
    }
}

/// Where CubeCL keeps the kernels of this process; `None` before a device is opened, and where none are kept.
pub fn working_folder() -> Option<PathBuf> {
    WORKING.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|w| w.path().to_path_buf())
}

/// Tells CubeCL where to keep kernels; called before the first device opens. A `cubecl.toml` that names a cache is left its will.
pub(super) fn prepare() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let Some(folder) = FOLDER.get() else { return };
        if std::env::current_dir().is_err() {
            return;
        }
        let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
        // Without a cache where the folder cannot be written: CubeCL panics there.
        if config.compilation.cache.is_none()
            && let Ok(working) = Working::open(folder)
        {
            config.compilation.cache = Some(CacheConfig::File(working.path().to_path_buf()));
            *WORKING.lock().unwrap_or_else(PoisonError::into_inner) = Some(working);
        }
        // Setting it twice is a panic.
        let mut slot = CubeClRuntimeConfig::storage().lock();
        if slot.is_none() {
            *slot = Some(config.into());
        }
    });
}
