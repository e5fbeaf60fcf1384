//! Failures of asynchronous work: collected where the backend reports them, handed out at the next wait.
//!
//! CubeCL runs each device on a thread of its own and meets exhausted memory or a lost device there with a panic, which it
//! catches; the callers' next blocking call then panics too. Both are turned into errors here, without the panics' noise.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind},
    sync::{
        Mutex, Once, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use cubecl::{
    future::block_on,
    prelude::{ComputeClient, Runtime},
    server::{Handle, ServerError},
};

use crate::{Device, Result, TensorError};

/// A failure that no call has reported yet.
struct Fault {
    device: Device,
    out_of_memory: bool,
    detail: String,
}

static FAULTS: Mutex<Vec<Fault>> = Mutex::new(Vec::new());

/// The largest allocation since the last wait: when memory runs out, the backend does not say for whom.
static LARGEST_REQUEST: AtomicUsize = AtomicUsize::new(0);

/// Ends of the names of CubeCL's device threads, with the devices that they run.
static WATCHED: Mutex<Vec<(String, Device)>> = Mutex::new(Vec::new());

thread_local! {
    /// Whether this thread is inside [`guarded`].
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Records panics of the thread that runs CubeCL's device `kind`, `index` as faults of `device`, instead of printing them.
pub(super) fn watch(kind: u16, index: usize, device: Device) {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic: &PanicHookInfo| {
            // What is guarded becomes an error, which says the same.
            if GUARDED.get() {
                return;
            }
            let thread = std::thread::current();
            let name = thread.name().unwrap_or_default();
            let watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(&(_, device)) = watched.iter().find(|(end, _)| name.starts_with("DS") && name.ends_with(end))
            else {
                drop(watched);
                return previous(panic);
            };
            let detail = payload(panic.payload());
            record(device, is_exhaustion(&detail), detail);
        }));
    });
    let mut watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
    watched.push((format!("-{kind}-{index}"), device));
}

fn payload(panic: &(dyn std::any::Any + Send)) -> String {
    match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
        (Some(s), _) => s.clone(),
        (_, Some(s)) => (*s).to_string(),
        _ => "the device's thread stopped".to_string(),
    }
}

/// Whether an error's text speaks of exhausted memory.
fn is_exhaustion(text: &str) -> bool {
    let text = text.to_ascii_lowercase().replace(['_', '-'], " ");
    text.contains("out of memory") || text.contains("can't allocate")
}

/// Remembers a failure; called on the backend's threads.
pub(super) fn record(device: Device, out_of_memory: bool, detail: String) {
    let mut faults = FAULTS.lock().unwrap_or_else(PoisonError::into_inner);
    // One broken buffer fails every launch that touches it: the first reports are the useful ones.
    if faults.len() < 16 {
        faults.push(Fault { device, out_of_memory, detail });
    }
}

/// Notes an allocation, for the message of a later out-of-memory failure.
pub(super) fn requested(bytes: usize) {
    LARGEST_REQUEST.fetch_max(bytes, Ordering::Relaxed);
}

/// Waits for the stream and reports what failed since the last wait.
pub(super) fn wait<R: Runtime>(op: &'static str, device: Device, client: &ComputeClient<R>) -> Result<()> {
    let done = guarded(|| block_on(client.sync()));
    report(op, device, done)
}

/// Bytes that the allocator has reserved, after what is queued; reports what failed since the last wait.
pub(super) fn reserved<R: Runtime>(device: Device, client: &ComputeClient<R>) -> Result<u64> {
    let usage = guarded(|| client.memory_usage());
    report("memory usage", device, usage).map(|usage| usage.bytes_reserved)
}

/// Reads a buffer back after reporting what failed since the last wait.
pub(super) fn read<R: Runtime>(
    op: &'static str,
    device: Device,
    client: &ComputeClient<R>,
    handle: Handle,
) -> Result<cubecl::bytes::Bytes> {
    // The flush runs what is queued up to here, allocations included, without waiting for the device: a buffer that could
    // not be had is an error now, where mapping it would be a panic.
    report(op, device, guarded(|| client.flush()))?;
    let bytes = report(op, device, guarded(|| client.read_one(handle)))?;
    LARGEST_REQUEST.store(0, Ordering::Relaxed);
    Ok(bytes)
}

