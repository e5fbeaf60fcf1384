//! Signals that ask a long command to end: it keeps its work and says by its exit code that it was not done.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use anyhow::{Context, Result};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};

use crate::output::Status;

/// Ctrl-C, `kill`, and where there are terminals that hang up, their going away.
#[cfg(unix)]
const SIGNALS: [i32; 3] = [SIGINT, SIGTERM, signal_hook::consts::SIGHUP];
#[cfg(not(unix))]
const SIGNALS: [i32; 2] = [SIGINT, SIGTERM];

/// Whether a signal has come.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt {
    /// Set by the first signal.
    pub(crate) flag: Arc<AtomicBool>,
    /// Its number.
    signal: Arc<AtomicUsize>,
}

impl Interrupt {
    /// Sets the flag on the first signal, so that work can be kept; the second ends the process at once.
    ///
    /// A signal that was ignored when the program began stays ignored: `nohup`, `trap '' INT`, background jobs of scripts.
    pub(crate) fn watch() -> Result<Self> {
        let this = Self { flag: Arc::default(), signal: Arc::default() };
        for signal in SIGNALS.into_iter().filter(|signal| !is_ignored(*signal)) {
            let number = usize::try_from(signal).unwrap_or(SIGINT as usize);
            // In this order: at the first signal the flag is not set yet when the first handler looks at it.
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&this.flag))
                .and_then(|_| flag::register_usize(signal, Arc::clone(&this.signal), number))
                .and_then(|_| flag::register(signal, Arc::clone(&this.flag)))
                .context("the signal handler")?;
        }
        Ok(this)
    }

    /// How a command ended that was not done when it was told to stop; done if nobody told it.
    pub(crate) fn status(&self) -> Status {
        match u8::try_from(self.signal.load(Ordering::Relaxed)) {
            Ok(signal @ 1..) => Status::Interrupted(signal),
            _ => Status::Done,
        }
    }
}

/// Whether whoever started the program had the signal ignored.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    // SAFETY: an all-zero `sigaction` is a valid value, and without a new action the call only writes the present one to it.
    unsafe {
        let mut now: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &mut now) == 0 && now.sa_sigaction == libc::SIG_IGN
    }
}

#[cfg(not(unix))]
fn is_ignored(_: i32) -> bool {
    false
}
