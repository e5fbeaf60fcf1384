//! Every fixture in `golden/` passes: values, gradients and second-order gradients against PyTorch in float64.

use swinstyle_cli::check::{self, Outcome};
use swinstyle_tensor::Device;

use crate::support::{changed_fixture, golden, values_of};

#[track_caller]
fn assert_all_pass(outcomes: &[Outcome]) {
    let failed: Vec<String> = outcomes.iter().filter(|o| !o.passed).map(ToString::to_string).collect();
    assert!(failed.is_empty(), "{} of {} failed:\n{}", failed.len(), outcomes.len(), failed.join("\n"));
}

#[test]
fn every_fixture_passes_on_cpu() {
    let outcomes = check::run(&golden(), Device::Cpu, None, |_| Ok(())).unwrap();
    assert_all_pass(&outcomes);
    assert_eq!(outcomes.len(), 92, "91 fixtures and one pair of checkpoints");
}

#[test]
fn a_gradient_that_is_off_by_a_thousandth_is_caught() {
    for (case, tensor) in [("upfirdn2d/up2_f1331", "grad.x"), ("modconv/k3_up1_demod", "dd.grad.s")] {
        let folder = tempfile::tempdir().unwrap();
        changed_fixture(case, folder.path(), |bytes| {
            let (at, length) = values_of(bytes, tensor);
            for value in bytes[at..at + length].chunks_exact_mut(4) {
                let wrong = f32::from_le_bytes([value[0], value[1], value[2], value[3]]) * 1.001;
                value.copy_from_slice(&wrong.to_le_bytes());
            }
        });
        let outcomes = check::run(folder.path(), Device::Cpu, None, |_| Ok(())).unwrap();
        assert!(!outcomes[0].passed && outcomes[0].tensor.as_deref() == Some(tensor), "{}", outcomes[0]);
    }
}

#[test]
fn every_fixture_passes_on_wgpu() {
    let outcomes = check::run(&golden(), adapter(), None, |_| Ok(())).unwrap();
    assert_all_pass(&outcomes);
}

/// The first Vulkan adapter. A test that skipped silently would prove nothing.
fn adapter() -> Device {
    let device = Device::Wgpu(0);
    if let Err(error) = device.check() {
        panic!("the tests need a Vulkan adapter: {error}; `cargo xtask setup` installs Mesa's software one");
    }
    device
}