/// Turns the panics with which CubeCL answers a failed device into errors.
pub(super) fn guarded<T>(f: impl FnOnce() -> std::result::Result<T, ServerError>) -> std::result::Result<T, String> {
    let outer = GUARDED.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(f));
    GUARDED.set(outer);
    match outcome {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(first_words(&error)),
        Err(panic) => Err(payload(&*panic)),
    }
}

/// An error's text without the backtraces and generated sources that CubeCL appends.
fn first_words(error: &ServerError) -> String {
    let one = |e: &ServerError| {
        let text = e.to_string();
        let text = text.split("Backtrace").next().unwrap_or_default().split("[Source]").next().unwrap_or_default();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        match text.char_indices().nth(600) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text,
        }
    };
    match error {
        ServerError::ServerUnhealthy { errors, .. } => errors.iter().map(one).collect::<Vec<_>>().join("; "),
        other => one(other),
    }
}

/// Takes the failures recorded for a device.
fn take(device: Device) -> Vec<Fault> {
    let mut faults = FAULTS.lock().unwrap_or_else(PoisonError::into_inner);
    let (mine, others) = faults.drain(..).partition(|f| f.device == device);
    *faults = others;
    mine
}

/// The first failure recorded for a device, in words.
pub(super) fn first(device: Device) -> Option<String> {
    take(device).into_iter().next().map(|f| f.detail)
}

fn report<T>(op: &'static str, device: Device, outcome: std::result::Result<T, String>) -> Result<T> {
    let mine = take(device);
    let memory = mine.iter().any(|f| f.out_of_memory) || outcome.as_ref().is_err_and(|e| is_exhaustion(e));
    if memory {
        return Err(TensorError::OutOfMemory { op, device, bytes: LARGEST_REQUEST.swap(0, Ordering::Relaxed) });
    }
    if let Some(fault) = mine.into_iter().next() {
        return Err(TensorError::Backend { op, device, detail: fault.detail });
    }
    outcome.map_err(|detail| TensorError::Backend { op, device, detail })
}

#[cfg(test)]
mod tests {
    use cubecl::prelude::*;

    use super::*;
    use crate::{DType, Tensor, cube};

    #[cfg(feature = "wgpu")]
    #[cube(launch_unchecked)]
    fn shared_kernel(y: &mut Array<f32>, #[comptime] size: usize) {
        let mut memory = SharedMemory::<f32>::new(size);
        memory[UNIT_POS as usize] = 1.0;
        sync_cube();
        y[UNIT_POS as usize] = memory[0];
    }

    #[cfg(feature = "wgpu")]
    #[test]
    fn a_launch_that_the_device_refuses_is_an_error_at_the_next_wait_and_the_device_goes_on() {
        let device = Device::Wgpu(0);
        let ones = Tensor::full(1.0, &[4], DType::F32, device).unwrap();
        let cube::CubeClient::Wgpu(client) = cube::client(device).unwrap() else { panic!("wgpu expected") };
        let arg = ones.cube_arg().unwrap();
        // SAFETY: the kernel is never run.
        unsafe {
            shared_kernel::launch_unchecked::<cubecl_wgpu::WgpuRuntime>(
                &client,
                CubeCount::new_single(),
                CubeDim::new_1d(4),
                arg.array(),
                1 << 20,
            );
        }
        let error = ones.to_vec().unwrap_err();
        assert!(matches!(error, TensorError::Backend { op: "download", .. }), "{error}");
        assert!(error.to_string().contains("shared memory"), "{error}");
        assert_eq!(ones.to_vec().unwrap(), [1.0; 4]);
    }

    #[test]
    fn exhausted_memory_is_reported_with_the_largest_request() {
        let device = Device::Wgpu(77);
        requested(12_345);
        record(device, true, "out of device memory".to_string());
        let error = report("download", device, Ok(())).unwrap_err();
        assert!(matches!(error, TensorError::OutOfMemory { bytes: 12_345.., .. }), "{error}");
        assert_eq!(report("download", device, Ok(1)), Ok(1));
        let error = report::<()>("download", device, Err("CUDA_ERROR_OUT_OF_MEMORY".to_string())).unwrap_err();
        assert!(matches!(error, TensorError::OutOfMemory { .. }), "{error}");
    }
}
