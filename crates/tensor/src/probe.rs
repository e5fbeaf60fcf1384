//! A look at single launches from inside: a probe may repeat each, time it, and have the host twin compute it in f64; a stand-in may change
//! what it reads and what it makes.

use std::{cell::RefCell, time::Instant};

use crate::{
    Buffer, DType, Device, Result, Tensor,
    cube::{self, with_client},
    kernel::{Kernel, Kinks, dispatch, host},
};

/// A launch that has just been done, as a probe sees it.
pub struct Visit<'a> {
    /// Name of the kernel.
    pub kernel: &'static str,
    /// Where it ran.
    pub device: Device,
    /// Type of its tensors.
    pub dtype: DType,
    /// Launches it once more.
    pub run: &'a dyn Fn() -> Result<Vec<Tensor>>,
    /// Computes the same from the same inputs by the host twin in f64.
    pub twin: &'a dyn Fn() -> Result<Vec<Tensor>>,
}

type Probe = Box<dyn FnMut(&Visit)>;

thread_local! {
    static PROBE: RefCell<Option<Probe>> = const { RefCell::new(None) };
}

/// Runs `f`, in which the probe sees every launch of this thread except its own.
pub fn visit_launches<R>(probe: impl FnMut(&Visit) + 'static, f: impl FnOnce() -> R) -> R {
    let outer = PROBE.replace(Some(Box::new(probe)));
    let result = f();
    PROBE.set(outer);
    result
}

/// Shows a launch to the probe, if there is one.
pub(crate) fn visit<K: Kernel>(kernel: &K, inputs: &[&Tensor], device: Device, dtype: DType) {
    let Some(mut probe) = PROBE.take() else { return };
    let twin = || {
        let exact = |t: &&Tensor| Tensor::from_host(t.values_f64()?, t.shape(), Device::Cpu);
        let exact: Vec<Tensor> = inputs.iter().map(exact).collect::<Result<_>>()?;
        {
            let shapes = kernel.output_shapes();
            let made = vec![DType::F64; shapes.len()];
            host::<f64, K>(kernel, &exact.iter().collect::<Vec<_>>(), shapes, &made, |b, _| Buffer::F64(b))
        }
    };
    let run = || dispatch(kernel, inputs, device, dtype);
    probe(&Visit { kernel: kernel.name(), device, dtype, run: &run, twin: &twin });
    PROBE.set(Some(probe));
}

/// A launch that is to be done, as a stand-in sees it.
pub struct Turn<'a> {
    /// Name of the kernel.
    pub kernel: &'static str,
    /// What it reads.
    pub inputs: &'a [&'a Tensor],
    /// Elements that it makes.
    pub results: usize,
    /// Its floating-point operations.
    pub flops: u64,
    /// Where its first output is that of an activation with kinks.
    pub kinks: Option<Kinks>,
    /// Launches it with inputs of these shapes and types.
    pub run: &'a dyn Fn(&[&Tensor]) -> Result<Vec<Tensor>>,
}

type StandIn = Box<dyn FnMut(&Turn) -> Result<Vec<Tensor>>>;

thread_local! {
    static STAND_IN: RefCell<Option<StandIn>> = const { RefCell::new(None) };
}

/// Runs `f`, in which the stand-in does every launch of this thread: it returns what the launch is to have made, of the same shapes and types.
pub fn stand_in_for_launches<R>(
    stand_in: impl FnMut(&Turn) -> Result<Vec<Tensor>> + 'static,
    f: impl FnOnce() -> R,
) -> R {
    /// Puts the outer stand-in back, after a panic too.
    struct Outer(Option<StandIn>);
    impl Drop for Outer {
        fn drop(&mut self) {
            STAND_IN.set(self.0.take());
        }
    }
    let _outer = Outer(STAND_IN.replace(Some(Box::new(stand_in))));
    f()
}

