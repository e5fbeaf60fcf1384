//! `swinstyle profile` and `latency` with the shipped model.

use std::fs;

use crate::support::{run, text};

#[test]
fn a_profile_holds_every_launch_in_table_trace_picture_and_page() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("profile");
    let arguments = ["profile", "invert", "--batch", "2", "--runs", "2", "--out", text(&out)];
    let ran = run(&[&arguments[..], &["--device", "cpu", "--json"]].concat());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let profile = ran.document();
    let kernels = profile["kernels"].as_array().unwrap();
    let sum = |key: &str| kernels.iter().map(|k| k[key].as_u64().unwrap()).sum::<u64>();
    assert_eq!(Some(sum("launches")), profile["launches"].as_u64());
    assert_eq!(Some(sum("flops")), profile["flops"].as_u64());
    let shares: f64 = kernels.iter().map(|k| k["share"].as_f64().unwrap()).sum();
    assert!((shares - 1.0).abs() < 1e-6, "{shares}");
    for kernel in ["window_attention", "query_attention", "conv2d", "matmul", "layer_norm"] {
        assert!(kernels.iter().any(|k| k["kernel"] == kernel), "{kernel}: {profile}");
    }
    assert!(profile["peak_host_bytes"].as_u64().unwrap() > 1 << 20, "{profile}");
    for nothing in ["fresh_bytes", "waits", "downloads"] {
        assert_eq!(profile["steady"][nothing].as_u64(), Some(0), "{nothing}: {profile}");
    }

    let read = |name: &str| fs::read_to_string(out.join(name)).unwrap();
    let trace: serde_json::Value = serde_json::from_str(&read("trace.json")).unwrap();
    let events = trace["traceEvents"].as_array().unwrap().iter().filter(|e| e["ph"] == "X");
    assert_eq!(Some(events.count() as u64), profile["launches"].as_u64());
    assert!(read("roofline.svg").starts_with("<svg") && read("index.html").contains("</svg>"));
    let file: serde_json::Value = serde_json::from_str(&read("profile.json")).unwrap();
    assert_eq!(file, profile);
}

#[test]
fn latency_has_quantiles_of_the_whole_and_of_each_part() {
    let ran = run(&["latency", "--batch", "1,3", "--runs", "10", "--device", "cpu", "--json"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let lines: Vec<serde_json::Value> = ran.stdout.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.iter().map(|l| l["batch"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 3]);
    for line in &lines {
        for part in ["read", "upload", "encoder", "generator", "download", "write"] {
            let q = |key: &str| line["parts_ms"][part][key].as_f64().unwrap();
            assert!(0.0 < q("p50") && q("p50") <= q("p90") && q("p90") <= q("p99"), "{part}: {line}");
        }
        // The cpu has no clock of its own, and says so.
        assert_eq!((line["device_clock"].as_str(), line["device_ms"].is_null()), (Some("host"), true), "{line}");
        // Encoder and generator are what an inversion is. The parts are timed in passes of their own, which other work may slow down.
        let (whole, encoder) =
            (line["ms"]["p99"].as_f64().unwrap(), line["parts_ms"]["encoder"]["p50"].as_f64().unwrap());
        assert!(3.0 * whole >= encoder, "{line}");
    }
    assert_eq!(run(&["latency", "--runs", "3"]).code, Some(2));
}
