//! The command line of SwinStyle: every subcommand of `swinstyle`, and the checks and benches behind `swinstyle kernels`.
//!
//! [`commands`] has one file a subcommand, [`output`] says where text, JSON, progress and errors go. [`check`] holds the
//! rooms and the networks to fixtures made by PyTorch; [`bench`] times the cases of `benches/peers/pytorch_peer.py`.

pub mod bench;
pub mod check;
pub mod commands;
pub mod output;

use std::process::ExitCode;

/// Parses the arguments of the process and runs the command they name.
///
/// Exit codes: 0 done, 1 failed, 2 wrong usage.
pub fn main() -> ExitCode {
    quiet_vulkan();
    output::remember_panics();
    output::finish(commands::run_from_arguments)
}

/// Where there is no session with a display, Mesa's Vulkan layer that sorts devices by it prints an `error:` line for every
/// look at the adapters, and has nothing to sort. The variable is the one by which the layer can be switched off.
fn quiet_vulkan() {
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() && std::env::var_os("NODEVICE_SELECT").is_none() {
        // SAFETY: nothing else runs yet that could read the environment.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
}
