//! Wrong usage, absent devices, and readers that go away.

use std::{io::Read, process::Stdio};

use crate::support::{golden, run, swinstyle, text};

#[test]
fn wrong_usage_exits_with_2_and_writes_nothing_to_stdout() {
    let cases: [&[&str]; 5] = [
        &[],
        &["kernels", "check"],
        &["doctor", "--device", "gpu"],
        &["kernels", "bench", "--runs", "none"],
        &["data", "avatars", "--out", "unused", "--size", "-3"],
    ];
    for arguments in cases {
        let ran = run(arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{arguments:?}: {ran:?}");
        assert!(!ran.stderr.contains("panicked"), "{arguments:?}: {ran:?}");
    }
}

#[test]
fn an_absent_device_is_one_line_with_the_reason() {
    let folder = golden();
    for device in ["cuda:99", "wgpu:99"] {
        let ran = run(&["kernels", "check", text(&folder), "--device", device]);
        ran.assert_one_error_line(&[device, "is not available"]);
    }
}

#[test]
fn a_device_from_the_environment_is_used_and_a_wrong_one_named() {
    let folder = golden();
    let arguments = ["kernels", "check", text(&folder), "--case", "identity_1tap", "--json"];
    let output = swinstyle().args(arguments).env("SWINSTYLE_DEVICE", "cpu").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains(r#""device":"cpu""#));
    let output = swinstyle().args(arguments).env("SWINSTYLE_DEVICE", "gpu").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("error: device gpu is not available"));
}

#[test]
fn a_reader_that_closes_stdout_ends_the_program_quietly() {
    let mut child = swinstyle()
        .args(["kernels", "check", text(&golden()), "--case", "upfirdn2d/", "--device", "cpu"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!((child.wait().unwrap().code(), stderr.as_str()), (Some(0), ""));
}

#[test]
fn doctor_lists_the_cpu_and_says_what_is_missing() {
    let ran = run(&["doctor", "--json", "--device", "cpu"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let document = ran.document();
    assert_eq!(document["default_device"], "cpu");
    assert_eq!(document["devices"][0]["device"], "cpu");
    assert_eq!(document["version"], env!("CARGO_PKG_VERSION"));
    let ran = run(&["doctor", "--json", "--device", "cuda:99"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let needed = |m: &serde_json::Value| m["needed"] == true && m["reason"].as_str().unwrap().contains("cuda:99");
    assert!(ran.document()["missing"].as_array().unwrap().iter().any(needed), "{ran:?}");
}