/// What the stand-in makes of a launch, if there is one.
pub(crate) fn stand_in<K: Kernel>(
    kernel: &K,
    inputs: &[&Tensor],
    device: Device,
    dtype: DType,
) -> Option<Result<Vec<Tensor>>> {
    let mut stand_in = STAND_IN.take()?;
    let run = |inputs: &[&Tensor]| dispatch(kernel, inputs, device, dtype);
    let results = kernel.output_shapes().iter().map(|s| s.iter().product::<usize>()).sum();
    let (flops, kinks) = (kernel.flops(), kernel.kinks());
    let made = stand_in(&Turn { kernel: kernel.name(), inputs, results, flops, kinks, run: &run });
    STAND_IN.set(Some(stand_in));
    Some(made)
}

/// How seconds of [`timed`] were taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// Timestamps of the device.
    Device,
    /// The host's clock, the device idle before and after.
    Wall,
}

/// Seconds of `work` on a device: by the device's timestamps where it has them, else by the clock on the wall.
///
/// Errors: those of `work`, and of the device.
pub fn timed(device: Device, work: &dyn Fn() -> Result<()>) -> Result<(f64, Clock)> {
    device.settle()?;
    if device != Device::Cpu {
        // The dry device has no timestamps and says so.
        let by_device: Option<Result<f64>> = with_client!(&cube::client(device)?, |c| cube::profile(c, work));
        if let Some(outcome) = by_device {
            let seconds = outcome?;
            device.settle()?;
            return Ok((seconds, Clock::Device));
        }
    }
    let started = Instant::now();
    work()?;
    device.settle()?;
    Ok((started.elapsed().as_secs_f64(), Clock::Wall))
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, rc::Rc};

    use super::*;

    #[test]
    fn a_probe_sees_every_launch_but_its_own_and_the_twin_agrees() {
        let x = Tensor::from_vec(vec![1.0_f32, 2.0, 3.0, 4.0], &[2, 2], Device::Cpu).unwrap();
        let seen = Rc::new(Cell::new(0));
        let count = seen.clone();
        let probe = move |visit: &Visit| {
            count.set(count.get() + 1);
            let (again, exact) = ((visit.run)().unwrap(), (visit.twin)().unwrap());
            assert_eq!((visit.kernel, exact[0].dtype()), ("matmul", DType::F64));
            assert_eq!(again[0].to_vec_f64().unwrap(), exact[0].to_vec_f64().unwrap());
        };
        let y = visit_launches(probe, || x.matmul(&x).unwrap());
        assert_eq!((seen.get(), y.to_vec().unwrap()), (1, vec![7.0, 10.0, 15.0, 22.0]));
        x.matmul(&x).unwrap();
        assert_eq!(seen.get(), 1, "the probe is gone after its region");
    }

    #[test]
    fn a_stand_in_decides_what_launches_read_and_make() {
        let x = Tensor::from_vec(vec![1.0_f32, 2.0], &[2], Device::Cpu).unwrap();
        let one = Tensor::from_vec(vec![1.0_f32], &[1], Device::Cpu).unwrap();
        let doubled = |turn: &Turn| {
            assert_eq!((turn.kernel, turn.results, turn.kinks), ("add", 2, None));
            let mut made = (turn.run)(turn.inputs)?;
            made[0] = (turn.run)(&[&made[0], turn.inputs[0]])?.remove(0);
            Ok(made)
        };
        let y = stand_in_for_launches(doubled, || x.add(&x).unwrap());
        assert_eq!(y.to_vec().unwrap(), [3.0, 6.0]);
        assert_eq!(x.add(&one).unwrap().to_vec().unwrap(), [2.0, 3.0], "it is gone after its region");
    }

    #[test]
    fn work_on_the_cpu_is_timed_by_the_wall_and_its_error_comes_through() {
        let pause = || {
            std::thread::sleep(std::time::Duration::from_millis(5));
            Ok(())
        };
        let (seconds, clock) = timed(Device::Cpu, &pause).unwrap();
        assert!(seconds >= 0.005 && clock == Clock::Wall);
        let bad = || Err(crate::TensorError::shape("x", "y"));
        assert!(timed(Device::Cpu, &bad).is_err());
    }
}
