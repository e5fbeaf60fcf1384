//! Launches as events that chrome://tracing and Perfetto read.

use serde_json::{Value, json};
use swinstyle_tensor::counters::Launch;

/// The trace of a pass in the Trace Event Format, times in microseconds.
pub(super) fn chrome(what: &str, launches: &[Launch]) -> String {
    let name = json!({ "name": "process_name", "ph": "M", "pid": 1, "args": { "name": format!("swinstyle {what}") } });
    let event = |l: &Launch| {
        let (gflops, gbs) = (l.flops as f64 / l.seconds * 1e-9, l.moved as f64 / l.seconds * 1e-9);
        let args = json!({ "outputs": l.outputs, "flops": l.flops, "bytes": l.moved, "gflop/s": gflops, "GB/s": gbs });
        json!({ "name": l.kernel, "ph": "X", "pid": 1, "tid": 1, "ts": l.start * 1e6, "dur": l.seconds * 1e6, "args": args })
    };
    let events: Vec<Value> = std::iter::once(name).chain(launches.iter().map(event)).collect();
    json!({ "displayTimeUnit": "ms", "traceEvents": events }).to_string()
}
