//! A look at single launches from inside: a probe may repeat each, time it, and have the host twin compute it in f64.

use std::{cell::RefCell, time::Instant};

use crate::{
    Buffer, DType, Device, Result, Tensor,
    cube::{self, CubeClient},
    kernel::{Kernel, dispatch, host},
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
        let by_device = match &cube::client(device)? {
            CubeClient::Wgpu(c) => cube::profile(c, work),
            CubeClient::Cuda(c) => cube::profile(c, work),
            CubeClient::Dry(_) => None,
        };
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
