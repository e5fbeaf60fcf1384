//! The command line of SwinStyle: every subcommand of `swinstyle`, and the checks and benches behind `swinstyle kernels`.
//!
//! [`commands`] has one file a subcommand, [`output`] says where text, JSON, progress and errors go. [`check`] holds the
//! rooms and the networks to fixtures made by PyTorch; [`bench`] times the cases of `benches/peers/pytorch_peer.py`,
//! `inspect` looks at their GPU code without a GPU.

mod ablation;
mod batch;
pub mod bench;
mod build;
mod chart;
pub mod check;
pub mod commands;
#[cfg(feature = "cuda")]
pub mod inspect;
mod interrupt;
pub mod output;
mod page;
mod profile;
mod progress;
pub mod text;
mod tune;

use std::process::ExitCode;

/// Parses the arguments of the process and runs the command they name.
///
/// Exit codes: 0 done, 1 failed, 2 wrong usage, 128 and a signal's number where that ended a long command.
pub fn main() -> ExitCode {
    quiet_vulkan();
    output::remember_panics();
    if let Some(folder) = build::kernel_cache() {
        swinstyle_tensor::cube::cache_kernels(&folder);
    }
    let code = in_pool(|| output::finish(commands::run_from_arguments));
    swinstyle_tensor::cube::keep_kernels();
    code
}

/// Runs `f` on a thread of the pool that the host kernels share.
///
/// A parallel loop that starts outside of the pool wakes a thread of it and sleeps until that one is done: two switches of
/// context for each of the thousands of kernels in a training step. One that starts inside takes its part of the work
/// itself.
pub fn in_pool<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    // As large as the main thread's: kernels for GPUs are expanded on it. An error means that the pool stands already.
    let _ = rayon::ThreadPoolBuilder::new().stack_size(8 << 20).build_global();
    // A pool of one thread must stay free for the loops of other threads, such as those that load images.
    match rayon::current_num_threads() {
        1 => f(),
        _ => rayon::scope(|_| f()),
    }
}

/// Where there is no session with a display, Mesa's Vulkan layer that sorts devices by it prints an `error:` line for every
/// look at the adapters, and has nothing to sort. The variable is the one by which the layer can be switched off.
fn quiet_vulkan() {
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() && std::env::var_os("NODEVICE_SELECT").is_none() {
        // SAFETY: nothing else runs yet that could read the environment.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
}
