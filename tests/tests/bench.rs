//! `swinstyle kernels bench` on one small case; its numbers are for people, its form is for programs.

use crate::support::run;

#[test]
fn a_bench_prints_one_object_a_line() {
    let arguments = ["kernels", "bench", "--case", "upfirdn2d/64x256_u1d2", "--runs", "2", "--device", "cpu", "--json"];
    let ran = run(&arguments);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let lines: Vec<serde_json::Value> = ran.stdout.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let names: Vec<&str> = lines.iter().map(|l| l["case"].as_str().unwrap()).collect();
    assert_eq!(names, ["upfirdn2d/64x256_u1d2/fwd", "upfirdn2d/64x256_u1d2/fwd+bwd"]);
    for line in &lines {
        assert_eq!((line["device"].as_str(), line["dtype"].as_str()), (Some("cpu"), Some("f32")));
        for key in ["median_ms", "gflops", "gbs", "roofline"] {
            assert!(line[key].as_f64().is_some_and(|v| v > 0.0), "{key} of {line}");
        }
    }
}

#[test]
fn a_bench_without_a_matching_case_is_an_error() {
    run(&["kernels", "bench", "--case", "no such case", "--device", "cpu"]).assert_one_error_line(&["no such case"]);
}
