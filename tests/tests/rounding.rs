//! `kernels check` on right results that one draw of float32's rounding does not cover, and on faults of that size.

use std::path::{Path, PathBuf};

use swinstyle_cli::check::{self, Outcome};
use swinstyle_tensor::{
    DType, Device, Result, Tensor,
    probe::{Turn, stand_in_for_launches},
};

use crate::support::values_of;

/// `plain_sums` and `kink`, made by the script beside them.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("rounding")
}

fn check(folder: &Path, case: &str) -> Outcome {
    check::run(folder, Device::Cpu, Some(case), |_| Ok(())).unwrap().remove(0)
}

#[test]
fn right_results_pass_and_the_line_says_by_what() {
    let sums = check(&folder(), "plain_sums");
    assert!(sums.passed && sums.kinks.is_empty(), "{sums}");
    assert!(sums.to_string().contains("by draws of the rounding: grad.s"), "{sums}");

    let kink = check(&folder(), "kink");
    assert!(kink.passed && kink.worst <= 1.0, "{kink}");
    // Four pixels lie within 4e-9 of the kink; which of them fall on its other side the processor decides.
    let units: usize = kink.kinks.iter().map(|k| k.units).sum();
    assert!((1..=4).contains(&units) && kink.kinks[0].distance < 1e-8, "{kink}");
    assert!(kink.to_string().contains("kink: layer bias, "), "{kink}");
}

/// A copy of a fixture, with its bytes changed.
fn changed(case: &str, change: impl FnOnce(&mut Vec<u8>)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = std::fs::read(self::folder().join(format!("modconv/{case}.safetensors"))).unwrap();
    change(&mut bytes);
    std::fs::write(folder.path().join(format!("{case}.safetensors")), bytes).unwrap();
    folder
}

/// Adds to the largest number of a tensor.
fn add(bytes: &mut [u8], tensor: &str, share: f32) {
    let (at, length) = values_of(bytes, tensor);
    let values = bytes[at..at + length].chunks_exact_mut(4);
    let value = |v: &[u8]| f32::from_le_bytes([v[0], v[1], v[2], v[3]]);
    let largest = values.max_by(|a, b| value(a).abs().total_cmp(&value(b).abs())).unwrap();
    let changed = value(largest) * (1.0 + share);
    largest.copy_from_slice(&changed.to_le_bytes());
}

#[test]
fn a_formula_that_is_off_by_less_than_rounding_fails() {
    // One number of a reference, off by much less than the tolerance that rounding gets: 3e-7 of 7.
    for (case, tensor) in
        [("plain_sums", "out.y"), ("plain_sums", "grad.s"), ("kink", "dd.cot.y"), ("kink", "grad.wlat")]
    {
        let folder = changed(case, |bytes| add(bytes, tensor, 3e-7));
        let outcome = check(folder.path(), case);
        // Unchanged the case passes. The line names the largest error, which may be one that draws of the rounding would have let pass.
        assert!(!outcome.passed, "{tensor}: {outcome}");
        let error = outcome.error.as_deref().unwrap_or_default();
        let named = outcome.tensor.as_deref() == Some(tensor) && error.contains("no rounding");
        assert!(named || outcome.worst > 1.0, "{tensor}: {outcome}");
    }
    // Another epsilon, another slope, another tap.
    let text = |from: &'static str, to: &'static str| {
        move |bytes: &mut Vec<u8>| {
            let at = bytes.windows(from.len()).position(|w| w == from.as_bytes()).expect(from);
            bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        }
    };
    let slope = changed("kink", text("slope\\\": 0.2", "slope\\\": 0.3"));
    assert!(!check(slope.path(), "kink").passed);
    let swapped = changed("plain_sums", |bytes| {
        let (at, _) = values_of(bytes, "in.w");
        (0..4).for_each(|i| bytes.swap(at + i, at + 4 + i));
    });
    assert!(!check(swapped.path(), "plain_sums").passed);
}

/// Checks a case while what some launches in f32 make is changed: a fault of the device, which float64 does not have.
fn with_fault(case: &str, fault: impl Fn(&Turn, &mut [f32]) + 'static) -> Outcome {
    let stand_in = move |turn: &Turn| -> Result<Vec<Tensor>> {
        let mut made = (turn.run)(turn.inputs)?;
        if made[0].dtype() == DType::F32 {
            let mut values = made[0].to_vec()?;
            fault(turn, &mut values);
            made[0] = Tensor::from_vec(values, made[0].shape(), Device::Cpu)?;
        }
        Ok(made)
    };
    stand_in_for_launches(stand_in, || check(&folder(), case))
}

#[test]
fn a_fault_of_the_device_fails_where_rounding_of_its_size_passes() {
    assert!(with_fault("plain_sums", |_, _| {}).passed);
    // One weight's gradient is a thousandth too large.
    let outcome = with_fault("plain_sums", |turn, values| {
        if turn.kernel == "conv2d_weight_grad" {
            let largest = values.iter_mut().max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap();
            *largest *= 1.001;
        }
    });
    assert!(!outcome.passed && outcome.tensor.as_deref() == Some("grad.w"), "{outcome}");
    // A value that is nowhere near the kink falls on its other side.
    let outcome = with_fault("kink", |turn, values| {
        if turn.kinks.is_some() {
            let far = values.iter_mut().find(|v| **v > 1.0).unwrap();
            *far = -*far;
        }
    });
    assert!(!outcome.passed, "{outcome}");
}
