//! `swinstyle kernels check` on good, damaged and foreign files.

use std::fs;

use crate::support::{changed_fixture, golden, run, text, values_of};

const ON_CPU: [&str; 2] = ["--device", "cpu"];

#[test]
fn a_check_prints_a_line_a_case_and_the_totals_last() {
    let folder = golden();
    let ran = run(&["kernels", "check", text(&folder), "--case", "upfirdn2d/", ON_CPU[0], ON_CPU[1]]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines.last(), Some(&"22 passed, 0 failed"), "{ran:?}");
    assert!(lines[..22].iter().all(|l| l.starts_with("upfirdn2d/") && l.contains(" ok ")), "{ran:?}");
}

#[test]
fn a_check_with_json_prints_one_document_on_stdout_and_the_lines_on_stderr() {
    let folder = golden();
    let ran = run(&["--json", "kernels", "check", text(&folder), "--case", "layers/", ON_CPU[0], ON_CPU[1]]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let document = ran.document();
    assert_eq!((document["passed"].as_u64(), document["failed"].as_u64()), (Some(11), Some(0)));
    let cases = document["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 11);
    for case in cases {
        assert!(case["case"].as_str().unwrap().starts_with("layers/"));
        assert_eq!(case["passed"].as_bool(), Some(true));
        assert!((0.0..=1.0).contains(&case["worst"].as_f64().unwrap()), "{case}");
    }
    assert!(ran.stderr.contains("11 passed, 0 failed"));
}

#[test]
fn damaged_and_foreign_files_fail_in_one_line_each_while_the_others_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    changed_fixture("upfirdn2d/identity_1tap", path, |_| {});
    changed_fixture("upfirdn2d/up2_f1331", path, |bytes| bytes.truncate(bytes.len() / 2));
    changed_fixture("upfirdn2d/blur_f1331_pad11", path, |bytes| {
        let (at, _) = values_of(bytes, "out.y");
        bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    changed_fixture("window_attention/w4_s0_h2", path, |bytes| {
        // `heads` of the parameters, in the JSON text inside the JSON header; the length stays the same.
        let key = b"\\\"heads\\\": ";
        let at = bytes.windows(key.len()).position(|w| w == key).expect("the heads") + key.len();
        assert_eq!(bytes[at], b'2');
        bytes[at] = b'3';
    });
    fs::write(path.join("empty.safetensors"), "").unwrap();
    fs::write(path.join("text.safetensors"), "this is no fixture\n".repeat(20)).unwrap();
    let checkpoint = golden().join("checkpoints/stylegan2_tiny_64px.safetensors");
    fs::copy(checkpoint, path.join("weights.safetensors")).unwrap();

    let ran = run(&["kernels", "check", text(path), ON_CPU[0], ON_CPU[1]]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines.len(), 8, "{ran:?}");
    assert_eq!(lines[7], "1 passed, 6 failed", "{ran:?}");
    let reasons = [
        ("empty ", "empty"),
        ("text ", "not"),
        ("weights ", "not a fixture"),
        ("upfirdn2d/up2_f1331 ", "truncated"),
        ("upfirdn2d/blur_f1331_pad11 ", "out.y"),
        ("window_attention/w4_s0_h2 ", "3"),
    ];
    for (case, reason) in reasons {
        let line = lines.iter().find(|l| l.starts_with(case)).unwrap_or_else(|| panic!("{case}: {ran:?}"));
        assert!(line.contains(" FAIL ") && line.contains(reason), "{line}");
    }
    assert_eq!(ran.stderr, "", "{ran:?}");
}

#[test]
fn a_folder_that_is_missing_or_holds_no_fixture_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("nowhere");
    run(&["kernels", "check", text(&missing), ON_CPU[0], ON_CPU[1]]).assert_one_error_line(&["nowhere"]);
    run(&["kernels", "check", text(folder.path()), ON_CPU[0], ON_CPU[1]]).assert_one_error_line(&["holds no fixtures"]);
    let golden = golden();
    let ran = run(&["kernels", "check", text(&golden), "--case", "no such case", ON_CPU[0], ON_CPU[1]]);
    ran.assert_one_error_line(&["no such case"]);
}

/// A fixture with its header changed by text of the same length.
fn reworded(case: &str, folder: &std::path::Path, name: &str, from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let path = changed_fixture(case, folder, |bytes| {
        let at = bytes.windows(from.len()).position(|w| w == from.as_bytes()).unwrap_or_else(|| panic!("no {from}"));
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    });
    fs::rename(path, folder.join(name)).unwrap();
}

#[cfg(unix)]
#[test]
fn odd_files_fail_in_one_line_each_and_odd_names_are_shown_lossily() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let case = "upfirdn2d/identity_1tap";
    // A whole fixture under a name that is not UTF-8.
    let whole = changed_fixture(case, path, |_| {});
    fs::rename(whole, path.join(OsStr::from_bytes(b"whole-\xff.safetensors"))).unwrap();
    // Results that are not finite, tensors that are missing or of another shape, errors that are none, a name that moves the cursor.
    for (name, value) in [("nan.safetensors", f32::NAN), ("inf.safetensors", f32::INFINITY)] {
        let changed = changed_fixture(case, path, |bytes| {
            let (at, _) = values_of(bytes, "out.y");
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        });
        fs::rename(changed, path.join(name)).unwrap();
    }
    reworded(case, path, "missing.safetensors", "\"in.x\"", "\"in.q\"");
    reworded(case, path, "nothing.safetensors", "\"in.f\"", "\"zz.f\"");
    reworded(case, path, "kind.safetensors", "\"kind\":\"upfirdn2d\"", "\"kind\":\"upfirdn3d\"");
    reworded(case, path, "error.safetensors", "f32_err\":\"{", "f32_err\":\"[");
    reworded(case, path, "moving.safetensors", "identity_1tap\"", "ide\\u001b\\n__\"");
    fs::create_dir(path.join("folder.safetensors")).unwrap();
    std::os::unix::fs::symlink(path.join("nowhere"), path.join("broken.safetensors")).unwrap();
    std::os::unix::fs::symlink(path, path.join("loop")).unwrap();

    let ran = run(&["--json", "kernels", "check", text(path), "--case", "", ON_CPU[0], ON_CPU[1]]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let document = ran.document();
    let (passed, failed) = (document["passed"].as_u64().unwrap(), document["failed"].as_u64().unwrap());
    let cases = document["cases"].as_array().unwrap();
    assert_eq!(passed + failed, cases.len() as u64);
    assert!(cases.iter().any(|c| c["file"].as_str().unwrap().contains("whole-\u{fffd}") && c["passed"] == true));
    let lines: Vec<&str> = ran.stderr.lines().collect();
    assert_eq!(lines.len(), cases.len() + 1, "{ran:?}");
    assert_eq!(*lines.last().unwrap(), format!("{passed} passed, {failed} failed"));
    assert!(!ran.stderr.contains('\u{1b}') && !ran.stderr.contains("internal error"), "{ran:?}");
    let of = |name: &str| {
        let case = cases.iter().find(|c| c["file"].as_str().unwrap().ends_with(name)).unwrap();
        (case["passed"].as_bool().unwrap(), case["error"].as_str().unwrap_or_default().to_string())
    };
    for (name, reason) in [
        ("nan.safetensors", "out.y"),
        ("inf.safetensors", "out.y"),
        ("missing.safetensors", "in.x"),
        ("nothing.safetensors", "in.f"),
        ("kind.safetensors", "upfirdn3d"),
        ("error.safetensors", "f32_err"),
        ("broken.safetensors", "is not a file"),
    ] {
        let (passed, error) = of(name);
        assert!(!passed && error.contains(reason), "{name}: {error}");
    }
    assert!(of("moving.safetensors").0);
}
